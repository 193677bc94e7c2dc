"""The one function most users need."""

import math
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn._types import KeyLike, RealLike
from learndyn.sweeps._assemble import assemble
from learndyn.sweeps._devices import WORTH_PROCESSES, can_be_sent, cores_here
from learndyn.sweeps._interrupted import Interrupted
from learndyn.sweeps._plan import Plan, make_plan
from learndyn.sweeps._run import TooLong, run
from learndyn.sweeps.store import run_in_store

if TYPE_CHECKING:
    import xarray


def sweep(
    level: Callable[..., Any] | Any,
    problem: Any,
    rule: Any,
    start: Any,
    ts: RealLike,
    *,
    over: Mapping[str, Any] | Any = None,
    zip: Mapping[str, Any] | Any = None,
    seeds: int | None = None,
    key: KeyLike | None = None,
    progress: bool | None = None,
    chunk: int | None = None,
    cost: Callable[[dict[str, Any]], float] | None = None,
    store: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | Any = None,
    workers: int | Any = None,
    client: Any = None,
    **keywords: Any,
) -> "xarray.Dataset":
    """`level` on a grid of hyperparameters, initial states and seeds, as one dataset.

    What can be traced is vmapped, the rest (sizes, activations) is looped over, and so are numbers
    that decide which averages are taken, such as the slope of an activation; a function that cannot
    be traced at all is called run by run. Sizes that differ are padded with NaN. An axis that is as
    long as ts in some runs alone is no axis of times. A run that diverges or raises has NaN and its
    own code in `result` (5: raised; the message is in the attribute `errors`, and a warning says
    so); all others are as if run alone, to rounding, but for two things that a run alone does with
    numbers that here are traced: `solve_ode` is not repeated with finer averages (`averages_error`
    says how good they are), and a start that is made by a function of a key does not tell how far
    its fields reach. A store that holds the same sweep is gone on with, and so is one whose every
    axis, and number of seeds, is contained in this sweep's: what was done is kept, and what is new
    comes after it. Any other sweep is refused.

    Ctrl-C raises `learndyn.Interrupted`, a KeyboardInterrupt whose `dataset` has the runs that were
    finished; compiled programs cannot be stopped, so that it waits for the one that is running.

    Args:
        level: `solve_ode`, `simulate_sgd` or another level, or any function called as they are,
            level(problem, rule, start, ts, **keywords), that returns a `Trajectory` or a dict of
            arrays (its names are the dataset's; see `to_dataset`).
        problem: the teacher-student problem, whose numbers `over` and `zip` may replace.
        rule: the learning rule, likewise; or a list or dict of rules, which becomes the dimension
            `rule`, labelled by their names.
        start: one initial state; a function of a key that makes one; or a list or dict of these,
            which becomes the dimension `start`. Such a function may have further parameters, for
            example k, filled from `over` and `keywords` by name.
        ts: (times,) the times of every run.
        over: a grid, {name: values}; each name becomes a dimension. Names are looked up in rule,
            then problem, then keywords (of level and start); a dot leads inside, as in
            "momentum.gamma". Problem's `student` and `teacher` become `student_activation` and
            `teacher_activation`, because the units have those names.
        zip: names and equally many values of each, which go together where those of `over` make a
            grid; the dimension is `point`, along which the values are coordinates. Where a name's
            values cannot be traced, each point is compiled for itself.
        seeds, key: run seed number s with jax.random.split(key, seeds)[s], the same in every cell
            of the grid. The key goes to the level, or to start where start is a function of a key;
            where both take one, they get the two halves of jax.random.split of it.
        progress: on stderr how many runs are done, how many are done per second, and the time left,
            by predicted costs and what finished programs took: a bar, or in a log file a line from
            time to time. None: where a person watches, in a terminal or a notebook.
        chunk: at most this many runs in one vmapped program, all of which have as many lanes, 1 or
            a multiple of 8, so that other numbers than these leave lanes empty. A run's bits depend
            on its own values, its key and this number alone, on one type of device and one set of
            versions: neither order nor the rest of the grid matters. Another number may change the
            last bits. None: up to 64 on CPUs, 1024 elsewhere, what suits the size of the grid; the
            dataset's attribute `chunk` says how many.
        cost: predicts a run's cost from a dict of its values: runs that cost the same go together,
            because the slowest of a program sets its pace. It gets one dict for each run of the
            grid, before the first run starts; for 10^5 runs that alone takes 0.2 s. None: a guess
            from n and the rates, made for all runs at once.
        store: a folder, "run.zarr", say, that keeps what is finished, so that the same call goes on
            after a kill; see below. The dataset is opened lazily, as by `open_sweep`, and has the
            variable `done`. None: everything stays in memory.
        shard: (i, n) does every n-th block of a store, so that n processes, on any machines that
            see the store, do it all; counted from 0 or from 1 (n is 0). Each returns what is there
            when it has done its share. None: all.
        workers: this many processes run the programs, each with one thread or its own GPU, and
            write them to the store, or to a temporary one; a process that dies is replaced. A
            script needs no guard, but functions must be such that cloudpickle can send them. None:
            this process alone, with all devices that JAX has here; on CPUs one process for each
            core as soon as more than half a minute of work is left, where no shard is asked for and
            cloudpickle is installed and can send the functions. No number of processes or devices
            changes a bit.
        client: a `dask.distributed.Client`, whose workers run the blocks and write them to the
            store, which all of them must see; what a lost worker has not finished is done again.
            x64 is set there as it is here. Start one process for each GPU, and spawn them.
        keywords: passed on to level (and to start, where it has parameters of these names).

    Raises:
        ValueError: for names that do not exist, empty grids, values in zip that are not equally
            many, seeds that nothing takes, keywords that nobody knows, and bad values; for a store
            of another sweep, with the differences on one line, and one that a living process is at.
        OSError: where the store cannot be written; the run's own error where every run raises.

    Example:
        >>> start, ts = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]]), [0.0, 1.0, 2.0]
        >>> over = {"lr": [0.1, 0.5], "noise": [0.0, 0.1]}
        >>> ds = ld.sweep(ld.solve_ode, ld.Problem(), ld.SGD(lr=0.5), start, ts, over=over)
        >>> dict(ds.eg.sizes)
        {'lr': 2, 'noise': 2, 'alpha': 3}
    """
    plan = make_plan(
        level,
        problem,
        rule,
        start,
        ts,
        over={} if over is None else over,
        seeds=seeds,
        key=key,
        chunk=chunk,
        cost=cost,
        keywords=keywords,
        zipped=zip,
    )
    if store is None and shard is not None:
        raise ValueError(f"shard={shard!r} needs a store, in which all shares meet: give store=.")
    whole = isinstance(workers, int) and not isinstance(workers, bool)
    if workers is not None and not (whole and workers >= 1):
        raise ValueError(f"workers must be an integer >= 1, or None; got {workers!r}.")
    if client is not None and store is None:
        raise ValueError("client needs a store that all workers of the cluster see: give store=.")
    if store is None and workers in (None, 1):
        patience = WORTH_PROCESSES if workers is None and cores_here() > 1 else math.inf
        try:
            return _in_memory(plan, progress, patience)
        except TooLong:  # more processes find the same bits again
            if can_be_sent(plan):
                return _in_processes(plan, chunk, progress)
            return _in_memory(plan, progress, math.inf)
    options = {"shard": _checked_shard(shard), "chunk": chunk}
    options |= {"progress": progress, "workers": workers, "client": client}
    if store is not None:
        return run_in_store(plan, Path(store), **options)
    return _in_temporary_store(plan, options)


def _in_processes(plan: Plan, chunk: int | None, progress: bool | None) -> "xarray.Dataset":
    """With a process for each core, or in this one where the temporary files have no room."""
    options = {"shard": (0, 1), "chunk": chunk, "progress": progress, "workers": None}
    try:
        return _in_temporary_store(plan, options)
    except OSError as error:
        warnings.warn(
            f"the sweep goes on in one process, as temporary files cannot be written: {error}",
            RuntimeWarning,
            stacklevel=3,
        )
        return _in_memory(plan, progress, math.inf)


def _in_temporary_store(plan: Plan, options: dict[str, Any]) -> "xarray.Dataset":
    with tempfile.TemporaryDirectory(prefix="learndyn-") as folder:
        try:
            found = run_in_store(plan, Path(folder) / "sweep.zarr", **options)
        except Interrupted as stopped:
            some = stopped.dataset if stopped.dataset is None else stopped.dataset.load()
            raise Interrupted(stopped.finished, stopped.total, some) from None
        return found.drop_vars("done").load()


def _in_memory(plan: Plan, progress: bool | None, patience: float) -> "xarray.Dataset":
    outcomes = []
    try:
        for outcome in run(plan, plan.items, progress=progress, patience=patience):
            outcomes.append(outcome)
    except KeyboardInterrupt as stopped:
        finished = sum(len(outcome.cells) for outcome in outcomes)
        some = any(outcome.arrays for outcome in outcomes)
        found = assemble(plan, outcomes) if some else None
        raise Interrupted(finished, plan.cells, found) from stopped
    return assemble(plan, outcomes)


def _checked_shard(shard: Any) -> tuple[int, int]:
    """Number and count of a share; None is the only one."""
    if shard is None:
        return 0, 1
    whole = isinstance(shard, list | tuple) and len(shard) == 2
    if not whole or not all(isinstance(x, int | np.integer) for x in shard):
        raise ValueError(f"shard must be two integers, such as (3, 64), or None; got {shard!r}.")
    number, count = map(int, shard)
    if count < 1 or not 0 <= number <= count:
        raise ValueError(f"shard=(i, n) must have n >= 1 and i from 0 to n; got {shard!r}.")
    return number % count, count
