"""Whether a compiled program would take other averages than a run alone does.

Averages are chosen from numbers: where an activation bends, whether two activations are the same,
how far fields reach. Where such a number is swept as data the choice is blind, so it is made here
for every value, and values that decide it get separate programs.
"""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from learndyn.averages import choose_averages, has_biases, reach_of, teacher_of
from learndyn.datasets import with_value
from learndyn.dynamics import level_of
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps, Weights
from learndyn.sweeps._axes import Axis, are_numbers, unzipped
from learndyn.sweeps._call import Call, StartFunction


def as_if_alone(call: Call, axes: list[Axis], key: Any) -> list[Axis]:
    """`axes`, those whose values decide about averages no longer as data."""
    level = level_of(call.level)
    if level is None or call.keywords.get("averages") is not None:
        return axes
    several = next((axis.values for axis in axes if axis.kind == "rules"), [call.rule])
    if not isinstance(call.problem, Problem) or not isinstance(several[0], AbstractRule):
        return axes
    for rule in several:
        axes = [_checked(call, level.exact, rule, axis, axes, key) for axis in axes]
    return axes


def _checked(
    call: Call, exact: bool, rule: AbstractRule, axis: Axis, axes: list[Axis], key: Any
) -> Axis:
    if axis.data and axis.parts:
        parts = [_checked(call, exact, rule, part, axes, key) for part in axis.parts]
        return axis._replace(data=all(part.data for part in parts))
    if not axis.data or axis.kind not in ("problem", "start"):
        return axis
    start = _abstract_start(call, axes, key)
    if not isinstance(start, Overlaps | Weights):
        return axis

    def chosen(problem: Problem, state: Any, start: Any) -> Any:
        """The kind of averages and the sizes of their arrays."""
        averages = choose_averages(
            problem,
            start.k,
            start.m,
            # A run on weights or the chain takes averages for eg alone, whatever the overlaps.
            rule=None if exact else rule,
            biases=has_biases(state, rule),
            reach=None if exact else reach_of(state),
            teacher=None if exact else teacher_of(state),
        )
        arrays, rest = eqx.partition(averages, eqx.is_array)
        return jax.tree.structure(rest), [x.shape for x in jax.tree.leaves(arrays)]

    def known(value: Any) -> Any:
        # Made here, outside of what is traced, so that its numbers are known.
        problem = with_value(call.problem, axis.path, value) if is_problem else call.problem
        return _seen(lambda s: chosen(problem, s if is_problem else value, s), start)

    def blind(value: Any, start: Any) -> Any:
        problem = with_value(call.problem, axis.path, value) if is_problem else call.problem
        return chosen(problem, start if is_problem else value, start)

    is_problem = axis.kind == "problem"
    try:
        traced = _seen(blind, *_as_arrays((axis.values[0], start)))
        return axis._replace(data=all(known(value) == traced for value in _telling(axis)))
    except Exception:  # what a value does wrong is told where it is run
        return axis


def _telling(axis: Axis) -> list[Any]:
    """The values to ask about: of noises all that counts is whether they are 0."""
    if axis.path != ("noise",) or not are_numbers(axis.values):
        return axis.values
    return list({value > 0: value for value in axis.values}.values())


def _seen(function: Any, *arguments: Any) -> Any:
    """What `function` returns of abstract arguments, which need not be arrays."""
    found = []
    eqx.filter_eval_shape(lambda *a: found.append(function(*a)), *arguments)
    return found[0]


def _as_arrays(tree: Any) -> Any:
    numbers = lambda x: np.asarray(x, float) if isinstance(x, int | float) else x
    return jax.tree.map(numbers, tree)


def _abstract_start(call: Call, axes: list[Axis], key: Any) -> Any:
    """The shapes of an initial state, which a function of a key may make."""
    values = unzipped({axis.dim: axis.values[0] for axis in axes})
    start = values.get("start", call.start)
    if not isinstance(start, StartFunction):
        return start
    numbers = {**values, **call.keywords}
    return eqx.filter_eval_shape(lambda k: start(k, numbers), key)
