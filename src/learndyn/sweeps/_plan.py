"""The independent work items that a grid makes, those of similar cost together."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import as_key, brief, checked_times
from learndyn._types import KeyLike, RealLike
from learndyn.datasets import with_value
from learndyn.dynamics import level_of
from learndyn.states import require_arguments
from learndyn.sweeps._averages import as_if_alone
from learndyn.sweeps._axes import (
    POINT,
    RULE,
    Axis,
    find_axis,
    rule_axis,
    singles,
    start_axis,
    zip_axis,
)
from learndyn.sweeps._call import (
    Call,
    StartFunction,
    Target,
    level_keywords,
    requires_key,
    start_function,
    takes_key,
)
from learndyn.sweeps._items import Item, costs_of, grid_shape, make_items, program_size, values_at


class Plan(NamedTuple):
    """A sweep before it runs: everything that an item needs, and how to put results together."""

    call: Call
    axes: list[Axis]
    seeds: int | None
    key: Any
    keys: Any
    chunk: int
    items: list[Item]
    costs: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the grid: the axes in order, then the seeds."""
        return grid_shape(self.axes, self.seeds)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the grid's dimensions."""
        return (*(axis.dim for axis in self.axes), *(() if self.seeds is None else ("seed",)))

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions, and the names whose values go together along one of them."""
        return (*self.dims, *(part.dim for axis in self.axes for part in axis.parts))

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    @property
    def rules(self) -> Any:
        """The rule, or several by their labels."""
        found = next((axis for axis in self.axes if axis.kind == "rules"), None)
        if found is None:
            return self.call.rule
        return dict(zip(found.labels.tolist(), found.values, strict=True))

    def values(self, cell: int) -> dict[str, Any]:
        """The value of every axis at a cell."""
        return values_at(self.axes, self.seeds, cell)

    def key_of(self, cell: int) -> Any:
        """The key of a cell: that of its seed."""
        return self.keys if self.seeds is None else self.keys[cell % self.seeds]


def make_plan(
    level: Any,
    problem: Any,
    rule: Any,
    start: Any,
    ts: RealLike,
    *,
    over: Any,
    seeds: int | None,
    key: KeyLike | None,
    chunk: int | None,
    cost: Callable[[dict[str, Any]], float] | None,
    keywords: Mapping[str, Any],
    zipped: Any = None,
) -> Plan:
    """Look up the names, check what can be checked without running, and form items."""
    over, key = _checked_over(over), None if key is None else as_key(key)
    zipped = _checked_zip(zipped, over)
    if not callable(level):
        raise ValueError(
            f"sweep: level must be a function such as ld.solve_ode; got {brief(level)}. The "
            "arguments are, in this order: sweep(level, problem, rule, start, ts, ...)."
        )
    given = {*over, *zipped, *keywords}
    states = start_axis(_wrapped(start, given))
    start = _wrapped(start, given) if states is None else None
    starts = [start] if states is None else states.values
    several = rule_axis(rule)
    rules, rule = ([rule], rule) if several is None else (several.values, None)
    _require_arguments(level, problem, rules, starts, ts)
    start_names = {name for s in starts if isinstance(s, StartFunction) for name in s.names}
    known = _known_keywords(level, start_names, keywords)
    found = {
        name: find_axis(name, values, problem, rules, known)
        for name, values in {**over, **zipped}.items()
    }
    if several is not None and RULE in found:
        raise ValueError(
            f"{RULE!r} is the dimension of the rules that are given, so it cannot stand in over or "
            "zip as well: make a rule for each value."
        )
    axes = [found[name] for name in over]
    axes += [zip_axis([found[name] for name in zipped])] if zipped else []
    axes += [] if several is None else [several]
    axes += [] if states is None else [states]
    keys = _keys(level, starts, seeds, key)
    call = Call(
        level,
        problem,
        rule,
        start,
        checked_times(ts),
        {name: keywords[name] for name in keywords},
        tuple(Target(one.dim, one.kind, one.path) for one in singles(axes)),
        frozenset(start_names),
        takes_key(level) and key is not None,
    )
    for each in rules:
        _check_values(axes, problem, each)
    one_key = keys if seeds is None else keys[0]
    axes = as_if_alone(call, _traceable(call, axes, one_key), one_key)
    size = program_size(chunk, axes, seeds)
    costs = costs_of(axes, seeds, cost)
    items = make_items(axes, seeds, size, costs)
    return Plan(call, axes, seeds, key, keys, size, items, costs)


def _checked_over(over: Any) -> Mapping[str, Any]:
    if not isinstance(over, Mapping):
        raise ValueError(
            "over must be a dict of names and lists of values, such as {'lr': [0.1, 0.2]}; got "
            f"{brief(over)}."
        )
    return over


def _checked_zip(zipped: Any, over: Mapping[str, Any]) -> Mapping[str, Any]:
    if zipped is None:
        return {}
    if not isinstance(zipped, Mapping):
        raise ValueError(
            "zip must be a dict of names and equally long lists of values, such as "
            f"{{'lr': [0.1, 0.2], 'noise': [0.0, 0.5]}}; got {brief(zipped)}."
        )
    both = sorted((set(zipped) | ({POINT} if zipped else set())) & set(over))
    if both:
        raise ValueError(
            f"{both} stand both in over and in zip, whose dimension is {POINT!r}: leave each name "
            "in one of them."
        )
    return zipped


def _require_arguments(
    level: Callable[..., Any], problem: Any, rules: list[Any], starts: list[Any], ts: RealLike
) -> None:
    """What a level of description would refuse in each run; another function may take anything."""
    known = level_of(level)
    if known is None:
        return
    for start, rule in itertools.product(starts, rules):
        if not isinstance(start, StartFunction):
            state = {"weights" if known.weights else "start": start}
            given = {"problem": problem, "rule": rule, **state, "ts": ts}
            require_arguments(known.function.__name__, **given)


def _wrapped(start: Any, named: set[str]) -> Any:
    if isinstance(start, Mapping):
        return {name: _wrapped(state, named) for name, state in start.items()}
    if isinstance(start, list | tuple):
        return [_wrapped(state, named) for state in start]
    return start_function(start, named) if callable(start) else start


def _known_keywords(
    level: Callable[..., Any], start_names: set[str], keywords: Mapping[str, Any]
) -> set[str] | None:
    """Names that level and start take; None: any. Unknown keywords raise here, not per run."""
    of_level = level_keywords(level)
    if of_level is None:
        return None
    known = {*of_level, *start_names}
    unknown = sorted(set(keywords) - known)
    if unknown:
        raise ValueError(
            f"neither level nor start takes {unknown}; their keywords are {sorted(known)}."
        )
    return known


def _keys(level: Any, starts: list[Any], seeds: int | None, key: Any) -> Any:
    """One key per seed; `key` itself without seeds."""
    if seeds is not None:
        if isinstance(seeds, bool) or not isinstance(seeds, int | np.integer) or seeds < 1:
            raise ValueError(f"seeds must be an integer >= 1 or None; got {seeds!r}.")
        if not (takes_key(level) or any(map(takes_key, starts))):
            raise ValueError(
                f"seeds={seeds}, but neither the level nor start takes a key, so that all runs "
                "would be the same. Give start as a function of a key, or drop seeds."
            )
    if key is None:
        makers = [start for start in starts if isinstance(start, StartFunction)]
        if seeds is not None or requires_key(level) or any(maker.key_name for maker in makers):
            raise ValueError("the runs are random: give key, for example jax.random.key(0).")
        return None
    return key if seeds is None else jax.random.split(key, seeds)


def _check_values(axes: list[Axis], problem: Any, rule: Any) -> None:
    """Build every swept problem and rule once: a bad value is the caller's, not a cell's."""
    trees = {"rule": rule, "problem": problem}
    for axis in singles(axes):
        if axis.kind not in trees or _accepts_together(trees[axis.kind], axis):
            continue
        for value in axis.values:
            with_value(trees[axis.kind], axis.path, value)


def _accepts_together(tree: Any, axis: Axis) -> bool:
    """Whether constructors take all numbers of an axis as one array, as the library's do.

    Where not, the values are tried one by one, so that the error names the bad one.
    """
    if not axis.data:
        return False
    try:
        with_value(tree, axis.path, np.array(axis.values, float))
    except Exception:  # whatever a user's constructor raises
        return False
    return True


def _traceable(call: Call, axes: list[Axis], key: Any) -> list[Axis]:
    """Keep numeric keywords as data only where the level can be traced with them.

    A chain's n can be traced, a number of units cannot; only trying shows which.
    """
    doubtful = [
        axis.dim for axis in axes if axis.data and any(one.kind == "keyword" for one in axis.single)
    ]

    def can_trace(dims: list[str]) -> bool:
        values = {axis.dim: axis.values[0] for axis in axes}
        traced = {dim: jax.tree.map(jnp.asarray, values.pop(dim)) for dim in dims}
        try:
            eqx.filter_eval_shape(lambda c, t, k: c(values | t, k), call, traced, key)
        except Exception:  # whatever a user's function raises when it is traced
            return False
        return True

    if not doubtful or can_trace(doubtful):
        return axes
    # Which of several prevents tracing shows when each is tried alone.
    good = {dim for dim in doubtful if len(doubtful) > 1 and can_trace([dim])}
    return [
        axis._replace(data=axis.data and (axis.dim not in doubtful or axis.dim in good))
        for axis in axes
    ]
