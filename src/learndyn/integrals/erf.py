"""Closed-form Gaussian averages for g(x) = erf(x/sqrt 2).

g' is itself a Gaussian, so a factor g'(f_i) only tilts the measure: under the tilted
measure the fields are again Gaussian, with the covariance of `_tilted`. Every average below is
one of the two elementary ones, <g g> or <f g>, taken there. Equivalent to I2, I3, I4 of
Saad & Solla (1995); nothing is singular at any positive semi-definite C.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.linear_algebra import symmetric_from_triu
from learndyn._numerics.special import arcsin

_2_PI = 2 / np.pi


def pair(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """<g(f_a) g(f_b)> = (2/pi) arcsin(C_ab / sqrt((1+C_aa)(1+C_bb))) for all pairs (I2)."""
    scale = 1 / jnp.sqrt(1 + jnp.diagonal(c))
    return _2_PI * arcsin(c * scale[:, None] * scale[None, :])


def slope_pair(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """<g'(f_a) g'(f_b)> for all pairs (J2)."""
    s = 1 + jnp.diagonal(c)
    return _2_PI / jnp.sqrt(s[:, None] * s[None, :] - c * c)


def first_layer(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """What the first layer's gradient c_i = u_i g'(f_i) (sum_a u_a g(f_a) - sigma zeta) needs.

    c: covariance of the fields; u: (v, -v*); k: number of student units.
    Returns G (k, d) with <c_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p,
    and <c_i c_k> (k, k).
    Equation: I3 and I4 of Saad & Solla (1995), with label noise as Goldt et al. (2020), Eq. (9).
    """
    return u[:k, None] * _field_gradient(c, u, k), _product(c, u, k, noise_variance)


def _field_gradient(c: Float[Array, "d d"], u: Float[Array, " d"], k: int) -> Float[Array, "k d"]:
    s = 1 + jnp.diagonal(c)
    # <g'(f_i) f_p g(f_c)> = (2/pi) (C_pc - C_pi C_ic / s_i) / sqrt(Lambda3)
    weight = _2_PI * u / jnp.sqrt(s[:k, None] * s - c[:k] ** 2)
    through_own_field = -jnp.sum(weight * c[:k], axis=1) / s[:k]
    return weight + jnp.eye(k, c.shape[0]) * through_own_field[:, None]


def _product(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> Float[Array, "k k"]:
    """<c_i c_k>, with each of I4's two symmetries used: i <= k and a <= b."""
    i, j = np.triu_indices(k)
    a, b = np.triu_indices(c.shape[0])
    s_i, s_j, c_ij = 1 + c[i, i], 1 + c[j, j], c[i, j]
    determinant = s_i * s_j - c_ij**2  # Lambda4
    x, y = c[i], c[j]
    # The tilted covariance C - C_(ik) (1 + C_(ik)(ik))^-1 C_(ik), a rank-two downdate.
    x_over = (s_j[:, None] * x - c_ij[:, None] * y) / determinant[:, None]
    y_over = (s_i[:, None] * y - c_ij[:, None] * x) / determinant[:, None]
    scale = 1 / jnp.sqrt(1 + jnp.diagonal(c) - x_over * x - y_over * y)
    tilted = c[a, b] - x_over[:, a] * x[:, b] - y_over[:, a] * y[:, b]
    correlation = tilted * scale[:, a] * scale[:, b]
    multiplicity = np.where(a == b, 1.0, 2.0)
    squared_error = _2_PI * arcsin(correlation) @ (multiplicity * u[a] * u[b])
    values = u[i] * u[j] * _2_PI / jnp.sqrt(determinant) * (squared_error + noise_variance)
    return symmetric_from_triu(values, k)
