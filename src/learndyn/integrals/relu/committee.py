"""Closed-form Gaussian averages for g(x) = max(0, x), whose derivative is a step, step(0) = 0.

`pair` and `first_layer` are what the dynamics use. I2, J2, I3 and I4 are the same averages one at
a time, for reading and testing. The fields f have the covariance C, indices are Python integers:

    I2 = <g(a) g(b)>,  J2 = <g'(i) g'(k)>,  I3 = <g'(i) a g(c)>,  I4 = <g'(i) g'(k) g(a) g(b)>.

Everything is finite and continuous at every positive semi-definite C (a student that equals the
teacher, parallel units, more units than directions), except where a field vanishes: there
g' jumps. Derivatives are exact and bounded; where the true one is infinite, as
dJ2/dC_ij = 1 / 2 pi sqrt(C_ii C_jj - C_ij**2) of parallel units, see `correlations`.
"""

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn.integrals.relu.correlations import Correlations, correlations
from learndyn.integrals.relu.forms import (
    relu_relu,
    step_field_relu,
    step_relu_relu,
    step_step_square,
)
from learndyn.integrals.relu.orthants import quadrant
from learndyn.integrals.relu.quadruples import WAYS, quadruples

Scalar = Float[Array, ""]
Covariance = Float[Array, "d d"]


def I2(c: Covariance, a: int, b: int) -> Scalar:
    """<a_+ b_+>."""
    f = correlations(c)
    return f.scale[a] * f.scale[b] * relu_relu(f.angles[a, b])


def J2(c: Covariance, i: int, j: int) -> Scalar:
    """<theta_i theta_j>, the probability that both fields are positive."""
    f = correlations(c)
    return f.present[i] * f.present[j] * quadrant(f.angles.theta[i, j])


def I3(c: Covariance, i: int, a: int, b: int) -> Scalar:
    """<theta_i a b_+>."""
    f = correlations(c)
    scale = f.present[i] * f.scale[a] * f.scale[b]
    return scale * step_field_relu(f.angles[i, a], f.angles[i, b], f.angles[a, b])


def I4(c: Covariance, i: int, j: int, a: int, b: int) -> Scalar:
    """<theta_i theta_j a_+ b_+>, each coincidence of indices by its own form.

    A step times the same field's ReLU, or times itself, changes nothing, so all but two patterns
    have at most one step left.
    """
    f = correlations(c)
    scale = f.present[i] * f.present[j] * f.scale[a] * f.scale[b]
    # theta_i theta_i = theta_i, and theta_i i_+ = i_+: the step of i drops out.
    if i == j or i in (a, b):
        return scale * step_relu_relu(f.angles[j, a], f.angles[j, b], f.angles[a, b])
    # The same for the step of j.
    if j in (a, b):
        return scale * step_relu_relu(f.angles[i, a], f.angles[i, b], f.angles[a, b])
    if a == b:
        return scale * step_step_square(f.angles[i, j], f.angles[i, a], f.angles[j, a])
    return scale * quadruples(f, np.array([[i, j, a, b]]))[0, 0]


def squared_slope(norms: Float[Array, " k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """<step(f_i + b_i)>, the probability that a field of this variance is above -b_i."""
    return jax.scipy.special.ndtr(b / jnp.sqrt(norms))


def pair(c: Covariance) -> Covariance:
    """<a_+ b_+> for all pairs (I2)."""
    f = correlations(c)
    return f.scale[:, None] * f.scale * relu_relu(f.angles)


def first_layer(
    c: Covariance, u: Float[Array, " d"], k: int, noise_variance: Scalar
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """Averages of the error signal s_i = theta_i (sum_a u_a a_+ - sigma zeta) of k units.

    c: covariance of the fields; u: (v, -v*); k: number of student units, the first fields.
    Returns G (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p,
    and <s_i s_j> (k, k). Both are 0 in the rows of a student whose field is 0.
    """
    f = correlations(c)
    return _field_gradient(f, u, k), _product(f, u, k, noise_variance)


def _field_gradient(f: Correlations, u: Float[Array, " d"], k: int) -> Float[Array, "k d"]:
    """G_ib = u_b P2(r_ib) + delta_ib sum_c u_c scale_c q_ic / (2 pi scale_i).

    That is I3, which is linear in the covariances of its middle field (Stein's lemma).
    """
    students = f.angles[:k]
    own_scale = jnp.where(f.present[:k] > 0, f.scale[:k], 1.0)
    through_own_step = students.q @ (u * f.scale) / (2 * np.pi * own_scale)
    weight = u * quadrant(students.theta) + jnp.eye(k, u.shape[0]) * through_own_step[:, None]
    return f.present[:k, None] * weight


def _product(
    f: Correlations, u: Float[Array, " d"], k: int, noise_variance: Scalar
) -> Float[Array, "k k"]:
    """<s_i s_j> = sum_ab u_a u_b I4(i, j, a, b) + sigma^2 J2(i, j)."""
    y = u * f.scale
    squared_error = _one_step(f, y, k) + _two_steps(f, y, k)
    steps = quadrant(f.angles.theta[:k, :k])
    own = f.present[:k]
    return own[:, None] * own * (squared_error + noise_variance * steps)


def _one_step(f: Correlations, y: Float[Array, " d"], k: int) -> Float[Array, "k k"]:
    """The part of sum_ab y_a y_b I4 (y = u scale) in which at most one step is left.

    That is all of it for i = j; else a in {i, j} or b in {i, j}, with a = b left out.
    """
    students = f.angles[:k]
    step = step_relu_relu(students[:, :, None], students[:, None, :], f.angles[None])
    weighted = y[:, None] * y * step  # (i, a, b): y_a y_b <theta_i a_+ b_+>
    on_diagonal = jnp.sum(weighted, axis=(1, 2))
    different = weighted * (1.0 - np.eye(y.shape[0]))
    other_stays = jnp.sum(different[:, :k], axis=2)  # (j, i): a is i, whose step drops out
    both = weighted[np.arange(k), np.arange(k), :k]  # (i, j): {a, b} = {i, j}, counted twice
    off_diagonal = 2.0 * (other_stays + other_stays.T - both)
    return jnp.where(np.eye(k, dtype=bool), on_diagonal, off_diagonal)


def _two_steps(f: Correlations, y: Float[Array, " d"], k: int) -> Float[Array, "k k"]:
    """The rest: a = b, or four different fields; 0 on the diagonal."""
    if k < 2:
        return jnp.zeros((k, k))
    index = _indices(k, y.shape[0])
    ij, ia, ja = f.angles[index.i, index.j], f.angles[index.i], f.angles[index.j]
    total = step_step_square(ij[:, None], ia, ja) @ y**2
    if len(index.fields):
        # Each unordered pair a < b stands for two terms.
        average = quadruples(f, index.fields).ravel()[index.where]
        total = total + 2.0 * jnp.sum(average * y[index.a] * y[index.b], axis=1)
    return jnp.where(np.eye(k, dtype=bool), 0.0, total[index.pair])


class _Indices(NamedTuple):
    """Each distinct integral once. pairs: i < j among the students; rest: a < b among the others.

    pair: (k, k) where in the pairs to find i, j; fields: sets of four fields with at least two
    students; where: (pairs, rest) place of I4(i, j, a, b) in the raveled (sets, 6).
    """

    i: Int[np.ndarray, " pairs"]
    j: Int[np.ndarray, " pairs"]
    pair: Int[np.ndarray, "k k"]
    a: Int[np.ndarray, "pairs rest"]
    b: Int[np.ndarray, "pairs rest"]
    fields: Int[np.ndarray, "sets 4"]
    where: Int[np.ndarray, "pairs rest"]


@lru_cache
def _indices(k: int, d: int) -> _Indices:
    pairs = list(combinations(range(k), 2))
    i, j = np.array(pairs).T
    pair = np.zeros((k, k), int)
    pair[i, j] = pair[j, i] = np.arange(len(pairs))
    sets = [four for four in combinations(range(d), 4) if four[1] < k]
    place = {
        tuple(four[x] for x in way): 6 * n + m
        for n, four in enumerate(sets)
        for m, way in enumerate(WAYS)
    }
    shape = len(pairs), (d - 2) * (d - 3) // 2
    rest = [[ab for ab in combinations(range(d), 2) if not {*ab} & {*ij}] for ij in pairs]
    where = [[place[ij + ab] for ab in others] for ij, others in zip(pairs, rest, strict=True)]
    a, b = np.array(rest, int).reshape(*shape, 2).transpose(2, 0, 1)
    fields = np.array(sets, int).reshape(-1, 4)
    return _Indices(i, j, pair, a, b, fields, np.array(where, int).reshape(shape))
