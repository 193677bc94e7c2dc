"""The loop of the overlap chain over blocks of steps, saved times and steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from learndyn.dynamics.chain._draws import draw_block, steps_per_block
from learndyn.dynamics.chain._lanes import folded, unfolded, wide
from learndyn.dynamics.chain._step import (
    ChainSetting,
    ChainState,
    chain_step,
    overlaps_of,
)


class Row(NamedTuple):
    """What is saved: overlaps of the student in each group, second layer and biases (None: there
    are none)."""

    Q: Float[Array, "*times k k groups lanes"]
    R: Float[Array, "*times k m groups lanes"]
    v: Float[Array, "*times k lanes"]
    b: Float[Array, "*times k lanes"] | None


class _Carry(NamedTuple):
    step: Int[Array, ""]
    saved: Int[Array, " #lanes"]
    state: Any
    rows: Any


def run_chain(
    setting: ChainSetting | Any,
    state: ChainState | Any,
    seeds: UInt32[Array, "2 lanes"],
    save_steps: Int[Array, " times #lanes"],
    *,
    draw: Callable[..., Any] = draw_block,
    advance: Callable[..., Any] = chain_step,
    measure: Callable[..., Any] | None = None,
    fold: Callable[..., Any] | None = None,
) -> Any:
    """The rows at save_steps, not decreasing, the first of which is the step of `state`.

    The frames in `setting` and `state` have an axis of groups in front of that of lanes.
    All lanes share one clock, from the earliest first step to the latest last one. A lane
    waits until its first step, and goes on unseen after its last. draw, advance, measure,
    fold: what a block draws, what a step does, what is saved and how groups become lanes, for
    settings and states of another kind.
    """
    measured = _measured if measure is None else measure
    k, m = state.k, setting.teacher.shape[0]
    size = steps_per_block(setting.rule, m + len(state.columns), k, setting.groups)
    lanes = seeds.shape[1]
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (*x.shape[:-1], lanes)), state)
    setting, state = (side_by_side if fold is None else fold)(setting, state, lanes)

    def between(first: Array, last: Array, draws: Any, state: Any) -> Any:
        def one(t: Array, state: Any) -> Any:
            drawn = jax.tree.map(lambda x: x[t % size], draws)
            return advance(setting, state, drawn, t)

        return jax.lax.fori_loop(first, last, one, state)

    def event(carry: _Carry, draws: Any, end: Array) -> _Carry:
        target = _target(save_steps, carry.saved)
        # On to the next row that any lane saves, or to the end of the block
        step = jnp.minimum(jnp.min(target), end)
        state = between(carry.step, step, draws, carry.state)
        if save_steps.shape[-1] > 1:
            # A lane that starts later keeps its state until then.
            started = save_steps[0] <= carry.step
            both = wide(started, setting.groups)
            keep = lambda new, old: jnp.where(started if new.shape[-1] == lanes else both, new, old)
            state = jax.tree.map(keep, state, carry.state)
        hit = target == step
        rows = jax.lax.cond(
            jnp.any(hit),
            lambda: _with_row(carry.rows, measured(setting, state), carry.saved, hit),
            lambda: carry.rows,
        )
        return _Carry(step, carry.saved + hit, state, rows)

    def block(carry: _Carry) -> _Carry:
        index = carry.step // size
        end = (index + 1) * size
        draws = draw(setting, seeds, index, k=k, rows=len(state.columns))
        unfinished = lambda carry: (carry.step < end) & _unfinished(save_steps, carry)
        return jax.lax.while_loop(unfinished, lambda carry: event(carry, draws, end), carry)

    blank = jax.eval_shape(lambda: measured(setting, state))
    rows = jax.tree.map(lambda x: jnp.full((len(save_steps), *x.shape), jnp.nan, x.dtype), blank)
    first = _Carry(jnp.min(save_steps[0]), jnp.zeros_like(save_steps[0]), state, rows)
    return jax.lax.while_loop(lambda carry: _unfinished(save_steps, carry), block, first).rows


def side_by_side(
    setting: ChainSetting, state: ChainState, lanes: int
) -> tuple[ChainSetting, ChainState]:
    """Setting and state with the groups of their frames as lanes."""
    fold = lambda x: None if x is None else folded(x, lanes)
    frames = lambda setting: (setting.teacher, setting.sizes, setting.scale)
    is_none = lambda leaf: leaf is None
    setting = eqx.tree_at(frames, setting, [fold(x) for x in frames(setting)], is_leaf=is_none)
    columns = [fold(column) for column in state.columns]
    return setting, state._replace(rows_t=fold(state.rows_t), columns=columns)


def _measured(setting: ChainSetting, state: ChainState) -> Row:
    q, r = (unfolded(x, setting.groups) for x in overlaps_of(setting, state))
    return Row(q, r, state.v, state.b)


def _target(save_steps: Array, saved: Array) -> Int[Array, " #lanes"]:
    """The next step to save; none where all are saved."""
    times = len(save_steps)
    index = jnp.minimum(saved, times - 1)[None]
    step = jnp.take_along_axis(save_steps, index, axis=0)[0]
    return jnp.where(saved < times, step, jnp.iinfo(step.dtype).max)


def _unfinished(save_steps: Array, carry: _Carry) -> Array:
    return jnp.any(carry.saved < len(save_steps))


def _with_row(rows: Any, row: Any, index: Array, hit: Array) -> Any:
    if len(index) == 1:  # all lanes at once
        return jax.tree.map(lambda all_, one: all_.at[index[0]].set(one), rows, row)
    lane = jnp.arange(len(index))
    where = jnp.where(hit, index, len(rows[0]))  # beyond the end: dropped

    def put(all_: Array, one: Array) -> Array:
        return all_.at[where, ..., lane].set(jnp.moveaxis(one, -1, 0), mode="drop")

    return jax.tree.map(put, rows, row)
