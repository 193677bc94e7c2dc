"""Linear regression with weight decay: k = m = 1, v = 1, T = rho, solved exactly.

    dm = lr (rho - (1 + kappa) m)
    dq = lr (2 m - 2 (1 + kappa) q) + lr**2 (rho - 2 m + q + noise**2) / B

with m = R, q = Q, kappa the weight decay. (Printed steady states with lr (1 + kappa)**2 in the
denominator, and a critical rate 2 / (1 + kappa), are wrong for kappa > 0.)
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_count,
    as_float,
    is_concrete,
    require_at_least,
    require_finite,
    require_x64,
)
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics.closed_forms._linear import decayed_time, whole_steps
from learndyn.averages import not_negative

_ROUNDING = 1e-9
"""The most by which m**2 may exceed q rho, relative and absolute: overlaps that a run has reached
are rounded."""


class Ridge(NamedTuple):
    """Overlaps m = R, q = Q and the generalisation error eg = (rho - 2 m + q) / 2.

    Attributes:
        m: R, the student's overlap with the teacher.
        q: Q, the student's squared norm per dimension.
        eg: the generalisation error.

    Example:
        >>> end = asymptotics.ridge(lr=0.5, weight_decay=1.0, noise=0.0)
        >>> round(float(end.m), 4), round(float(end.q), 4), round(float(end.eg), 4)
        (0.5, 0.2857, 0.1429)
    """

    m: Float[Array, "*shape"]
    q: Float[Array, "*shape"]
    eg: Float[Array, "*shape"]


def ridge(
    lr: RealLike,
    weight_decay: RealLike,
    noise: RealLike = 0.0,
    *,
    rho: RealLike = 1.0,
    batch_size: CountLike = 1,
) -> Ridge:
    """Where linear regression with weight decay kappa ends.

    Equation: m* = rho/(1+kappa), q* = [2m* + lr (rho - 2m* + noise**2)/B] / [2(1+kappa) - lr/B],
    eg* = [2 kappa**2 rho/(1+kappa) + lr noise**2/B] / [4(1+kappa) - 2 lr/B].

    Range: lr < critical_lr_ridge.

    Error: none, as n -> infinity.

    Args:
        lr: learning rate of the first layer, >= 0.
        weight_decay: kappa >= 0, on w.
        noise: standard deviation of the label noise, >= 0.
        rho: T, the teacher's squared norm per dimension.
        batch_size: samples per step.

    Raises:
        ValueError: beyond the range, or for negative values.

    Source:
        Derived here, from the equations of the module; unpublished notes have it wrong.

    Example:
        >>> end = asymptotics.ridge(lr=0.5, weight_decay=1.0, noise=0.0)
        >>> float(end.m), round(float(end.eg), 6)
        (0.5, 0.142857)
    """
    rate, kappa, noise, rho = _values(lr, weight_decay, noise, rho, batch_size)
    limit = 2 * (1 + kappa)
    if is_concrete(rate, kappa) and np.any(np.asarray(rate) >= 2 * (1 + np.asarray(kappa))):
        raise ValueError(
            f"ridge needs lr < 2 (1 + weight_decay) batch_size, beyond which it diverges; got "
            f"lr = {lr}, weight_decay = {weight_decay}, batch_size = {batch_size}."
        )
    m = rho / (1 + kappa)
    gap = jnp.where(rate < limit, limit - rate, jnp.nan)
    q = (2 * m + rate * (rho - 2 * m + noise**2)) / gap
    return Ridge(m, q, (2 * kappa**2 * rho / (1 + kappa) + rate * noise**2) / (2 * gap))


def ridge_curve(
    alpha: RealLike,
    lr: RealLike,
    weight_decay: RealLike,
    noise: RealLike = 0.0,
    *,
    rho: RealLike = 1.0,
    m_start: RealLike = 0.0,
    q_start: RealLike = 1.0,
    batch_size: CountLike = 1,
) -> Ridge:
    """m, q and eg at times alpha = steps / n, from m_start and q_start, as n -> infinity.

    Error: none.

    Range: any rate; beyond the critical one q grows without bound.

    Args:
        alpha: times, steps / n, of any shape.
        lr: learning rate of the first layer, >= 0.
        weight_decay: kappa >= 0, on w.
        noise: standard deviation of the label noise, >= 0.
        rho: T, the teacher's squared norm per dimension.
        m_start, q_start: R and Q at alpha = 0.
        batch_size: samples per step.

    Raises:
        ValueError: for negative values, or overlaps that no weights have, m**2 > q rho.

    Source:
        Derived here, from the equations of the module.

    Example:
        >>> run = asymptotics.ridge_curve(jnp.array([0.0, 1.0, 100.0]), lr=0.5, weight_decay=1.0)
        >>> np.round(run.m, 4)
        Array([0.    , 0.3161, 0.5   ], dtype=float64)
    """
    rate, kappa, noise, rho = _values(lr, weight_decay, noise, rho, batch_size)
    lr, alpha = as_float(lr, "lr"), as_float(alpha, "alpha")
    require_at_least(alpha, 0.0, "alpha", "a time, steps / n")
    m_start, q_start = _start(m_start, q_start, rho)
    slow, fast = lr * (1 + kappa), lr * (2 * (1 + kappa) - rate)
    m_end = rho / (1 + kappa)
    pull = 2 * lr * (1 - rate)  # of m on q
    push = lr * rate * (rho + noise**2) + pull * m_end
    m = m_end + (m_start - m_end) * jnp.exp(-slow * alpha)
    # exp(-fast alpha) convolved with exp(-slow alpha), smooth where the two rates meet.
    slower = jnp.minimum(slow, fast)
    memory = jnp.exp(-slower * alpha) * decayed_time(jnp.abs(fast - slow), alpha)
    q = q_start * jnp.exp(-fast * alpha) + push * decayed_time(fast, alpha)
    q = q + pull * (m_start - m_end) * memory
    return Ridge(m, q, _error(m, q, rho))


def ridge_finite_n(
    steps: RealLike,
    n: RealLike,
    lr: RealLike,
    weight_decay: RealLike,
    noise: RealLike = 0.0,
    *,
    rho: RealLike = 1.0,
    m_start: RealLike = 0.0,
    q_start: RealLike = 1.0,
) -> Ridge:
    """Means of m, q and eg after `steps` steps of SGD at input dimension n, batches of one.

    Equation, with a = lr kappa/n: m' = (1-a) m - (lr/n)(m - rho), q' = (1-a)**2 q - 2
    (1-a)(lr/n)(q-m) + (lr/n)**2 [(n+2)(q - 2m + rho) + n noise**2].

    Range: n >= 1, steps whole numbers.

    Error: none, for Gaussian inputs and a fixed start.

    Args:
        steps: whole numbers of steps, of any shape.
        n: input dimension.
        lr: learning rate of the first layer, >= 0.
        weight_decay: kappa >= 0, on w.
        noise: standard deviation of the label noise, >= 0.
        rho: T, the teacher's squared norm per dimension.
        m_start, q_start: R and Q before the first step.

    Raises:
        ValueError: for bad values, or overlaps that no weights have, m**2 > q rho.

    Source:
        Derived here from Eqs. (2)-(3) of Goldt et al. (2020) with weight decay, by Gaussian fourth
        moments.

    Example:
        >>> run = asymptotics.ridge_finite_n(jnp.array([0, 100]), n=100, lr=0.5, weight_decay=1.0)
        >>> np.round(run.eg, 4)
        Array([1.    , 0.3563], dtype=float64)
    """
    lr, kappa, noise, rho = _values(lr, weight_decay, noise, rho, 1)
    n, steps = as_float(n, "n"), whole_steps(steps)
    require_at_least(n, 1.0, "n", "an input dimension")
    m_start, q_start = _start(m_start, q_start, rho)
    step, kept = lr / n, 1 - lr * kappa / n
    # One step maps m to keep_m m + ..., and q to keep_q q + pull m + ...
    keep_m = kept - step
    keep_q = kept**2 - 2 * kept * step + step**2 * (n + 2)
    pull = 2 * kept * step - 2 * step**2 * (n + 2)
    m_end = rho / (1 + kappa)
    push = step**2 * ((n + 2) * rho + n * noise**2) + pull * m_end
    m = m_end + (m_start - m_end) * keep_m**steps
    q = q_start * keep_q**steps + push * _geometric(keep_q, jnp.ones(()), steps)
    q = q + pull * (m_start - m_end) * _geometric(keep_q, keep_m, steps)
    return Ridge(m, q, _error(m, q, rho))


def critical_lr_ridge(
    weight_decay: RealLike, *, batch_size: CountLike = 1
) -> Float[Array, "*shape"]:
    """The lr beyond which linear regression with weight decay diverges: 2 (1 + kappa) B.

    Decay makes it larger.

    Args:
        weight_decay: kappa >= 0, on w.
        batch_size: samples per step.

    Raises:
        ValueError: for a negative weight decay.

    Source:
        Derived here, the pole of `ridge`; unpublished notes have 2 / (1 + kappa).

    Example:
        >>> float(asymptotics.critical_lr_ridge(weight_decay=0.5))
        3.0
    """
    per_sample, kappa, _, _ = _values(1.0, weight_decay, 0.0, 1.0, batch_size)
    return 2 * (1 + kappa) / per_sample


def _error(m: Array, q: Array, rho: Array) -> Array:
    """eg, the 0 to which it cancels included."""
    return not_negative(0.5 * (rho - 2 * m + q), rho + 2 * jnp.abs(m) + q)


def _geometric(a: Array, b: Array, steps: Array) -> Array:
    """sum_{s < steps} a**(steps - 1 - s) b**s = (a**steps - b**steps) / (a - b)."""
    a, b = jnp.broadcast_arrays(a, b)
    large, small = (
        jnp.where(jnp.abs(a) > jnp.abs(b), a, b),
        jnp.where(jnp.abs(a) > jnp.abs(b), b, a),
    )
    # Where a is near b, both differences cancel: expm1(steps d) / expm1(d), with d = log(a/b) <= 0.
    near = small * large > 0.5 * large**2
    d = jnp.log1p(jnp.where(near, (small - large) / jnp.where(near, large, 1.0), 0.0))
    some = d < 0
    equal = steps * (1 + (steps - 1) * d / 2)  # with its slope
    ratio = jnp.where(some, jnp.expm1(steps * d) / jnp.where(some, jnp.expm1(d), 1.0), equal)
    close = large ** jnp.maximum(steps - 1, 0) * ratio
    # Both may be 0, and then the sum is its first term, 0**(steps - 1).
    none = (large == 0) & (small == 0)
    far = (large**steps - small**steps) / jnp.where(near | none, 1.0, large - small)
    far = jnp.where(none & (steps == 1), 1.0, far)
    return jnp.where(near, close, far)


def _start(m_start: RealLike, q_start: RealLike, rho: Array) -> tuple[Array, Array]:
    """m and q of some weights at the start."""
    m, q = as_float(m_start, "m_start"), as_float(q_start, "q_start")
    require_finite(m_start=m)
    require_at_least(q, 0.0, "q_start", "a squared norm")
    if is_concrete(m, q, rho) and _no_weights_have(*map(np.asarray, (m, q, rho))):
        raise ValueError(
            "m_start must be the overlap of some weights, m_start**2 <= q_start rho; got "
            f"m_start = {m}, q_start = {q}, rho = {rho}. Give q_start with m_start."
        )
    return m, q


def _no_weights_have(m: np.ndarray, q: np.ndarray, rho: np.ndarray) -> bool:
    """Whether m**2 exceeds q rho somewhere, by more than rounding."""
    return bool(np.any(m**2 > q * rho * (1 + _ROUNDING) + _ROUNDING))


def _values(
    lr: RealLike, weight_decay: RealLike, noise: RealLike, rho: RealLike, batch_size: CountLike
) -> tuple[Array, Array, Array, Array]:
    """lr / batch_size, kappa, noise, rho, all checked."""
    require_x64("the theory of ridge regression")
    named = (("lr", lr), ("weight_decay", weight_decay), ("noise", noise), ("rho", rho))
    arrays = []
    for name, value in named:
        array = as_float(value, name)
        require_at_least(array, 0.0, name, "it cannot be negative")
        arrays.append(array)
    batch_size = as_count(batch_size, "batch_size", "fresh samples per step")
    return arrays[0] / batch_size, *arrays[1:]
