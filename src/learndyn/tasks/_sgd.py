"""SGD on weights that learns several tasks: at every step one of them."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learndyn._checks import as_key
from learndyn._numerics.forward_only import forward_only
from learndyn._outcome import warn_if_failed
from learndyn.dynamics._record import ending
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.sgd._checks import are_valid_times, are_valid_values, require_valid
from learndyn.dynamics.sgd._loop import first_carry, run_steps
from learndyn.dynamics.sgd._step import LearningState, Parameters, sgd_step
from learndyn.dynamics.sgd._stream import AbstractStream, make_stream, with_draws
from learndyn.inputs import Gaussian
from learndyn.states import Weights
from learndyn.tasks._rows import Asked, TaskRows, of_task, trajectory
from learndyn.tasks._types import choose

_TASK = 11
"""Folded into the key for the choice of tasks: none of the numbers of a run's other draws."""


class TaskStream(AbstractStream):
    """The batch of each task at a step: the same inputs, with the labels of each."""

    streams: tuple[AbstractStream, ...]
    steps_per_block: int = eqx.field(static=True)

    def block(self, index: Int[Array, ""]) -> Any:
        return tuple(stream.block(index) for stream in self.streams)

    def batch(self, block: Any, position: Int[Array, ""]) -> Any:
        pairs = zip(self.streams, block, strict=True)
        return tuple(stream.batch(own, position) for stream, own in pairs)


def simulate(asked: Asked, weights: Weights | Any, key: Any) -> Trajectory:
    """SGD on weights with white Gaussian inputs."""
    key = as_key(key)
    for task in asked.tasks:
        own = of_task(task, weights, asked.heads)
        require_valid(task.problem, asked.rule, own, asked.ts, Gaussian())
    return warn_if_failed(_simulate(asked, weights, key))


@eqx.filter_jit
def _simulate(asked: Asked, weights: Weights, key: PRNGKeyArray) -> Trajectory:
    n, ts, rule = weights.n, asked.ts, asked.rule
    owns = [of_task(task, weights, asked.heads) for task in asked.tasks]
    countable = are_valid_times(ts, n, rule.batch_size)
    sound = [
        are_valid_values(task.problem, rule, own, Gaussian())
        for task, own in zip(asked.tasks, owns, strict=True)
    ]
    steps = jnp.round(jnp.where(countable, ts, 0.0) * n).astype(int)
    stream = _stream(asked, owns, key)
    start = LearningState(Parameters(weights.w, asked.heads, weights.b), None)

    def advance(state: LearningState, batches: Any, step: Array) -> LearningState:
        uniform = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, _TASK), step))
        chosen = choose(asked.schedule.at_step(step, n), uniform)
        ways = [_way(asked, number, weights.w_teacher, step / n) for number in range(len(owns))]
        return jax.lax.switch(chosen, ways, state, batches)

    def measure(state: LearningState) -> TaskRows:
        w, heads, b = state.parameters
        return TaskRows(w @ w.T / n, w @ weights.w_teacher.T / n, heads, b)

    carry = first_carry(measure, stream, start, steps)
    carry = forward_only(run_steps(advance, measure, stream, carry, steps), "learn")
    valid = countable & jnp.all(jnp.stack(sound))
    stopped, result = ending(carry.rows, valid)
    alpha = jnp.where(countable, steps / n, ts)
    found = (asked, carry.rows, stopped, result)
    done = trajectory(*found, level="sgd", alpha=alpha, n=jnp.asarray(n), key=key)
    # As all that a failed run leaves, its last state is NaN.
    end = jax.tree.map(lambda x: jnp.where(stopped[-1], jnp.nan, x), carry.state.parameters)
    moved = (end.w, weights.w_teacher, end.v[0], weights.v_teacher)
    return dataclasses.replace(done, weights=Weights(*moved, end.b, weights.b_teacher))


def _way(asked: Asked, number: int, teacher: Float[Array, "m n"], alpha: Array) -> Any:
    """The step of one task, which moves the weights and its own head."""
    task = asked.tasks[number]

    def step(state: LearningState, batches: Any) -> LearningState:
        w, heads, b = state.parameters
        own = LearningState(Parameters(w, heads[task.head], b), None)
        w, v, b = sgd_step(
            task.problem, asked.rule, own, batches[number], alpha, teacher
        ).parameters
        return LearningState(Parameters(w, heads.at[task.head].set(v), b), None)

    return step


def _stream(asked: Asked, owns: list[Weights], key: PRNGKeyArray) -> TaskStream:
    streams = []
    for task, own in zip(asked.tasks, owns, strict=True):
        # One key for all: each task labels the same inputs, of which one label is used.
        plain = make_stream(task.problem, own, Gaussian(), key, asked.rule.batch_size, own.w.dtype)
        streams.append(with_draws(plain, asked.rule, key, own.k))
    return TaskStream(streams=tuple(streams), steps_per_block=streams[0].steps_per_block)
