"""The loop over steps, blocks and saved times."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from learndyn.dynamics.sgd._stream import AbstractStream

Advance = Callable[[Any, Any, Array], Any]
Measure = Callable[[Any], Any]


class Carry(NamedTuple):
    """Where a run stands; the loop can be left and taken up again without changing a bit.

    state: any tree of arrays.
    """

    step: Int[Array, ""]
    row: Int[Array, ""]
    state: Any
    block: Any
    block_index: Int[Array, ""]
    rows: Any


def first_carry(
    measure: Measure,
    stream: AbstractStream,
    state: Any,
    save_steps: Int[Array, " times"],
) -> Carry:
    """A run at its first saved step, where `state` is, with nothing measured yet."""
    rows = _filled(jax.eval_shape(measure, state), jnp.nan, (len(save_steps),))
    zero = jnp.zeros((), save_steps.dtype)
    no_block = _filled(jax.eval_shape(stream.block, zero), 0.0)
    return Carry(save_steps[0], zero, state, no_block, zero - 1, rows)


def run_steps(
    advance: Advance,
    measure: Measure,
    stream: AbstractStream,
    carry: Carry,
    save_steps: Int[Array, " times"],
    stop: Int[Array, ""] | None = None,
) -> Carry:
    """The run with its rows `measure(state)` at save_steps filled in: all of them, or, given
    `stop`, until that many steps are made and the block or the way to the next row is done.

    advance(state, batch, step) makes one step. The loop runs over events, the next saved step
    or the end of a block, and over the steps between them: both counts are data, so one
    compiled program serves all times, and no condition depends on the state, so under vmap
    over states, keys and rates a branch stays a branch.
    """
    size, times = stream.steps_per_block, len(save_steps)

    def event(carry: Carry) -> Carry:
        index = carry.step // size
        # A run that was left within a block still holds that block.
        block = jax.lax.cond(
            index == carry.block_index, lambda: carry.block, lambda: stream.block(index)
        )
        saved_step = save_steps[carry.row]
        # The next event: a saved step, or the end of the block
        step = jnp.minimum(saved_step, (index + 1) * size)
        state = jax.lax.fori_loop(
            carry.step,
            step,
            lambda t, state: advance(state, stream.batch(block, t % size), t),
            carry.state,
        )
        saves = step == saved_step
        rows = jax.lax.cond(
            saves, lambda: _with_row(carry.rows, carry.row, measure(state)), lambda: carry.rows
        )
        return Carry(step, carry.row + saves, state, block, index, rows)

    def goes_on(carry: Carry) -> Array:
        more = carry.row < times
        return more if stop is None else more & (carry.step < stop)

    return jax.lax.while_loop(goes_on, event, carry)


def _filled(shapes: Any, value: float, batch: tuple[int, ...] = ()) -> Any:
    """Arrays of these shapes, behind the axes of `batch`."""
    return jax.tree.map(lambda leaf: jnp.full((*batch, *leaf.shape), value, leaf.dtype), shapes)


def _with_row(rows: Any, index: Int[Array, ""], row: Any) -> Any:
    return jax.tree.map(lambda all_, one: all_.at[index].set(one), rows, row)
