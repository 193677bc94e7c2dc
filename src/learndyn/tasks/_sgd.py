"""SGD on weights that learns several tasks: at every step one of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learndyn._checks import as_key
from learndyn._numerics.forward_only import forward_only
from learndyn._numerics.random import normal
from learndyn.dynamics._record import ending
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.sgd._checks import are_valid_times, are_valid_values, require_valid
from learndyn.dynamics.sgd._loop import first_carry, run_steps
from learndyn.dynamics.sgd._step import (
    Gradient,
    LearningState,
    Parameters,
    initial_state,
    sgd_step,
    with_velocity,
)
from learndyn.dynamics.sgd._stream import (
    AbstractStream,
    draw_samples,
    fresh_steps,
    with_draws,
)
from learndyn.inputs import Gaussian
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Weights
from learndyn.tasks._drift import Wander, wander_of
from learndyn.tasks._rows import DRIFT, TASK, Asked, TaskRows, of_task, trajectory
from learndyn.tasks._types import alike, choose


class TaskStream(AbstractStream):
    """Samples that wait for the label of one of the tasks: x, and what it follows from, which is
    (rho, zeta), or (x, zeta) where the teachers drift."""

    weights: Weights
    key: PRNGKeyArray
    batch_size: int = eqx.field(static=True)
    drifts: bool = eqx.field(static=True)
    steps_per_block: int = eqx.field(static=True)

    def block(self, index: Int[Array, ""]) -> Any:
        count, key = self.steps_per_block * self.batch_size, jax.random.fold_in(self.key, index)
        x, rho, zeta = draw_samples(self.weights, Gaussian(), key, count, self.weights.w.dtype)
        shape = (self.steps_per_block, self.batch_size)
        split = lambda values: values.reshape(*shape, *values.shape[1:])
        return jax.tree.map(split, (x, None if self.drifts else rho, zeta))

    def batch(self, block: Any, position: Int[Array, ""]) -> Any:
        x, rho, zeta = jax.tree.map(lambda values: values[position], block)
        return x, (x if rho is None else rho, zeta)


class TaskState(NamedTuple):
    """What learns, with the heads as second layers. teacher: where it drifts, else None."""

    learning: LearningState
    teacher: Float[Array, "m n"] | None


def simulate(
    asked: Asked, weights: Weights | Any, key: Any, velocity: Gradient | None = None
) -> Trajectory:
    """SGD on weights with white Gaussian inputs. velocity: as for `simulate_sgd`."""
    key = as_key(key)
    for task in asked.tasks:
        own = of_task(task, weights, asked.heads)
        require_valid(task.problem, asked.rule, own, asked.ts, Gaussian())
    asked.require_slow_drift(weights.n)
    at_rest = initial_state(asked.rule, Parameters(weights.w, asked.heads, weights.b))
    return _simulate(asked, weights, key, with_velocity(at_rest, velocity))


@eqx.filter_jit
def _simulate(
    asked: Asked, weights: Weights, key: PRNGKeyArray, learning: LearningState
) -> Trajectory:
    n, ts, rule = weights.n, asked.ts, asked.rule
    owns = [of_task(task, weights, asked.heads) for task in asked.tasks]
    countable = are_valid_times(ts, n, rule.batch_size)
    sound = [
        are_valid_values(task.problem, rule, own, Gaussian())
        for task, own in zip(asked.tasks, owns, strict=True)
    ]
    steps = jnp.round(jnp.where(countable, ts, 0.0) * n).astype(int)
    wander = wander_of(asked, n)
    drifts = wander is not None
    fresh = fresh_steps(n, rule.batch_size)
    sizes = {"batch_size": rule.batch_size, "drifts": drifts, "steps_per_block": fresh}
    plain = TaskStream(weights=weights, key=key, **sizes)
    stream = with_draws(plain, rule, key, weights.k)
    start = TaskState(learning, weights.w_teacher if drifts else None)
    groups = alike([task.problem for task in asked.tasks])

    def advance(state: TaskState, batch: Any, step: Array) -> TaskState:
        teacher = weights.w_teacher if state.teacher is None else state.teacher
        ways = [_way(asked, group, weights, teacher, batch, step / n) for group in groups]
        learning = _taken(asked, groups, ways, state.learning, (key, step, n))
        if wander is None:
            return TaskState(learning, None)
        return TaskState(learning, _wandered(wander, teacher, key, step))

    def measure(state: TaskState) -> TaskRows:
        w, heads, b = state.learning.parameters
        teacher = weights.w_teacher if state.teacher is None else state.teacher
        t = None if state.teacher is None else teacher @ teacher.T / n
        return TaskRows(w @ w.T / n, w @ teacher.T / n, heads, b, t)

    carry = first_carry(measure, stream, start, steps)
    carry = forward_only(run_steps(advance, measure, stream, carry, steps), "learn")
    valid = jnp.all(jnp.stack([countable, *sound, asked.drift_holds(n)]))
    stopped, result = ending(carry.rows, valid)
    alpha = jnp.where(countable, steps / n, ts)
    found = (asked, carry.rows, stopped, result)
    done = trajectory(*found, level="sgd", alpha=alpha, n=jnp.asarray(n), key=key)
    # As all that a failed run leaves, its last state is NaN.
    end = jax.tree.map(lambda x: jnp.where(stopped[-1], jnp.nan, x), carry.state)
    teacher = weights.w_teacher if end.teacher is None else end.teacher
    w, heads, b = end.learning.parameters
    last = Weights(w, teacher, heads[0], weights.v_teacher, b, weights.b_teacher)
    return dataclasses.replace(done, weights=last, velocity=end.learning.velocity)


def _taken(
    asked: Asked,
    groups: tuple[tuple[int, ...], ...],
    ways: list[Any],
    learning: LearningState,
    at: tuple[PRNGKeyArray, Array, int],
) -> LearningState:
    """The state after the step of the task that is drawn.

    groups: of tasks that are alike; ways: the step of each group, given which task it is.
    """
    key, step, n = at
    shares = asked.schedule.at_step(step, n)
    uniform = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, TASK), step))
    group_of = [
        i for task in range(len(asked.tasks)) for i, own in enumerate(groups) if task in own
    ]

    def by(task: Array) -> LearningState:
        return jax.lax.switch(jnp.asarray(group_of)[task], ways, task, learning)

    if len(ways) == 1:
        return ways[0](choose(shares, uniform), learning)
    # A task that is learned alone does not depend on the key: under vmap over keys a real branch.
    alone = jnp.max(shares) == 1.0
    return jax.lax.cond(alone, lambda: by(jnp.argmax(shares)), lambda: by(choose(shares, uniform)))


def _way(
    asked: Asked,
    group: tuple[int, ...],
    weights: Weights,
    teacher: Float[Array, "m n"],
    batch: Any,
    alpha: Array,
) -> Any:
    """The step of one of the tasks of a group, whose problems differ in numbers alone: it moves the
    weights and its own head."""
    tasks = [asked.tasks[number] for number in group]
    data = [(task.problem, task.v_teacher, jnp.asarray(task.head)) for task in tasks]
    numbers, rest = zip(*(eqx.partition(one, eqx.is_array) for one in data), strict=True)

    def step(task: Array, learning: LearningState) -> LearningState:
        position = sum(jnp.where(task == number, i, 0) for i, number in enumerate(group))
        own = jax.tree.map(lambda *x: jnp.stack(x)[position], *numbers)
        problem, v_teacher, head = eqx.combine(own, rest[0])
        state = eqx.tree_at(lambda s: s.v_teacher, weights, v_teacher)
        labelled = _labelled(problem, state, teacher, batch, asked.drift is not None)
        seen = _with_head(learning, lambda heads: heads[head])
        moved = sgd_step(problem, asked.rule, seen, labelled, alpha, teacher)
        heads, pushes = _untrained(asked.rule, learning, alpha, weights.n)
        after = moved._replace(
            parameters=moved.parameters._replace(v=heads.at[head].set(moved.parameters.v))
        )
        if pushes is None or after.velocity is None:
            return after
        pushes = pushes.at[head].set(after.velocity.v)
        return after._replace(velocity=after.velocity._replace(v=pushes))

    return step


def _with_head(learning: LearningState, of: Callable[[Array], Array]) -> LearningState:
    """The state with `of` the heads, and their velocities, in place of all of them."""
    parameters, velocity = learning
    if velocity is not None and velocity.v is not None:
        velocity = velocity._replace(v=of(velocity.v))
    return LearningState(parameters._replace(v=of(parameters.v)), velocity)


def _untrained(
    rule: AbstractRule, learning: LearningState, alpha: Array, n: int
) -> tuple[Array, Array | None]:
    """Heads and their velocities after a step without a gradient."""
    heads, velocity = learning.parameters.v, learning.velocity
    if velocity is None or velocity.v is None:
        return heads, None
    rates, beta = rule.step_rates(alpha, n)
    assert rates.v is not None, "a head with a velocity is trained"
    assert beta is not None, "and its rule has momentum"
    pushes = beta * velocity.v
    return heads - rates.v * pushes, pushes


def _labelled(
    problem: Problem, weights: Weights, teacher: Float[Array, "m n"], batch: Any, drifts: bool
) -> tuple[Array, ...]:
    """The batch (x, y), or (x, y, draws), with labels by this problem and this teacher."""
    x, (seen, zeta), *drawn = batch
    rho = seen @ teacher.T / weights.n**0.5 if drifts else seen
    return x, jax.vmap(problem.label, (0, 0, None))(rho, zeta, weights.layers), *drawn


def _wandered(
    wander: Wander, teacher: Float[Array, "m n"], key: PRNGKeyArray, step: Array
) -> Float[Array, "m n"]:
    """w* <- a w* + sqrt(1 - a**2) xi, with fresh Gaussian xi of the teachers' first lengths."""
    xi = normal(
        jax.random.fold_in(jax.random.fold_in(key, DRIFT), step), teacher.shape, teacher.dtype
    )
    n = teacher.shape[1]
    return wander.keep[:, None] * teacher + wander.size[:, None] * n**0.5 * xi
