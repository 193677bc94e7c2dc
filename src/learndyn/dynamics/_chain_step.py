"""One step of the overlap chain, for many runs as lanes (the last axis of every array).

Weight vectors and inputs are written in an orthonormal frame: m directions that span the
teacher, one more for each row of the student (its units, and their velocities where there is
momentum), and the rest of the space, of which a step needs inner products alone.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._problem import Layers, Problem
from learndyn._rules import SGD, Rates, SlowMomentum
from learndyn.dynamics._lane_fields import lane_gradients
from learndyn.dynamics._lanes import inner, per_lane


class ChainSetting(eqx.Module):
    """What stays the same during a run. teacher: factor L of T = L L^T."""

    problem: Problem
    rule: SGD
    teacher: Float[Array, "m m #lanes"]
    v_teacher: Float[Array, "m #lanes"]
    b_teacher: Float[Array, "m #lanes"] | None
    n: Float[Array, " #lanes"]


class ChainState(NamedTuple):
    """The student in its frame: [rows_t, rows_s] [rows_t, rows_s]^T holds Q, and with momentum
    also S and U; the rows are w/sqrt n, then with momentum their velocities.

    rows_s is lower triangular. v, b: second layer and biases; u_v, u_b their velocities.
    None: not there.
    """

    rows_t: Float[Array, "rows m #lanes"]
    rows_s: Float[Array, "rows rows #lanes"]
    v: Float[Array, "k #lanes"]
    b: Float[Array, "k #lanes"] | None
    u_v: Float[Array, "k #lanes"] | None
    u_b: Float[Array, "k #lanes"] | None


class Draw(NamedTuple):
    """The random part of one step (with a leading axis: of several).

    z: coordinates of the batch's inputs along the frame, teacher first. y: labels.
    outside: lower-triangular factor of the Gram matrix of what is left of the inputs, either
    of all of them or, for batches larger than k, of k orthonormal combinations.
    """

    z: Float[Array, "*steps batch d lanes"]
    y: Float[Array, "*steps batch lanes"]
    outside: Float[Array, "*steps r r lanes"]


def chain_step(
    setting: ChainSetting, state: ChainState, draw: Draw, alpha: Float[Array, " #lanes"]
) -> ChainState:
    """The state after one batch at time alpha: exactly the law of SGD on weights.

    w <- w - lr (mean of c x / n + kappa w / n), all in units of sqrt n; with momentum
    u <- beta u + that, w <- w - lr u. The new rows have coordinates along the frame and along
    the inputs' other parts; an orthogonal transformation of the coordinates outside the
    teacher's span makes them triangular again, so no overlap is ever formed by subtraction.
    """
    k, m, lanes = state.v.shape[0], state.rows_t.shape[1], draw.y.shape[-1]
    rates, beta = _rates(setting, alpha, lanes)
    c, dv = _gradients(setting, state, draw, lanes)
    rows = jnp.concatenate([state.rows_t, state.rows_s], axis=1)
    pad = jnp.zeros((rows.shape[0], draw.outside.shape[1], lanes), rows.dtype)
    rows = jnp.concatenate([jnp.broadcast_to(rows, (*rows.shape[:-1], lanes)), pad], axis=1)
    gradient = _weight_gradient(c, draw) / setting.n
    decay = setting.rule.weight_decay / setting.n
    w = rows[:k]
    if beta is None:
        rows = (1.0 - rates.w * decay) * w - rates.w * gradient
    else:
        u = beta * rows[k:] + gradient + decay * w
        rows = jnp.concatenate([w - rates.w * u, u])
    v, u_v = _moved(state.v, state.u_v, rates.v, beta, dv / setting.n)
    b, u_b = _moved(state.b, state.u_b, rates.b, beta, _mean(c) / setting.n)
    return ChainState(rows[:, :m], lower_triangular(rows[:, m:]), v, b, u_v, u_b)


def _gradients(
    setting: ChainSetting, state: ChainState, draw: Draw, lanes: int
) -> tuple[Float[Array, "batch k lanes"], Float[Array, "k lanes"]]:
    """c for each sample, and the mean of dloss/dv."""
    k, m = state.v.shape[0], state.rows_t.shape[1]
    rows = jnp.concatenate([state.rows_t[:k], state.rows_s[:k, :k]], axis=1)
    layers = Layers(state.v, setting.v_teacher, state.b, setting.b_teacher)
    c, dv = [], []
    for z, y in zip(draw.z, draw.y, strict=True):
        lam = inner(rows, z[None, : m + k])
        for values, value in zip((c, dv), lane_gradients(setting.problem, lam, y, layers)):
            values.append(value)
    return jnp.stack(c), sum(dv) / len(dv)


def _weight_gradient(c: Float[Array, "batch k lanes"], draw: Draw) -> Float[Array, "k d_r lanes"]:
    """Mean of c x over the batch: along the frame, then along r more directions.

    C: (k, batch) times the inputs' orthogonal parts X has the law of C's triangular factor
    times k independent vectors where batch > k, since X is independent of C.
    """
    batch, k = c.shape[:2]
    factor = c.swapaxes(0, 1)
    along = product(factor, draw.z)
    outside = product(lower_triangular(factor) if batch > k else factor, draw.outside)
    return jnp.concatenate([along, outside], axis=1) / batch


def product(a: Float[Array, "k b lanes"], x: Float[Array, "b p lanes"]) -> Array:
    """Matrix product in every lane."""
    return inner(a[:, None], x.swapaxes(0, 1)[None])


def lower_triangular(x: Float[Array, "rows cols lanes"]) -> Float[Array, "rows rows lanes"]:
    """L with L L^T = x x^T, lower triangular, at any rank, for cols >= rows.

    Householder reflections; the error of each row is relative to that row's own length.
    """
    rows = x.shape[0]
    columns = []
    for j in range(rows):
        first, rest = x[0], x[1:]
        norm = jnp.sqrt(inner(first, first))
        tail = jnp.abs(first[0]) + norm
        axis = first.at[0].set(jnp.copysign(tail, first[0]))
        scale = jnp.where(norm > 0, 1.0 / jnp.where(norm > 0, norm * tail, 1.0), 0.0)
        rest = rest - (scale * inner(rest, axis[None]))[:, None] * axis
        diagonal = -jnp.copysign(norm, first[0])
        zeros = jnp.zeros((j, *diagonal.shape), x.dtype)
        columns.append(jnp.concatenate([zeros, diagonal[None], rest[:, 0]]))
        x = rest[:, 1:]
    return jnp.stack(columns, axis=1)


def _rates(
    setting: ChainSetting, alpha: Float[Array, " #lanes"], lanes: int
) -> tuple[Rates, Array | None]:
    """Rates of this step, and beta; None without momentum."""
    rates = per_lane(lambda rule, alpha: rule.rates(alpha), setting.rule, alpha, lanes=lanes)
    momentum = setting.rule.momentum
    if not isinstance(momentum, SlowMomentum):
        return rates, momentum
    slow = momentum.gamma / setting.n
    return jax.tree.map(lambda rate: rate * slow, rates), 1.0 - slow


def _mean(c: Float[Array, "batch k lanes"]) -> Float[Array, "k lanes"]:
    return c[0] if c.shape[0] == 1 else jnp.mean(c, axis=0)


def _moved(
    value: Array | None,
    velocity: Array | None,
    rate: Array | None,
    beta: Array | None,
    gradient: Array,
) -> tuple[Array | None, Array | None]:
    """A layer and its velocity after the step; as they were where it is not trained."""
    if value is None or rate is None:
        return value, velocity
    if beta is None:
        return value - rate * gradient, None
    velocity = beta * velocity + gradient
    return value - rate * velocity, velocity
