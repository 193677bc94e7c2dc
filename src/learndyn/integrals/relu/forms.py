"""ReLU averages of fields of unit variance, as functions of the angles between them.

Notation: theta_i = [f_i > 0] is a step, a_+ = max(0, f_a); P2, P3, P4 are orthant probabilities,
P2(xy|zw) at the correlation of x, y given that z, w are 0. A value is a Stein expansion: each of
its terms has one field differentiated and is an average of the same kind in fewer dimensions.
So are the derivatives. Those of `step_step_square` and of four different fields have their own
rules, because terms of the value have infinite derivatives where fields become parallel,
while their sum has not.
"""

import operator
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.special import arctan2
from learndyn.integrals.relu.correlations import Angles, bounded_inverse
from learndyn.integrals.relu.orthants import octant, quadrant

Values = Float[Array, "..."]


def relu_relu(ab: Angles) -> Values:
    """I2 = <a_+ b_+> = [q + r (pi/2 + arcsin r)] / 2 pi (Cho & Saul 2009, degree 1)."""
    return (ab.q + ab.r * (0.5 * np.pi + ab.theta)) / (2 * np.pi)


def step_field_relu(ia: Angles, ic: Angles, ac: Angles) -> Values:
    """I3 = <theta_i a c_+> = r_ac P2(r_ic) + r_ia q_ic / 2 pi."""
    return ac.r * quadrant(ic.theta) + ia.r * ic.q / (2 * np.pi)


def step_relu_relu(ja: Angles, jb: Angles, ab: Angles) -> Values:
    """A = <theta_j a_+ b_+> = r_ab P3(j, a, b) + [q_ab + r_aj q_bj + r_bj q_aj] / 4 pi.

    Right also where fields coincide: at a = b it is <theta_j a_+^2>, at a = j it is <a_+ b_+>.
    """
    edges = ab.q + ja.r * jb.q + jb.r * ja.q
    return ab.r * octant(ja.theta, jb.theta, ab.theta) + edges / (4 * np.pi)


@jax.custom_jvp
def step_step_square(ij: Angles, ia: Angles, ja: Angles) -> Values:
    """B = <theta_i theta_j a_+^2> = P3(i, j, a) + {r_ia q_ia + r_ja q_ja
    + [2 r_ia r_ja - r_ij (r_ia^2 + r_ja^2)] / q_ij} / 4 pi.

    The last term is q_ij [r_ij (r_ia^2 - s^2) + 2 q_ij r_ia s] with s = (r_ja - r_ia r_ij) / q_ij,
    in which nothing is divided by a small number that is not as small itself.
    """
    s = semipartial(ia, ij, ja)
    both = ij.q * (ij.r * (ia.r**2 - s**2) + 2 * ij.q * ia.r * s)
    edges = ia.r * ia.q + ja.r * ja.q + both
    return octant(ij.theta, ia.theta, ja.theta) + edges / (4 * np.pi)


@step_step_square.defjvp
def _step_step_square_jvp(primals, tangents):
    ij, ia, ja = primals
    s = semipartial(ia, ij, ja)
    # <a_+^2 | i = j = 0> / (2 pi q_ij), and 2 <theta_j a_+ | i = 0> / sqrt(2 pi)
    d_ij = jnp.maximum(1.0 - ia.r**2 - s**2, 0.0) * bounded_inverse(ij.q) / (4 * np.pi)
    d_ia = (ia.q + s) / (2 * np.pi)
    d_ja = (ja.q + semipartial(ja, ij, ia)) / (2 * np.pi)
    slopes = zip((d_ij, d_ia, d_ja), tangents, strict=True)
    change = reduce(operator.add, (slope * dt.r for slope, dt in slopes))
    return step_step_square(ij, ia, ja), change


@jax.custom_jvp
def step_step_relu(ij: Angles, ia: Angles, ja: Angles) -> Values:
    """<theta_i theta_j a_+> = [P2(ij|a) + r_ia P2(ja|i) + r_ja P2(ia|j)] / sqrt(2 pi).

    Right also where fields coincide: at i = j it is <theta_i a_+>, at a = i it is <a_+ theta_j>.
    """
    edges = _given(ia, ja, ij) + ia.r * _given(ij, ia, ja) + ja.r * _given(ij, ja, ia)
    # Parallel steps are one step, or exclude each other.
    edges = jnp.where(ij.q > 0, edges, jnp.where(ij.r > 0, 0.5 * (1.0 + ia.r), 0.0))
    return edges / (2 * np.pi) ** 0.5


@step_step_relu.defjvp
def _step_step_relu_jvp(primals, tangents):
    ij, ia, ja = primals
    s = semipartial(ia, ij, ja)
    # <a_+ | i = j = 0> / (2 pi q_ij), and <theta_j theta_a | i = 0> / sqrt(2 pi)
    left = jnp.sqrt(jnp.maximum(1.0 - ia.r**2 - s**2, 0.0))
    d_ij = left * bounded_inverse(ij.q) / (2 * np.pi)
    d_ia, d_ja = (_given(*f) / (2 * np.pi) ** 0.5 for f in ((ij, ia, ja), (ij, ja, ia)))
    slopes = zip((d_ij / (2 * np.pi) ** 0.5, d_ia, d_ja), tangents, strict=True)
    change = reduce(operator.add, (slope * dt.r for slope, dt in slopes))
    return step_step_relu(ij, ia, ja), change


def _given(xy: Angles, xz: Angles, yz: Angles) -> Values:
    """P2(yz|x), the probability that y and z are positive where x is 0."""
    s = semipartial(xz, xy, yz)
    left = jnp.sqrt(jnp.maximum((xz.q - s) * (xz.q + s), 0.0))
    # Of parallel y and z nothing is left; a root of rounding would be 1e-8.
    return quadrant(arctan2(s, jnp.where(yz.q > 0, left, 0.0)))


def semipartial(wx: Angles, xy: Angles, wy: Angles) -> Values:
    """The correlation of w with the part of y that x does not explain: (r_wy - r_wx r_xy) / q_xy.

    Statistics calls it semipartial. Where y is parallel to x nothing is left, and it is 0.
    """
    left = jnp.where(xy.q > 0, (wy.r - wx.r * xy.r) / jnp.where(xy.q > 0, xy.q, 1.0), 0.0)
    return jnp.clip(left, -wx.q, wx.q)
