"""The axes of a grid: which name means what, and which values a compiled program can share."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import numpy as np

from learndyn.datasets import SCHEMA
from learndyn.problems import Function
from learndyn.rules import AbstractRule

Kind = Literal["rule", "problem", "keyword", "start", "rules", "zip"]

POINT = "point"
"""The dimension along which values go together."""

RULE = "rule"
"""The dimension of several learning rules."""

_DIMENSIONS = {"student": "student_activation", "teacher": "teacher_activation"}
_TAKEN = {"alpha", "seed", "start", "student_", "teacher_", *SCHEMA}


class Axis(NamedTuple):
    """One swept name, or several whose values go together.

    data: its values may be traced, so that one program serves them all.
    parts: an axis for each of several names; the values are then dicts of one value of each.
    """

    dim: str
    kind: Kind
    path: tuple[str, ...]
    values: list[Any]
    labels: np.ndarray
    data: bool
    parts: tuple["Axis", ...] = ()

    @property
    def single(self) -> tuple["Axis", ...]:
        """One axis for each name."""
        return self.parts or (self,)


def find_axis(
    name: str, values: Any, problem: Any, rules: list[Any], keywords: set[str] | None
) -> Axis:
    """The axis of a name in `over`: looked up in all rules, then problem, then keywords.

    keywords: the names that level or start take; None: any name.

    Raises: ValueError where nothing has that name, or it stands for something else.
    """
    path = tuple(name.split("."))
    dim = _DIMENSIONS.get(name, name)
    listed = _listed(name, values)
    if dim in _TAKEN or (dim == POINT and isinstance(listed[0], Mapping)):
        raise ValueError(
            f"{name!r} cannot be swept under this name, which the dataset uses itself. Use seeds= "
            "for seeds, a list as start for initial states, or rename the keyword."
        )
    places: dict[Kind, list[Any]] = {"rule": rules, "problem": [problem]}
    for kind, trees in places.items():
        if all(has_path(tree, path) for tree in trees):
            static = any(_is_static_field(tree, path) for tree in trees)
            return Axis(dim, kind, path, listed, label(listed), _is_numeric(listed) and not static)
    if keywords is None or name in keywords:
        return Axis(dim, "keyword", path, listed, label(listed), _is_numeric(listed))
    shared = [x for x in _paths(rules[0]) if all(has_path(y, tuple(x.split("."))) for y in rules)]
    those = "The rule has" if len(rules) == 1 else "All rules have"
    advice = " Rules themselves are a list or dict in place of the rule." if name == RULE else ""
    raise ValueError(
        f"there is no {name!r} to sweep over. {those} {shared}, the problem {_paths(problem)}; "
        f"level and start take the keywords {sorted(keywords)}.{advice}"
    )


def zip_axis(parts: list[Axis]) -> Axis:
    """The axis of several names whose values go together: all first ones, all second ones, ...

    Raises: ValueError where they are not equally many.
    """
    sizes = {part.dim: len(part.values) for part in parts}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the values in zip go together, so all names must have equally many; got {sizes}. Put "
            "names that go with all values of the others into `over`."
        )
    columns = zip(*(part.values for part in parts), strict=True)
    rows = [dict(zip(sizes, values, strict=True)) for values in columns]
    # One program serves all points only where it serves all values of each name.
    data = all(part.data for part in parts)
    return Axis(POINT, "zip", (), rows, np.arange(len(rows)), data, tuple(parts))


def singles(axes: list[Axis]) -> list[Axis]:
    """An axis for each name."""
    return [one for axis in axes for one in axis.single]


def unzipped(values: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each name, those that go together no longer under one."""
    together = values.get(POINT)
    return {**values, **together} if isinstance(together, Mapping) else dict(values)


def start_axis(start: Any) -> Axis | None:
    """The axis `start` of a list or dict of initial states; None for a single one."""
    if isinstance(start, Mapping):
        labels, states = np.array([str(name) for name in start]), list(start.values())
    elif isinstance(start, list | tuple):
        labels, states = np.arange(len(start)), list(start)
    else:
        return None
    if not states:
        raise ValueError("start is empty: give at least one initial state.")
    shapes = [jax.tree.map(np.shape, eqx.filter(state, eqx.is_array)) for state in states]
    # Only states of the same shapes can be stacked into one vmapped program.
    same = all(eqx.tree_equal(shapes[0], other) is True for other in shapes[1:])
    callables = any(callable(state) for state in states)
    return Axis("start", "start", (), states, labels, same and not callables)


def rule_axis(rule: Any) -> Axis | None:
    """The axis `rule` of a list or dict of learning rules; None for anything else."""
    named = isinstance(rule, Mapping)
    values = list(rule.values()) if named else list(rule) if isinstance(rule, list | tuple) else []
    if not values or not all(isinstance(value, AbstractRule) for value in values):
        return None
    labels = [str(name) for name in rule] if named else rule_labels(values)
    return Axis(RULE, "rules", (), values, np.array(labels), data=False)


def rule_labels(rules: list[AbstractRule]) -> list[str]:
    """The rules' names, with their numbers where two have one name."""
    names = [rule.label for rule in rules]
    if len(set(names)) < len(names):
        names = [repr(rule) for rule in rules]
    return _apart(names)


def has_path(tree: Any, path: tuple[str, ...]) -> bool:
    """Whether path leads from field to field of Modules."""
    for name in path:
        if not isinstance(tree, eqx.Module) or name not in _fields(tree):
            return False
        tree = getattr(tree, name)
    return True


def label(values: list[Any]) -> np.ndarray:
    """A coordinate that a person can select by: the numbers, or the names of other things."""
    if are_numbers(values):
        return np.array(values)
    if all(np.ndim(value) == 0 for value in values) and _is_numeric(values):
        return np.array([np.asarray(value).item() for value in values])
    if _is_numeric(values):
        return np.arange(len(values))
    return np.array(_apart([_name(value) for value in values]))


def _apart(names: list[str]) -> list[str]:
    """Names of which no two are the same: numbered, where there are such."""
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({i})" for i, name in enumerate(names)]


def _listed(name: str, values: Any) -> list[Any]:
    try:
        listed = [] if isinstance(values, str) else list(values)
    except TypeError:
        listed = []
    if not listed:
        raise ValueError(
            f"over[{name!r}] must be a list or array of at least one value; got {values!r}."
        )
    # NumPy's scalars would count as arrays, hence as data, where a number may be static.
    return [value.item() if isinstance(value, np.generic) else value for value in listed]


def are_numbers(values: list[Any]) -> bool:
    """Whether all values are Python's own numbers, as nearly all axes hold."""
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)


def _is_numeric(values: list[Any]) -> bool:
    if are_numbers(values):
        return True

    def numeric(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number or (eqx.is_array(value) and np.issubdtype(np.result_type(value), np.number))

    return all(map(numeric, values)) and len({np.shape(value) for value in values}) == 1


def _is_static_field(tree: Any, path: tuple[str, ...]) -> bool:
    for name in path[:-1]:
        tree = getattr(tree, name)
    return bool(tree.__dataclass_fields__[path[-1]].metadata.get("static", False))


def _fields(tree: eqx.Module) -> list[str]:
    return [] if isinstance(tree, Function) else [f.name for f in dataclasses.fields(tree)]


def _paths(tree: Any) -> list[str]:
    if not isinstance(tree, eqx.Module):
        return []
    found = []
    for name in _fields(tree):
        found.append(name)
        found += [f"{name}.{inner}" for inner in _paths(getattr(tree, name))]
    return found


def _name(value: Any) -> str:
    if isinstance(value, Function):
        value = value.fn
    if isinstance(value, eqx.Module) and not jax.tree.leaves(value):
        return type(value).__name__
    return getattr(value, "__name__", None) or str(value)
