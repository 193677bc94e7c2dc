"""Asymptotic error of specialised erf committees, exact in the learning rate.

The rational function f(M, L, lr) of Eq. (10) of Goldt et al. (2020). `notebooks/derive_eq10.py`
derives it, prints the tables below and their exact form in square roots of 2, 3 and 5.
"""

import operator
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_at_least, require_finite, require_x64
from learndyn._types import RealLike

NUMERATOR = {  # {(power of x = lr / pi, power of m, power of l): coefficient}
    (0, 0, 1): 0.059237327628106012,
    (0, 0, 2): 0.76583221039456881,
    (0, 1, 0): 0.034200687052161062,
    (0, 1, 1): 0.82506953802267482,
    (0, 2, 0): 0.22107671641269521,
    (1, 0, 1): 0.0077493855205811491,
    (1, 0, 2): -0.44520252029677679,
    (1, 1, 0): 0.011220072216700662,
    (1, 1, 1): -0.33318855456214718,
    (1, 2, 0): -0.050711623968771337,
    (2, 0, 1): 0.0057634773590785694,
    (2, 0, 2): 0.066001871508477455,
    (2, 1, 1): 0.023418678501709490,
    (3, 0, 2): -0.0023911899601023296,
}
DENOMINATOR = {
    (0, 0, 0): 0.059237327628106012,
    (0, 0, 1): 0.76583221039456881,
    (0, 1, 0): 0.38291610519728440,
    (1, 0, 0): 0.0077493855205811491,
    (1, 0, 1): -0.50443984792488280,
    (1, 0, 2): -0.76583221039456881,
    (1, 1, 0): -0.19756461957244344,
    (1, 1, 1): -0.82506953802267482,
    (1, 2, 0): -0.22107671641269521,
    (2, 0, 0): 0.0057634773590785694,
    (2, 0, 1): 0.058252485987896305,
    (2, 0, 2): 0.44520252029677679,
    (2, 1, 0): -0.0034916247751013365,
    (2, 1, 1): 0.33318855456214718,
    (2, 2, 0): 0.050711623968771337,
    (3, 0, 1): -0.0081546673191808990,
    (3, 0, 2): -0.066001871508477455,
    (3, 1, 1): -0.023418678501709490,
    (4, 0, 2): 0.0023911899601023296,
}

_NEWTON = 24
"""Steps to the first zero of the denominator; 8 are enough for up to 1e6 units."""


def eg_specialised(
    m: RealLike, l: RealLike, lr: RealLike, noise: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """Final eg of an erf committee with k = m + l units that learned from one with m.

    Equation: noise**2 lr f(m, l, lr) / (2 pi), f rational in lr / pi, m, l; Eq. (10) of Goldt et
    al. (2020). v = v_teacher = 1, T = 1, first layer trained, batches of one.

    Range: 0 <= lr < critical_lr_specialised(m, l).

    Error: O(noise**4); rounding about 1e-13. For l >= 2 it belongs to the symmetric specialised
    state, `specialised_state(m, l)`.

    Arguments broadcast. Other rules: a batch of B or v != 1 are `eg_response`'s.

    Args:
        m: number of teacher units.
        l: number of superfluous student units, k - m.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.

    Raises:
        ValueError: for m < 1, l < 0, negative lr or noise, or lr beyond the range.

    Example:
        >>> round(float(asymptotics.eg_specialised(m=2, l=3, lr=0.05)), 6)
        0.035436
    """
    require_x64("eg_specialised")
    m, l = as_units(m, "m", 1), as_units(l, "l", 0)
    lr, noise = as_rate(lr, "lr"), as_rate(noise, "noise")
    x = lr / jnp.pi
    f = polynomial(NUMERATOR, x, m, l) / polynomial(DENOMINATOR, x, m, l)
    if is_concrete(m, l, lr):
        _require_stable(m, l, lr)
    return noise**2 * lr / (2 * jnp.pi) * jnp.where(f > 0, f, jnp.nan)


def eg_denoising(
    m: RealLike, z: RealLike, v_teacher: RealLike, lr: RealLike, noise: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """Final eg of k = z m erf units, both layers trained, at the denoising solution.

    Equation: the z copies of a unit act as one at the rate lr v_teacher**2 / z, and neither the
    second layer's rate nor its own displacement matters at this order, so this is eg_specialised(m,
    0, lr v_teacher**2 / z, noise). The curves of Fig. 3c of Goldt et al. (2020); for m = 1 and
    small lr their Eq. (15), lr noise**2 v_teacher**2 / (2 sqrt(3) pi z).

    Range and error: those of `eg_specialised` at that rate.

    Args:
        m: number of teacher units.
        z: student units for each teacher unit, k = z m.
        v_teacher: the teacher's second-layer weights, all the same.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.

    Raises:
        ValueError: as `eg_specialised` at that rate, and for z < 1.

    Example:
        >>> one, four = (asymptotics.eg_denoising(1, z, 1.0, lr=0.1) for z in (1, 4))
        >>> round(float(one), 6), round(float(four), 6)
        (0.009421, 0.002311)
    """
    z, lr, v_teacher = as_units(z, "z", 1), as_rate(lr, "lr"), as_float(v_teacher, "v_teacher")
    require_finite(v_teacher=v_teacher)
    return eg_specialised(m, 0, lr * v_teacher**2 / z, noise)


def critical_lr_specialised(m: RealLike, l: RealLike = 0) -> Float[Array, "*shape"]:
    """The largest stable lr of the specialised state of an erf committee, k = m + l.

    Equation: the smallest positive zero of the denominator of `eg_specialised`, where the noise is
    amplified without bound. v = v_teacher = 1, T = 1, batches of one.

    Arguments broadcast; jit and vmap work.

    Range: any m >= 1, l >= 0.

    Error: rounding, 1e-14.

    Args:
        m: number of teacher units.
        l: number of superfluous student units, k - m.

    Raises:
        ValueError: for m < 1 or l < 0, or no integers.

    Source:
        Derived here; agrees with `critical_lr`.

    Example:
        >>> limit = asymptotics.critical_lr_specialised(1)
        >>> round(float(limit), 6), round(float(jnp.sqrt(5 / 3) * jnp.pi), 6)
        (4.055779, 4.055779)
    """
    require_x64("critical_lr_specialised")
    return _first_zero(as_units(m, "m", 1), as_units(l, "l", 0))


def polynomial(
    terms: dict[tuple[int, int, int], float], x: RealLike, m: RealLike, l: RealLike
) -> Float[Array, "*shape"]:
    """The sum of coefficient x**i m**j l**n over the table {(i, j, n): coefficient}."""
    products = [value * x**i * m**j * l**n for (i, j, n), value in terms.items()]
    return reduce(operator.add, products)


def _first_zero(m: Array, l: Array) -> Float[Array, "*shape"]:
    """lr of the denominator's smallest zero.

    All its zeros are real and the smallest is positive, so that Newton's method from 0 climbs
    to it without overshooting.
    """
    m, l = jnp.broadcast_arrays(m, l)

    def newton(x: Array, _: None) -> tuple[Array, None]:
        # Newton's step
        value, slope = jax.jvp(
            lambda x: polynomial(DENOMINATOR, x, m, l), (x,), (jnp.ones_like(x),)
        )
        return x - value / slope, None

    return jnp.pi * jax.lax.scan(newton, jnp.zeros_like(m), None, length=_NEWTON)[0]


def _require_stable(m: Array, l: Array, lr: Array) -> None:
    units, more, rates = (np.asarray(a).ravel() for a in np.broadcast_arrays(m, l, lr))
    with jax.ensure_compile_time_eval():  # also where something else is traced
        limit = np.asarray(_first_zero(jnp.asarray(units), jnp.asarray(more)))
    if (rates >= limit).any():
        i = int(np.argmax(rates >= limit))
        raise ValueError(
            f"lr must be below the critical rate {limit[i]:.6g} of the specialised state with "
            f"m={units[i]:g}, l={more[i]:g}, where its error diverges; got lr={rates[i]:g}."
        )


def as_units(value: RealLike, name: str, lower: int = 1) -> Array:
    """`value` as floats; concrete ones must be integers >= lower. Raises: ValueError else."""
    value = as_float(value, name)
    require_at_least(value, float(lower), name, "a number of units")
    if is_concrete(value) and np.any(np.asarray(value) != np.round(np.asarray(value))):
        raise ValueError(
            f"{name} must be a number of units, an integer; got {value}. Round it, for example "
            "with numpy.round."
        )
    return value


def as_rate(value: RealLike, name: str) -> Array:
    """`value` as floats; concrete ones must be finite and >= 0. Raises: ValueError else."""
    value = as_float(value, name)
    require_at_least(value, 0.0, name, "it cannot be negative")
    return value
