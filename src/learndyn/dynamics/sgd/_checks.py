"""Checks of the input of SGD on weights, in addition to those of every level."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike

from learndyn._types import Times
from learndyn.dynamics._prepare import (
    are_finite,
    numbers_hold,
    require_countable,
    require_finite_batch,
    require_run,
    run_numbers,
    sphere_holds,
    times_hold,
)
from learndyn.inputs import AbstractInputs, TrainingSet
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Weights


def are_valid_times(ts: Times, n: int | float, batch_size: int) -> Bool[Array, ""]:
    """Whether ts can be met, with n steps in a unit of time: only then may steps be counted."""
    return times_hold(ts) & (ts[-1] * n < _most_steps(batch_size))


def are_valid_values(
    problem: Problem, rule: AbstractRule, weights: Weights, inputs: AbstractInputs | TrainingSet
) -> Bool[Array, ""]:
    """Whether every float is finite and in its range: what the constructors cannot raise."""
    finite = are_finite(problem, rule, weights, inputs)
    numbers = run_numbers(problem, rule, float(weights.n))
    return finite & numbers_hold(numbers) & sphere_holds(rule, weights)


def require_valid(
    problem: Problem,
    rule: AbstractRule,
    weights: Weights,
    ts: Times,
    inputs: AbstractInputs | TrainingSet,
) -> None:
    """Raises: ValueError for concrete values that no run can have."""
    require_finite_batch(rule, "simulate_sgd")
    numbers = run_numbers(problem, rule, float(weights.n))
    require_run(problem, rule, weights, numbers, "simulate_sgd")
    inputs.require_weights(weights)
    if isinstance(inputs, TrainingSet) and not inputs.replace and rule.batch_size > inputs.p:
        raise ValueError(
            "batch_size must be at most p, the size of the training set, unless replace=True; "
            f"got batch_size={rule.batch_size}, p={inputs.p}."
        )
    hint = " jax_enable_x64 counts further."
    require_countable(ts, rule.steps_per_time(weights.n), _most_steps(rule.batch_size), hint)


def _most_steps(batch_size: int) -> float:
    """Steps are counted through alpha n, and samples in integers: exact up to here."""
    if jnp.result_type(float) == jnp.float64:
        return 2.0**52 / batch_size  # the mantissa of float64
    # The mantissa of float32, and the largest 32-bit integer
    return min(2.0**24, 2.0**31 / batch_size)


def checked_dtype(dtype: DTypeLike | None, weights: Weights) -> jnp.dtype:
    """The float type of the inputs, by default that of the weights."""
    if dtype is None:
        return weights.w.dtype
    allowed = (jnp.float32, jnp.result_type(float))  # float64 where JAX has it
    try:
        known = jnp.dtype(dtype) in allowed
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            f"input_dtype must be None, float32 or (with jax_enable_x64) float64; got {dtype!r}."
        )
    return jnp.dtype(dtype)
