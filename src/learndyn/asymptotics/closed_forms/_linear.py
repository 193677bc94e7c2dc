"""Linear committees, solved exactly: at every noise, at every time, at every n.

A linear committee acts through one vector, sum_i v_i w_i, whose squared distance from the
teacher's is all there is. With v fixed everything depends on the gain H = lr sum_i v_i**2.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn._checks import (
    as_count,
    as_float,
    is_concrete,
    require_at_least,
    require_finite,
    require_x64,
)
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics.closed_forms._erf_committee import as_units


def linear_gain(lr: RealLike, k: RealLike | None = None, v: RealLike | None = None) -> Array:
    """H = lr sum_i v_i**2, which is lr k for a committee with v = 1.

    Args:
        lr: learning rate of the first layer, >= 0.
        k: number of units with v = 1.
        v: (k,) their second layer instead.

    Raises:
        ValueError: unless exactly one of k and v is given; for lr < 0, v that is not finite, k < 1
            or no integer; in float32.

    Example:
        >>> float(asymptotics.linear_gain(0.5, k=4))
        2.0
        >>> float(asymptotics.linear_gain(0.5, v=[1.0, 2.0]))
        2.5
    """
    require_x64("the theory of linear committees")
    if (k is None) == (v is None):
        raise ValueError(
            "a linear committee needs either k, its number of units (v = 1), or v, its second "
            f"layer; got k={k}, v={v}."
        )
    lr = as_float(lr, "lr")
    require_at_least(lr, 0.0, "lr", "a learning rate")
    if v is not None:
        v = as_float(v, "v")
        require_finite(v=v)
        return lr * jnp.sum(v**2, axis=-1)
    return lr * as_units(k, "k")


def eg_linear(
    lr: RealLike,
    noise: RealLike = 1.0,
    *,
    k: RealLike | None = None,
    v: RealLike | None = None,
    batch_size: CountLike = 1,
) -> Float[Array, "*shape"]:
    """Final eg of a linear committee with fixed second layer.

    Equation: H noise**2 / (4 B - 2 H), H = lr k (v = 1) or lr sum v**2; Eq. (12) of Goldt et al.
    (2020) with k = L + M.

    Range: H < 2 B.

    Error: none, at any noise, as n -> infinity.

    Args:
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.
        k: number of units with v = 1.
        v: (k,) their second layer instead, for example v = 1/k.
        batch_size: samples per step.

    Raises:
        ValueError: beyond the range, or for bad values.

    Example:
        >>> float(asymptotics.eg_linear(lr=0.5, noise=1.0, k=2))
        0.5
    """
    batch_size = as_count(batch_size, "batch_size", "fresh samples per step")
    gain, noise = linear_gain(lr, k, v), _noise(noise)
    _require_stable(gain, 2.0 * batch_size, "eg_linear")
    eg = gain * noise**2 / (4 * batch_size - 2 * gain)
    return jnp.where(gain < 2 * batch_size, eg, jnp.nan)


def eg_linear_small_lr(
    lr: RealLike, noise: RealLike = 1.0, *, k: RealLike | None = None, v: RealLike | None = None
) -> Float[Array, "*shape"]:
    """Eq. (12) to first order in lr: noise**2 lr k / 4; Eq. (13) of Goldt et al. (2020).

    Range: H = lr k much smaller than 2.

    Error: O(lr**2), relative size H / 2.

    Args:
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.
        k: number of units with v = 1.
        v: (k,) their second layer instead.

    Raises:
        ValueError: for bad values.

    Example:
        >>> float(asymptotics.eg_linear_small_lr(lr=0.5, noise=1.0, k=2))
        0.25
    """
    return linear_gain(lr, k, v) * _noise(noise) ** 2 / 4


def eg_linear_curve(
    alpha: RealLike,
    eg_start: RealLike,
    lr: RealLike,
    noise: RealLike = 0.0,
    *,
    k: RealLike | None = None,
    v: RealLike | None = None,
    batch_size: CountLike = 1,
) -> Float[Array, "*shape"]:
    """eg(alpha) of a linear committee with fixed second layer, as n -> infinity.

    Equation: eg* + (eg_start - eg*) exp(-H (2 - H/B) alpha), from d eg / d alpha = -H (2 - H/B) eg
    + H**2 noise**2 / (2 B).

    Error: none; it grows without bound, as the ODE does, for H > 2 B.

    Range: alpha >= 0, eg_start >= 0, any rate and noise.

    Args:
        alpha: steps / n, any shape.
        eg_start: eg at alpha = 0.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.
        k: number of units with v = 1.
        v: (k,) their second layer instead.
        batch_size: samples per step.

    Raises:
        ValueError: for bad values.

    Source:
        The ODE whose fixed point is Eq. (12) of Goldt et al. (2020).

    Example:
        >>> alpha = jnp.array([0.0, 1.0, 10.0])
        >>> np.round(asymptotics.eg_linear_curve(alpha, 0.5, lr=0.5, noise=0.0, k=1), 4)
        Array([5.000e-01, 2.362e-01, 3.000e-04], dtype=float64)
    """
    batch_size = as_count(batch_size, "batch_size", "fresh samples per step")
    gain, noise = linear_gain(lr, k, v), _noise(noise)
    alpha, eg_start = as_float(alpha, "alpha"), _error_start(eg_start)
    require_at_least(alpha, 0.0, "alpha", "a time, steps / n")
    rate, push = gain * (2 - gain / batch_size), gain**2 * noise**2 / (2 * batch_size)
    return eg_start * jnp.exp(-rate * alpha) + push * decayed_time(rate, alpha)


def eg_linear_finite_n(
    steps: RealLike,
    eg_start: RealLike,
    n: RealLike,
    lr: RealLike,
    noise: RealLike = 0.0,
    *,
    k: RealLike | None = None,
    v: RealLike | None = None,
    batch_size: CountLike = 1,
) -> Float[Array, "*shape"]:
    """Mean eg after `steps` steps of SGD at input dimension n: exact at every n >= 1.

    Equation: each step e -> a e + H**2 noise**2 / (2 n B), a = 1 - 2H/n + H**2 (n+B+1)/(B n**2),
    for Gaussian inputs, from a start with eg_start.

    Range: n >= 1, eg_start >= 0, any rate and noise.

    Error: none for the mean; a sample mean over runs has a meaningful standard error only where
    `linear_variance_is_finite`.

    Args:
        steps: whole numbers, any shape.
        eg_start: eg before the first step.
        n: input dimension.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.
        k: number of units with v = 1.
        v: (k,) their second layer instead.
        batch_size: samples per step.

    Raises:
        ValueError: for bad values, n < 1, steps that are not whole.

    Source:
        Derived here from Eqs. (2)-(3) of Goldt et al. (2020) by Gaussian fourth moments; n ->
        infinity gives `eg_linear_curve`.

    Example:
        >>> steps = jnp.array([0, 100, 1000])
        >>> np.round(asymptotics.eg_linear_finite_n(steps, 0.5, n=100, lr=0.5, noise=0.0, k=1), 4)
        Array([5.000e-01, 2.367e-01, 3.000e-04], dtype=float64)
    """
    batch_size = as_count(batch_size, "batch_size", "fresh samples per step")
    gain, noise = linear_gain(lr, k, v), _noise(noise)
    n, steps, eg_start = _dimension(n), whole_steps(steps), _error_start(eg_start)
    # Linear recursion e -> factor e + push, summed in closed form
    factor = 1 - 2 * gain / n + gain**2 * (n + batch_size + 1) / (batch_size * n**2)
    push = gain**2 * noise**2 / (2 * n * batch_size)
    # factor**steps and (1 - factor**steps) / (1 - factor), both smooth at factor = 1.
    rate = -jnp.log(factor)
    gap = jnp.where(factor == 1, 1.0, 1 - factor)
    count = jnp.where(factor == 1, steps, -jnp.expm1(-rate * steps) / gap)
    return eg_start * jnp.exp(-rate * steps) + push * count


def linear_variance_is_finite(
    n: RealLike, lr: RealLike, *, k: RealLike | None = None, v: RealLike | None = None
) -> Bool[Array, "*shape"]:
    """Whether eg of a linear committee has a bounded variance at input dimension n (B = 1).

    Equation: 1 - 4h + h**2 (12 + 2(n+2)) - 12 h**3 (n+4) + 3 h**4 (n+4)(n+6) < 1, h = H/n: the
    growth of the mean of eg**2. At n = 3 this is H < 0.88.

    Args:
        n: input dimension.
        lr: learning rate of the first layer, >= 0.
        k: number of units with v = 1.
        v: (k,) their second layer instead.

    Raises:
        ValueError: for bad values.

    Source:
        Derived here from Eqs. (2)-(3) of Goldt et al. (2020), by Gaussian eighth moments.

    Example:
        >>> bool(asymptotics.linear_variance_is_finite(3, 0.8, k=1))
        True
        >>> bool(asymptotics.linear_variance_is_finite(3, 0.9, k=1))
        False
    """
    n = _dimension(n)
    h = linear_gain(lr, k, v) / n
    growth = -4 + h * (12 + 2 * (n + 2)) - 12 * h**2 * (n + 4) + 3 * h**3 * (n + 4) * (n + 6)
    return growth < 0


def critical_lr_linear(
    *, k: RealLike | None = None, v: RealLike | None = None, batch_size: CountLike = 1
) -> Float[Array, "*shape"]:
    """The lr beyond which a linear committee diverges: 2 B / k, or 2 B / sum v**2.

    Args:
        k: number of units with v = 1.
        v: (k,) their second layer instead.
        batch_size: samples per step.

    Raises:
        ValueError: for bad values.

    Source:
        Goldt et al. (2020), the pole of Eq. (12).

    Example:
        >>> float(asymptotics.critical_lr_linear(k=4))
        0.5
        >>> float(asymptotics.critical_lr_linear(k=4, batch_size=2))
        1.0
    """
    batch_size = as_count(batch_size, "batch_size", "fresh samples per step")
    return 2 * batch_size / linear_gain(1.0, k, v)


def decayed_time(rate: RealLike, time: RealLike) -> Array:
    """(1 - exp(-rate time)) / rate, smooth at rate = 0."""
    rate, time = jnp.asarray(rate, float), jnp.asarray(time, float)
    # Where rate time is this small the limit at rate 0 is right to 5e-13.
    still = jnp.abs(rate) * jnp.maximum(jnp.abs(time), 1.0) < 1e-12
    return jnp.where(still, time, -jnp.expm1(-rate * time) / jnp.where(still, 1.0, rate))


def _noise(noise: RealLike) -> Array:
    noise = as_float(noise, "noise")
    require_at_least(noise, 0.0, "noise", "a standard deviation")
    return noise


def whole_steps(steps: RealLike) -> Array:
    """`steps` as floats; concrete ones must be whole. Raises: ValueError else, or for negative."""
    steps = as_float(steps, "steps")
    require_at_least(steps, 0.0, "steps", "a number of steps")
    if is_concrete(steps) and np.any(np.asarray(steps) != np.round(np.asarray(steps))):
        raise ValueError(
            f"steps must be whole numbers, steps of SGD, not times alpha = steps / n; got {steps}. "
            "Round n alpha, for example with numpy.round."
        )
    return steps


def _error_start(eg_start: RealLike) -> Array:
    eg_start = as_float(eg_start, "eg_start")
    require_at_least(eg_start, 0.0, "eg_start", "half a mean square")
    return eg_start


def _dimension(n: RealLike) -> Array:
    size = as_float(n, "n")
    require_at_least(size, 1.0, "n", "an input dimension")
    return size


def _require_stable(gain: Array, limit: float, function: str) -> None:
    if is_concrete(gain) and bool((np.asarray(gain) >= limit).any()):
        raise ValueError(
            f"{function} needs H = lr sum v**2 < 2 batch_size = {limit:g}, beyond which learning "
            f"diverges; got H = {np.asarray(gain)}."
        )
