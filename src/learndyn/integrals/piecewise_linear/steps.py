"""Averages of steps and ReLUs of two correlated Gaussian fields, with thresholds.

Fields x and y of unit variance have the correlation r, and q = sqrt(1 - r**2). With the
thresholds h and k, [x > h] is a step and (y - k)_+ a ReLU. The lines x = h and y = k meet at the
point that has the coordinates (h, alpha) along x and across it, (k, beta) along y and across it,

    alpha = (k - r h) / q,   beta = (h - r k) / q = q h - r alpha.

The second form of beta makes both belong to one point, whatever rounding made of them. Where fields
are almost parallel, alpha and beta have errors of 1e-16 / q, but all averages are smooth functions
of the point, so that these errors cancel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.special import scaled_erf
from learndyn.integrals.relu.correlations import bounded_inverse

Values = Float[Array, "..."]

_NODES = 20
"""Gauss-Legendre nodes of Owen's T for slopes up to 1: the poles at +-i make the error fall like
4.6**(-2 nodes), and 14 reach rounding; the Gaussian factor, which narrows as exp(-h**2 / 2) falls,
takes a few more."""

_X, _WEIGHT = np.polynomial.legendre.leggauss(_NODES)
_X, _WEIGHT = 0.5 * (1.0 + _X), 0.5 * _WEIGHT
"""The nodes and their weights between 0 and 1."""

_AT_ORIGIN = 1e-100
"""Thresholds that are both below this meet at the origin, for any direction of which the result is
the same. The square of this value is still a float64 number."""

FAR = 1e3
"""A threshold that a N(0, 1) field never passes: the probability of 40 is already 0 in float64."""


class StepAverages(NamedTuple):
    """Averages of two fields with thresholds, all of the same shape.

    both: <[x > h] [y > k]>, the bivariate normal probability; step_relu: <[x > h] (y - k)_+>;
    relu_relu: <(x - h)_+ (y - k)_+>; relu_at, step_at: <(y - k)_+> and <[y > k]> given x = h.
    """

    both: Values
    step_relu: Values
    relu_relu: Values
    relu_at: Values
    step_at: Values


def density(x: Values) -> Values:
    """The density of N(0, 1)."""
    return jnp.exp(-0.5 * x * x) / (2 * np.pi) ** 0.5


def above(x: Values) -> Values:
    """The probability that a N(0, 1) number exceeds x, with an absolute error of 1e-16."""
    return 0.5 - 0.5 * scaled_erf(x)


@jax.custom_jvp
def step_averages(h: Values, k: Values, r: Values, q: Values) -> StepAverages:
    """The averages of `StepAverages`, elementwise.

    h, k: thresholds in units of the fields' standard deviations; r in [-1, 1]; q = sqrt(1 - r**2),
    whose own derivative is not used: derivatives with respect to r are total.
    Equation: Owen (1956) for the probability, Stein's lemma for the rest.
    Error: 2e-16 times (1 + |h|) (1 + |k|), at any r. Derivatives are exact; those that grow like
    1/q are bounded as in `correlations`.
    """
    alpha, beta = _meeting_point(h, k, r, q)
    return _averages(h, k, r, q, alpha, beta)


@step_averages.defjvp
def _step_averages_jvp(primals, tangents):
    h, k, r, q = primals
    dh, dk, dr, _ = tangents
    alpha, beta = _meeting_point(h, k, r, q)
    found = _averages(h, k, r, q, alpha, beta)
    at_h, at_k = density(h) * above(alpha), density(k) * above(beta)
    relu_step = r * at_k + at_h - h * found.both
    point = density(alpha) * bounded_inverse(q)
    change = StepAverages(
        density(h) * point * dr - at_h * dh - at_k * dk,
        at_h * dr - density(h) * found.relu_at * dh - found.both * dk,
        found.both * dr - found.step_relu * dh - relu_step * dk,
        (h * above(alpha) - r * point) * dr + above(alpha) * (r * dh - dk),
        point * (r * dh - dk + beta * bounded_inverse(q) * dr),
    )
    return found, change


def _averages(
    h: Values, k: Values, r: Values, q: Values, alpha: Values, beta: Values
) -> StepAverages:
    both = _both(h, k, r, q, alpha, beta)
    at_h, at_k = density(h) * above(alpha), density(k) * above(beta)
    edge = q * density(h) * density(alpha)
    return StepAverages(
        both,
        r * at_h + at_k - k * both,
        (r + h * k) * both - k * at_h - h * at_k + edge,
        q * density(alpha) - (k - r * h) * above(alpha),
        above(alpha),
    )


def _meeting_point(h: Values, k: Values, r: Values, q: Values) -> tuple[Values, Values]:
    """alpha and beta; far away where the lines are parallel."""
    apart = k - r * h
    across = apart / jnp.where(q > 0, q, 1.0)
    alpha = jnp.where(q > 0, across, FAR * jnp.sign(apart))
    return alpha, q * h - r * alpha


def _both(h: Values, k: Values, r: Values, q: Values, alpha: Values, beta: Values) -> Values:
    """P(x > h, y > k) by Owen's T of each of the two triangles at the meeting point."""
    origin = (jnp.abs(h) < _AT_ORIGIN) & (jnp.abs(k) < _AT_ORIGIN)
    x, y = jnp.where(origin, _AT_ORIGIN, h), jnp.where(origin, _AT_ORIGIN * r, k)
    across_x, across_y = jnp.where(origin, 0.0, alpha), jnp.where(origin, _AT_ORIGIN * q, beta)
    triangles = _signed(x) * owen_t(x, across_x) + _signed(y) * owen_t(y, across_y)
    opposite = jnp.where(_signed(x) != _signed(y), 0.5, 0.0)
    return 0.5 * (above(h) + above(k)) - triangles - opposite


def _signed(x: Values) -> Values:
    return jnp.where(x >= 0, 1.0, -1.0)


def owen_t(x: Values, y: Values) -> Values:
    """Owen's T function T(|x|, y / |x|), elementwise; odd in y, and 0 where both are 0.

    It is the probability of the part of the wedge between 0 and arctan(y / |x|) that lies beyond
    the distance |x|. Error: 1e-16. Not to be differentiated at x = 0 or |x| = |y|.
    """
    x_size, y_size = jnp.abs(x), jnp.abs(y)
    low, high = jnp.minimum(x_size, y_size), jnp.maximum(x_size, y_size)
    a = low / jnp.where(high > 0, high, 1.0)
    # Gauss and Legendre's rule
    node = _X.reshape(-1, *[1] * a.ndim)
    terms = jnp.exp(-0.5 * (high * high + (low * node) ** 2)) / (1.0 + (a * node) ** 2)
    gentle = a * jnp.tensordot(_WEIGHT, terms, 1) / (2 * np.pi)
    x_tail, y_tail = above(x_size), above(y_size)
    # T(h, a) + T(a h, 1/a) = (N(h) + N(a h)) / 2 - N(h) N(a h), here with tails in place of N.
    steep = 0.5 * (x_tail + y_tail) - x_tail * y_tail - gentle
    return jnp.copysign(jnp.where(y_size > x_size, steep, gentle), y)
