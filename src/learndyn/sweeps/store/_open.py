"""A store as a dataset over the grid, of which nothing is read before it is used."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.datasets import SCHEMA_VERSION, Labelled, build, require_schema
from learndyn.sweeps._assemble import dims_of
from learndyn.sweeps.store._files import (
    Description,
    Grid,
    blocks_done,
    open_array,
    read_description,
    read_errors,
)

if TYPE_CHECKING:
    import xarray

_MOST_ERRORS = 100
"""Messages that the attribute `errors` holds at most: a million runs may all raise."""


def open_sweep(path: str | os.PathLike[str]) -> "xarray.Dataset":
    """The dataset of a sweep in a store, finished or not; numbers are read when they are used.

    Runs that are missing are NaN, `done` says which are there, and their `result` is 6,
    `Result.NOT_RUN`. A sweep that goes on meanwhile is seen as it was when it was opened. Reading
    takes the memory of what is asked for and of one block of runs; `ds.load()` reads all. A file
    that is damaged is read as NaN, with a warning; starting the sweep again repairs those that are
    lost or have another size.

    Args:
        path: the folder of the store, "run.zarr", say.

    Raises:
        FileNotFoundError: where there is no store.
        ValueError: where there is another thing, or its metadata are damaged or of a later version.
        ImportError: where Zarr is not installed.

    Example:
        >>> start, ts = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]]), [0.0, 1.0, 2.0]
        >>> given = {"over": {"lr": [0.1, 0.5]}, "store": "run.zarr"}
        >>> ds = ld.sweep(ld.solve_ode, ld.Problem(), ld.SGD(lr=0.5), start, ts, **given)
        >>> again = ld.open_sweep("run.zarr")
        >>> bool(again.done.all()), dict(again.eg.sizes)
        (True, {'lr': 2, 'alpha': 3})
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no store of a sweep at {str(path)!r}.")
    description = read_description(path)
    if description is None:
        raise ValueError(f"no sweep was begun in {str(path)!r}: start it with ld.sweep.")
    return dataset_of(path, description)


def dataset_of(path: Path, description: Description) -> "xarray.Dataset":
    """That of a store whose description has been read, in the schema of this version.

    Raises: ValueError where a later version began the store.
    """
    require_schema(description.attributes, path)
    from learndyn.sweeps.store._grid import GridArray, lazily

    done = blocks_done(path, description)
    places = places_of_cells(path, description)
    places[~done[places // description.block]] = -1
    errors = read_errors(path, done)
    shape = description.grids[-1].shape
    finished = places >= 0
    raised = np.isin(places, np.array(list(errors), int))
    sound = np.where(raised, -1, places).reshape(shape)
    everything = bool((sound >= 0).all())
    variables = {}
    for name, variable in description.layout.items():
        from_all = places.reshape(shape) if variable.stored == "int8" else sound
        array = GridArray(path, name, variable, description, from_all, everything)
        variables[name] = Labelled(array.dims, lazily(array))
    variables["done"] = Labelled(description.dims, finished.reshape(shape))
    attributes = description.attributes | {"schema": SCHEMA_VERSION}
    if errors:
        attributes["errors"] = _told(description, places, errors)
    coordinates = {name: np.array(values) for name, values in description.coordinates.items()}
    along = dims_of(coordinates, description.dims)
    return build(variables, coordinates, attributes, along=along)


def places_of_cells(path: Path, description: Description) -> np.ndarray:
    """(cells,) The place of each cell of the last grid."""
    last = description.grids[-1]
    places = np.full(int(np.prod(last.shape)), -1)
    cells = np.asarray(open_array(path, "cell")[:])
    for grid in description.grids:
        own = cells[grid.first : grid.first + grid.places]
        real = np.flatnonzero(own >= 0)
        places[cells_in(grid, last)[own[real]]] = grid.first + real
    return places


def cells_in(grid: Grid, last: Grid) -> np.ndarray:
    """Which cell of a later grid each cell of an earlier one is."""
    index = [
        _places_in(values, later)
        for values, later in zip(grid.axes.values(), last.axes.values(), strict=True)
    ]
    if len(grid.shape) > len(index):  # seeds, of which the first stay the first
        index.append(np.arange(grid.shape[-1]))
    if not index:
        return np.zeros(1, int)
    return np.ravel_multi_index(np.ix_(*index), last.shape).ravel()


def _places_in(values: list[Any], later: list[Any]) -> np.ndarray:
    """Where each value of an axis is in a later one. Numbers that are equal are the same."""
    places = {_hashable(value): i for i, value in reversed(list(enumerate(later)))}
    return np.array([places[_hashable(value)] for value in values])


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else json.dumps(value)


def _told(description: Description, places: np.ndarray, errors: dict[int, str]) -> str:
    """The first messages, each with the place of its run in the grid."""
    cells = np.flatnonzero(np.isin(places, np.array(list(errors), int)))[:_MOST_ERRORS]
    shape = description.grids[-1].shape
    told = []
    for cell in cells.tolist():
        where = np.unravel_index(cell, shape) if shape else ()
        labels = {
            dim: description.coordinates[dim][int(i)]
            for dim, i in zip(description.dims, where, strict=True)
        }
        told.append({"cell": labels, "error": errors[int(places[cell])]})
    return json.dumps(told)
