"""From a grid to independent work items, those of similar cost together."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from learndyn._checks import checked_times
from learndyn.sweep._axes import Axis, find_axis, start_axis
from learndyn.sweep._call import (
    Call,
    StartFunction,
    Target,
    level_keywords,
    requires_key,
    start_function,
    takes_key,
    with_value,
)


class Item(NamedTuple):
    """Runs that share one compiled program and are done together.

    number: its place in the plan. static: the values that the program is compiled for.
    cells: which cells of the grid, counted in C order. size: runs in the program, >= the
        number of cells; the last cell fills the rest, so that all items compile alike.
    """

    number: int
    static: dict[str, Any]
    cells: np.ndarray
    size: int


class Plan(NamedTuple):
    """A sweep before it runs: everything that an item needs, and how to put results together."""

    call: Call
    axes: list[Axis]
    seeds: int | None
    key: Any
    keys: Any
    items: list[Item]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the grid: the axes in order, then the seeds."""
        return _shape(self.axes, self.seeds)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the grid's dimensions."""
        return (*(axis.dim for axis in self.axes), *(() if self.seeds is None else ("seed",)))

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    def values(self, cell: int) -> dict[str, Any]:
        """The value of every axis at a cell."""
        where = np.unravel_index(cell, self.shape) if self.shape else ()
        return {axis.dim: axis.values[i] for axis, i in zip(self.axes, where, strict=False)}

    def key_of(self, cell: int) -> Any:
        """The key of a cell: that of its seed."""
        return self.keys if self.seeds is None else self.keys[cell % self.seeds]


def make_plan(
    level: Callable[..., Any],
    problem: Any,
    rule: Any,
    start: Any,
    ts: ArrayLike,
    *,
    over: Mapping[str, Iterable[Any]],
    seeds: int | None,
    key: PRNGKeyArray | None,
    chunk: int | None,
    cost: Callable[[dict[str, Any]], float] | None,
    keywords: Mapping[str, Any],
) -> Plan:
    """Look up the names, check what can be checked without running, and form items."""
    states = start_axis(_wrapped(start, {*over, *keywords}))
    start = _wrapped(start, {*over, *keywords}) if states is None else None
    starts = [start] if states is None else states.values
    start_names = {name for s in starts if isinstance(s, StartFunction) for name in s.names}
    known = _known_keywords(level, start_names, keywords)
    axes = [find_axis(name, values, problem, rule, known) for name, values in over.items()]
    axes += [] if states is None else [states]
    keys = _keys(level, starts, seeds, key)
    call = Call(
        level,
        problem,
        rule,
        start,
        checked_times(ts),
        {name: keywords[name] for name in keywords},
        tuple(Target(axis.dim, axis.kind, axis.path) for axis in axes),
        frozenset(start_names),
        takes_key(level) and key is not None,
    )
    _check_values(axes, problem, rule)
    axes = _traceable(call, axes, keys if seeds is None else keys[0])
    items = _items(axes, seeds, chunk, cost or default_cost)
    return Plan(call, axes, seeds, key, keys, items)


def default_cost(values: dict[str, Any]) -> float:
    """A guess for any level: steps grow with n, and stiffness with the effective rates."""
    rates = [values.get(name) for name in ("lr", "lr_second", "lr_bias")]
    rate = sum(rate for rate in rates if isinstance(rate, int | float))
    momentum = values.get("momentum", 0.0)
    slowness = 1.0 - momentum if isinstance(momentum, float) else 1.0
    n = values.get("n", 1)
    return (n if isinstance(n, int | float) else 1) * (1e-6 + rate / slowness)


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
    needed = requires_key(level) or any(isinstance(s, StartFunction) and s.key_name for s in starts)
    if key is None and (needed or seeds is not None):
        raise ValueError("the runs are random: give key, for example jax.random.key(0).")
    return key if seeds is None else jax.random.split(key, seeds)


def _check_values(axes: list[Axis], problem: Any, rule: Any) -> None:
    """Build every swept problem and rule once: a bad value is the caller's, not a cell's."""
    trees = {"rule": rule, "problem": problem}
    for axis in axes:
        if axis.kind in trees:
            for value in axis.values:
                with_value(trees[axis.kind], axis.path, value)


def _traceable(call: Call, axes: list[Axis], key: Any) -> list[Axis]:
    """Keep numeric keywords as data only where the level can be traced with them.

    A chain's n can be traced, a number of units cannot; only trying tells.
    """
    doubtful = [axis.dim for axis in axes if axis.data and axis.kind == "keyword"]

    def can_trace(dims: list[str]) -> bool:
        values = {axis.dim: axis.values[0] for axis in axes}
        traced = {dim: jnp.asarray(values.pop(dim)) for dim in dims}
        try:
            eqx.filter_eval_shape(lambda c, t, k: c(values | t, k), call, traced, key)
        except Exception:
            return False
        return True

    if not doubtful or can_trace(doubtful):
        return axes
    good = {dim for dim in doubtful if len(doubtful) > 1 and can_trace([dim])}
    return [
        axis._replace(data=axis.data and (axis.dim not in doubtful or axis.dim in good))
        for axis in axes
    ]


def _items(
    axes: list[Axis],
    seeds: int | None,
    chunk: int | None,
    cost: Callable[[dict[str, Any]], float],
) -> list[Item]:
    chunk = _checked_chunk(chunk)
    grid = np.arange(math.prod(_shape(axes, seeds))).reshape(_shape(axes, seeds))
    static = [axis for axis in axes if not axis.data]
    items: list[Item] = []
    for choice in itertools.product(*(range(len(axis.values)) for axis in static)):
        chosen = {axis.dim: i for axis, i in zip(static, choice, strict=True)}
        index = tuple(chosen.get(axis.dim, slice(None)) for axis in axes)
        cells = grid[index].ravel()
        costs = [_cost(cost, axes, seeds, grid.shape, cell) for cell in cells]
        cells = cells[np.argsort(costs, kind="stable")]
        count = math.ceil(len(cells) / chunk)
        size = math.ceil(len(cells) / count)
        values = {axis.dim: axis.values[chosen[axis.dim]] for axis in static}
        for first in range(0, len(cells), size):
            items.append(Item(len(items), values, cells[first : first + size], size))
    return items


def _cost(
    cost: Callable[[dict[str, Any]], float],
    axes: list[Axis],
    seeds: int | None,
    shape: tuple[int, ...],
    cell: int,
) -> float:
    where = np.unravel_index(cell, shape) if shape else ()
    values = {axis.dim: axis.values[i] for axis, i in zip(axes, where, strict=False)}
    if seeds is not None:
        values["seed"] = int(where[-1])
    return float(cost(values))


def _checked_chunk(chunk: int | None) -> int:
    if chunk is None:
        return 64 if jax.default_backend() == "cpu" else 1024
    if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
        raise ValueError(f"chunk must be an integer >= 1 or None; got {chunk!r}.")
    return int(chunk)


def _shape(axes: list[Axis], seeds: int | None) -> tuple[int, ...]:
    return (*(len(axis.values) for axis in axes), *(() if seeds is None else (int(seeds),)))
