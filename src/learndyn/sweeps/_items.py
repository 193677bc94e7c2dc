"""Work items: runs of similar cost that share one compiled program."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from learndyn.sweeps._axes import Axis, unzipped

_COST_WITHOUT_RATE = 1e-6
"""Cost over n of a run at rate 0: any number far below the rates in use. It keeps an order by n."""

_VECTOR = 8
"""Lanes that a CPU handles at once in float64 at most: 512 bits. Measured: with 3, 4, 7 or 12
lanes the last ones differ from the first by a rounding, with multiples of 8 they do not."""

_FREE_LANES = {"cpu": 3.0, "other": 1000.0}
"""What a program costs beyond its lanes, in lanes. On a CPU a step of a small solve was measured
to take 3 µs with one lane and 16 µs with 16, so about 3 lanes; an accelerator has room for about
a thousand small runs at once."""


class Item(NamedTuple):
    """Runs that share one compiled program and are done together.

    number: its place in the plan. program: the number of the program that all items with the same
        static values share. static: the values that the program is compiled for.
    cells: which cells of the grid, counted in C order. lanes: those of the program, >= the
        number of cells; the last cell fills the rest. It is the same for all items of a plan,
        because XLA makes another program, with other roundings, for another number.
    cost: predicted, that of the dearest cell, which sets the pace; in any unit.
    """

    number: int
    program: int
    static: dict[str, Any]
    cells: np.ndarray
    lanes: int
    cost: float


def make_items(
    axes: list[Axis],
    seeds: int | None,
    chunk: int,
    costs: np.ndarray,
    wanted: np.ndarray | None = None,
) -> list[Item]:
    """All cells of the grid, once each: apart by what is compiled, then together by cost.

    chunk: see `program_size`. costs: those of `costs_of`. wanted: (cells,) whether a
        cell is to be run; None: all are.
    """
    shape = grid_shape(axes, seeds)
    grid = np.arange(math.prod(shape)).reshape(shape)
    static = [axis for axis in axes if not axis.data]
    items: list[Item] = []
    choices = itertools.product(*(range(len(axis.values)) for axis in static))
    for program, choice in enumerate(choices):
        chosen = {axis.dim: i for axis, i in zip(static, choice, strict=True)}
        index = tuple(chosen.get(axis.dim, slice(None)) for axis in axes)
        cells = grid[index].ravel()
        # Similar costs together: the slowest run of an item sets its pace.
        cells = cells[np.argsort(costs[index].ravel(), kind="stable")]
        cells = cells if wanted is None else cells[wanted[cells]]
        values = {axis.dim: axis.values[chosen[axis.dim]] for axis in static}
        for first in range(0, len(cells), chunk):
            some = cells[first : first + chunk]
            dearest = float(costs[np.unravel_index(some[-1], shape)]) if shape else 1.0
            items.append(Item(len(items), program, values, some, lanes(chunk), dearest))
    return items


def costs_of(
    axes: list[Axis], seeds: int | None, cost: Callable[[dict[str, Any]], float] | None
) -> np.ndarray:
    """The predicted cost of every cell, in the shape of the grid.

    cost: a user's function of the values; None: a guess, which takes no memory along axes that it
        does not depend on.
    """
    return _default_costs(axes, seeds) if cost is None else _costs(axes, seeds, cost)


def split_by_program(
    axes: list[Axis], seeds: int | None, chunk: int, cells: np.ndarray
) -> list[Item]:
    """Items of some cells in this order, at most `chunk` of them; one for each program."""
    static = _static_places(axes, seeds, cells)
    numbers, items = programs_of(axes, seeds, cells), []
    for number in dict.fromkeys(numbers.tolist()):
        some = np.flatnonzero(numbers == number)
        values = {axis.dim: axis.values[where[some[0]]] for axis, where in static}
        items.append(Item(len(items), number, values, cells[some], lanes(chunk), 1.0))
    return items


def programs_of(axes: list[Axis], seeds: int | None, cells: np.ndarray) -> np.ndarray:
    """(cells,) The number of the program that each cell needs."""
    static = _static_places(axes, seeds, cells)
    if not static:
        return np.zeros(len(cells), int)
    sizes = tuple(len(axis.values) for axis, _ in static)
    return np.ravel_multi_index([where for _, where in static], sizes)


def _static_places(
    axes: list[Axis], seeds: int | None, cells: np.ndarray
) -> list[tuple[Axis, np.ndarray]]:
    """Axes that are compiled in, and where cells are along each."""
    places = indices_of(cells, grid_shape(axes, seeds))
    return [(axis, where) for axis, where in zip(axes, places, strict=False) if not axis.data]


def _costs(
    axes: list[Axis], seeds: int | None, cost: Callable[[dict[str, Any]], float]
) -> np.ndarray:
    """What a user's function says of every cell, in the shape of the grid."""
    dims = [axis.dim for axis in axes] + ([] if seeds is None else ["seed"])
    columns = [axis.values for axis in axes] + ([] if seeds is None else [range(seeds)])
    cells = itertools.product(*columns)
    costs = [float(cost(unzipped(dict(zip(dims, values, strict=True))))) for values in cells]
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
        for one in axis.single:
            if one.dim == dim:
                shape[place] = len(one.values)
                numbers = [x if isinstance(x, int | float) else absent for x in one.values]
                return np.array(numbers, float).reshape(shape)
    return np.full(shape, absent)


def values_at(axes: list[Axis], seeds: int | None, cell: int) -> dict[str, Any]:
    """The value of every axis at a cell, and the number of its seed."""
    where = np.unravel_index(cell, grid_shape(axes, seeds))
    values = {axis.dim: axis.values[i] for axis, i in zip(axes, where, strict=False)}
    return values if seeds is None else values | {"seed": int(where[len(axes)])}


def indices_of(cells: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Where cells are along each axis of the grid, which may have none."""
    return np.unravel_index(cells, shape) if shape else ()


def grid_shape(axes: list[Axis], seeds: int | None) -> tuple[int, ...]:
    """Sizes of the grid: the axes in order, then the seeds."""
    return (*(len(axis.values) for axis in axes), *(() if seeds is None else (int(seeds),)))


def program_size(chunk: int | None, axes: list[Axis], seeds: int | None) -> int:
    """Cells of every program of a sweep.

    chunk: what the user asks for; None: at most 64 on CPUs and 1024 elsewhere, chosen so that few
        lanes stay empty and few programs are needed.
    """
    if chunk is None:
        apart = math.prod(len(axis.values) for axis in axes if not axis.data)
        cells = math.prod(grid_shape(axes, seeds)) // apart
        on_cpu = jax.default_backend() == "cpu"
        # The most runs of one program: a GPU computes more of them at once than a CPU.
        return _best_size(cells, 64 if on_cpu else 1024, _FREE_LANES["cpu" if on_cpu else "other"])
    if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
        raise ValueError(f"chunk must be an integer >= 1 or None; got {chunk!r}.")
    return int(chunk)


def lanes(size: int) -> int:
    """Lanes of a program that has room for `size` cells: none of them differs from the others.

    A loop over lanes goes in vectors of the processor, and what is left over one by one, with
    other roundings. One lane and multiples of `_VECTOR` leave nothing over.
    """
    if size == 1:
        return 1
    return _VECTOR * math.ceil(size / _VECTOR)


def _best_size(cells: int, most: int, free: float) -> int:
    """The size with the least work, half for runs that pay per lane, half per program."""

    def work(size: int) -> float:
        programs = math.ceil(cells / size)
        per_lane = programs * size / cells
        per_program = programs * (size + free) / (cells + free)
        return per_lane + per_program

    sizes = dict.fromkeys(lanes(size) for size in range(1, most + 1))
    return min(sizes, key=work)
