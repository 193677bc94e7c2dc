"""Orthant probabilities: that two, three or four centred Gaussian fields are all positive."""

import jax
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.relu.canonical_frame import PAIRS, REST, cone
from learndyn.integrals.relu.correlations import angles_from, bounded_inverse
from learndyn.integrals.relu.unit_rows import unit_rows


def P2(r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """P(f_1 > 0, f_2 > 0) at correlation r, elementwise.

    Equation: 1/4 + arcsin(r) / 2 pi (Sheppard 1899). Range: r in [-1, 1], result in [0, 1/2].
    Error: rounding. The derivative, infinite at |r| = 1, falls to 0 for 1 - |r| < 5e-15.
    """
    return quadrant(angles_from(r).theta)


def P3(
    r12: Float[Array, "*shape"], r13: Float[Array, "*shape"], r23: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """P(f_1 > 0, f_2 > 0, f_3 > 0) at these correlations, elementwise.

    Equation: 1/8 + (arcsin r12 + arcsin r13 + arcsin r23) / 4 pi. Range: r in [-1, 1],
    together positive semi-definite; result in [0, 1/2]. Error and derivative as `P2`.
    """
    return octant(angles_from(r12).theta, angles_from(r13).theta, angles_from(r23).theta)


@jax.custom_jvp
def P4(r: Float[Array, "4 4"]) -> Float[Array, ""]:
    """P(f_1 > 0, ..., f_4 > 0) at the correlation matrix r; no batch axis, use vmap.

    Equation: Plackett (1954), along a path that switches on the correlations between {1, 2}
    and {3, 4}; see `canonical_frame.py`. Range: r positive semi-definite of any rank with unit
    diagonal; result in [0, 1/2]. Error: below 1e-10, and that of r: where 1 - |r_xy| is below
    1e-14 a rounding of r_xy moves the result itself by up to 1e-9. The derivative is Plackett's,
    dP4/dr_xy = P2(the other two | x = y = 0) / 2 pi sqrt(1 - r_xy**2), with the last factor as
    in `P2`.
    """
    return cone(unit_rows(r)).p4


@P4.defjvp
def _p4_jvp(primals, tangents):
    (r,), (dr,) = primals, tangents
    found = cone(unit_rows(r))
    x, y = np.array(PAIRS).T
    slopes = quadrant(found.partial[REST]) * bounded_inverse(found.angles.q) / (2 * np.pi)
    return found.p4, slopes @ (0.5 * (dr[x, y] + dr[y, x]))


def quadrant(theta: Float[Array, "..."]) -> Float[Array, "..."]:
    """P2 of the correlation sin(theta)."""
    return 0.25 + theta / (2 * np.pi)


def octant(
    theta12: Float[Array, "..."], theta13: Float[Array, "..."], theta23: Float[Array, "..."]
) -> Float[Array, "..."]:
    """P3 of the correlations sin(theta)."""
    return 0.125 + (theta12 + theta13 + theta23) / (4 * np.pi)
