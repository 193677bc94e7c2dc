"""How smooth a sample's gradient is, as a function of its fields."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.problems import _losses
from learndyn.problems._functions import declared
from learndyn.problems._problem import Layers, MultiIndex, Problem
from learndyn.problems._regularity import (
    evaluate,
    jump_places,
    jumps_on_lines,
    regularity,
    remembered,
    slope_of,
)

_RESOLVED = 1e-4
"""Relative error of a lattice, in one direction, below which it is nearly exact."""

_AT_ZERO = 1e-12
"""Largest distance from 0 at which a sign that is found by bisection counts as changing at 0."""

_LABELS = (-1.3, -0.4, 0.7, 1.9)
"""Labels at which a loss is scanned for kinks in phi; any that differ will do."""


def gradient_jumps(problem: Problem, m: int) -> bool:
    """Whether the gradient c of one sample is a discontinuous function of its fields.

    True also where it cannot be known (a user's function with traced parameters): the
    form of the derivatives chosen then is right for every integrand.
    """
    return label_jumps(problem, m) or gradient_jumps_given_label(problem)


def gradient_jumps_given_label(problem: Problem) -> bool:
    """Whether c is a discontinuous function of the student's fields, the label being given, or
    of the label."""
    return not regularity(problem.student).has_continuous_slope or remembered(
        _loss_jumps, problem.loss
    )


def is_smooth(problem: Problem, m: int) -> bool:
    """Whether neither the gradient of a sample nor its first derivatives jump: no kinks."""
    return not (
        label_jumps(problem, m)
        or not is_smooth_given_label(problem)
        or remembered(_label_kinks, problem.teacher, m)
    )


def is_smooth_given_label(problem: Problem) -> bool:
    """Whether neither c nor its first derivatives jump in the student's fields or the label."""
    return not (
        gradient_jumps_given_label(problem)
        or regularity(problem.student).bends
        or remembered(_loss_slope_kinks, problem.loss)
    )


def label_jumps(problem: Problem, m: int) -> bool:
    """Whether the label is a discontinuous function of the teacher's fields and the noise."""
    if problem.is_classification:
        return True  # labels are signs
    if problem.overrides("label", "teacher_output"):
        return _own_label_jumps(problem, m)
    if isinstance(problem.teacher, MultiIndex):
        return remembered(_multi_index_jumps, problem.teacher, m)
    return not regularity(problem.teacher).is_continuous


def loss_slope_jumps(loss: Callable) -> bool:
    """Whether the loss has a kink, so that the gradient jumps where phi crosses some value."""
    known = declared(loss, "regularity")
    if known is not None:
        return not known.has_continuous_slope

    def slope_at(y: float) -> Callable:
        return jnp.vectorize(lambda phi: _losses.slope(loss, phi, jnp.asarray(y, phi.dtype)))

    return any(jump_places(slope_at(y), leaves=loss) for y in _LABELS)


def changes_sign_at_zero(g: Callable) -> bool:
    """Whether the label sign g(x) is sign x, for a teacher whose numbers are known."""
    return remembered(_changes_sign_at_zero, g)


def is_resolved(
    problem: Problem,
    few: tuple[np.ndarray, np.ndarray],
    many: tuple[np.ndarray, np.ndarray],
    m: int = 1,
    scale: float = 2.0,
    tolerance: float = _RESOLVED,
) -> bool:
    """Whether few nodes (x, weight) for N(0, 1) see the steepest part of a smooth problem: <g**4>
    and <g'**4> of every function in it, against many nodes, at fields of standard deviation
    `scale`, to a relative `tolerance`. m: the number of a MultiIndex's fields.
    """
    with jax.ensure_compile_time_eval():  # numbers, also while something else is traced
        return _is_resolved(problem, few, many, m, scale, tolerance)


def _is_resolved(
    problem: Problem,
    few: tuple[np.ndarray, np.ndarray],
    many: tuple[np.ndarray, np.ndarray],
    m: int,
    scale: float,
    tolerance: float,
) -> bool:
    functions = [g for g in (problem.student, problem.teacher) if not isinstance(g, MultiIndex)]
    if isinstance(problem.teacher, MultiIndex):
        direction = jnp.cos(jnp.arange(m) + 1.0)
        functions.append(jax.vmap(lambda x: problem.teacher(x * direction, 0.0 * x)))
    if not _losses.is_squared(problem.loss):
        functions.append(jax.vmap(lambda phi: _losses.slope(problem.loss, phi, 0.0 * phi)))

    def average(g: Callable, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        value = evaluate(lambda x: jnp.stack([g(x), slope_of(g)(x)]), scale * x)
        return value**4 @ weight

    rough, fine = (np.array([average(g, *nodes) for g in functions]) for nodes in (few, many))
    return bool((np.abs(rough - fine) <= tolerance * np.abs(fine)).all())


def _changes_sign_at_zero(g: Callable) -> bool:
    if not is_concrete(g):
        return False
    places = jump_places(lambda x: _losses.label_sign(g(x)), g)
    if len(places) != 1 or abs(places[0]) > _AT_ZERO:
        return False
    low, high = evaluate(g, np.array([-1.0, 1.0]))
    return bool(low < 0 < high)


def _own_label_jumps(problem: Problem, m: int) -> bool:
    """A subclass's own label, with second layer 1 and no biases."""
    with jax.ensure_compile_time_eval():
        layers = Layers(jnp.ones(1), jnp.ones(m), None, None)
    return jumps_on_lines(lambda x: problem.label(x[:-1], x[-1], layers), m + 1, problem)


def _multi_index_jumps(teacher: MultiIndex, m: int) -> bool:
    return jumps_on_lines(lambda x: teacher(x[:-1], x[-1]), m + 1, teacher)


def _label_kinks(teacher: Callable, m: int) -> bool:
    if not isinstance(teacher, MultiIndex):
        return not regularity(teacher).has_continuous_slope
    direction = jnp.cos(jnp.arange(m) + 1.0)  # generic: it crosses every kink

    def steepness(x: jax.Array) -> jax.Array:
        return jax.jvp(lambda rho: teacher(rho, x[-1]), (x[:-1],), (direction,))[1]

    return jumps_on_lines(steepness, m + 1, teacher)


def _loss_jumps(loss: Callable) -> bool:
    """Whether the slope jumps in phi, or in y."""
    if isinstance(loss, _losses.AbstractLoss):
        return loss_slope_jumps(loss)
    return jumps_on_lines(lambda x: _losses.slope(loss, x[0], x[1]), 2, loss)


def _loss_slope_kinks(loss: Callable) -> bool:
    known = declared(loss, "regularity")
    if known is not None:
        return not known.is_smooth

    def curvature(x: jax.Array) -> Any:
        direction = jnp.array([1.0, 0.7])
        return jax.jvp(lambda x: _losses.slope(loss, x[0], x[1]), (x,), (direction,))[1]

    return jumps_on_lines(curvature, 2, loss)
