"""<theta_i theta_j a_+ b_+> of four different fields of unit variance, and its derivatives.

All six ways to choose the pair i, j out of four fields share one `Cone`: one P4 and six partial
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
"""The six ways to let four fields take the places i, j, a, b: i, j are the pairs of `PAIRS`."""

Values = Float[Array, "6"]


class Pairs(eqx.Module):
    """Something for each pair of the places i, j, a, b, with one entry for each way of `WAYS`."""

    ij: Any
    ab: Any
    ia: Any
    ib: Any
    ja: Any
    jb: Any


_PLACES = ((0, 1), (2, 3), (0, 2), (0, 3), (1, 2), (1, 3))
"""Pairs of places among four fields: the two pairs of a split, then the four across."""

_FIND = np.array([[PAIRS.index(tuple(sorted(way[[*xy]]))) for way in WAYS] for xy in _PLACES])
"""Which of `PAIRS` each pair of places is, in each way."""


def quadruples(f: Correlations, fields: Int[np.ndarray, "sets 4"]) -> Float[Array, "sets 6"]:
    """The average for each set of four fields, in each of the six ways of `WAYS`.

    f: correlations of d fields; fields: indices of four different fields in each row.
    Error: as `P4`. Derivatives: exact; those with respect to r_ij grow like 1/q_ij and are
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

    r_ab P4 + {q_ab P2(ij|ab) + r_ia q_ib P2(ja|ib) + r_ib q_ia P2(jb|ia) + r_ja q_jb P2(ia|jb)
    + r_jb q_ja P2(ib|ja) + [r_ia r_jb + r_ja r_ib - r_ij (r_ia r_ib + r_ja r_jb)] P2(ab|ij)/q_ij}
    / 2 pi.
    """
    f, p2 = _by_way(cone.angles), _by_way(quadrant(cone.partial))
    edges = (
        f.ab.q * p2.ij
        + f.ia.r * f.ib.q * p2.ja
        + f.ib.r * f.ia.q * p2.jb
        + f.ja.r * f.jb.q * p2.ia
        + f.jb.r * f.ja.q * p2.ib
        + _through_both_steps(f) * p2.ab
    )
    return f.ab.r * cone.p4 + edges / (2 * np.pi)


def _through_both_steps(f: Pairs) -> Values:
    """[r_ia r_jb + r_ja r_ib - r_ij (r_ia r_ib + r_ja r_jb)] / q_ij, without small divisors."""
    a, b = semipartial(f.ia, f.ij, f.ja), semipartial(f.ib, f.ij, f.jb)
    along = f.ia.r * f.ib.r - a * b
    across = f.ia.r * b + a * f.ib.r
    return f.ij.q * (f.ij.r * along + f.ij.q * across)


def _change(cone: Cone, dr: Values) -> Values:
    """Derivative of `average_by_way` in the direction dr of the six correlations."""
    dr_by_way = _by_way(dr)
    terms = jax.tree.map(lambda slope, change: slope * change, _slopes(cone), dr_by_way)
    return jax.tree.reduce(operator.add, terms)


def _slopes(cone: Cone) -> Pairs:
    """Derivatives of `average_by_way` with respect to the correlation of each pair.

    For two steps it is <a_+ b_+ | i = j = 0> / (2 pi q_ij), for two ReLUs P4, for a step and a
    ReLU <theta_j theta_a b_+ | i = 0> / sqrt(2 pi), and the same for the other such pairs.
    """
    f, theta = _by_way(cone.angles), _by_way(cone.partial)
    p2 = jax.tree.map(quadrant, theta)
    # a_j is semipartial: a with the part of j that the other step, i, does not explain.
    a_j, b_j = semipartial(f.ia, f.ij, f.ja), semipartial(f.ib, f.ij, f.jb)
    a_i, b_i = semipartial(f.ja, f.ij, f.ia), semipartial(f.jb, f.ij, f.ib)
    b_a_given_i, a_b_given_i = semipartial(f.ib, f.ia, f.ab), semipartial(f.ia, f.ib, f.ab)
    b_a_given_j, a_b_given_j = semipartial(f.jb, f.ja, f.ab), semipartial(f.ja, f.jb, f.ab)
    covariance = f.ab.r - f.ia.r * f.ib.r - a_j * b_j
    # sqrt(det) of the covariance of a and b given i and j: the Schur complement of i and j
    complement = jnp.minimum(cone.volume * bounded_inverse(f.ij.q), 1.0)
    # 2 pi I2 of a and b given that the fields i and j are 0 (Cho & Saul 2009)
    given_steps = complement + covariance * (0.5 * np.pi + theta.ab)
    return Pairs(
        ij=given_steps * bounded_inverse(f.ij.q) / (2 * np.pi) ** 2,
        ab=jnp.broadcast_to(cone.p4, (6,)),
        ia=(f.ib.q * p2.ja + b_j * p2.ab + b_a_given_i * p2.jb) / (2 * np.pi),
        ib=(f.ia.q * p2.jb + a_j * p2.ab + a_b_given_i * p2.ja) / (2 * np.pi),
        ja=(f.jb.q * p2.ia + b_i * p2.ab + b_a_given_j * p2.ib) / (2 * np.pi),
        jb=(f.ja.q * p2.ib + a_i * p2.ab + a_b_given_j * p2.ia) / (2 * np.pi),
    )
