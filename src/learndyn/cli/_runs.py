"""One function per level of description: from options and settings to datasets."""

from collections.abc import Callable
from typing import Any

import jax

from learndyn._initial import weights_from_overlaps
from learndyn._states import Overlaps, Weights, overlaps
from learndyn.cli._settings import Settings
from learndyn.datasets import to_dataset
from learndyn.dynamics import simulate_sgd, solve_ode
from learndyn.inputs import field_overlaps
from learndyn.sweep import sweep

Datasets = dict[str, Any]


def run_ode(options: Any, settings: Settings) -> Datasets:
    """The theory from the start's overlaps."""
    return {"ode": _solve(settings, _as_overlaps(settings.start), options.solver)}


def run_sgd(options: Any, settings: Settings) -> Datasets:
    """The experiment, and the theory from the same overlaps where it is asked for."""
    experiment, weights = options.experiment, _as_weights(settings)
    keywords = {
        "inputs": settings.inputs,
        "input_dtype": experiment.input_dtype,
        "averages": settings.averages,
    }
    if experiment.runs < 1:
        raise ValueError(f"--runs must be at least 1; got {experiment.runs}.")
    datasets = {}
    if experiment.theory:
        datasets["ode"] = _solve(settings, field_overlaps(weights, settings.inputs), None)
    common = (settings.problem, settings.rule, weights, settings.ts)
    found = sweep(
        simulate_sgd,
        *common,
        seeds=experiment.runs,
        key=settings.key,
        progress=settings.progress,
        chunk=max(1, experiment.runs // 10),
        **keywords,
    )
    found = found.isel(seed=0, drop=True) if experiment.runs == 1 else found
    datasets["sgd"] = found.assign_attrs(settings.attributes, seed=options.start.seed)
    return datasets


LEVELS: dict[str, Callable[[Any, Settings], Datasets]] = {"ode": run_ode, "sgd": run_sgd}
"""By the name of the subcommand. The last dataset is the one that was asked for."""


def _solve(settings: Settings, start: Overlaps, solver: Any) -> Any:
    keywords = {} if solver is None else vars(solver)
    trajectory = solve_ode(
        settings.problem,
        settings.rule,
        start,
        settings.ts,
        averages=settings.averages,
        **keywords,
    )
    return to_dataset(
        jax.block_until_ready(trajectory),
        settings.problem,
        settings.rule,
        level="ode",
        ts=settings.ts,
        attributes=settings.attributes,
    )


def _as_overlaps(start: Weights | Overlaps) -> Overlaps:
    return overlaps(start) if isinstance(start, Weights) else start


def _as_weights(settings: Settings) -> Weights:
    if isinstance(settings.start, Weights):
        return settings.start
    return weights_from_overlaps(jax.random.fold_in(settings.key, 2), settings.start, settings.n)
