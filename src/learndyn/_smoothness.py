"""Does a user's function jump? Measured by bisection, so that nobody has to declare it.

Averages over fixed nodes may be differentiated through the nodes only where the integrand
is continuous; where it jumps the result would be silently wrong.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from learndyn import _losses
from learndyn._activations import (
    Erf,
    Linear,
    Quadratic,
    ReLU,
    Sign,
    Tanh,
    elementwise_derivative,
)
from learndyn._checks import is_concrete
from learndyn._problem import MultiIndex, Problem

_RANGE = 8.0  # standard deviations scanned; beyond, a N(0, 1) field never goes
_POINTS = 1025
_HALVINGS = 46
_RELATIVE_JUMP = 1e-6

_SMOOTH = (Erf, Linear, Quadratic, Tanh)


def gradient_jumps(problem: Problem, m: int) -> bool:
    """Whether the gradient c of one sample is a discontinuous function of its fields.

    True also where it cannot be known (a user's function with traced parameters): the
    form of the derivatives chosen then is right for every integrand.
    """
    if problem.is_classification:
        return True  # labels are signs
    return (
        _activation_jumps(problem.student, of_derivative=True)
        or loss_slope_jumps(problem.loss)
        or _teacher_jumps(problem.teacher, m)
    )


def is_smooth(problem: Problem, m: int) -> bool:
    """Whether neither the gradient of a sample nor its first derivatives jump: no kinks."""
    if gradient_jumps(problem, m) or isinstance(problem.teacher, ReLU | MultiIndex):
        return False
    return not (
        _kinks(problem.teacher)
        or _kinks(lambda x: elementwise_derivative(problem.student, x), problem.student)
    )


def _kinks(g: Callable, of: Callable | None = None) -> bool:
    if isinstance(g if of is None else of, _SMOOTH):
        return False
    return _jumps(lambda x: elementwise_derivative(g, x), leaves=g if of is None else of)


def _activation_jumps(g: Callable, *, of_derivative: bool) -> bool:
    if isinstance(g, _SMOOTH):
        return False
    if isinstance(g, ReLU):
        return of_derivative
    if isinstance(g, Sign):
        return True
    if of_derivative:
        return _jumps(g, g) or _jumps(lambda x: elementwise_derivative(g, x), g)
    return _jumps(g, g)


def _teacher_jumps(teacher: Callable, m: int) -> bool:
    if not isinstance(teacher, MultiIndex):
        return _activation_jumps(teacher, of_derivative=False)
    rng = np.random.default_rng(0)
    lines = [(rng.normal(size=m + 1), rng.normal(size=m + 1)) for _ in range(8)]

    def along(origin: np.ndarray, direction: np.ndarray) -> Callable:
        def on_line(t: jax.Array) -> jax.Array:
            point = origin + t[:, None] * direction / np.linalg.norm(direction)
            return jax.vmap(lambda x: teacher(x[:-1], x[-1]))(point)

        return on_line

    return any(_jumps(along(*line), leaves=teacher) for line in lines)


def loss_slope_jumps(loss: Callable) -> bool:
    """Whether the loss has a kink, so that the gradient jumps where phi crosses some value."""
    if isinstance(loss, _losses.Squared | _losses.Logistic):
        return False
    if isinstance(loss, _losses.Hinge | _losses.Perceptron):
        return True

    def slope_at(y: float) -> Callable:
        return jax.vmap(lambda phi: _losses.slope(loss, phi, jnp.asarray(y, phi.dtype)))

    return any(_jumps(slope_at(y), leaves=loss) for y in (-1.3, -0.4, 0.7, 1.9))


def _jumps(fn: Callable, leaves: object) -> bool:
    """Whether the elementwise `fn` has a jump in [-8, 8], by following steps down to rounding."""
    if not is_concrete(leaves):
        return True
    # A grid off the integers, so that no kink a person would write sits on a node unseen.
    low = np.linspace(-_RANGE, _RANGE, _POINTS) + 1e-3 * np.sqrt(2)
    high = np.append(low[1:], low[-1] + low[1] - low[0])

    def values(x: np.ndarray) -> np.ndarray:
        with jax.ensure_compile_time_eval():
            return np.asarray(jax.jit(fn)(jnp.asarray(x)))

    f_low, f_high = values(low), values(high)
    scale = np.nanmax(np.abs(f_low)) + 1e-300
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        f_middle = values(middle)
        left = np.abs(f_middle - f_low) > np.abs(f_high - f_middle)
        low, f_low = np.where(left, low, middle), np.where(left, f_low, f_middle)
        high, f_high = np.where(left, middle, high), np.where(left, f_middle, f_high)
    return bool((np.abs(f_high - f_low) > _RELATIVE_JUMP * scale).any())
