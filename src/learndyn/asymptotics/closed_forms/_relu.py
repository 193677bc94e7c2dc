"""Asymptotic error of ReLU committees at the specialised state, exact in the learning rate.

Near it w_i = w*_i + d_i, and to first order the error is Delta = v sum_i theta(rho_i) d_i.x with
theta the step function. The d_i are almost all orthogonal to the m teachers, so only their own
overlaps p = d_i.d_i/n and c = d_i.d_j/n matter, and averages over rho are probabilities that
two, three or four independent fields are positive, 2**-(number of different ones):

    dp/2 lr = -p/2 - (m-1) c/4 + lr/2 [(m+1) p/4 + (m-1)(m+2) c/8 + noise**2/2]
    dc/2 lr = -p/4 - m c/4     + lr/2 [(m+2) p/8 + (m**2+3m-2) c/16 + noise**2/4]

and eg = m p/4 + m (m-1) c/8.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_finite, require_x64
from learndyn._types import RealLike
from learndyn.asymptotics.closed_forms._erf_committee import as_rate, as_units


def eg_relu(
    m: RealLike, lr: RealLike, noise: RealLike = 1.0, *, z: RealLike = 1, v_teacher: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """Final eg of m z ReLU units, z copies sharing each of m orthonormal teacher units' output.

    Equation: noise**2 h m (m+1)(4-h) / (2 [(m**2+m+2) h**2 - 4 (m+1)(m+2) h + 16 (m+1)]), h = lr
    v_teacher**2 / z; for m = z = 1 it is noise**2 lr / (4 (2 - lr)).

    With or without a trained second layer; T = 1, batches of one. Other states: `fixed_point`,
    `eg_response` and, for small lr, `eg_zero_error_small_lr`.

    Range: h < critical_lr_relu(m).

    Error: exact in lr, O(noise**3).

    Args:
        m: number of teacher units.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.
        z: student units for each teacher unit, k = z m.
        v_teacher: the teacher's second-layer weights, all the same.

    Raises:
        ValueError: beyond the range, for m or z < 1 or no integers, negative rates, or in float32.

    Source:
        Derived here from the ReLU ODE (see the module); Goldt et al. (2020) measured it.

    Example:
        >>> float(asymptotics.eg_relu(1, lr=1.0))
        0.25
    """
    require_x64("the theory of ReLU committees")
    m, z = as_units(m, "m"), as_units(z, "z")
    lr, noise = as_rate(lr, "lr"), as_rate(noise, "noise")
    v_teacher = as_float(v_teacher, "v_teacher")
    require_finite(v_teacher=v_teacher)
    h = lr * v_teacher**2 / z
    limit = critical_lr_relu(m)
    if is_concrete(h, limit) and np.any(np.asarray(h) >= np.asarray(limit)):
        raise ValueError(
            f"lr v_teacher**2 / z must be below the critical rate {limit} of the specialised "
            f"state, where its error diverges; got {h}."
        )
    ends = (m**2 + m + 2) * h**2 - 4 * (m + 1) * (m + 2) * h + 16 * (m + 1)
    return noise**2 * jnp.where(h < limit, h * m * (m + 1) * (4 - h) / (2 * ends), jnp.nan)


def critical_lr_relu(m: RealLike) -> Float[Array, "*shape"]:
    """The largest stable lr of the specialised state of a ReLU committee, k = m, v = 1, T = 1.

    Equation: 2 [(m+1)(m+2) - sqrt((m+1)(m**3+m**2+4m-4))] / (m**2+m+2), the pole of `eg_relu`; 2
    for m = 1.

    Args:
        m: number of teacher units.

    Raises:
        ValueError: for m < 1, or no integer.

    Source:
        Derived here, with `eg_relu`.

    Example:
        >>> float(asymptotics.critical_lr_relu(1)), round(float(asymptotics.critical_lr_relu(2)), 4)
        (2.0, 1.2679)
    """
    require_x64("the theory of ReLU committees")
    m = as_units(m, "m")
    # The smaller root of the quadratic in h that is the denominator of `eg_relu`
    root = jnp.sqrt((m + 1) * (m**3 + m**2 + 4 * m - 4))
    return 2 * ((m + 1) * (m + 2) - root) / (m**2 + m + 2)
