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
        saved_step = save_steps[carry.row]
        block_end = (carry.step // size + 1) * size
        step = jnp.minimum(saved_step, block_end)
        state = jax.lax.fori_loop(
            carry.step,
            step,
            lambda t, state: advance(state, *stream.batch(carry.block, t % size), t),
            carry.state,
        )
        rows = jax.lax.cond(
            step == saved_step,
            lambda rows: jax.tree.map(
                lambda all_, one: all_.at[carry.row].set(one), rows, measure(state)
            ),
            lambda rows: rows,
            carry.rows,
        )
        row = carry.row + (step == saved_step)
        needs_block = (step == block_end) & (row < times)
        block = jax.lax.cond(
            needs_block, lambda _: stream.block(step // size), lambda block: block, carry.block
        )
        return _Carry(step, row, state, block, rows)

    empty = jax.tree.map(
        lambda leaf: jnp.full((times, *leaf.shape), jnp.nan, leaf.dtype),
        jax.eval_shape(measure, state),
    )
    start = save_steps[0]
    zero = jnp.zeros((), save_steps.dtype)
    first = _Carry(start, zero, state, stream.block(start // size), empty)
    return jax.lax.while_loop(lambda carry: carry.row < times, event, first).rows
