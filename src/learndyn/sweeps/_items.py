"""Work items: runs of similar cost that share one compiled program."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from learndyn.sweeps._axes import Axis


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


def make_items(
    axes: list[Axis],
    seeds: int | None,
    chunk: int | None,
    cost: Callable[[dict[str, Any]], float],
) -> list[Item]:
    """All cells of the grid, once each: apart by what is compiled, then together by cost."""
    chunk = _checked_chunk(chunk)
    shape = grid_shape(axes, seeds)
    grid = np.arange(math.prod(shape)).reshape(shape)
    static = [axis for axis in axes if not axis.data]
    items: list[Item] = []
    for choice in itertools.product(*(range(len(axis.values)) for axis in static)):
        chosen = {axis.dim: i for axis, i in zip(static, choice, strict=True)}
        index = tuple(chosen.get(axis.dim, slice(None)) for axis in axes)
        cells = grid[index].ravel()
        costs = [float(cost(values_at(axes, seeds, int(cell)))) for cell in cells]
        cells = cells[np.argsort(costs, kind="stable")]
        count = math.ceil(len(cells) / chunk)
        size = math.ceil(len(cells) / count)
        values = {axis.dim: axis.values[chosen[axis.dim]] for axis in static}
        for first in range(0, len(cells), size):
            items.append(Item(len(items), values, cells[first : first + size], size))
    return items


def default_cost(values: dict[str, Any]) -> float:
    """A guess for any level: steps grow with n, and stiffness with the effective rates."""
    rates = [values.get(name) for name in ("lr", "lr_second", "lr_bias")]
    rate = sum(rate for rate in rates if isinstance(rate, int | float))
    momentum = values.get("momentum", 0.0)
    slowness = 1.0 - momentum if isinstance(momentum, float) else 1.0
    n = values.get("n", 1)
    return (n if isinstance(n, int | float) else 1) * (1e-6 + rate / slowness)


def values_at(axes: list[Axis], seeds: int | None, cell: int) -> dict[str, Any]:
    """The value of every axis at a cell, and the number of its seed."""
    where = np.unravel_index(cell, grid_shape(axes, seeds))
    values = {axis.dim: axis.values[i] for axis, i in zip(axes, where, strict=False)}
    return values if seeds is None else values | {"seed": int(where[len(axes)])}


def grid_shape(axes: list[Axis], seeds: int | None) -> tuple[int, ...]:
    """Sizes of the grid: the axes in order, then the seeds."""
    return (*(len(axis.values) for axis in axes), *(() if seeds is None else (int(seeds),)))


def _checked_chunk(chunk: int | None) -> int:
    if chunk is None:
        return 64 if jax.default_backend() == "cpu" else 1024
    if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
        raise ValueError(f"chunk must be an integer >= 1 or None; got {chunk!r}.")
    return int(chunk)
