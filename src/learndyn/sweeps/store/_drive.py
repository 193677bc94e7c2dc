"""Run what a store lacks, block by block, and write each block when it is finished."""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn._progress import progress_bar
from learndyn._results import Result
from learndyn.datasets import Labelled, are_codes
from learndyn.sweeps._assemble import attributes_of, coordinates_of
from learndyn.sweeps._interrupted import Interrupted
from learndyn.sweeps._items import Item, make_items, split_by_program
from learndyn.sweeps._plan import Plan
from learndyn.sweeps._run import Outcome, Runner
from learndyn.sweeps.store._files import (
    Description,
    Grid,
    blocks_done,
    damaged_blocks,
    drop_flag,
    flags_folder,
    make_arrays,
    open_array,
    read_description,
    write_block,
    write_description,
    write_errors,
)
from learndyn.sweeps.store._identity import differences, identity_of, keys_agree
from learndyn.sweeps.store._layout import joined, layout_of
from learndyn.sweeps.store._lock import alone, driving
from learndyn.sweeps.store._open import cells_in, dataset_of

if TYPE_CHECKING:
    import xarray

SECONDS_PER_BLOCK = 3.0
"""Work in a block: what a kill costs at most, and a hundred times what writing it takes."""

_MOST_BYTES = 64e6
"""Size of a block's numbers in memory at most."""

_MOST_COMPILING = 30.0
"""Seconds: a first program that takes longer is not run again to learn how long it runs."""

_LONGEST_MESSAGE = 500
"""Characters that are kept of what a run raised."""


def run_in_store(
    plan: Plan,
    path: Path,
    *,
    shard: tuple[int, int],
    chunk: int | None,
    cost: Callable[[dict[str, Any]], float] | None,
    progress: bool | None,
) -> "xarray.Dataset":
    """Do what the store lacks, this process's share of it, and open the store.

    chunk, cost: those of the user, for which the plan was made.
    """
    read_description(path)  # what is no store is left as it is
    flags_folder(path).mkdir(parents=True, exist_ok=True)
    with driving(flags_folder(path), shard):
        with alone(flags_folder(path)):
            description = _prepared(plan, path, chunk, cost)
        share = _Share(plan._replace(chunk=description.chunk), path, description, shard)
        try:
            share.run(progress)
        except KeyboardInterrupt:
            done, total = share.finished, plan.cells
            found = dataset_of(path, description)
            raise Interrupted(done, total, found if done else None, str(path)) from None
    return _checked(dataset_of(path, description), share.first_error)


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


def _prepared(plan: Plan, path: Path, chunk: int | None, cost: Any) -> Description:
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
    return _extended(plan, path, stored, asked, cost)


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


def _extended(
    plan: Plan, path: Path, stored: Description, identity: dict[str, Any], cost: Any
) -> Description:
    """A longer store, in which the runs that are new stand after those that it has."""
    last, number = stored.grids[-1], len(stored.grids)
    wanted = np.ones(plan.cells, bool)
    whole = last._replace(axes=identity["axes"], shape=plan.shape)
    wanted[cells_in(last, whole)] = False
    items = make_items(plan.axes, plan.seeds, stored.chunk, cost, wanted)
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
    return round(SECONDS_PER_BLOCK / max(again, 1e-6))


class _Share:
    """What this process does of a sweep: every n-th block, so that all shares cost alike."""

    def __init__(self, plan: Plan, path: Path, description: Description, shard: tuple[int, int]):
        self.plan, self.path, self.description = plan, path, description
        number, count = shard
        self.blocks = range(number % count, description.blocks, count)
        self.first_error: Exception | None = None
        self.cells = _cells_now(path, description)
        self._done = blocks_done(path, description)
        self._drop_damaged()
        self.finished = self._count(self._done)
        self._arrays = {name: open_array(path, name, "r+") for name in description.layout}
        self._arrays["done"] = open_array(path, "done", "r+")

    def run(self, progress: bool | None) -> None:
        """All blocks of the share that are not done."""
        mine = np.zeros_like(self._done)
        mine[self.blocks] = True
        before = self._count(mine & self._done)
        runner = Runner(self.plan)
        with progress_bar(progress, total=self._count(mine), unit="run", title="sweep") as bar:
            bar.update(before)
            for block in np.flatnonzero(mine & ~self._done).tolist():
                self._run_block(runner, block, bar)

    def _run_block(self, runner: Runner, block: int, bar: Any) -> None:
        size, chunk = self.description.block, self.description.chunk
        cells = self.cells[block * size : (block + 1) * size]
        arrays, errors = self._empty(), {}
        for first in range(0, size, chunk):
            some = cells[first : first + chunk]
            axes, seeds = self.plan.axes, self.plan.seeds
            for item in split_by_program(axes, seeds, chunk, some[some >= 0]):
                for outcome in runner.outcomes(item):
                    rows = first + np.flatnonzero(np.isin(some, outcome.cells))
                    errors |= self._keep(arrays, rows, outcome)
                    bar.update(len(rows))
        self._write(block, arrays, cells >= 0, errors)
        self.finished += int((cells >= 0).sum())

    def _keep(
        self, arrays: dict[str, np.ndarray], rows: np.ndarray, outcome: Outcome
    ) -> dict[int, Exception]:
        """Put what came out of some runs in its rows. Returns: what was raised, by row."""
        error = next(iter(outcome.errors.values()), None)
        found: dict[str, np.ndarray] = {}
        try:
            found = {name: self._fitted(name, x) for name, x in outcome.arrays.items()}
        except ValueError as unfit:
            error = unfit
        if error is not None:
            arrays["result"][rows] = Result.ERROR.value
            self.first_error = self.first_error or error
            return dict.fromkeys(rows.tolist(), error)
        if "result" not in found and arrays["result"].dtype == np.int8:
            arrays["result"][rows] = Result.SUCCESS.value
        for name, values in found.items():
            stored = self._name(name)
            arrays[stored][(rows, *map(slice, values.shape[1:]))] = values
        return {}

    def _fitted(self, name: str, labelled: Labelled) -> np.ndarray:
        """Numbers with all axes of the store. Raises: ValueError where it has no room for them."""
        variable = self.description.layout.get(self._name(name))
        array = labelled.array
        if variable is None or array.ndim > 1 + len(variable.dims):
            raise ValueError(f"{name} has {array.ndim - 1} axes, for which the store has no room")
        array = array.reshape(*array.shape, *[1] * (1 + len(variable.dims) - array.ndim))
        if any(size > room for size, room in zip(array.shape[1:], variable.shape, strict=True)):
            raise ValueError(
                f"{name} has shape {array.shape[1:]}, but the store has room for {variable.shape}, "
                "the shape of the run that was looked at first"
            )
        if variable.stored == "int8" and not are_codes(array):
            raise ValueError(f"{name} holds other numbers than codes of ld.Result: rename it")
        return array

    def _name(self, name: str) -> str:
        layout = self.description.layout
        return name if name in layout and name not in self.plan.dims else f"{name}_used"

    def _empty(self) -> dict[str, np.ndarray]:
        size = self.description.block
        return {
            name: np.full((size, *x.shape), x.fill, x.stored)
            for name, x in self.description.layout.items()
        }

    def _write(
        self,
        block: int,
        arrays: dict[str, np.ndarray],
        flags: np.ndarray,
        errors: dict[int, Exception],
    ) -> None:
        first = block * self.description.block
        told = {first + row: repr(x)[:_LONGEST_MESSAGE] for row, x in errors.items()}
        try:
            if told:
                write_errors(self.path, block, told)
            write_block(self._arrays, block, self.description.block, arrays, flags)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{error.strerror}: block {block} cannot be written to {str(self.path)!r}; "
                f"{self.finished} of {self.plan.cells} runs are stored. Make room or mend the "
                "file system, and start again: what is stored stays",
            ) from error

    def _drop_damaged(self) -> None:
        mine = np.zeros_like(self._done)
        mine[self.blocks] = True
        found = damaged_blocks(self.path, self.description, self._done & mine)
        for block in found:
            drop_flag(self.path, block)
            self._done[block] = False
        if found:
            file = next(iter(found.values()))
            warnings.warn(
                f"{len(found)} blocks are done again, because files of theirs are lost or have "
                f"another size, the first being {file!r}.",
                RuntimeWarning,
                stacklevel=6,
            )

    def _count(self, blocks: np.ndarray) -> int:
        """Runs in these blocks."""
        return int((self.cells.reshape(len(blocks), -1) >= 0)[blocks].sum())


def _cells_now(path: Path, description: Description) -> np.ndarray:
    """(places,) The cell of the last grid that each place holds, -1 where it is empty."""
    cells = np.array(open_array(path, "cell")[: description.places])
    last = description.grids[-1]
    for grid in description.grids[:-1]:
        own = cells[grid.first : grid.first + grid.places]
        own[own >= 0] = cells_in(grid, last)[own[own >= 0]]
    return cells
