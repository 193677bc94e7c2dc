"""The overlap chain of several tasks: at every step one of them, in every lane its own."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from learndyn._checks import as_float, as_key
from learndyn._numerics.forward_only import reverse_refused
from learndyn._types import Absent
from learndyn.dynamics._prepare import (
    require_countable,
    require_finite_batch,
    require_local,
    require_run,
)
from learndyn.dynamics._record import ending
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.chain import _simulate as plain
from learndyn.dynamics.chain._draws import draw_inputs, steps_per_block, wishart_factor
from learndyn.dynamics.chain._factor import lq_factor
from learndyn.dynamics.chain._fields import lane_labels
from learndyn.dynamics.chain._lanes import by_lanes, folded, inner, lane_count, per_lane
from learndyn.dynamics.chain._loop import run_chain, side_by_side
from learndyn.dynamics.chain._random import LaneRandom, lane_seeds
from learndyn.dynamics.chain._step import ChainSetting, ChainState, Draw, chain_step, overlaps_of
from learndyn.tasks._drift import Wander, wander_of
from learndyn.tasks._rows import DRIFT, TASK, Asked, TaskRows, of_task, trajectory
from learndyn.tasks._types import Schedule, alike, choose


class TaskSetting(eqx.Module):
    """What stays the same.

    settings: of each task alone. chooses, wanders: seeds of the choice of tasks and of the drift.
    wander: how teachers drift; None: they stay. heads: which one each task has. alike: the tasks,
    in groups whose problems differ in numbers alone.
    """

    settings: tuple[ChainSetting, ...]
    ends: Float[Array, "phases *#lanes"]
    shares: Float[Array, "phases tasks *#lanes"]
    wander: Wander | None
    chooses: UInt32[Array, "2 lanes"]
    wanders: UInt32[Array, "2 lanes"]
    heads: tuple[int, ...] = eqx.field(static=True)
    alike: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def rule(self) -> Any:
        return self.settings[0].rule

    @property
    def teacher(self) -> Array:
        return self.settings[0].teacher

    @property
    def groups(self) -> int:
        return 1  # tasks have white inputs

    @property
    def n(self) -> Array:
        return self.settings[0].n


class TaskState(NamedTuple):
    """The student in its frame, with all its heads; `chain.v` is none of them.

    pushes: velocities of the heads, where they have any, else None. teacher: factor of T where the
    teachers drift, else None.
    """

    chain: ChainState
    heads: Float[Array, "heads k #lanes"]
    pushes: Float[Array, "heads k #lanes"] | Absent
    teacher: Float[Array, "m m #lanes"] | Absent

    @property
    def k(self) -> int:
        return self.chain.k

    @property
    def columns(self) -> list[Array]:
        return self.chain.columns


class Unlabelled(NamedTuple):
    """From what the labels follow, where they are made step by step because teachers drift.

    along: coordinates of the inputs along the teachers' span. zeta: label noise. xi: coordinates of
    the drift along the frame. rest: triangular factor of the Gram matrix of what is left of it.
    """

    along: Float[Array, "*steps batch m lanes"]
    zeta: Float[Array, "*steps batch lanes"]
    xi: Float[Array, "*steps m d lanes"]
    rest: Float[Array, "*steps m m lanes"]


class TaskDraw(NamedTuple):
    """The draw of a step and its task, with that task's labels; under drift these come later."""

    task: Int[Array, "*steps lanes"]
    sample: Draw
    unlabelled: Unlabelled | None


def simulate(asked: Asked, n: Any, key: Any) -> Trajectory:
    """Exactly the law of SGD on weights, at any n >= k + m."""
    key, n = as_key(key), as_float(n, "n")
    require_finite_batch(asked.rule, "learn")
    require_local(asked.rule, "learn")
    for task in asked.tasks:
        own = of_task(task, asked.start, asked.heads)
        numbers = plain._numbers(task.problem, asked.rule, own, n)
        require_run(task.problem, asked.rule, own, numbers, "learn")
    asked.require_slow_drift(n)
    require_countable(asked.ts, n, plain._most_steps(asked.rule, asked.start))
    with reverse_refused("learn"):
        return _simulate(asked, n, key)


@eqx.filter_jit
def _simulate(asked: Asked, n: Float[Array, ""], key: Key[Array, ""]) -> Trajectory:
    ts, rule = asked.ts, asked.rule
    owns = [(task, of_task(task, asked.start, asked.heads)) for task in asked.tasks]
    sound = [plain._is_valid(task.problem, rule, own, ts, n) for task, own in owns]
    valid = jnp.all(jnp.stack([*sound, asked.drift_holds(n)]))
    n_safe = jnp.where(valid, n, float(plain._vectors(rule, asked.start)))
    steps = jnp.round(jnp.where(valid, ts, 0.0) * n_safe).astype(int)
    ready = [plain._prepared(task.problem, rule, own, n_safe, valid) for task, own in owns]
    wander = wander_of(asked, n_safe)
    pushes = None if ready[0][1].u_v is None else jnp.zeros_like(asked.heads)
    teacher = None if wander is None else ready[0][0].teacher
    state = TaskState(ready[0][1], asked.heads, pushes, teacher)
    heads = tuple(task.head for task in asked.tasks)
    groups = alike([task.problem for task in asked.tasks])
    schedule = asked.schedule
    given = (tuple(setting for setting, _ in ready), schedule.ends, schedule.shares, wander)
    arrays, static = eqx.partition(given, eqx.is_array)

    def run(tree: tuple) -> TaskRows:
        arrays, state, keys, steps = tree
        keys = jnp.broadcast_to(keys, (lane_count(tree),))
        seeds = lambda tag: lane_seeds(jax.vmap(lambda key: jax.random.fold_in(key, tag))(keys))
        known: Any = eqx.combine(arrays, static)
        own, ends, shares, drifting = known
        drawn = seeds(TASK), seeds(DRIFT)
        setting = TaskSetting(own, ends, shares, drifting, *drawn, heads=heads, alike=groups)
        ways = {"draw": _draw_block, "advance": _step, "measure": _measured, "fold": _folded}
        return run_chain(setting, state, lane_seeds(keys), steps, **ways)

    rows = TaskRows(*by_lanes(run)((arrays, state, key, steps)))
    stopped, result = ending(rows, valid)
    alpha = jnp.where(valid, steps / n_safe, ts)
    return trajectory(asked, rows, stopped, result, level="chain", alpha=alpha, n=n, key=key)


def _folded(setting: TaskSetting, state: TaskState, lanes: int) -> tuple[TaskSetting, TaskState]:
    """The frames without their axis of groups, of which there is one."""
    pairs = [side_by_side(one, state.chain, lanes) for one in setting.settings]
    settings = tuple(one for one, _ in pairs)
    setting = eqx.tree_at(lambda s: s.settings, setting, settings)
    teacher = None if state.teacher is None else folded(state.teacher, lanes)
    return setting, state._replace(chain=pairs[0][1], teacher=teacher)


def _draw_block(
    setting: TaskSetting, seeds: UInt32[Array, "2 lanes"], block: Array, *, k: int, rows: int
) -> TaskDraw:
    """The inputs and the task of every step, with its labels where the teachers stay."""
    drawn = draw_inputs(setting.settings[0], seeds, block, k=k, rows=rows)
    m, lanes = len(setting.teacher), seeds.shape[1]
    steps = steps_per_block(setting.rule, m + rows, k)
    task = _chosen(setting, LaneRandom(setting.chooses, block).uniform(steps), block * steps)
    shape = (*drawn.z.shape[:2], lanes)
    sample = Draw(drawn.z, jnp.zeros(shape), drawn.outside, drawn.own)
    if setting.wander is None:
        each = jnp.repeat(task, shape[1], axis=0)
        y = _labels(setting, setting.teacher, drawn.along, drawn.zeta, each, block >= 0)
        return TaskDraw(task, sample._replace(y=y.reshape(shape)), None)
    random, d = LaneRandom(setting.wanders, block), m + rows
    xi = random.normal(steps * m * d).reshape(steps, m, d, lanes)
    normal = random.normal(steps * (m * (m + 1) // 2)).reshape(steps, -1, lanes)
    rest = wishart_factor(random, setting.settings[0].sizes - d, normal, m)
    along, zeta = drawn.along.reshape(*shape[:2], m, lanes), drawn.zeta.reshape(shape)
    return TaskDraw(task, sample, Unlabelled(along, zeta, xi, rest))


def _chosen(
    setting: TaskSetting, uniform: Float[Array, "steps lanes"], first: Array
) -> Int[Array, "steps lanes"]:
    """The task of every step of a block, the first step of which has number `first`."""

    def one(ends: Array, shares: Array, n: Array, uniform: Array) -> Array:
        steps = first + jnp.arange(len(uniform))
        at = lambda step, u: choose(Schedule(ends, shares).at_step(step, n), u)
        return jax.vmap(at)(steps, uniform)

    return per_lane(one, setting.ends, setting.shares, setting.n, uniform)


def _labels(
    setting: TaskSetting,
    teacher: Float[Array, "m m #lanes"],
    along: Float[Array, "samples m lanes"],
    zeta: Float[Array, "samples lanes"],
    task: Int[Array, "samples lanes"],
    opaque_true: Array,
) -> Float[Array, "samples lanes"]:
    """The label of each sample by its own task, which alone is asked for where all have one."""
    rho = inner(teacher, along[:, None])

    def by(number: int) -> Array:
        own = setting.settings[number]
        return lane_labels(own.problem, rho, zeta, own.v_teacher, own.b_teacher, opaque_true)

    if len(setting.settings) == 1:
        return by(0)
    y = jnp.zeros_like(zeta)
    for number in range(len(setting.settings)):
        mine = task == number
        found = jax.lax.cond(jnp.any(mine), functools.partial(by, number), lambda y=y: y)
        y = jnp.where(mine, found, y)
    return y


def _step(setting: TaskSetting, state: TaskState, draw: TaskDraw, step: Array) -> TaskState:
    """The step of the task that each lane has drawn, then the drift of the teachers."""
    sample, later = draw.sample, draw.unlabelled
    if later is not None:
        each = jnp.broadcast_to(draw.task, later.zeta.shape)
        y = _labels(setting, state.teacher, later.along, later.zeta, each, step >= 0)
        sample = sample._replace(y=y)
    head = _picked(draw.task, [jnp.full((1,), head) for head in setting.heads])
    own = state.chain._replace(v=_picked(head, list(state.heads)))
    if state.pushes is not None:
        own = own._replace(u_v=_picked(head, list(state.pushes)))
    chain = _moved(setting, state, own, sample, draw.task, step)
    heads, pushes = _untrained(setting, state, step)
    is_own = jnp.arange(len(heads))[:, None, None] == head
    heads = jnp.where(is_own, chain.v, heads)
    if pushes is not None and chain.u_v is not None:
        pushes = jnp.where(is_own, chain.u_v, pushes)
    chain, teacher = chain._replace(v=state.chain.v, u_v=state.chain.u_v), None
    if later is not None:
        chain, teacher = _wandered(setting, chain, state.teacher, later, step)
    return TaskState(chain, heads, pushes, teacher)


def _untrained(setting: TaskSetting, state: TaskState, step: Array) -> tuple[Array, Array | None]:
    """Heads and their velocities after a step without a gradient."""
    if state.pushes is None:
        return state.heads, None
    rates_at = lambda rule, alpha, n: rule.step_rates(alpha, n)
    rates, beta = per_lane(rates_at, setting.rule, step / setting.n, setting.n)
    pushes = beta * state.pushes
    return state.heads - rates.v * pushes, pushes


def _moved(
    setting: TaskSetting,
    state: TaskState,
    own: ChainState,
    sample: Draw,
    task: Int[Array, " lanes"],
    step: Array,
) -> ChainState:
    """The student after a step of each lane's task.

    Tasks whose problems differ in numbers alone are one step with the numbers of each lane. The
    steps of others are made where any lane has drawn them.
    """

    def by(group: tuple[int, ...]) -> ChainState:
        problems = [setting.settings[number].problem for number in group]
        one = eqx.tree_at(lambda s: s.problem, setting.settings[group[0]], _mixed(group, problems))
        if state.teacher is not None:
            one = eqx.tree_at(lambda s: s.teacher, one, state.teacher)
        return chain_step(one, own, sample, step)

    def _mixed(group: tuple[int, ...], problems: Sequence[Any]) -> Any:
        numbers, rest = zip(*(eqx.partition(one, eqx.is_array) for one in problems), strict=True)
        places = [jnp.where(task == number, i, 0) for i, number in enumerate(group)]
        position = functools.reduce(jnp.add, places)
        return eqx.combine(jax.tree.map(lambda *x: _picked(position, x), *numbers), rest[0])

    if len(setting.alike) == 1:
        return by(setting.alike[0])
    after = own
    for group in setting.alike:
        mine = functools.reduce(jnp.logical_or, [task == number for number in group])
        found = jax.lax.cond(jnp.any(mine), functools.partial(by, group), lambda: own)
        after = jax.tree.map(lambda new, old, mine=mine: jnp.where(mine, new, old), found, after)
    return after


def _picked(index: Int[Array, " #lanes"], values: Sequence[Array]) -> Array:
    """The value number `index` of each lane."""
    found = values[0]
    for number, value in enumerate(values[1:], start=1):
        found = jnp.where(index == number, value, found)
    return found


def _wandered(
    setting: TaskSetting,
    chain: ChainState,
    teacher: Float[Array, "m m lanes"],
    draw: Unlabelled,
    step: Array,
) -> tuple[ChainState, Float[Array, "m m lanes"]]:
    """The state after the drift w* <- a w* + b xi: exactly its law.

    Along the frame xi has independent coordinates. Beyond it the teachers' parts have a Gram
    matrix of Wishart's law, of which Bartlett's factor is a root.
    """
    assert setting.wander is not None
    m, rows = len(teacher), len(chain.rows_t)
    keep, size = setting.wander.keep[:, None], setting.wander.size[:, None]
    xi = size * draw.xi
    moved = jnp.concatenate([keep * teacher + xi[:, :m], xi[:, m:], size * draw.rest], axis=1)
    beyond = jnp.stack(chain.columns, axis=1)
    unmoved = jnp.zeros((rows, m, beyond.shape[-1]))
    student = jnp.concatenate([chain.rows_t, beyond, unmoved], axis=1)
    # The frame turns so that the teachers come first again: LQ factorisation
    columns = lq_factor(jnp.concatenate([moved, student]), step >= 0)
    whole = jnp.stack(columns, axis=1)
    found = chain._replace(rows_t=whole[m:, :m], columns=[column[m:] for column in columns[m:]])
    return found, whole[:m, :m]


def _measured(setting: TaskSetting, state: TaskState) -> TaskRows:
    own, t = setting.settings[0], None
    if state.teacher is not None:
        own = eqx.tree_at(lambda s: s.teacher, own, state.teacher)
        t = inner(state.teacher[:, None], state.teacher[None])
    seen = overlaps_of(own, state.chain)
    return TaskRows(seen.Q, seen.R, state.heads, state.chain.b, t)
