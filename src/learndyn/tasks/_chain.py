"""The overlap chain of several tasks: at every step one of them, in every lane its own."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from learndyn._checks import as_float, as_key
from learndyn._numerics.forward_only import reverse_refused
from learndyn._outcome import warn_if_failed
from learndyn.dynamics._prepare import (
    require_countable,
    require_finite_batch,
    require_local,
    require_run,
)
from learndyn.dynamics._record import ending
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.chain import _simulate as plain
from learndyn.dynamics.chain._draws import draw_block, steps_per_block
from learndyn.dynamics.chain._lanes import by_lanes, lane_count, per_lane
from learndyn.dynamics.chain._loop import run_chain, side_by_side
from learndyn.dynamics.chain._random import LaneRandom, lane_seeds
from learndyn.dynamics.chain._step import ChainSetting, ChainState, Draw, chain_step, overlaps_of
from learndyn.tasks._rows import Asked, TaskRows, of_task, trajectory
from learndyn.tasks._types import Schedule, choose

_TASK = 11
"""Folded into the key for the choice of tasks: none of the numbers of a run's other draws."""


class TaskSetting(eqx.Module):
    """What stays the same. settings: of each task alone. heads: which one each task has."""

    settings: tuple[ChainSetting, ...]
    ends: Float[Array, "phases *#lanes"]
    shares: Float[Array, "phases tasks *#lanes"]
    chooses: UInt32[Array, "2 lanes"]
    heads: tuple[int, ...] = eqx.field(static=True)

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
    """The student in its frame, with all its heads; `chain.v` is none of them."""

    chain: ChainState
    heads: Float[Array, "heads k #lanes"]

    @property
    def k(self) -> int:
        return self.chain.k

    @property
    def columns(self) -> list[Array]:
        return self.chain.columns


class TaskDraw(NamedTuple):
    """Draws with the labels of each task, and the uniform number that chooses one."""

    own: tuple[Draw, ...]
    uniform: Float[Array, "*steps lanes"]


def simulate(asked: Asked, n: Any, key: Any) -> Trajectory:
    """Exactly the law of SGD on weights, at any n >= k + m."""
    key, n = as_key(key), as_float(n, "n")
    require_finite_batch(asked.rule, "learn")
    require_local(asked.rule, "learn")
    for task in asked.tasks:
        own = of_task(task, asked.start, asked.heads)
        numbers = plain._numbers(task.problem, asked.rule, own, n)
        require_run(task.problem, asked.rule, own, numbers, "learn")
    require_countable(asked.ts, n, plain._most_steps(asked.rule, asked.start))
    with reverse_refused("learn"):
        return warn_if_failed(_simulate(asked, n, key))


@eqx.filter_jit
def _simulate(asked: Asked, n: Float[Array, ""], key: Key[Array, ""]) -> Trajectory:
    ts, rule, schedule = asked.ts, asked.rule, asked.schedule
    owns = [(task, of_task(task, asked.start, asked.heads)) for task in asked.tasks]
    sound = [plain._is_valid(task.problem, rule, own, ts, n) for task, own in owns]
    valid = jnp.all(jnp.stack(sound))
    n_safe = jnp.where(valid, n, float(asked.start.k + asked.start.m))
    steps = jnp.round(jnp.where(valid, ts, 0.0) * n_safe).astype(int)
    ready = [plain._prepared(task.problem, rule, own, n_safe, valid) for task, own in owns]
    state = TaskState(ready[0][1], asked.heads)
    heads = tuple(task.head for task in asked.tasks)
    given = (tuple(setting for setting, _ in ready), schedule.ends, schedule.shares)
    arrays, static = eqx.partition(given, eqx.is_array)

    def run(tree: tuple) -> TaskRows:
        arrays, state, keys, steps = tree
        keys = jnp.broadcast_to(keys, (lane_count(tree),))
        chooses = lane_seeds(jax.vmap(lambda key: jax.random.fold_in(key, _TASK))(keys))
        settings, ends, shares = eqx.combine(arrays, static)
        setting = TaskSetting(settings, ends, shares, chooses, heads)
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
    return setting, state._replace(chain=pairs[0][1])


def _draw_block(
    setting: TaskSetting, seeds: UInt32[Array, "2 lanes"], block: Array, *, k: int, rows: int
) -> TaskDraw:
    """The same inputs for every task, each with its labels."""
    own = tuple(draw_block(one, seeds, block, k=k, rows=rows) for one in setting.settings)
    steps = steps_per_block(setting.rule, len(setting.teacher) + rows, k)
    return TaskDraw(own, LaneRandom(setting.chooses, block).uniform(steps))


def _step(setting: TaskSetting, state: TaskState, draw: TaskDraw, step: Array) -> TaskState:
    """The step of the task that each lane has drawn."""

    def chosen(ends: Array, shares: Array, uniform: Array, n: Array) -> Array:
        return choose(Schedule(ends, shares).at_step(step, n), uniform)

    lane = per_lane(chosen, setting.ends, setting.shares, draw.uniform, setting.n)
    after = [_after(setting, number, state, draw, step) for number in range(len(setting.heads))]
    found = after[0]
    for number, other in enumerate(after[1:], start=1):
        found = jax.tree.map(lambda a, b, i=number: jnp.where(lane == i, b, a), found, other)
    return found


def _after(
    setting: TaskSetting, number: int, state: TaskState, draw: TaskDraw, step: Array
) -> TaskState:
    """The state after a step of one task, which moves the weights and its own head."""
    head = setting.heads[number]
    own = state.chain._replace(v=state.heads[head])
    moved = chain_step(setting.settings[number], own, draw.own[number], step)
    heads = state.heads.at[head].set(moved.v)
    return TaskState(moved._replace(v=state.chain.v), heads)


def _measured(setting: TaskSetting, state: TaskState) -> TaskRows:
    seen = overlaps_of(setting.settings[0], state.chain)
    return TaskRows(seen.Q, seen.R, state.heads, state.chain.b)
