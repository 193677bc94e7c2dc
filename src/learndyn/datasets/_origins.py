"""Problems and rules out of the datasets that were made with them."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from learndyn import inputs, problems, rules
from learndyn._readable import defaults_of
from learndyn.problems import Function, Problem, describe, plain_name
from learndyn.rules import AbstractRule
from learndyn.tasks import Task, _types
from learndyn.tasks._types import Lessons

if TYPE_CHECKING:
    import xarray

_SWEPT_NAMES = {"student_activation": "student", "teacher_activation": "teacher"}

_TRACED = "traced"
"""What `describe` writes for a number inside jit, vmap or grad."""


def problem_of(dataset: "xarray.Dataset", known: Iterable[Callable] = ()) -> Problem:
    """The problem of a dataset, read back from its attribute.

    Numbers that were swept are those of the run: choose one first, dataset.isel(noise=0), say.

    Args:
        dataset: of one run, or of several runs of one problem.
        known: functions and classes of your own, found by name. Those of modules that are imported
            already are found without it; lambdas and functions within functions are not.

    Raises:
        ValueError: where the dataset holds none, or runs of several problems, or where what is read
            back is not what was stored.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> ld.problem_of(ld.to_dataset(run))
        Problem(student=Erf(), teacher=Erf(), loss=Squared(), noise=0.1)
    """
    return _read(dataset, "problem", known)


def rule_of(dataset: "xarray.Dataset", known: Iterable[Callable] = ()) -> AbstractRule:
    """The learning rule of a dataset, read back from its attribute; otherwise as `problem_of`.

    Args:
        dataset: of one run, or of several runs by one rule.
        known: functions and classes of your own, found by name.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> ld.rule_of(ld.to_dataset(run))
        SGD(lr=0.5)
    """
    return _read(dataset, "rule", known)


def tasks_of(dataset: "xarray.Dataset", known: Iterable[Callable] = ()) -> tuple[Task, ...]:
    """The tasks of a dataset of `ld.learn`, read back from its attribute; otherwise as
    `problem_of`, which gives the problem of the first of them.

    Args:
        dataset: of one run, or of several runs of the same tasks.
        known: functions and classes of your own, found by name.

    Raises:
        ValueError: where the dataset holds none, or is of a version that did not store them.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.learn("ode", [ld.Task(ld.Problem(), [1.0])], ld.SGD(lr=0.5), start, [0.0, 1.0])
        >>> [task.head for task in ld.tasks_of(ld.to_dataset(run))]
        [0]
    """
    return lessons_of(dataset, known).tasks


def lessons_of(dataset: "xarray.Dataset", known: Iterable[Callable] = ()) -> Lessons:
    """Tasks, schedule and drift of a dataset of `ld.learn`."""
    if "eg_tasks" in dataset and "tasks" not in dataset.attrs:
        raise ValueError(
            "the dataset has runs of several tasks, but no attribute 'tasks': it was written when "
            "these were not stored. Make them yourself; the run goes on by ld.learn(level, tasks, "
            "ld.rule_of(dataset), ld.overlaps_at(dataset, alpha), ts, heads, schedule)."
        )
    return _read(dataset, "tasks", known)


def with_value(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """`tree` rebuilt with another value at path, so that constructors check it."""
    name, *rest = path
    if rest:
        value = with_value(getattr(tree, name), tuple(rest), value)
    fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    # A constructor may have another name for what a field holds.
    names = getattr(type(tree), "constructed_from", {})
    given = {names.get(field, field): x for field, x in (fields | {name: value}).items()}
    return type(tree)(**given)


def _read(dataset: "xarray.Dataset", kind: str, known: Iterable[Callable]) -> Any:
    if not hasattr(dataset, "attrs"):
        raise ValueError(
            f"{kind}_of takes a dataset; got {type(dataset).__name__}. A trajectory has "
            f"run.{kind}, a file is read by ld.load(path)."
        )
    if kind not in dataset.attrs:
        raise ValueError(
            f"the dataset has no attribute {kind!r}: give it to ld.to_dataset when you make one of "
            f"a dict of arrays. It has {sorted(dataset.attrs)}."
        )
    stored = json.loads(dataset.attrs[kind])
    named = {plain_name(thing): thing for thing in known}
    tree = _built(stored, named)
    if not _agree(describe(tree), stored):
        raise ValueError(
            f"the {kind} cannot be read back: stored is {stored}, but these names and numbers now "
            f"make {describe(tree)}. Were numbers traced, or has a class or function changed?"
        )
    several = isinstance(tree, dict)
    if several:
        tree = _chosen(dataset, tree)
    return _with_swept(dataset, tree, several, named)


def _chosen(dataset: "xarray.Dataset", rules_by_label: dict[str, Any]) -> Any:
    """The rule of this run, of several that a sweep went through."""
    if "rule" not in dataset.coords or dataset["rule"].ndim:
        raise ValueError(
            f"the dataset holds runs by the rules {list(rules_by_label)}; choose one first, for "
            f"example dataset.sel(rule={next(iter(rules_by_label))!r})."
        )
    return rules_by_label[dataset["rule"].item()]


def _agree(found: Any, stored: Any) -> bool:
    """Whether two descriptions are the same, to the rounding of JAX's default float type."""
    if isinstance(stored, dict):
        return found.keys() >= stored.keys() and all(_agree(found[x], stored[x]) for x in stored)
    if isinstance(stored, list):
        return len(found) == len(stored) and all(map(_agree, found, stored))
    if not _is_numeric(stored):
        return found == stored
    return bool(np.isclose(found, stored, rtol=jnp.finfo(float).eps, atol=0.0, equal_nan=True))


def _with_swept(dataset: "xarray.Dataset", tree: Any, several: bool, known: dict[str, Any]) -> Any:
    """`tree` with the values of this run in place of those that the sweep began with.

    several: whether the dimension `rule` is that of the rules, and none of a rule's own.
    """
    labelled = json.loads(dataset.attrs.get("swept_values", "{}"))
    for dim in str(dataset.attrs.get("swept", "")).split():
        path = tuple(_SWEPT_NAMES.get(dim, dim).split("."))
        unknown = not hasattr(tree, path[0]) or dim not in dataset.coords
        if unknown or (several and dim == "rule"):
            continue
        if dims := dataset[dim].dims:
            raise ValueError(
                f"the dataset holds runs along {dims[0]!r}; choose one first, for example "
                f"dataset.isel({{{dims[0]!r}: 0}})."
            )
        value = dataset[dim].item()
        if dim in labelled:
            value = _built(labelled[dim][str(value)], known)
        elif isinstance(value, str):
            raise ValueError(
                f"{dim!r} was swept over {value!r} and others, of which the dataset has the names "
                "alone: make this problem or rule yourself."
            )
        tree = with_value(tree, path, value)
    return tree


def _built(stored: Any, known: dict[str, Any]) -> Any:
    """The inverse of `describe`."""
    if isinstance(stored, list):
        items = [_built(item, known) for item in stored]
        return tuple(items) if any(isinstance(x, eqx.Module) for x in items) else items
    if stored == _TRACED:
        raise ValueError(
            "a number was being traced when the dataset was made, and is not in it: make the "
            "problem or rule yourself."
        )
    if not isinstance(stored, dict):
        return stored
    if "callable" in stored:
        return Function(_function(stored["callable"], known))
    if not isinstance(stored.get("type"), str):
        return {name: _built(item, known) for name, item in stored.items()}
    fields = {name: _built(item, known) for name, item in stored.items()}
    return _module(_found(stored.get("module", stored["type"]), known, fields), fields)


def _module(kind: type, fields: dict[str, Any]) -> Any:
    """A module of these fields, whatever its constructor takes. A field that a file does not have
    is younger than the file, and has the value that it had before: the constructor's default."""
    defaults = defaults_of(kind)
    module = object.__new__(kind)
    for field in dataclasses.fields(kind):
        value = fields[field.name] if field.name in fields else defaults[field.name]
        is_data = not field.metadata.get("static", False)
        if is_data and _is_numeric(value):
            value = jnp.asarray(value, float)
        elif not is_data and isinstance(value, list):
            value = tuple(value)
        object.__setattr__(module, field.name, value)
    return module


def _function(name: str, known: dict[str, Any]) -> Callable:
    """A user's function, or an object of that class.

    Raises: ValueError where the class alone is known, which says nothing of the object.
    """
    found = _found(name, known)
    if isinstance(found, type):
        raise ValueError(
            f"the dataset names an object of the class {name!r}, whose numbers it does not hold: "
            "give the object itself, known=[object], or make its class an equinox.Module."
        )
    return found


def _shared_fields(kind: type, fields: Iterable[str]) -> int:
    """How many of these are fields of the class; fewer by one that is not there."""
    own = {field.name for field in dataclasses.fields(kind)}
    return len(own & set(fields)) - len(own - set(fields))


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and np.asarray(value).dtype.kind in "if"
    return isinstance(value, int | float) and not isinstance(value, bool)


def _found(name: str, known: dict[str, Any], fields: Iterable[str] = ()) -> Any:
    """What has this name: given by the user, of this library, or in a module that is imported.

    fields: those of a class; a loss and a rule of one name, as Hebb's, differ in them.
    """
    module, _, last = name.rpartition(".")
    if last in known:
        return known[last]
    rooms = (problems, rules, inputs, _types) if not module else ()
    own = [getattr(room, name) for room in rooms if hasattr(room, name)]
    if own:
        return max(own, key=lambda kind: _shared_fields(kind, fields))
    # Nothing is imported because a file says so: the longest imported module, then attributes.
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        found = sys.modules.get(".".join(parts[:count]))
        for part in parts[count:] if found is not None else ():
            found = getattr(found, part, None)
        if callable(found):
            return found
    raise ValueError(
        f"nothing imported is called {name!r}, which the dataset names. Import its module first, "
        "or give the function or class itself: known=[function]."
    )
