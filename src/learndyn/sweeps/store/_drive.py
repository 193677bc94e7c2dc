"""Run what a store lacks, block by block, and write each block when it is finished."""

import contextlib
import errno
import json
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn._results import Result
from learndyn.sweeps._assemble import attributes_of, coordinates_of
from learndyn.sweeps._interrupted import Interrupted
from learndyn.sweeps._items import Item, make_items
from learndyn.sweeps._plan import Plan
from learndyn.sweeps._run import Runner
from learndyn.sweeps.store._files import (
    Description,
    Grid,
    flags_folder,
    make_arrays,
    read_description,
    write_description,
)
from learndyn.sweeps.store._identity import differences, identity_of, keys_agree
from learndyn.sweeps.store._layout import joined, layout_of
from learndyn.sweeps.store._lock import alone, driving
from learndyn.sweeps.store._open import cells_in, dataset_of
from learndyn.sweeps.store._share import Share

if TYPE_CHECKING:
    import xarray

SECONDS_PER_BLOCK = 3.0
"""Work in a block: what a kill costs at most, and a hundred times what writing it takes."""

_MOST_BYTES = 64e6
"""Size of a block's numbers in memory at most."""

_MOST_COMPILING = 30.0
"""Seconds: a first program that takes longer is not run again to learn how long it runs."""


def run_in_store(
    plan: Plan,
    path: Path,
    *,
    shard: tuple[int, int],
    chunk: int | None,
    progress: bool | None,
    workers: int | None = 1,
    client: Any = None,
) -> "xarray.Dataset":
    """Do what the store lacks, this process's share of it, and open the store.

    chunk: that of the user, for which the plan was made.
    """
    path = path.absolute()  # for processes that are somewhere else
    read_description(path)  # what is no store is left as it is
    flags_folder(path).mkdir(parents=True, exist_ok=True)
    with driving(flags_folder(path), shard):
        with alone(flags_folder(path)), _room_on(path):
            description = _prepared(plan, path, chunk)
        share = Share(plan._replace(chunk=description.chunk), path, description, shard)
        try:
            share.run(progress, workers, client)
        except KeyboardInterrupt:
            done, total = share.finished, plan.cells
            found = dataset_of(path, description)
            raise Interrupted(done, total, found if done else None, str(path)) from None
    return _checked(dataset_of(path, description), share.first_error)


@contextlib.contextmanager
def _room_on(path: Path) -> Iterator[None]:
    """Says what to do where a disk or a quota is full: Zarr's own error does not name the store."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = "the sweep has not begun; make room for its store and start it again"
        raise OSError(error.errno, f"{os.strerror(error.errno)}: {told}", str(path)) from error


def _checked(dataset: "xarray.Dataset", first_error: Exception | None) -> "xarray.Dataset":
    """The dataset, with a warning of runs that raised. Raises: the first error where all did."""
    if "errors" not in dataset.attrs:
        return dataset
    codes = dataset["result"].values
    count = int((codes == Result.ERROR.value).sum())
    if first_error is not None and count == int(dataset["done"].values.sum()):
        raise first_error
    first = json.loads(dataset.attrs["errors"])[0]
    warnings.warn(
        f"{count} of {codes.size} runs of the sweep raised an error and hold NaN, the first at "
        f"{first['cell']}: {first['error']}. The first messages are in the attribute `errors`.",
        RuntimeWarning,
        stacklevel=4,
    )
    return dataset


def _prepared(plan: Plan, path: Path, chunk: int | None) -> Description:
    """The description of the store, which is made or extended where need be."""
    stored = read_description(path)
    if stored is None:
        return _begun(plan, path, identity_of(plan), plan.items)
    if chunk is None:
        plan = plan._replace(chunk=stored.chunk)
    asked = json.loads(json.dumps(identity_of(plan)))
    found = differences(stored.identity, asked)
    if not keys_agree(plan.key, stored.identity["seeds"], plan.seeds):
        found.append(
            f"seeds: {stored.identity['seeds']} stored, whose keys do not begin those of the "
            f"{plan.seeds} asked"
        )
    if found:
        raise ValueError(
            f"{str(path)!r} holds another sweep: {'; '.join(found)}. Choose another store, or ask "
            "for all that is stored and more."
        )
    if stored.identity["axes"] == asked["axes"] and stored.identity["seeds"] == asked["seeds"]:
        return stored
    return _extended(plan, path, stored, asked)


def _begun(plan: Plan, path: Path, identity: dict[str, Any], items: list[Item]) -> Description:
    layout = layout_of(plan, items)
    row = sum(
        np.dtype(x.stored).itemsize * int(np.prod(x.shape, dtype=float)) for x in layout.values()
    )
    most = max(1, int(_MOST_BYTES // (plan.chunk * max(row, 1))))
    programs = max(1, min(most, len(items), _programs_per_block(plan, items)))
    block = programs * plan.chunk
    grid = _grid(plan, identity, 0, items, block)
    description = Description(
        identity,
        plan.chunk,
        block,
        [grid],
        layout,
        plan.dims,
        {name: values.tolist() for name, values in coordinates_of(plan).items()},
        attributes_of(plan, {}),
    )
    make_arrays(path, description, _cells_of(items, plan.chunk))
    write_description(path, description)
    return description


def _extended(plan: Plan, path: Path, stored: Description, identity: dict[str, Any]) -> Description:
    """A longer store, in which the runs that are new stand after those that it has."""
    last, number = stored.grids[-1], len(stored.grids)
    wanted = np.ones(plan.cells, bool)
    whole = last._replace(axes=identity["axes"], shape=plan.shape)
    wanted[cells_in(last, whole)] = False
    items = make_items(plan.axes, plan.seeds, stored.chunk, plan.costs, wanted)
    grid = _grid(plan, identity, stored.places, items, stored.block)
    layout = joined(stored.layout, layout_of(plan, items, number)) if items else stored.layout
    description = stored._replace(
        identity=identity,
        grids=[*stored.grids, grid],
        layout=layout,
        coordinates={name: values.tolist() for name, values in coordinates_of(plan).items()},
        attributes=attributes_of(plan, {}),
    )
    make_arrays(path, description, _cells_of(items, stored.chunk))
    write_description(path, description)
    return description


def _grid(plan: Plan, identity: dict[str, Any], first: int, items: list[Item], block: int) -> Grid:
    places = len(items) * plan.chunk
    return Grid(identity["axes"], plan.shape, first, block * -(-places // block))


def _cells_of(items: list[Item], chunk: int) -> np.ndarray:
    """The cells of items at their places; -1 where a place is empty."""
    cells = np.full((len(items), chunk), -1)
    for row, item in zip(cells, items, strict=True):
        row[: len(item.cells)] = item.cells
    return cells.ravel()


def _programs_per_block(plan: Plan, items: list[Item]) -> int:
    """How many programs of middle cost take `SECONDS_PER_BLOCK`, compiling aside."""
    if len(items) == 1:
        return 1
    runner, item = Runner(plan), items[len(items) // 2]

    def seconds() -> float:
        began = time.perf_counter()
        list(runner.outcomes(item))
        return time.perf_counter() - began

    first = seconds()
    again = seconds() if first < _MOST_COMPILING else first
    # No program takes less than a microsecond, whatever the clock says.
    return round(SECONDS_PER_BLOCK / max(again, 1e-6))
