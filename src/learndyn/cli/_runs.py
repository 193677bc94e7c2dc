"""Runs of a level of description: from options and settings to datasets."""

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from learndyn._progress import is_shown
from learndyn.cli._settings import Settings
from learndyn.datasets import to_dataset
from learndyn.dynamics import Level, fluctuations, solve_ode
from learndyn.states import Overlaps, Weights, overlaps, weights_from_overlaps
from learndyn.sweeps import Outcome, Plan, assemble, make_plan
from learndyn.sweeps import run as run_items

_BAND_GROUPS = 4
"""Groups of directions in the scatter of structured inputs: its cost grows with their square, and a
band is read to some percent."""

Datasets = dict[str, Any]

_PARTS = 100
"""Steps of the progress bar: a percent each."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


class Kept:
    """What is finished of a run, at any time, also for another thread.

    datasets: those that are complete, by name. ensemble: what the outcomes of an unfinished
    ensemble make. total: how many runs that ensemble has.
    """

    def __init__(self) -> None:
        self.datasets: Datasets = {}
        self.outcomes: list[Outcome] = []
        self.plan: Plan | None = None

    @property
    def finished(self) -> int:
        """Runs of the ensemble that have come to their end."""
        return sum(len(outcome.cells) for outcome in self.outcomes)

    def ensemble(self) -> Any:
        """The dataset of these runs alone; None where there are none."""
        outcomes = [outcome for outcome in self.outcomes if outcome.arrays]
        if self.plan is None or not outcomes:
            return None
        seeds = np.sort(np.concatenate([outcome.cells for outcome in outcomes]))
        return assemble(self.plan, outcomes).isel(seed=seeds)


def run_level(level: Level, options: Any, settings: Settings, kept: Kept | None = None) -> Datasets:
    """The datasets of a level by name; the last one is that which was asked for.

    kept: where results are put as they are finished.
    """
    kept = Kept() if kept is None else kept
    datasets = kept.datasets
    if not level.random:
        datasets[level.name] = _solve(settings, _as_overlaps(settings.start), options.solver)
        return datasets
    start = _as_weights(settings) if level.weights else _as_overlaps(settings.start)
    runs = options.ensemble.runs
    if runs < 1:
        raise ValueError(f"--runs must be at least 1; got {runs}.")
    if settings.theory:
        seen = _seen_by_inputs(start, settings)
        datasets["ode"] = _solve(settings, seen, None)
        if settings.band:
            seen = _seen_by_inputs(start, settings, groups=_BAND_GROUPS)
            datasets["ode"] = datasets["ode"].assign(_spread(settings, seen))
    if runs == 1:
        found = _one_run(level, start, options, settings)
    else:
        found = _ensemble(level, start, options, settings, kept)
    datasets[level.name] = with_origin(found, options, settings)
    return datasets


def with_origin(dataset: Any, options: Any, settings: Settings) -> Any:
    """`dataset` with the attributes of this command."""
    return dataset.assign_attrs(settings.attributes, seed=options.start.seed)


def _seen_by_inputs(start: Any, settings: Settings, groups: int | None = None) -> Any:
    """The overlaps from which a theory of these inputs starts: of structured ones, in each
    direction, or in so many groups."""
    if not isinstance(start, Weights):
        return start
    base = getattr(settings.inputs, "base", settings.inputs)
    return overlaps(start, base, None if base.white else groups)


def _keywords(level: Level, options: Any, settings: Settings) -> dict[str, Any]:
    """The arguments of a level after problem, rule, start and times."""
    keywords = {"key": settings.key, "averages": settings.averages}
    if level.weights:
        dtype = options.experiment.input_dtype
        return keywords | {"inputs": settings.inputs, "input_dtype": dtype}
    own = {"dt": options.langevin.dt} if hasattr(options, "langevin") else {}
    return keywords | {"n": settings.n} | own


def _ensemble(level: Level, start: Any, options: Any, settings: Settings, kept: Kept) -> Any:
    """Several runs from the same start: a sweep over seeds, its outcomes kept one by one."""
    keywords = _keywords(level, options, settings)
    plan = kept.plan = make_plan(
        level.function,
        settings.problem,
        settings.rule,
        start,
        settings.ts,
        over={},
        seeds=options.ensemble.runs,
        key=keywords.pop("key"),
        chunk=_chunk(options.ensemble.runs),
        cost=None,
        keywords=keywords,
    )
    for outcome in run_items(plan, plan.items, progress=settings.progress):
        kept.outcomes.append(outcome)
    return assemble(plan, kept.outcomes)


def _chunk(runs: int) -> int:
    """Runs of a program: of ten programs or more, so that the bar moves, if all lanes are filled.

    Lanes come one by one or in eights; 64 are the sweep's own limit on CPUs.
    """
    return 1 if runs < 40 else min(64, 8 * max(1, runs // 80))


def _one_run(level: Level, start: Any, options: Any, settings: Settings) -> Any:
    arguments = (settings.problem, settings.rule, start, settings.ts)
    keywords, shown = _keywords(level, options, settings), _shows_progress(settings)
    if level.in_parts is not None and shown:
        trajectory = _with_bar(level.in_parts, level.name, arguments, keywords)
    else:
        with elapsed_time(level.name, shown):
            trajectory = jax.block_until_ready(level.function(*arguments, **keywords))
    return to_dataset(trajectory)


def _with_bar(in_parts: Callable[..., Any], name: str, arguments: Any, keywords: Any) -> Any:
    from tqdm import tqdm

    with tqdm(total=100, desc=name, bar_format=_BAR) as bar:

        def report(fraction: float) -> None:
            bar.update(100 * fraction - bar.n)

        return in_parts(*arguments, report, parts=_PARTS, **keywords)


def _solve(settings: Settings, start: Overlaps, solver: Any) -> Any:
    keywords = {} if solver is None else vars(solver)
    shown = elapsed_time("ode", _shows_progress(settings))
    with plain_warnings("ode"), shown:
        trajectory = solve_ode(
            settings.problem,
            settings.rule,
            start,
            settings.ts,
            averages=settings.averages,
            **keywords,
        )
        jax.block_until_ready(trajectory)
    return to_dataset(trajectory, attributes=settings.attributes)


def _spread(settings: Settings, start: Any) -> Any:
    """The standard deviations of sqrt(n) times each quantity, Q_std and the others."""
    from learndyn.testing import SCATTER

    shown = elapsed_time("scatter", _shows_progress(settings))
    with plain_warnings("scatter"), shown:
        found = fluctuations(
            settings.problem,
            settings.rule,
            start,
            settings.ts,
            averages=settings.averages,
            **SCATTER,
        )
        jax.block_until_ready(found)
    dataset = to_dataset(found)
    # The runs of a theory in each direction have other groups than their scatter.
    own = lambda name: name.endswith("_std") and "_group_" not in name
    return dataset[[name for name in dataset if own(str(name))]].reset_coords(drop=True)


@contextlib.contextmanager
def plain_warnings(name: str) -> Iterator[None]:
    """Warnings of a run as one line on stderr, without a place in the library's source."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    for warning in told:
        print(f"{name}: {warning.message}", file=sys.stderr)


@contextlib.contextmanager
def elapsed_time(name: str, shown: bool) -> Iterator[None]:
    """Seconds that go by on stderr: an adaptive solver does not know how far it is."""
    from tqdm import tqdm

    done = threading.Event()

    def show() -> None:
        with tqdm(bar_format="{desc}: solving, {elapsed}", desc=name, leave=False) as bar:
            while not done.wait(0.5):
                bar.refresh()

    ticker = threading.Thread(target=show)
    if shown:
        ticker.start()
    try:
        yield
    finally:
        done.set()
        if shown:
            ticker.join()


def _shows_progress(settings: Settings) -> bool:
    return is_shown(settings.progress)


def _as_overlaps(start: Weights | Overlaps) -> Overlaps:
    return overlaps(start) if isinstance(start, Weights) else start


def _as_weights(settings: Settings) -> Weights:
    if isinstance(settings.start, Weights):
        return settings.start
    return weights_from_overlaps(jax.random.fold_in(settings.key, 2), settings.start, settings.n)
