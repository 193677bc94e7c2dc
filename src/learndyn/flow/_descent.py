"""Gradient descent with finite steps, with momentum and decay of weights."""

import operator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from learndyn._checks import as_float, is_concrete, require_at_least, require_x64, shown
from learndyn._outcome import warn_if_failed
from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import RealLike, Times
from learndyn.flow._data import DataLike
from learndyn.flow._objective import Objective, objective_of, require_moving
from learndyn.flow._parameters import Rates
from learndyn.flow._run import Run, record


def gradient_descent(
    model: Any,
    data: DataLike,
    steps: RealLike,
    lr: Rates,
    momentum: RealLike = 0.0,
    decay: RealLike = 0.0,
) -> Run:
    """The model along full-batch steps u <- momentum u + dL/d theta, theta <- (1 - decay) theta
    - lr u, with u = 0 at the start.

    Args:
        model, data: as for `gradient_flow`, which is the limit of small lr at t = steps.
        steps: a number, after each of which the model is saved; or the increasing numbers of steps
            at which to save, 0 first. Saving more or less often changes no bit.
        lr: the step, in all the forms that `gradient_flow` takes.
        momentum: in [0, 1).
        decay: the fraction of every trained number that one step takes, in [0, 1); lr times the
            coefficient of a penalty |theta|**2/2.

    Returns:
        A `Run` with t = steps; with momentum `run.velocity` is u. Beyond the stability limit a run
        ends with `Result.DIVERGED` and NaN. Derivatives are forward ones only.

    Raises:
        ValueError: for bad values, shapes, steps or rates, or in float32.

    Example:
        >>> start = flow.LinearNeuron(a=0.5, w=[0.5, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_descent(start, data, steps=[0, 100], lr=0.1)
        >>> round(float(run.last.a), 4)
        1.0
    """
    momentum, decay = _fraction(momentum, "momentum"), _fraction(decay, "decay")
    objective = objective_of(model, data, lr, decay)
    counts = _checked_steps(steps)
    require_x64("gradient_descent", objective)
    require_moving(objective)
    return warn_if_failed(_descend(objective, counts, momentum))


class _State(NamedTuple):
    numbers: Any
    velocity: Any


@eqx.filter_jit
def _descend(objective: Objective, counts: Times, momentum: Array) -> Run:
    objective = objective.prepared()
    decay = jnp.zeros(()) if objective.decay is None else objective.decay

    def step(_: Array, state: _State) -> _State:
        gradient = objective.gradient(state.numbers)
        velocity = jax.tree.map(lambda u, g: momentum * u + g, state.velocity, gradient)
        move = lambda theta, u, lr: (1 - decay) * theta - lr * u
        return _State(jax.tree.map(move, state.numbers, velocity, objective.rates), velocity)

    def advance(state: _State, number: Array) -> tuple[_State, _State]:
        state = jax.lax.fori_loop(0, number, step, state)
        return state, state

    start = _State(objective.numbers, jax.tree.map(jnp.zeros_like, objective.numbers))
    between = jnp.diff(counts, prepend=0.0).astype(int)
    _, rows = jax.lax.scan(advance, start, between)
    valid = objective.is_valid() & _in_range(momentum) & _in_range(decay)
    # After a row that left every bound no later one counts, even if it should come back.
    good = jnp.cumprod(jax.vmap(_is_bounded)(rows.numbers)).astype(bool)
    rows = jax.tree.map(lambda x: _where_rows(valid & good, x), rows)
    code = jnp.where(good[-1], Result.SUCCESS.value, Result.DIVERGED.value)
    code = jnp.where(valid, code, Result.INVALID_INPUT.value)
    end = jnp.max(jnp.where(valid & good, counts, 0.0))
    stats = {"steps": counts[-1].astype(int)}
    last = jax.tree.map(lambda x: x[jnp.maximum(jnp.sum(good) - 1, 0)], rows.numbers)
    return record(objective, counts, rows.numbers, last, code, end, stats, "descent", rows.velocity)


def _is_bounded(numbers: Any) -> Bool[Array, ""]:
    bounded = [jnp.all(jnp.abs(leaf) < DIVERGENCE_LIMIT) for leaf in jax.tree.leaves(numbers)]
    return jnp.all(jnp.stack(bounded))


def _where_rows(keep: Array, x: Array) -> Array:
    return jnp.where(keep.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan)


def _in_range(fraction: Array) -> Bool[Array, ""]:
    return (fraction >= 0) & (fraction < 1)


def _fraction(value: RealLike, name: str) -> Array:
    value = as_float(value, name)
    require_at_least(value, 0.0, name, "a fraction, below 1")
    if is_concrete(value) and not np.all(np.asarray(value) < 1):
        raise ValueError(f"{name} must be below 1; got {shown(np.asarray(value))}.")
    return value


def _checked_steps(steps: RealLike) -> Times:
    """Numbers of steps at which to save, as floats."""
    if not is_concrete(steps):
        raise ValueError("steps must be known when the program is compiled; got a traced value.")
    if np.ndim(steps) == 0:
        try:
            last = operator.index(np.asarray(steps)[()])
        except TypeError:
            last = -1
        if last < 0:
            raise ValueError(
                f"steps must be a whole number >= 0, or the steps at which to save; got {steps!r}."
            )
        return jnp.arange(last + 1, dtype=float)
    counts = np.asarray(as_float(steps, "steps"))
    whole = counts.ndim == 1 and counts.size > 0 and np.array_equal(counts, np.round(counts))
    if not whole or counts[0] != 0 or (np.diff(counts) <= 0).any():
        raise ValueError(
            f"steps must be whole numbers, increasing, 0 first (the start); got {shown(counts)}."
        )
    return jnp.asarray(counts)
