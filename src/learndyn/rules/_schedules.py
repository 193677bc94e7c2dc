"""Families of learning-rate schedules: positive functions of alpha whose leaves are free."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_at_least, require_finite
from learndyn._readable import Readable
from learndyn._types import RealLike


class ConstantRate(Readable):
    """lr(alpha) = exp(log_lr).

    Args:
        lr: the rate, > 0.

    Example:
        >>> round(float(rules.ConstantRate(0.5)(10.0)), 6)
        0.5
    """

    log_lr: Float[Array, ""]

    def __init__(self, lr: RealLike):
        self.log_lr = _log(lr, "lr")

    def __call__(self, alpha: RealLike) -> Array:
        return jnp.exp(self.log_lr)


class InverseTimeRate(Readable):
    """lr(alpha) = lr / (1 + alpha / time): constant at first, then as 1/alpha.

    Args:
        lr: the rate at alpha = 0, > 0.
        time: the alpha at which half of it is left, > 0.

    Example:
        >>> round(float(rules.InverseTimeRate(0.5, time=10.0)(10.0)), 6)
        0.25
    """

    log_lr: Float[Array, ""]
    log_time: Float[Array, ""]

    def __init__(self, lr: RealLike, time: RealLike):
        self.log_lr, self.log_time = _log(lr, "lr"), _log(time, "time")

    def __call__(self, alpha: RealLike) -> Array:
        return jnp.exp(self.log_lr) / (1 + alpha * jnp.exp(-self.log_time))


class PiecewiseRate(Readable):
    """log lr(alpha), linear between knots: log_lr (knots,) at the times alpha (knots,).

    Constant outside them. The times must increase.

    Args:
        alpha: (knots,) increasing times.
        lr: (knots,) the rates there, > 0.

    Raises:
        ValueError: for other shapes, times that do not increase, rates that are not > 0.

    Example:
        >>> schedule = rules.PiecewiseRate([0.0, 10.0], [1.0, 0.01])
        >>> round(float(schedule(5.0)), 6)
        0.1
    """

    alpha: Float[Array, " knots"]
    log_lr: Float[Array, " knots"]

    def __init__(self, alpha: RealLike, lr: RealLike):
        self.alpha = as_float(alpha, "alpha")
        self.log_lr = _log(lr, "lr")
        if self.alpha.ndim != 1 or self.alpha.shape != self.log_lr.shape:
            raise ValueError(
                "a PiecewiseRate needs as many rates as times; got alpha of shape "
                f"{self.alpha.shape}, lr of shape {self.log_lr.shape}."
            )
        require_finite(alpha=self.alpha)
        if is_concrete(self.alpha) and np.any(np.diff(np.asarray(self.alpha)) <= 0):
            raise ValueError(
                "alpha, the times of a PiecewiseRate, must be strictly increasing; got "
                f"{self.alpha}. Sort times and rates together, and drop repeated times."
            )

    def __call__(self, alpha: RealLike) -> Array:
        return jnp.exp(jnp.interp(jnp.asarray(alpha, float), self.alpha, self.log_lr))


Family = ConstantRate | InverseTimeRate | PiecewiseRate


def _log(value: RealLike, name: str) -> Array:
    value = as_float(value, name)
    require_at_least(value, 0.0, name, "its logarithm is what is stored", strict=True)
    return jnp.log(value)
