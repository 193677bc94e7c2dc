"""Does a user's function jump, or have kinks? Measured by bisection, so that nobody has to say.

Averages over fixed nodes may be differentiated through the nodes only where the integrand
is continuous; where it jumps the result would be silently wrong.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.problems import _losses
from learndyn.problems._activations import (
    Erf,
    Linear,
    Quadratic,
    ReLU,
    Sign,
    Tanh,
    elementwise_derivative,
)
from learndyn.problems._problem import MultiIndex, Problem

_RANGE = 8.0  # standard deviations scanned; beyond, a N(0, 1) field never goes
_POINTS = 1025
_HALVINGS = 46
_RELATIVE_JUMP = 1e-6
_LINES = 8

_RESOLVED = 1e-4
"""Relative error of nodes below which they are better than quasi-Monte Carlo."""

_SMOOTH = (Erf, Linear, Quadratic, Tanh)


def gradient_jumps(problem: Problem, m: int) -> bool:
    """Whether the gradient c of one sample is a discontinuous function of its fields.

    True also where it cannot be known (a user's function with traced parameters): the
    form of the derivatives chosen then is right for every integrand.
    """
    if problem.is_classification:
        return True  # labels are signs
    return (
        _once(_student_slope_jumps, problem.student)
        or _once(_loss_jumps, problem.loss)
        or _once(_teacher_jumps, problem.teacher, m)
    )


def is_smooth(problem: Problem, m: int) -> bool:
    """Whether neither the gradient of a sample nor its first derivatives jump: no kinks."""
    return not (
        gradient_jumps(problem, m)
        or _once(_student_slope_kinks, problem.student)
        or _once(_loss_slope_kinks, problem.loss)
        or _once(_teacher_kinks, problem.teacher, m)
    )


def loss_slope_jumps(loss: Callable) -> bool:
    """Whether the loss has a kink, so that the gradient jumps where phi crosses some value."""
    if isinstance(loss, _losses.Squared | _losses.Logistic):
        return False
    if isinstance(loss, _losses.Hinge | _losses.Perceptron):
        return True

    def slope_at(y: float) -> Callable:
        return jnp.vectorize(lambda phi: _losses.slope(loss, phi, jnp.asarray(y, phi.dtype)))

    return any(_jumps(slope_at(y), leaves=loss) for y in (-1.3, -0.4, 0.7, 1.9))


def is_resolved(
    problem: Problem, few: tuple[np.ndarray, np.ndarray], many: tuple[np.ndarray, np.ndarray]
) -> bool:
    """Whether few nodes (x, weight) for N(0, 1) see the steepest part of a smooth problem: <g**4>
    and <g'**4> of every function in it, against many nodes, at fields of standard deviation 2.
    """
    functions = [g for g in (problem.student, problem.teacher) if not isinstance(g, MultiIndex)]
    if not isinstance(problem.loss, _losses.Squared):
        functions.append(jax.vmap(lambda phi: _losses.slope(problem.loss, phi, 0.0 * phi)))

    def average(g: Callable, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        value = _evaluate(lambda x: jnp.stack([g(x), elementwise_derivative(g, x)]), 2.0 * x)
        return value**4 @ weight

    rough, fine = (np.array([average(g, *nodes) for g in functions]) for nodes in (few, many))
    return bool((np.abs(rough - fine) <= _RESOLVED * np.abs(fine)).all())


_remember = functools.lru_cache(maxsize=256)(lambda measure, *args: measure(*args))


def _once(measure: Callable[..., bool], *args: Any) -> bool:
    """measure(*args), remembered where the arguments can be hashed: plain functions can."""
    try:
        return _remember(measure, *args)
    except TypeError:
        return measure(*args)


def _student_slope_jumps(g: Callable) -> bool:
    if isinstance(g, _SMOOTH):
        return False
    if isinstance(g, ReLU):
        return True
    return _jumps(g, g) or _jumps(_slope_of(g), g)


def _student_slope_kinks(g: Callable) -> bool:
    return not isinstance(g, _SMOOTH) and _jumps(_slope_of(_slope_of(g)), g)


def _teacher_jumps(teacher: Callable, m: int) -> bool:
    if isinstance(teacher, MultiIndex):
        return _jumps_on_lines(lambda x: teacher(x[:-1], x[-1]), m + 1, teacher)
    if isinstance(teacher, (*_SMOOTH, ReLU)):
        return False
    return isinstance(teacher, Sign) or _jumps(teacher, teacher)


def _teacher_kinks(teacher: Callable, m: int) -> bool:
    if isinstance(teacher, MultiIndex):
        direction = jnp.cos(jnp.arange(m) + 1.0)  # generic: it crosses every kink

        def steepness(x: jax.Array) -> jax.Array:
            return jax.jvp(lambda rho: teacher(rho, x[-1]), (x[:-1],), (direction,))[1]

        return _jumps_on_lines(steepness, m + 1, teacher)
    return not isinstance(teacher, _SMOOTH) and _jumps(_slope_of(teacher), teacher)


def _loss_jumps(loss: Callable) -> bool:
    """Whether the slope jumps in phi, or in y."""
    if isinstance(loss, _losses.AbstractLoss):
        return loss_slope_jumps(loss)
    return _jumps_on_lines(lambda x: _losses.slope(loss, x[0], x[1]), 2, loss)


def _loss_slope_kinks(loss: Callable) -> bool:
    if isinstance(loss, _losses.Squared | _losses.Logistic):
        return False

    def curvature(x: jax.Array) -> jax.Array:
        direction = jnp.array([1.0, 0.7])
        return jax.jvp(lambda x: _losses.slope(loss, x[0], x[1]), (x,), (direction,))[1]

    return _jumps_on_lines(curvature, 2, loss)


def _slope_of(g: Callable) -> Callable:
    return lambda x: elementwise_derivative(g, x)


def _jumps_on_lines(fn: Callable, dims: int, leaves: Any) -> bool:
    """Whether fn: R^dims -> R jumps somewhere on a few random lines."""
    rng = np.random.default_rng(0)
    origins, directions = rng.normal(size=(2, _LINES, dims))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def on_lines(t: jax.Array) -> jax.Array:
        return jax.vmap(jax.vmap(fn))(origins + t[..., None] * directions)

    return _jumps(on_lines, leaves, lines=_LINES)


def _jumps(fn: Callable, leaves: Any, lines: int = 1) -> bool:
    """Whether the elementwise `fn` of (points, lines) jumps in [-8, 8], by following the larger
    step of every interval down to rounding. leaves: what must be known for that.
    """
    if not is_concrete(leaves):
        return True
    fn = jax.jit(lambda x, fn=fn: fn(x))  # a Module with parameters cannot be hashed
    # A grid off the integers, so that no kink a person would write sits on a node unseen.
    grid = np.linspace(-_RANGE, _RANGE, _POINTS) + 1e-3 * np.sqrt(2)
    low, high = (np.repeat(side[:, None], lines, axis=1) for side in (grid[:-1], grid[1:]))
    f_low, f_high = _evaluate(fn, low), _evaluate(fn, high)
    size = np.maximum(np.abs(f_low), np.abs(f_high))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        f_middle = _evaluate(fn, middle)
        left = np.abs(f_middle - f_low) > np.abs(f_high - f_middle)
        low, f_low = np.where(left, low, middle), np.where(left, f_low, f_middle)
        high, f_high = np.where(left, middle, high), np.where(left, f_middle, f_high)
    rounding = 1e-12 * np.nanmax(size)
    return bool((np.abs(f_high - f_low) > _RELATIVE_JUMP * size + rounding).any())


def _evaluate(fn: Callable, x: np.ndarray) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(fn(jnp.asarray(x)))
