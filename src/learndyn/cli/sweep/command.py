"""What `learndyn sweep` does: run a sweep in its store, say how far it is, or print a script."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from learndyn._results import Result
from learndyn.cli._runs import plain_warnings
from learndyn.cli.sweep.config import plan_of, read_config
from learndyn.sweeps import open_sweep, sweep
from learndyn.sweeps.store import Pace, pace_of

_MOST_RUNS_COUNTED = 50_000_000
"""Runs whose results are counted for a person: a byte each, which a second reads."""


class SweepCommand:
    """What the options of `learndyn sweep` ask for."""

    def __init__(self, options: Any):
        self.options = options
        self.kind = type(options).__name__

    def run(self) -> None:
        """Do it. Raises: ValueError for a config, a store or a shard that is wrong."""
        {"Run": self._run, "Status": self._status, "Script": self._script}[self.kind]()

    def kept(self) -> str:
        """What an interruption leaves."""
        path = getattr(self.options, "store", None) or self._store()
        try:
            pace = pace_of(path)
        except (ValueError, OSError):
            return "nothing was finished"
        return (
            f"{pace.done} of {pace.runs} runs are in {str(path)!r}, and the same command goes on "
            "from there"
        )

    def _store(self) -> Path:
        """Where the runs go."""
        given = self.options.store
        return self.options.config.with_suffix(".zarr") if given is None else given

    def _run(self) -> None:
        path, began = self._store(), time.perf_counter()
        config = read_config(self.options.config)
        shard = None if self.options.shard is None else shard_from(self.options.shard)
        progress = {"auto": None, "on": True, "off": False}[self.options.progress]
        with plain_warnings("sweep"):
            dataset = sweep(
                *config.arguments,
                store=path,
                shard=shard,
                workers=self.options.workers,
                progress=progress,
                **config.keywords,
            )
        print("\n".join(_told(dataset)))
        print(f"stored in {path} ({time.perf_counter() - began:.1f} s)")

    def _status(self) -> None:
        dataset = open_sweep(self.options.store)
        print("\n".join([*_told(dataset), *_pace_told(pace_of(self.options.store))]))

    def _script(self) -> None:
        options = self.options
        if min(options.shards, options.cpus) < 1 or options.gpus < 0:
            raise ValueError(
                f"--shards and --cpus must be at least 1, and --gpus 0; got {options.shards}, "
                f"{options.cpus}, {options.gpus}."
            )
        runs = plan_of(read_config(options.config)).cells
        print("\n".join(script_lines(options, self._store(), runs)))


def shard_from(text: str) -> tuple[int, int]:
    """(3, 64) of "3/64". Raises: ValueError for other texts, with shares counted from 1."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--shard must be i/n with i from 1 to n, such as 3/64; got {text!r}.")
    return int(number), int(count)


def script_lines(options: Any, store: Path, runs: int) -> Iterator[str]:
    """A script for `sbatch`, in which each job does one share with as many processes as it has."""
    config = options.config.absolute()
    words = [sys.executable, "-m", "learndyn", "sweep", "run", str(config)]
    words += ["--store", str(store.absolute()), "--workers", str(options.gpus or options.cpus)]
    yield "#!/bin/bash"
    yield f"#SBATCH --job-name={config.stem}"
    yield f"#SBATCH --array=1-{options.shards}"
    yield "#SBATCH --ntasks=1"
    yield f"#SBATCH --cpus-per-task={options.cpus}"
    if options.gpus:
        yield f"#SBATCH --gpus-per-node={options.gpus}"
    yield f"#SBATCH --time={options.time}"
    yield f"#SBATCH --output={config.stem}-%A-%a.log"
    yield "#SBATCH --requeue"
    yield f"# {runs} runs in {options.shards} shares. What is finished stays in the store; submit"
    yield "# the same script again for what a time limit or a lost node left undone."
    yield "set -e"
    yield f"{shlex.join(words)} --progress on --shard ${{SLURM_ARRAY_TASK_ID}}/{options.shards}"


def _told(dataset: Any) -> Iterator[str]:
    """What a sweep is, how much of it is done, and how its runs ended."""
    sizes = {dim: dataset.sizes[dim] for dim in dataset.done.dims}
    grid = " x ".join(f"{dim} {size}" for dim, size in sizes.items())
    done, total = int(dataset.done.sum()), dataset.done.size
    yield f"{dataset.attrs['level']}: {grid or 'one run'}"
    yield f"{done} of {total} runs are done ({_percent(done, total)})"
    if dataset.result.dtype == np.int8 and total <= _MOST_RUNS_COUNTED:
        codes, counts = np.unique(dataset.result.values[dataset.done.values], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            yield f"{count} runs: result {code}, {Result(code).meaning}"
    if "errors" in dataset.attrs:
        first = json.loads(dataset.attrs["errors"])[0]
        yield f"the first that raised, at {first['cell']}: {first['error']}"


def _pace_told(pace: Pace) -> Iterator[str]:
    if pace.done == pace.runs:
        return
    if pace.rate is None:
        yield "none was finished in the last ten minutes"
        return
    left = (pace.runs - pace.done) / pace.rate
    yield (f"{pace.rate:.3g} runs/s in the last ten minutes; at this pace {_duration(left)} left")


def _percent(done: int, total: int) -> str:
    """A share that says 100 % only where all is done."""
    return f"{np.floor(1000 * done / total) / 10:.1f} %"


def _duration(seconds: float) -> str:
    """A time to go in the units of a clock."""
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{round(seconds)} s" if seconds < 120 else f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"
