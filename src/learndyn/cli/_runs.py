"""One function per level of description: from options and settings to datasets."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from learndyn.cli._settings import Settings
from learndyn.datasets import to_dataset
from learndyn.dynamics import simulate_chain, simulate_langevin, simulate_sgd, solve_ode
from learndyn.dynamics.sgd._simulate import simulate_sgd_in_parts
from learndyn.inputs import field_overlaps
from learndyn.states import Overlaps, Weights, overlaps, weights_from_overlaps
from learndyn.sweeps import sweep

Datasets = dict[str, Any]

_PARTS = 100
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def run_ode(options: Any, settings: Settings) -> Datasets:
    """The theory from the start's overlaps."""
    return {"ode": _solve(settings, _as_overlaps(settings.start), options.solver)}


def run_sgd(options: Any, settings: Settings) -> Datasets:
    """The experiment, on weights."""
    weights = _as_weights(settings)
    keywords = {"inputs": settings.inputs, "input_dtype": options.experiment.input_dtype}
    fields = field_overlaps(weights, settings.inputs)
    return _ensemble("sgd", simulate_sgd, weights, fields, options, settings, keywords)


def run_chain(options: Any, settings: Settings) -> Datasets:
    """The same law as the experiment with Gaussian inputs, on overlaps."""
    start = _as_overlaps(settings.start)
    return _ensemble("chain", simulate_chain, start, start, options, settings, {"n": settings.n})


def run_langevin(options: Any, settings: Settings) -> Datasets:
    """The experiment to first order in 1/sqrt N."""
    start, keywords = _as_overlaps(settings.start), {"n": settings.n, "dt": options.langevin.dt}
    return _ensemble("langevin", simulate_langevin, start, start, options, settings, keywords)


LEVELS: dict[str, Callable[[Any, Settings], Datasets]] = {
    "ode": run_ode,
    "sgd": run_sgd,
    "chain": run_chain,
    "langevin": run_langevin,
}
"""By the name of the subcommand. The last dataset is the one that was asked for."""


def _ensemble(
    name: str,
    level: Callable[..., Any],
    start: Any,
    fields: Overlaps,
    options: Any,
    settings: Settings,
    keywords: dict[str, Any],
) -> Datasets:
    """Runs from the same start, and the theory of its fields where it is asked for."""
    runs = options.ensemble.runs
    if runs < 1:
        raise ValueError(f"--runs must be at least 1; got {runs}.")
    keywords = {"key": settings.key, "averages": settings.averages, **keywords}
    datasets = {}
    if options.ensemble.theory:
        datasets["ode"] = _solve(settings, fields, None)
    arguments = (settings.problem, settings.rule, start, settings.ts)
    if runs == 1:
        found = _one_run(name, level, arguments, settings, keywords)
    else:
        chunk = min(64, max(1, runs // 10))
        found = sweep(
            level,
            *arguments,
            seeds=runs,
            progress=settings.progress,
            chunk=chunk,
            **keywords,
        )
    datasets[name] = found.assign_attrs(settings.attributes, seed=options.start.seed)
    return datasets


def _one_run(
    name: str, level: Callable[..., Any], arguments: Any, settings: Settings, keywords: Any
) -> Any:
    shown = _shows_progress(settings)
    if level is simulate_sgd and shown:
        trajectory = _with_bar(arguments, keywords)
    else:
        with _elapsed_time(name, shown):
            trajectory = jax.block_until_ready(level(*arguments, **keywords))
    problem, rule, _, ts = arguments
    return to_dataset(trajectory, problem, rule, level=name, n=settings.n, ts=ts)


def _with_bar(arguments: Any, keywords: Any) -> Any:
    from tqdm import tqdm

    with tqdm(total=100, desc="sgd", bar_format=_BAR) as bar:

        def tell(fraction: float) -> None:
            bar.update(100 * fraction - bar.n)

        problem, rule, weights, ts = arguments
        return simulate_sgd_in_parts(problem, rule, weights, ts, tell, parts=_PARTS, **keywords)


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
