"""Work items: runs of similar cost that share one compiled program."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from learndyn.sweeps._axes import Axis

_COST_WITHOUT_RATE = 1e-6
"""Cost over n of a run at rate 0: any number far below the rates in use. It keeps an order by n."""


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
    cost: Callable[[dict[str, Any]], float] | None,
) -> list[Item]:
    """All cells of the grid, once each: apart by what is compiled, then together by cost."""
    chunk = _checked_chunk(chunk)
    shape = grid_shape(axes, seeds)
    grid = np.arange(math.prod(shape)).reshape(shape)
    costs = _default_costs(axes, seeds) if cost is None else _costs(axes, seeds, cost)
    static = [axis for axis in axes if not axis.data]
    items: list[Item] = []
    for choice in itertools.product(*(range(len(axis.values)) for axis in static)):
        chosen = {axis.dim: i for axis, i in zip(static, choice, strict=True)}
        index = tuple(chosen.get(axis.dim, slice(None)) for axis in axes)
        cells = grid[index].ravel()
        # Similar costs together: the slowest run of an item sets its pace.
        cells = cells[np.argsort(costs[index].ravel(), kind="stable")]
        # Items of nearly equal size, so that one program serves all with little padding
        count = math.ceil(len(cells) / chunk)
        size = math.ceil(len(cells) / count)
        values = {axis.dim: axis.values[chosen[axis.dim]] for axis in static}
        for first in range(0, len(cells), size):
            items.append(Item(len(items), values, cells[first : first + size], size))
    return items


def _costs(
    axes: list[Axis], seeds: int | None, cost: Callable[[dict[str, Any]], float]
) -> np.ndarray:
    """What a user's function says of every cell, in the shape of the grid."""
    dims = [axis.dim for axis in axes] + ([] if seeds is None else ["seed"])
    columns = [axis.values for axis in axes] + ([] if seeds is None else [range(seeds)])
    cells = itertools.product(*columns)
    costs = [float(cost(dict(zip(dims, values, strict=True)))) for values in cells]
    return np.reshape(costs, grid_shape(axes, seeds))


def _default_costs(axes: list[Axis], seeds: int | None) -> np.ndarray:
    """A guess for any level: steps grow with n, and stiffness with the effective rates."""
    lr, lr_second, lr_bias, momentum = (
        _along_axis(axes, seeds, name, absent=0.0)
        for name in ("lr", "lr_second", "lr_bias", "momentum")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = (lr + lr_second + lr_bias) / (1.0 - momentum)
    n = _along_axis(axes, seeds, "n", absent=1.0)
    return np.broadcast_to(n * (_COST_WITHOUT_RATE + rate), grid_shape(axes, seeds))


def _along_axis(axes: list[Axis], seeds: int | None, dim: str, *, absent: float) -> np.ndarray:
    """The numbers of one axis as an array that broadcasts over the grid.

    absent: what stands for a value that is no number, and for an axis that is not swept.
    """
    shape = [1] * len(grid_shape(axes, seeds))
    for place, axis in enumerate(axes):
        if axis.dim == dim:
            shape[place] = len(axis.values)
            numbers = [x if isinstance(x, int | float) else absent for x in axis.values]
            return np.array(numbers, float).reshape(shape)
    return np.full(shape, absent)


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
