"""Averages of two centred Gaussian fields of which only the half-planes matter where labels change.

The student's output phi and the teacher's field rho have the variances q and t and the covariance
r. Labels are y = sign rho, turned with probability p; k = 1 - 2 p. In place of q stands

    s = q - r**2 / t,

what of phi the teacher's field cannot explain. The angle theta between student and teacher then is
arctan2(sqrt(s t), r), which keeps its digits as theta -> 0, where q t - r**2 cancels.

Each loss of phi has one function (s, r, t, k) -> `WedgeAverages`. Source: Engel & Van den Broeck,
Statistical Mechanics of Learning (2001), chapter 10; here for any q, t and p.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.special import polynomial
from learndyn._types import Scalar

_SERIES_BELOW = 0.25
"""Angles below which theta - sin theta cos theta is a series: it falls like theta**3, and the
difference of its two parts would lose the digits."""

_SERIES = tuple((-1) ** n / math.factorial(2 * n + 3) for n in range(8))
"""(u - sin u) / u**3 in powers of u**2; the ninth term is below 1e-20 of the first at u = 0.5."""

_TINY = 1e-300
"""Bounds variances that divide from below, just above what float64 holds without losing digits."""


class WedgeAverages(NamedTuple):
    """Averages of c = d loss / d phi: <dc/dphi>, <dc/drho> and <c**2>.

    Then <c a> = student Cov(phi, a) + teacher Cov(rho, a) for every Gaussian a.
    """

    student: Scalar
    teacher: Scalar
    square: Scalar


def angle(s: Scalar, r: Scalar, t: Scalar) -> Scalar:
    """The angle between student and teacher, in [0, pi]; pi/2 for a student without weights."""
    height = root(s * t)
    nowhere = (height == 0) & (r == 0)
    return jnp.where(nowhere, 0.5 * jnp.pi, jnp.arctan2(height, jnp.where(nowhere, 1.0, r)))


def disagreement(s: Scalar, r: Scalar, t: Scalar) -> Scalar:
    """The probability that phi and rho have opposite signs, theta / pi."""
    return angle(s, r, t) / jnp.pi


def hebb(s: Scalar, r: Scalar, t: Scalar, k: Scalar) -> WedgeAverages:
    """c = -y, the slope of -y phi."""
    return WedgeAverages(jnp.zeros_like(s), -k * _density(t) * 2, jnp.ones_like(s))


def perceptron(s: Scalar, r: Scalar, t: Scalar, k: Scalar) -> WedgeAverages:
    """c = -y where y phi < 0, else 0: the slope of max(0, -y phi). All 0 where phi = 0."""
    q = s + r**2 / jnp.maximum(t, _TINY)
    wrong = 0.5 * (1 - k) + k * disagreement(s, r, t)
    found = WedgeAverages(_density(q), -k * _density(t), wrong)
    return WedgeAverages(*(jnp.where(q > 0, x, 0.0) for x in found))


def adatron(s: Scalar, r: Scalar, t: Scalar, k: Scalar) -> WedgeAverages:
    """c = phi where y phi < 0, else 0: the slope of max(0, -y phi)**2 / 2."""
    t = jnp.maximum(t, _TINY)
    p, theta = 0.5 * (1 - k), angle(s, r, t)
    square = (s + r**2 / t) * (p + k * wedge(theta) / jnp.pi)
    return WedgeAverages(p + k * theta / jnp.pi, -k * root(s / t) / jnp.pi, square)


def wedge(theta: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """theta - sin theta cos theta, to rounding at every angle."""
    u = 2 * theta
    small = jnp.minimum(u, 2 * _SERIES_BELOW)
    # (u - sin u) / 2, with the sine's series
    series = small**3 * polynomial(_SERIES, small**2)
    return 0.5 * jnp.where(theta < _SERIES_BELOW, series, u - jnp.sin(u))


def root(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt x, and 0 for x <= 0, where its derivative is 0 as well."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _density(variance: Scalar) -> Scalar:
    """The density at 0 of a centred Gaussian number."""
    return 1 / jnp.sqrt(2 * jnp.pi * jnp.maximum(variance, _TINY))
