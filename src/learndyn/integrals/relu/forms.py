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


def step_relu_relu(ka: Angles, kb: Angles, ab: Angles) -> Values:
    """A = <theta_k a_+ b_+> = r_ab P3(k, a, b) + [q_ab + r_ak q_bk + r_bk q_ak] / 4 pi.

    Right also where fields coincide: at a = b it is <theta_k a_+^2>, at a = k it is <a_+ b_+>.
    """
    edges = ab.q + ka.r * kb.q + kb.r * ka.q
    return ab.r * octant(ka.theta, kb.theta, ab.theta) + edges / (4 * np.pi)


@jax.custom_jvp
def step_step_square(ik: Angles, ia: Angles, ka: Angles) -> Values:
    """B = <theta_i theta_k a_+^2> = P3(i, k, a) + {r_ia q_ia + r_ka q_ka
    + [2 r_ia r_ka - r_ik (r_ia^2 + r_ka^2)] / q_ik} / 4 pi.

    The last term is q_ik [r_ik (r_ia^2 - s^2) + 2 q_ik r_ia s] with s = (r_ka - r_ia r_ik) / q_ik,
    in which nothing is divided by a small number that is not as small itself.
    """
    s = semipartial(ia, ik, ka)
    both = ik.q * (ik.r * (ia.r**2 - s**2) + 2 * ik.q * ia.r * s)
    edges = ia.r * ia.q + ka.r * ka.q + both
    return octant(ik.theta, ia.theta, ka.theta) + edges / (4 * np.pi)


@step_step_square.defjvp
def _step_step_square_jvp(primals, tangents):
    ik, ia, ka = primals
    s = semipartial(ia, ik, ka)
    # <a_+^2 | i = k = 0> / (2 pi q_ik), and 2 <theta_k a_+ | i = 0> / sqrt(2 pi)
    d_ik = jnp.maximum(1.0 - ia.r**2 - s**2, 0.0) * bounded_inverse(ik.q) / (4 * np.pi)
    d_ia = (ia.q + s) / (2 * np.pi)
    d_ka = (ka.q + semipartial(ka, ik, ia)) / (2 * np.pi)
    slopes = zip((d_ik, d_ia, d_ka), tangents, strict=True)
    change = reduce(operator.add, (slope * dt.r for slope, dt in slopes))
    return step_step_square(ik, ia, ka), change


@jax.custom_jvp
def step_step_relu(ik: Angles, ia: Angles, ka: Angles) -> Values:
    """<theta_i theta_k a_+> = [P2(ik|a) + r_ia P2(ka|i) + r_ka P2(ia|k)] / sqrt(2 pi).

    Right also where fields coincide: at i = k it is <theta_i a_+>, at a = i it is <a_+ theta_k>.
    """
    edges = _given(ia, ka, ik) + ia.r * _given(ik, ia, ka) + ka.r * _given(ik, ka, ia)
    # Parallel steps are one step, or exclude each other.
    edges = jnp.where(ik.q > 0, edges, jnp.where(ik.r > 0, 0.5 * (1.0 + ia.r), 0.0))
    return edges / (2 * np.pi) ** 0.5


@step_step_relu.defjvp
def _step_step_relu_jvp(primals, tangents):
    ik, ia, ka = primals
    s = semipartial(ia, ik, ka)
    # <a_+ | i = k = 0> / (2 pi q_ik), and <theta_k theta_a | i = 0> / sqrt(2 pi)
    left = jnp.sqrt(jnp.maximum(1.0 - ia.r**2 - s**2, 0.0))
    d_ik = left * bounded_inverse(ik.q) / (2 * np.pi)
    d_ia, d_ka = (_given(*f) / (2 * np.pi) ** 0.5 for f in ((ik, ia, ka), (ik, ka, ia)))
    slopes = zip((d_ik / (2 * np.pi) ** 0.5, d_ia, d_ka), tangents, strict=True)
    change = reduce(operator.add, (slope * dt.r for slope, dt in slopes))
    return step_step_relu(ik, ia, ka), change


def _given(xy: Angles, xz: Angles, yz: Angles) -> Values:
    """P2(yz|x), the probability that y and z are positive where x is 0."""
    s = semipartial(xz, xy, yz)
    left = jnp.sqrt(jnp.maximum((xz.q - s) * (xz.q + s), 0.0))
    return quadrant(arctan2(s, left))


def semipartial(wx: Angles, xy: Angles, wy: Angles) -> Values:
    """The correlation of w with the part of y that x does not explain: (r_wy - r_wx r_xy) / q_xy.

    Statistics calls it semipartial. Where y is parallel to x nothing is left, and it is 0.
    """
    left = jnp.where(xy.q > 0, (wy.r - wx.r * xy.r) / jnp.where(xy.q > 0, xy.q, 1.0), 0.0)
    return jnp.clip(left, -wx.q, wx.q)
