"""The loop over steps, blocks and saved times."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from learndyn.dynamics._sgd_step import LearningState
from learndyn.dynamics._stream import AbstractStream

Advance = Callable[[LearningState, Array, Array, Array], LearningState]
Measure = Callable[[LearningState], Any]


class _Carry(NamedTuple):
    step: Int[Array, ""]
    row: Int[Array, ""]
    state: LearningState
    block: Any
    block_index: Int[Array, ""]
    rows: Any


def run_steps(
    advance: Advance,
    measure: Measure,
    stream: AbstractStream,
    state: LearningState,
    save_steps: Int[Array, " times"],
) -> Any:
    """`measure(state)` stacked over save_steps, the first of which is that of `state`.

    advance(state, x, y, step) makes one step. The loop runs over events, the next saved step
    or the end of a block, and over the steps between them: both counts are data, so one
    compiled program serves all times, and no condition depends on the state, so under vmap
    over states, keys and rates a branch stays a branch.
    """
    size, times = stream.steps_per_block, len(save_steps)

    def event(carry: _Carry) -> _Carry:
        index = carry.step // size
        block = jax.lax.cond(
            index == carry.block_index, lambda: carry.block, lambda: stream.block(index)
        )
        saved_step = save_steps[carry.row]
        step = jnp.minimum(saved_step, (index + 1) * size)
        state = jax.lax.fori_loop(
            carry.step,
            step,
            lambda t, state: advance(state, *stream.batch(block, t % size), t),
            carry.state,
        )
        saves = step == saved_step
        rows = jax.lax.cond(
            saves, lambda: _with_row(carry.rows, carry.row, measure(state)), lambda: carry.rows
        )
        return _Carry(step, carry.row + saves, state, block, index, rows)

    rows = _filled(jax.eval_shape(measure, state), jnp.nan, (times,))
    zero = jnp.zeros((), save_steps.dtype)
    no_block = _filled(jax.eval_shape(stream.block, zero), 0.0)
    first = _Carry(save_steps[0], zero, state, no_block, zero - 1, rows)
    return jax.lax.while_loop(lambda carry: carry.row < times, event, first).rows


def _filled(shapes: Any, value: float, batch: tuple[int, ...] = ()) -> Any:
    """Arrays of these shapes, behind the axes of `batch`."""
    return jax.tree.map(lambda leaf: jnp.full((*batch, *leaf.shape), value, leaf.dtype), shapes)


def _with_row(rows: Any, index: Int[Array, ""], row: Any) -> Any:
    return jax.tree.map(lambda all_, one: all_.at[index].set(one), rows, row)
