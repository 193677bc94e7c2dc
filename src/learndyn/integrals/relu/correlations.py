"""Correlations of Gaussian fields, with the digits and derivatives that |r| = 1 needs.

A closed form of ReLU averages is a scale (the fields' standard deviations) times a function of
the angles between the fields. Two fields with correlation r = sin(theta) enter through
r, q = sqrt(1 - r**2) = cos(theta) and theta. Near |r| = 1 the digits of q are lost in r.

In a network close to its teacher large averages cancel, and their slopes grow like 1/q. So all
angles are those between one set of unit vectors: they belong to one positive semi-definite
matrix, whatever rounding (or a solver) made of the covariance, and errors cannot disagree.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.special import arctan2
from learndyn.integrals.relu.unit_rows import sine, unit_rows

SMALLEST_VARIANCE = 1e-100
"""A field of smaller variance counts as zero: step(0) = 0, correlations 0. The value lies far below
all that learning reaches; products of two such variances are still float64 numbers."""

SMALLEST_Q = 1e-7
"""Where q is below, derivatives that grow like 1/q fall to 0 like q instead. It is ten times the
rounding of a q that is known through r alone, sqrt(1 - r**2) = 1e-8."""


class Angles(eqx.Module):
    """The angles between pairs of fields as r, q = sqrt(1 - r**2) and theta = arcsin r; one shape.

    As an independent variable an angle is its r: derivatives with respect to r are total.
    """

    r: Float[Array, "*shape"]
    q: Float[Array, "*shape"]
    theta: Float[Array, "*shape"]

    def __getitem__(self, index: Any) -> "Angles":
        return Angles(self.r[index], self.q[index], self.theta[index])


class Correlations(eqx.Module):
    """The correlations r_xy of d fields with covariance C_xy = scale_x scale_y r_xy.

    scale: standard deviations, 0 for a zero field; present: 1.0, and 0.0 for a zero field;
    angles: (d, d), whose diagonal is exactly r = 1, q = 0, theta = pi/2, for zero fields too;
    rows: the unit vectors they are the angles of.
    """

    scale: Float[Array, " d"]
    present: Float[Array, " d"]
    angles: Angles
    rows: Float[Array, "d d"]


def correlations(c: Float[Array, "d d"]) -> Correlations:
    """Correlations of fields with positive semi-definite covariance c.

    Error: that of a covariance off by rounding, so about 1e-16 / q in q; q below some
    1e-8 becomes 0.
    Derivatives: dq = -r w dr and dtheta = w dr with w = 1/q for q >= 1e-7 and w = q / 1e-14
    below. So they are bounded by 1e7, and 0 at |r| = 1, where the true ones are infinite.
    """
    variance = jnp.diagonal(c)
    present = ~(variance <= SMALLEST_VARIANCE)  # NaN is present, and stays NaN
    both = present[:, None] & present[None, :]
    scale = jnp.sqrt(jnp.where(present, variance, 1.0))
    same = jnp.eye(c.shape[0], dtype=bool)
    given = jnp.where(same, 1.0, jnp.where(both, c / (scale[:, None] * scale), 0.0))
    # Cholesky's factor gives unit vectors, whose sines keep digits that 1 - r**2 loses.
    rows = unit_rows(jax.lax.stop_gradient(given))
    r, q = cosines_and_sines(rows, rows)
    r, q = jnp.where(same, 1.0, r), jnp.where(same, 0.0, q)
    r = given + (r - jax.lax.stop_gradient(given))  # the value of r, the derivative of `given`
    zero_or_scale = jnp.where(present, scale, 0.0)
    return Correlations(zero_or_scale, present.astype(c.dtype), angles_from(r, q), rows)


def cosines_and_sines(
    x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """Cosine and sine of the angles between unit vectors, each to its own digits."""
    r = x @ y.T
    return r, sine(y[None] - r[:, :, None] * x[:, None])


def angles_from(r: Float[Array, "*shape"], q: Float[Array, "*shape"] | None = None) -> Angles:
    """Angles of r in [-1, 1]; q, if at hand with more digits than r holds, is sqrt(1 - r**2)."""
    if q is None:
        q = jnp.sqrt((1.0 - r) * (1.0 + r))
    q, theta = _cosine_and_angle(r, jax.lax.stop_gradient(q))
    return Angles(r, q, theta)


def bounded_inverse(q: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1/q as derivatives use it: q / SMALLEST_Q**2 below SMALLEST_Q."""
    return q / jnp.maximum(q, SMALLEST_Q) ** 2


@jax.custom_jvp
def _cosine_and_angle(
    r: Float[Array, "*shape"], q: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    return q, arctan2(r, q)


@_cosine_and_angle.defjvp
def _cosine_and_angle_jvp(primals, tangents):
    (r, q), (dr, _) = primals, tangents
    return _cosine_and_angle(r, q), (-r * bounded_inverse(q) * dr, bounded_inverse(q) * dr)
