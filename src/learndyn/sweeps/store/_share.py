"""What one process does of a sweep in a store: run blocks, and write each when it is finished."""

import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from learndyn._results import Result
from learndyn.datasets import Labelled, are_codes
from learndyn.sweeps._bar import Progress, sweep_bar
from learndyn.sweeps._devices import (
    WORTH_PROCESSES,
    can_be_sent,
    cores_here,
    devices_here,
    on_devices,
)
from learndyn.sweeps._items import programs_of, split_by_program
from learndyn.sweeps._outlook import Outlook
from learndyn.sweeps._plan import Plan
from learndyn.sweeps._run import Outcome, Runner
from learndyn.sweeps.store._files import (
    Description,
    blocks_done,
    damaged_blocks,
    drop_flag,
    is_flagged,
    open_array,
    write_block,
    write_errors,
)
from learndyn.sweeps.store._open import cells_in

_LONGEST_MESSAGE = 500
"""Characters that are kept of what a run raised."""


_CELLS_AT_ONCE = 1 << 20
"""Runs whose costs are looked up together: 8 MiB of them."""


class Share:
    """What this process does of a sweep: every n-th block, so that all shares cost alike."""

    def __init__(self, plan: Plan, path: Path, description: Description, shard: tuple[int, int]):
        self.plan, self.path, self.description = plan, path, description
        number, count = shard
        self.blocks = range(number % count, description.blocks, count)
        self.first_error: Exception | None = None
        self._counting = threading.Lock()
        self.cells = _cells_now(path, description)
        self._done = blocks_done(path, description)
        self.finished = self._count(self._done)
        self._arrays = {name: open_array(path, name, "r+") for name in description.layout}
        self._arrays["done"] = open_array(path, "done", "r+")

    def run(self, progress: bool | None, workers: int | None, client: Any) -> None:
        """All blocks of the share that are not done, here, in several processes or a cluster."""
        self._drop_damaged()
        mine = np.zeros_like(self._done)
        mine[self.blocks] = True
        before = self._count(mine & self._done)
        missing = np.flatnonzero(mine & ~self._done).tolist()
        self.outlook = self._outlook()
        self.outlook.left[:] = mine & ~self._done
        with sweep_bar(progress, self._count(mine), before, self.outlook) as bar:
            if client is not None and missing:
                from learndyn.sweeps.store._cluster import run_with_client

                run_with_client(self, missing, client, bar)
            elif workers is not None and workers > 1 and missing:
                self._in_processes(missing, workers, bar)
            elif workers is None and len(devices_here()) > 1:
                self._on_devices(missing, bar)
            else:
                self._here(missing, bar, helpers=1 if workers else self._helpers())

    def _helpers(self) -> int:
        """Processes that may do the work where nobody said how many; shares have them already."""
        return cores_here() if len(self.blocks) == self.description.blocks else 1

    def _here(self, blocks: list[int], bar: Progress, helpers: int) -> None:
        """Block by block, until so much is left that other processes are worth their start."""
        runner = Runner(self.plan)
        for number, block in enumerate(blocks):
            # The first block took a compilation, too: it says nothing of those that follow.
            if helpers > 1 and number > 1 and (self.outlook.seconds_left() or 0) > WORTH_PROCESSES:
                if can_be_sent(self.plan):
                    self._in_processes(blocks[number:], helpers, bar)
                    return
                helpers = 1
            began = time.monotonic()
            self.run_block(runner, block, bar)
            self.outlook.finished(block, time.monotonic() - began)

    def _in_processes(self, blocks: list[int], count: int, bar: Progress) -> None:
        from learndyn.sweeps.store._workers import run_with_workers

        self.outlook.at_once = min(count, len(blocks))
        run_with_workers(self, blocks, count, bar)

    def _on_devices(self, blocks: list[int], bar: Progress) -> None:
        """One thread for each device of this process."""
        runner, devices = Runner(self.plan), devices_here()
        self.outlook.at_once = len(devices)

        def timed(block: int) -> tuple[float, int]:
            began = time.monotonic()
            self.run_block(runner, block, bar)
            return time.monotonic() - began, threading.get_ident()

        for block, (seconds, thread) in on_devices(timed, blocks, devices):
            self.outlook.finished(block, seconds, thread)

    def _outlook(self) -> Outlook:
        """What each block is predicted to cost: of each of its programs the dearest run."""
        chunk, plan = self.description.chunk, self.plan
        rows = self.cells.reshape(-1, chunk)
        costs = np.zeros(len(rows))
        step = max(1, _CELLS_AT_ONCE // chunk)
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            found = (
                plan.costs[np.unravel_index(np.maximum(some, 0), plan.shape)] if plan.shape else 1.0
            )
            costs[first : first + step] = np.where(some >= 0, found, 0.0).max(1)
        blocks = costs.reshape(self.description.blocks, -1)
        firsts = self.cells[:: self.description.block]
        return Outlook(blocks.sum(1), programs_of(plan.axes, plan.seeds, np.maximum(firsts, 0)))

    def is_done(self, block: int) -> bool:
        """Whether the flag of a block is there now."""
        return is_flagged(self.path, self.description, block)

    def runs_of(self, block: int) -> int:
        """How many runs a block holds."""
        size = self.description.block
        return int((self.cells[block * size : (block + 1) * size] >= 0).sum())

    def run_block(self, runner: Runner, block: int, bar: Progress) -> None:
        """Run a block and write it. Raises: OSError where it cannot be written."""
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
        with self._counting:
            self.finished += self.runs_of(block)

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
        return name if name in layout and name not in self.plan.names else f"{name}_used"

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
        self.finished = self._count(self._done)
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
