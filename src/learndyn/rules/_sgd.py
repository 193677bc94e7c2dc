"""The learning rule: online SGD, its learning rates, decay, batches and momentum."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, is_concrete, require_at_least
from learndyn._types import CountLike, RealLike, Scalar, Schedule
from learndyn.problems import as_module


class SlowMomentum(eqx.Module):
    """Momentum so slow that it matters at large n: 1 - beta = gamma / n, lr likewise / n.

    A step at input dimension n uses beta = 1 - gamma/n and the rate lr * gamma / n; then the
    velocity brings order parameters of its own. gamma > 0, dimensionless.
    """

    gamma: Float[Array, "..."]

    def __init__(self, gamma: RealLike):
        self.gamma = as_float(gamma, "gamma")
        require_at_least(self.gamma, 0.0, "gamma", "1 - beta = gamma / n", strict=True)


class Rates(NamedTuple):
    """Learning rates at one time; None where a layer is not trained."""

    w: Scalar
    v: Scalar | None
    b: Scalar | None


class SGD(eqx.Module):
    """Online SGD on fresh samples or fresh batches.

        w <- w - (lr/sqrt n) c x - (lr weight_decay/n) w,
        v <- v - (lr_second/n) dloss/dv,   b <- b - (lr_bias/n) c.

    lr: rate of the first layer, a number >= 0 or a schedule, a function of alpha = steps/n.
    lr_second: rate of the second layer; None: not trained.
    lr_bias: rate of the biases; None: not trained.
    weight_decay: kappa >= 0, on w only.
    batch_size: fresh samples per step, static; a batch counts as one step.
    momentum: None, a number 0 <= beta < 1 (u <- beta u + gradient, w <- w - lr u), or
        `SlowMomentum(gamma)`.

    All rates are dimensionless leaves of any shape, ready for vmap and grad.
    Raises: ValueError for values outside these ranges.
    Source: Goldt et al. 2020, Eqs. (2)-(3).
    """

    lr: Any
    lr_second: Any
    lr_bias: Any
    weight_decay: Float[Array, "..."]
    batch_size: int = eqx.field(static=True)
    momentum: Any

    def __init__(
        self,
        lr: RealLike | Schedule,
        lr_second: RealLike | Schedule | None = None,
        lr_bias: RealLike | Schedule | None = None,
        weight_decay: RealLike = 0.0,
        batch_size: CountLike = 1,
        momentum: RealLike | SlowMomentum | None = None,
    ):
        self.lr = _as_rate(lr, "lr")
        self.lr_second = None if lr_second is None else _as_rate(lr_second, "lr_second")
        self.lr_bias = None if lr_bias is None else _as_rate(lr_bias, "lr_bias")
        self.weight_decay = as_float(weight_decay, "weight_decay")
        self.batch_size = as_count(batch_size, "batch_size", "it sets array shapes")
        self.momentum = momentum
        require_at_least(self.weight_decay, 0.0, "weight_decay", "it shrinks the weights")
        if momentum is not None and not isinstance(momentum, SlowMomentum):
            self.momentum = as_float(momentum, "momentum")
            require_at_least(self.momentum, 0.0, "momentum", "beta, 0 <= beta < 1")
            if is_concrete(self.momentum):
                rest = 1.0 - np.asarray(self.momentum)
                require_at_least(rest, 0.0, "1 - momentum", "beta < 1", strict=True)

    def rates(self, alpha: RealLike) -> Rates:
        """Learning rates at time alpha, as the user gave them."""
        return Rates(
            jnp.asarray(_rate_at(self.lr, alpha)),
            _rate_at(self.lr_second, alpha),
            _rate_at(self.lr_bias, alpha),
        )

    @property
    def has_slow_momentum(self) -> bool:
        return isinstance(self.momentum, SlowMomentum)

    def effective_rates(self, alpha: RealLike) -> Rates:
        """Rates of the limit n -> infinity: constant momentum acts as lr / (1 - beta)."""
        rates = self.rates(alpha)
        if self.momentum is None or self.has_slow_momentum:
            return rates
        gain = 1.0 / (1.0 - self.momentum)
        return jax.tree.map(lambda rate: gain * rate, rates)


def _as_rate(rate: RealLike | Schedule, name: str) -> Any:
    if callable(rate):
        return as_module(rate, name)
    rate = as_float(rate, name)
    require_at_least(rate, 0.0, name, "a learning rate")
    return rate


def _rate_at(rate: Any, alpha: RealLike) -> Scalar | None:
    if rate is None or not callable(rate):
        return rate
    alpha = jnp.asarray(alpha, jnp.result_type(float))
    value = jnp.asarray(rate(alpha), jnp.result_type(float))
    if value.shape != ():
        raise ValueError(
            f"a learning-rate schedule must return one number; got shape {value.shape}."
        )
    return jnp.where(value >= 0, value, jnp.nan)  # traced: it cannot raise
