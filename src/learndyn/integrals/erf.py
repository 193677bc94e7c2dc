"""Closed-form Gaussian averages for g(x) = erf(x/sqrt 2).

I2, I3, I4 and J2 are the averages of Saad & Solla (1995) one at a time, as functions of overlaps
given as separate arrays; see `learndyn.integrals` for their arguments. `pair` and `first_layer`
are what the dynamics use: the same averages of all fields of a covariance, summed.

g' is itself a Gaussian, so a factor g'(f_i) only tilts the measure: under the tilted measure the
fields are again Gaussian, with a covariance that is a downdate of C. Every average is one of the
two elementary ones, <g g> or <f g>, taken there; nothing is singular at any positive
semi-definite C.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.linear_algebra import symmetric_from_triu
from learndyn._numerics.special import arcsin

_2_PI = 2 / np.pi
"""The factor of every Gaussian average of two error functions, as arcsin tends to pi / 2."""

Overlap = Float[Array, "*#shape"]
Average = Float[Array, "*shape"]


def I2(aa: Overlap, ab: Overlap, bb: Overlap) -> Average:
    """<g(a) g(b)> = (2/pi) arcsin(ab / sqrt((1+aa)(1+bb)))."""
    return _2_PI * arcsin(ab * (1 / jnp.sqrt(1 + aa)) * (1 / jnp.sqrt(1 + bb)))


def J2(ii: Overlap, ij: Overlap, jj: Overlap) -> Average:
    """<g'(i) g'(j)> = (2/pi) / sqrt((1+ii)(1+jj) - ij**2)."""
    return _2_PI / jnp.sqrt((1 + ii) * (1 + jj) - ij * ij)


def I3(ii: Overlap, ia: Overlap, ic: Overlap, ac: Overlap, cc: Overlap) -> Average:
    """<g'(i) a g(c)> = J2(i, c) (ac - ia ic / (1+ii))."""
    s = 1 + ii
    # Not through J2: sums over many units cancel on the symmetric plateau, and with 1000 units
    # this order of operations leaves an error of 6e-15 in q, that one 6e-9.
    return _2_PI * (ac - ia * ic / s) / jnp.sqrt(s * (1 + cc) - ic**2)


def I4(
    ii: Overlap,
    ij: Overlap,
    jj: Overlap,
    ia: Overlap,
    ib: Overlap,
    ja: Overlap,
    jb: Overlap,
    aa: Overlap,
    ab: Overlap,
    bb: Overlap,
) -> Average:
    """<g'(i) g'(j) g(a) g(b)> = J2(i, j) I2(a, b), with I2 under the measure that g' g' tilts."""
    si, sj = 1 + ii, 1 + jj
    determinant = si * sj - ij**2  # Lambda4
    tilted_ab = ab - (sj * ia * ib + si * ja * jb - ij * (ia * jb + ib * ja)) / determinant
    tilted_aa = aa - (sj * ia**2 + si * ja**2 - 2 * ij * ia * ja) / determinant
    tilted_bb = bb - (sj * ib**2 + si * jb**2 - 2 * ij * ib * jb) / determinant
    return J2(ii, ij, jj) * I2(tilted_aa, tilted_ab, tilted_bb)


def squared_slope(norms: Float[Array, " k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """<g'(f_i + b_i)**2> = (2/pi) exp(-b_i**2/(1 + 2 norm_i)) / sqrt(1 + 2 norm_i)."""
    spread = 1 + 2 * norms
    return _2_PI * jnp.exp(-(b * b) / spread) / jnp.sqrt(spread)


def pair(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """I2 of all pairs of fields."""
    own = jnp.diagonal(c)
    return I2(own[:, None], c, own)


def first_layer(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """Averages of the error signal s_i = g'(f_i) (sum_a u_a g(f_a) - sigma zeta) of k units.

    c: covariance of the fields; u: (v, -v*); k: number of student units, the first fields.
    Returns G (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p,
    and <s_i s_j> (k, k).
    Equation: I3 and I4 of Saad & Solla (1995), with label noise as Goldt et al. (2020), Eq. (9).
    """
    return _field_gradient(c, u, k), _product(c, u, k, noise_variance)


def _field_gradient(c: Float[Array, "d d"], u: Float[Array, " d"], k: int) -> Float[Array, "k d"]:
    own = jnp.diagonal(c)
    # I3(i, p, c) = J2(i, c) (C_pc - C_pi C_ic / s_i) is linear in the covariances of f_p.
    weight = u * J2(own[:k, None], c[:k], own)
    # The part of I3 along C_pi: it acts through the unit's own field.
    through_own_field = -jnp.sum(weight * c[:k], axis=1) / (1 + own[:k])
    return weight + jnp.eye(k, c.shape[0]) * through_own_field[:, None]


def _product(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> Float[Array, "k k"]:
    """<s_i s_j> = sum_ab u_a u_b I4(i, j, a, b) + sigma**2 J2(i, j).

    Each of I4's two symmetries is used, i <= j and a <= b, and each tilted variance taken once.
    """
    i, j = np.triu_indices(k)
    a, b = np.triu_indices(c.shape[0])
    s_i, s_j, c_ij = 1 + c[i, i], 1 + c[j, j], c[i, j]
    determinant = s_i * s_j - c_ij**2  # Lambda4
    x, y = c[i], c[j]
    # The tilted covariance C - C_(ij) (1 + C_(ij)(ij))^-1 C_(ij), a rank-two downdate.
    x_over = (s_j[:, None] * x - c_ij[:, None] * y) / determinant[:, None]
    y_over = (s_i[:, None] * y - c_ij[:, None] * x) / determinant[:, None]
    scale = 1 / jnp.sqrt(1 + jnp.diagonal(c) - x_over * x - y_over * y)
    tilted = c[a, b] - x_over[:, a] * x[:, b] - y_over[:, a] * y[:, b]
    correlation = tilted * scale[:, a] * scale[:, b]
    multiplicity = np.where(a == b, 1.0, 2.0)
    # I2 under the tilted measure, summed over a and b
    squared_error = _2_PI * arcsin(correlation) @ (multiplicity * u[a] * u[b])
    # I4 = J2(i, j) I2(tilted), and label noise adds sigma**2 J2.
    values = J2(c[i, i], c_ij, c[j, j]) * (squared_error + noise_variance)
    return symmetric_from_triu(values, k)
