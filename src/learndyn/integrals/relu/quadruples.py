"""<theta_i theta_k a_+ b_+> of four different fields of unit variance, and its derivatives.

All six ways to choose the pair i, k out of four fields share one `Cone`: one P4 and six partial
correlations. To our knowledge this average was not published in closed form; the notation is
that of `forms.py`.
"""

import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn.integrals.relu.canonical_frame import PAIRS, REST, Cone, cone
from learndyn.integrals.relu.correlations import Correlations, bounded_inverse
from learndyn.integrals.relu.forms import semipartial
from learndyn.integrals.relu.orthants import quadrant

WAYS = np.array([(*PAIRS[way], *PAIRS[REST[way]]) for way in range(6)])
"""The six ways to let four fields take the places i, k, a, b: i, k are the pairs of `PAIRS`."""

Values = Float[Array, "6"]


class Pairs(eqx.Module):
    """Something for each pair of the places i, k, a, b, with one entry for each way of `WAYS`."""

    ik: Any
    ab: Any
    ia: Any
    ib: Any
    ka: Any
    kb: Any


_PLACES = ((0, 1), (2, 3), (0, 2), (0, 3), (1, 2), (1, 3))
"""Pairs of places among four fields: the two pairs of a split, then the four across."""

_FIND = np.array([[PAIRS.index(tuple(sorted(way[[*xy]]))) for way in WAYS] for xy in _PLACES])
"""Which of `PAIRS` each pair of places is, in each way."""


def quadruples(f: Correlations, fields: Int[np.ndarray, "sets 4"]) -> Float[Array, "sets 6"]:
    """The average for each set of four fields, in each of the six ways of `WAYS`.

    f: correlations of d fields; fields: indices of four different fields in each row.
    Error: as `P4`. Derivatives: exact; those with respect to r_ik grow like 1/q_ik and are
    bounded as in `correlations`.
    """
    first, second = fields[:, PAIRS].T.swapaxes(1, 2)

    @jax.custom_jvp
    def average(r: Array, rows: Array) -> Array:
        return jax.vmap(average_by_way)(jax.vmap(cone)(rows[fields]))

    @average.defjvp
    def _average_jvp(primals, tangents):
        (_, rows), (dr, _) = primals, tangents
        cones = jax.vmap(cone)(rows[fields])
        return jax.vmap(average_by_way)(cones), jax.vmap(_change)(cones, dr[first, second])

    return average(f.angles.r, f.rows)


def _by_way(values: Any) -> Pairs:
    """Entries in the order of `PAIRS`, sorted into places for each way."""
    sorted_in = jax.tree.map(lambda value: value[_FIND], values)
    return Pairs(*(jax.tree.map(lambda value: value[n], sorted_in) for n in range(6)))  # noqa: B023


def average_by_way(cone: Cone) -> Values:
    """The average in each of the six ways:

    r_ab P4 + {q_ab P2(ik|ab) + r_ia q_ib P2(ka|ib) + r_ib q_ia P2(kb|ia) + r_ka q_kb P2(ia|kb)
    + r_kb q_ka P2(ib|ka) + [r_ia r_kb + r_ka r_ib - r_ik (r_ia r_ib + r_ka r_kb)] P2(ab|ik)/q_ik}
    / 2 pi.
    """
    f, p2 = _by_way(cone.angles), _by_way(quadrant(cone.partial))
    edges = (
        f.ab.q * p2.ik
        + f.ia.r * f.ib.q * p2.ka
        + f.ib.r * f.ia.q * p2.kb
        + f.ka.r * f.kb.q * p2.ia
        + f.kb.r * f.ka.q * p2.ib
        + _through_both_steps(f) * p2.ab
    )
    return f.ab.r * cone.p4 + edges / (2 * np.pi)


def _through_both_steps(f: Pairs) -> Values:
    """[r_ia r_kb + r_ka r_ib - r_ik (r_ia r_ib + r_ka r_kb)] / q_ik, without small divisors."""
    a, b = semipartial(f.ia, f.ik, f.ka), semipartial(f.ib, f.ik, f.kb)
    along = f.ia.r * f.ib.r - a * b
    across = f.ia.r * b + a * f.ib.r
    return f.ik.q * (f.ik.r * along + f.ik.q * across)


def _change(cone: Cone, dr: Values) -> Values:
    """Derivative of `average_by_way` in the direction dr of the six correlations."""
    dr_by_way = _by_way(dr)
    terms = jax.tree.map(lambda slope, change: slope * change, _slopes(cone), dr_by_way)
    return jax.tree.reduce(operator.add, terms)


def _slopes(cone: Cone) -> Pairs:
    """Derivatives of `average_by_way` with respect to the correlation of each pair.

    For two steps it is <a_+ b_+ | i = k = 0> / (2 pi q_ik), for two ReLUs P4, for a step and a
    ReLU <theta_k theta_a b_+ | i = 0> / sqrt(2 pi), and the same for the other such pairs.
    """
    f, theta = _by_way(cone.angles), _by_way(cone.partial)
    p2 = jax.tree.map(quadrant, theta)
    # a_k is semipartial: a with the part of k that the other step, i, does not explain.
    a_k, b_k = semipartial(f.ia, f.ik, f.ka), semipartial(f.ib, f.ik, f.kb)
    a_i, b_i = semipartial(f.ka, f.ik, f.ia), semipartial(f.kb, f.ik, f.ib)
    b_a_given_i, a_b_given_i = semipartial(f.ib, f.ia, f.ab), semipartial(f.ia, f.ib, f.ab)
    b_a_given_k, a_b_given_k = semipartial(f.kb, f.ka, f.ab), semipartial(f.ka, f.kb, f.ab)
    covariance = f.ab.r - f.ia.r * f.ib.r - a_k * b_k
    # sqrt(det) of the covariance of a and b given i and k: the Schur complement of i and k
    complement = jnp.minimum(cone.volume * bounded_inverse(f.ik.q), 1.0)
    # 2 pi I2 of a and b given that the fields i and k are 0 (Cho & Saul 2009)
    given_steps = complement + covariance * (0.5 * np.pi + theta.ab)
    return Pairs(
        ik=given_steps * bounded_inverse(f.ik.q) / (2 * np.pi) ** 2,
        ab=jnp.broadcast_to(cone.p4, (6,)),
        ia=(f.ib.q * p2.ka + b_k * p2.ab + b_a_given_i * p2.kb) / (2 * np.pi),
        ib=(f.ia.q * p2.kb + a_k * p2.ab + a_b_given_i * p2.ka) / (2 * np.pi),
        ka=(f.kb.q * p2.ia + b_i * p2.ab + b_a_given_k * p2.ib) / (2 * np.pi),
        kb=(f.ka.q * p2.ib + a_i * p2.ab + a_b_given_k * p2.ia) / (2 * np.pi),
    )
