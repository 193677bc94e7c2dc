"""One step of the overlap chain, for many runs as lanes (the last axis of every array).

Weight vectors and inputs are written in an orthonormal frame: m directions that span the
teacher, one more for each row of the student (its units, and their velocities where there is
momentum), and the rest of the space, of which a step needs inner products alone.

Inputs of which groups of directions differ have such a frame for each group. All groups of a run
lie side by side as lanes, "wide", for they meet in the fields alone. A group of fewer directions
than its frame has lacks the last ones: the rows and the inputs have exact zeros there.
"""

import operator
from functools import reduce
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learndyn.dynamics.chain._factor import Column, lq_factor, project_out, rank_one_update
from learndyn.dynamics.chain._fields import LaneSample, lane_modulations
from learndyn.dynamics.chain._lanes import inner, over_groups, per_lane, wide
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule, Rates, Seen


class ChainSetting(eqx.Module):
    """What stays the same during a run.

    teacher: factor L of T = L L^T, of each group. sizes: directions of each group. scale: the roots
    of their eigenvalues; None for white inputs. unseen: factor of the covariance of what the
    teacher's fields have beyond the inputs; None: nothing. reads_size: whether the rule reads
    |x|^2/n.
    """

    problem: Problem
    rule: AbstractRule
    teacher: Float[Array, "m m *#wide"]
    v_teacher: Float[Array, "m *#lanes"]
    b_teacher: Float[Array, "m *#lanes"] | None
    n: Float[Array, "*#lanes"]
    sizes: Float[Array, "*#wide"]
    scale: Float[Array, "*#wide"] | None = None
    unseen: Float[Array, "m m *#lanes"] | None = None
    groups: int = eqx.field(static=True, default=1)
    reads_size: bool = eqx.field(static=True, default=False)


class ChainState(NamedTuple):
    """The student in its frame: its rows, w/sqrt n and then, with momentum, their velocities,
    have coordinates rows_t along the teacher's span and `columns`, a triangular factor, beyond.

    v, b: second layer and biases; u_v, u_b their velocities. None: not there.
    """

    rows_t: Float[Array, "rows m #wide"]
    columns: list[Column]
    v: Float[Array, " k #lanes"]
    b: Float[Array, " k #lanes"] | None
    u_v: Float[Array, " k #lanes"] | None
    u_b: Float[Array, " k #lanes"] | None

    @property
    def k(self) -> int:
        return self.v.shape[0]


class Draw(NamedTuple):
    """The random part of one step (with a leading axis: of several).

    z: coordinates of the batch's inputs along the frame, teacher first, over the roots of the
    eigenvalues, as `outside`. y: labels.
    outside: lower-triangular factor of the Gram matrix of what is left of the inputs, either
    of all of them or, for batches larger than k, of k orthonormal combinations.
    own: numbers for the rule; None where it asks for none.
    """

    z: Float[Array, "*steps batch d wide"]
    y: Float[Array, "*steps batch lanes"]
    outside: Float[Array, "*steps r r wide"]
    own: Float[Array, "*steps batch draws lanes"] | None = None


def chain_step(
    setting: ChainSetting, state: ChainState, draw: Draw, step: Int[Array, ""]
) -> ChainState:
    """The state after one batch: exactly the law of SGD on weights.

    w <- w - lr (mean of c x / n + kappa w / n), all in units of sqrt n; with momentum
    u <- beta u + the bracket, w <- w - lr u. Then the factor is made triangular again by
    orthogonal transformations of the frame: no overlap is ever formed by subtraction, and C
    stays positive semi-definite. A spherical rule then divides each w_i by its length.
    """
    opaque_true = step >= 0
    alpha = step / setting.n
    rates, beta = _rates(setting, alpha)
    c, dv = _gradients(setting, state, draw, opaque_true)
    # A single sample without momentum needs a rank-one update instead of a factorisation.
    move = _one_sample if beta is None and c.shape[0] == 1 else _any_batch
    rows_t, columns = move(setting, state, draw, c, rates.w, beta, opaque_true)
    if setting.rule.spherical:
        rows_t, columns = _on_sphere(rows_t, columns, state.k, setting.groups)
    v, u_v = _moved(state.v, state.u_v, rates.v, beta, dv / setting.n)
    b, u_b = state.b, state.u_b
    if b is not None:
        b, u_b = _moved(b, u_b, rates.b, beta, _mean(c) / setting.n)
    return ChainState(rows_t, columns, v, b, u_v, u_b)


def _one_sample(
    setting: ChainSetting,
    state: ChainState,
    draw: Draw,
    c: Float[Array, "1 k lanes"],
    rate: Float[Array, "*k #lanes"],
    beta: Float[Array, " #lanes"] | None,
    opaque_true: Bool[Array, ""],
) -> tuple[Float[Array, "k m wide"], list[Column]]:
    """Without momentum a sample moves the rows only along itself, so only their components
    along x change, by c |x|; what is orthogonal to x keeps its Gram matrix."""
    m, groups = state.rows_t.shape[1], setting.groups
    size = rate / setting.n
    keep = wide(1.0 - size * setting.rule.weight_decay, groups)
    size, c = wide(size, groups), wide(c, groups)
    moved = _by_row(size) * (c[0][:, None] * scaled(setting, draw.z[0, :m]))
    rows_t = _by_row(keep) * state.rows_t - moved
    # Split the rows beyond the teacher's span into their parts along x and orthogonal to it.
    rest, along, length = project_out(state.columns, draw.z[0, m:], draw.outside[0, 0], opaque_true)
    along = keep * along - (size * scaled(setting, length)) * c[0]
    # Put both together again: a rank-one update of the factor, by Givens rotations.
    return rows_t, rank_one_update([keep * column for column in rest], along, opaque_true)


def _any_batch(
    setting: ChainSetting,
    state: ChainState,
    draw: Draw,
    c: Float[Array, "batch k lanes"],
    rate: Float[Array, "*k #lanes"],
    beta: Float[Array, " #lanes"] | None,
    opaque_true: Bool[Array, ""],
) -> tuple[Float[Array, "rows m wide"], list[Column]]:
    """Any batch, with or without momentum: all rows in a wider frame, then LQ factorisation."""
    k, m, groups = state.k, state.rows_t.shape[1], setting.groups
    gradient = _weight_gradient(c, draw, setting, opaque_true) / wide(setting.n, groups)
    unseen = jnp.zeros((len(state.columns), *draw.outside.shape[1:]), c.dtype)
    rows = jnp.concatenate([state.rows_t, jnp.stack(state.columns, axis=1), unseen], axis=1)
    decay, rate = setting.rule.weight_decay / setting.n, _by_row(wide(rate, groups))
    decay = wide(decay, groups)
    # w <- w - lr (gradient + decay w), or the same through the velocity u.
    w = rows[:k]
    if beta is None:
        rows = (1.0 - rate * decay) * w - rate * gradient
    else:
        u = wide(beta, groups) * rows[k:] + gradient + decay * w
        rows = jnp.concatenate([w - rate * u, u])
    # The frame turns so that the factor is triangular again: no overlap changes.
    return rows[:, :m], lq_factor(rows[:, m:], opaque_true)


def _on_sphere(
    rows_t: Float[Array, "rows m wide"], columns: list[Column], k: int, groups: int
) -> tuple[Float[Array, "rows m wide"], list[Column]]:
    """The rows with the first k of them, w/sqrt n, divided by their lengths in all groups."""
    square = jnp.sum(rows_t**2, axis=1) + sum(column**2 for column in columns)
    square = wide(over_groups(square, groups), groups)
    is_unit = jnp.arange(len(rows_t))[:, None] < k  # the others are velocities
    scale = jnp.where(is_unit, 1.0 / jnp.sqrt(square), 1.0)
    return scale[:, None] * rows_t, [scale * column for column in columns]


def _gradients(
    setting: ChainSetting, state: ChainState, draw: Draw, opaque_true: Bool[Array, ""]
) -> tuple[Float[Array, "batch k lanes"], Float[Array, "k lanes"]]:
    """c for each sample, and the mean of dloss/dv."""
    layers = Layers(state.v, setting.v_teacher, state.b, setting.b_teacher)
    samples = [_sample(setting, state, draw, b) for b in range(len(draw.y))]
    given = setting.problem, setting.rule
    if setting.rule.is_episode:
        # All samples at once, with a leading axis; the overlaps are theirs in common.
        stacked = [one._replace(overlaps=None) for one in samples]
        episode = jax.tree.map(lambda *x: jnp.stack(x), *stacked)
        episode = episode._replace(overlaps=samples[0].overlaps)
        c, dv, _ = lane_modulations(*given, episode, layers, opaque_true)
    else:
        found = [lane_modulations(*given, one, layers, opaque_true) for one in samples]
        c, dv, _ = zip(*found, strict=True)
        c = jnp.stack(c)
    return c, reduce(operator.add, dv) / len(dv)


def _sample(setting: ChainSetting, state: ChainState, draw: Draw, b: int) -> LaneSample:
    """Sample number b of the batch."""
    (k, m), z = state.rows_t[: state.k].shape[:2], draw.z[b]
    # lambda = w x / sqrt n, from the coordinates of w and x along the frame
    outside = sum(state.columns[j][:k] * z[m + j] for j in range(k))
    lam = inner(state.rows_t[:k], z[None, :m]) + outside
    lam = over_groups(scaled(setting, lam), setting.groups)
    size = None
    if setting.reads_size:
        square = jnp.sum(z**2, axis=0) + jnp.sum(draw.outside[b] ** 2, axis=0)
        square = scaled(setting, scaled(setting, square))
        size = over_groups(square, setting.groups) / setting.n
    seen = None
    if setting.rule.needs_overlaps:
        seen = Seen(*(over_groups(x, setting.groups) for x in overlaps_of(setting, state)))
    return LaneSample(lam, draw.y[b], None if draw.own is None else draw.own[b], size, seen)


def overlaps_of(setting: ChainSetting, state: ChainState) -> Seen:
    """Q (k, k, wide) and R (k, m, wide), those of each group."""
    w_t = state.rows_t[: state.k]
    w_s = jnp.stack([column[: state.k] for column in state.columns], axis=1)
    q = inner(w_t[:, None], w_t[None]) + inner(w_s[:, None], w_s[None])
    return Seen(q, inner(w_t[:, None], setting.teacher[None]))


def _weight_gradient(
    c: Float[Array, "batch k lanes"],
    draw: Draw,
    setting: ChainSetting,
    opaque_true: Bool[Array, ""],
) -> Float[Array, "k d_r wide"]:
    """Mean of c x over the batch: along the frame, then along r more directions.

    The inputs' parts X outside the frame are independent of C: (k, batch), so for batch > k
    C X has the law of C's triangular factor times k such vectors. That is not so where the rule
    reads the lengths of the inputs; then there are as many as samples.
    """
    batch, k = c.shape[:2]
    factor = c.swapaxes(0, 1)
    along = _product(wide(factor, setting.groups), draw.z)
    if batch > k and draw.outside.shape[0] == k:
        factor = jnp.stack(lq_factor(factor, opaque_true), axis=1)
    beyond = _product(wide(factor, setting.groups), draw.outside)
    return scaled(setting, jnp.concatenate([along, beyond], axis=1)) / batch


def scaled(setting: ChainSetting, x: Float[Array, "*shape wide"]) -> Float[Array, "*shape wide"]:
    """x, coordinates of inputs, times the roots of the eigenvalues."""
    return x if setting.scale is None else setting.scale * x


def _product(a: Float[Array, "k b #wide"], x: Float[Array, "b p #wide"]) -> Array:
    """Matrix product in every lane."""
    return inner(a[:, None], x.swapaxes(0, 1)[None])


def _by_row(number: Float[Array, "*k #lanes"]) -> Array:
    """A number of each lane, or of each unit and lane, as a factor of rows (k, columns, lanes)."""
    return number if number.ndim == 1 else number[:, None]


def _rates(setting: ChainSetting, alpha: Float[Array, " #lanes"]) -> tuple[Rates, Array | None]:
    """Rates of this step, and beta; None without momentum."""
    step_rates = lambda rule, alpha, n: rule.step_rates(alpha, n)
    return per_lane(step_rates, setting.rule, alpha, setting.n)


def _mean(c: Float[Array, "batch k lanes"]) -> Float[Array, "k lanes"]:
    return reduce(operator.add, c) / len(c)


def _moved(
    value: Array,
    velocity: Array | None,
    rate: Array | None,
    beta: Array | None,
    gradient: Array,
) -> tuple[Array, Array | None]:
    """A layer and its velocity after the step; as they were where it is not trained."""
    if rate is None:
        return value, velocity
    if beta is None or velocity is None:
        return value - rate * gradient, None
    velocity = beta * velocity + gradient
    return value - rate * velocity, velocity
