"""<theta_i theta_k a_+ b_+> of four different fields of unit variance, and its derivatives.

All six ways to choose the pair {i, k} out of four fields share one `Cone`: one P4, six partial
correlations. To our knowledge not published in closed form; the notation is that of
`_relu_forms.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn.averages._cones import Cone, cone, unit_rows
from learndyn.averages._correlations import inverse
from learndyn.averages._orthants import PARTNERS, quadrant

Ways = Float[Array, "6"]


def quadruples(r: Float[Array, "d d"], fields: Int[np.ndarray, "sets 4"]) -> Float[Array, "sets 6"]:
    """Average for each set of four fields and each way (i, k, a, b) of `PARTNERS` to split it.

    r: correlations of d fields; fields: indices of four different fields in each row.
    Error: as `P4`. Derivatives: exact; those with respect to r_ik grow like 1/q_ik and are
    bounded as in `correlations`.
    """

    def cones(r: Array) -> Cone:
        return jax.vmap(cone)(unit_rows(r)[fields])

    @jax.custom_jvp
    def average(r):
        return jax.vmap(_value)(cones(r))

    @average.defjvp
    def _average_jvp(primals, tangents):
        (r,), (dr,) = primals, tangents
        found = cones(r)
        slopes = jax.vmap(_slopes)(found)
        i, k, a, b = fields[:, PARTNERS.T].transpose(1, 0, 2)  # each (sets, 6)
        pairs = ((i, k), (a, b), (i, a), (i, b), (k, a), (k, b))
        change = sum(slope * dr[x, y] for slope, (x, y) in zip(slopes, pairs, strict=True))
        return jax.vmap(_value)(found), change

    return average(r)


class Slopes(NamedTuple):
    """Derivatives with respect to the six correlations, for each of the six ways."""

    ik: Ways
    ab: Ways
    ia: Ways
    ib: Ways
    ka: Ways
    kb: Ways


def _value(f: Cone) -> Ways:
    """r_ab P4 + {q_ab P2(ik|ab) + r_ia q_ib P2(ka|ib) + r_ib q_ia P2(kb|ia) + r_ka q_kb P2(ia|kb)
    + r_kb q_ka P2(ib|ka) + [r_ia r_kb + r_ka r_ib - r_ik (r_ia r_ib + r_ka r_kb)] P2(ab|ik)/q_ik}
    / 2 pi.
    """
    i, k, a, b = PARTNERS.T
    r, q, p2 = f.r, f.q, quadrant(f.partial)
    edges = (
        q[a, b] * p2[i, k]
        + r[i, a] * q[i, b] * p2[k, a]
        + r[i, b] * q[i, a] * p2[k, b]
        + r[k, a] * q[k, b] * p2[i, a]
        + r[k, b] * q[k, a] * p2[i, b]
        + _both_steps(f) * p2[a, b]
    )
    return r[a, b] * f.p4 + edges / (2 * np.pi)


def _both_steps(f: Cone) -> Ways:
    """[r_ia r_kb + r_ka r_ib - r_ik (r_ia r_ib + r_ka r_kb)] / q_ik, without small divisors."""
    i, k, a, b = PARTNERS.T
    r, q, a_slant, b_slant = f.r, f.q, _slant(f, a, i, k), _slant(f, b, i, k)
    aligned = r[i, a] * r[i, b] - a_slant * b_slant
    crossed = r[i, a] * b_slant + a_slant * r[i, b]
    return q[i, k] * (r[i, k] * aligned + q[i, k] * crossed)


def _slopes(f: Cone) -> Slopes:
    i, k, a, b = PARTNERS.T
    return Slopes(
        ik=_relu_relu_given(f, i, k, a, b) * inverse(f.q[i, k]) / (2 * np.pi),
        ab=jnp.broadcast_to(f.p4, (6,)),
        ia=_step_step_relu_given(f, i, k, a, b),
        ib=_step_step_relu_given(f, i, k, b, a),
        ka=_step_step_relu_given(f, k, i, a, b),
        kb=_step_step_relu_given(f, k, i, b, a),
    )


def _relu_relu_given(f: Cone, i: np.ndarray, k: np.ndarray, a: np.ndarray, b: np.ndarray) -> Ways:
    """<a_+ b_+ | i = k = 0>."""
    covariance = f.r[a, b] - f.r[i, a] * f.r[i, b] - _slant(f, a, i, k) * _slant(f, b, i, k)
    complement = jnp.minimum(f.volume * inverse(f.q[i, k]), 1.0)
    return (complement + covariance * (0.5 * np.pi + f.partial[a, b])) / (2 * np.pi)


def _step_step_relu_given(
    f: Cone, i: np.ndarray, x: np.ndarray, y: np.ndarray, b: np.ndarray
) -> Ways:
    """<theta_x theta_y b_+ | i = 0> / sqrt(2 pi) = {q_ib P2(xy|ib) + <b x|i> P2(yb|ix)
    + <b y|i> P2(xb|iy)} / 2 pi, where <b x|i> is the component of b along x without i."""
    p2 = quadrant(f.partial)
    terms = f.q[i, b] * p2[x, y] + _slant(f, b, i, x) * p2[y, b] + _slant(f, b, i, y) * p2[x, b]
    return terms / (2 * np.pi)


def _slant(f: Cone, w: np.ndarray, x: np.ndarray, y: np.ndarray) -> Ways:
    """Component of w along what is left of y beside x, 0 where nothing is left."""
    q = f.q[x, y]
    left = jnp.where(q > 0, (f.r[w, y] - f.r[w, x] * f.r[x, y]) / jnp.where(q > 0, q, 1.0), 0.0)
    return jnp.clip(left, -f.q[w, x], f.q[w, x])
