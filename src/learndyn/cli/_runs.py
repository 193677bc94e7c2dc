"""One function per level of description: from options and settings to datasets."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from learndyn._initial import weights_from_overlaps
from learndyn._states import Overlaps, Weights, overlaps
from learndyn.cli._settings import Settings
from learndyn.datasets import to_dataset
from learndyn.dynamics import simulate_sgd, solve_ode
from learndyn.dynamics._sgd import simulate_sgd_in_parts
from learndyn.inputs import field_overlaps
from learndyn.sweep import sweep

Datasets = dict[str, Any]

_PARTS = 100
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def run_ode(options: Any, settings: Settings) -> Datasets:
    """The theory from the start's overlaps."""
    return {"ode": _solve(settings, _as_overlaps(settings.start), options.solver)}


def run_sgd(options: Any, settings: Settings) -> Datasets:
    """The experiment, and the theory from the same overlaps where it is asked for."""
    experiment, weights = options.experiment, _as_weights(settings)
    if experiment.runs < 1:
        raise ValueError(f"--runs must be at least 1; got {experiment.runs}.")
    keywords = {
        "key": settings.key,
        "inputs": settings.inputs,
        "input_dtype": experiment.input_dtype,
        "averages": settings.averages,
    }
    datasets = {}
    if experiment.theory:
        datasets["ode"] = _solve(settings, field_overlaps(weights, settings.inputs), None)
    simulate = _simulate_one if experiment.runs == 1 else _simulate_many
    found = simulate(settings, weights, experiment.runs, keywords)
    datasets["sgd"] = found.assign_attrs(settings.attributes, seed=options.start.seed)
    return datasets


def _simulate_one(settings: Settings, weights: Weights, runs: int, keywords: Any) -> Any:
    """One run, with a bar that follows its steps."""
    from tqdm import tqdm

    arguments = (settings.problem, settings.rule, weights, settings.ts)
    if not _shows_progress(settings):
        trajectory = simulate_sgd(*arguments, **keywords)
    else:
        with tqdm(total=100, unit="%", desc="sgd", bar_format=_BAR) as bar:

            def tell(fraction: float) -> None:
                bar.update(100 * fraction - bar.n)

            trajectory = simulate_sgd_in_parts(*arguments, tell, parts=_PARTS, **keywords)
    return to_dataset(
        trajectory,
        settings.problem,
        settings.rule,
        level="sgd",
        n=weights.n,
        ts=settings.ts,
    )


def _simulate_many(settings: Settings, weights: Weights, runs: int, keywords: Any) -> Any:
    """Independent runs from the same weights, a few at a time."""
    return sweep(
        simulate_sgd,
        settings.problem,
        settings.rule,
        weights,
        settings.ts,
        seeds=runs,
        progress=settings.progress,
        chunk=min(64, max(1, runs // 10)),
        **keywords,
    )


LEVELS: dict[str, Callable[[Any, Settings], Datasets]] = {"ode": run_ode, "sgd": run_sgd}
"""By the name of the subcommand. The last dataset is the one that was asked for."""


def _solve(settings: Settings, start: Overlaps, solver: Any) -> Any:
    keywords = {} if solver is None else vars(solver)
    with _elapsed_time("ode", _shows_progress(settings)):
        trajectory = solve_ode(
            settings.problem,
            settings.rule,
            start,
            settings.ts,
            averages=settings.averages,
            **keywords,
        )
        jax.block_until_ready(trajectory)
    return to_dataset(
        trajectory,
        settings.problem,
        settings.rule,
        level="ode",
        ts=settings.ts,
        attributes=settings.attributes,
    )


@contextlib.contextmanager
def _elapsed_time(name: str, shown: bool) -> Iterator[None]:
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
    return sys.stderr.isatty() if settings.progress is None else settings.progress


def _as_overlaps(start: Weights | Overlaps) -> Overlaps:
    return overlaps(start) if isinstance(start, Weights) else start


def _as_weights(settings: Settings) -> Weights:
    if isinstance(settings.start, Weights):
        return settings.start
    return weights_from_overlaps(jax.random.fold_in(settings.key, 2), settings.start, settings.n)
