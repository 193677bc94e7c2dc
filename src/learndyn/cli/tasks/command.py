"""The subcommand `tasks`: from options to datasets of several tasks, their files and a table."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from learndyn._results import Result
from learndyn.cli._settings import (
    averages_from,
    can_draw,
    is_cheap,
    output_path,
    problem_from,
    rule_from,
    save_times,
)
from learndyn.cli._write import write_files
from learndyn.datasets import to_dataset
from learndyn.inputs import Gaussian
from learndyn.states import Weights, init_weights, overlaps
from learndyn.tasks import Drift, Task, learn

_ROWS = 6
"""Times in the printed table: a glance, and the file has them all."""


class TasksCommand:
    """What the options of `learndyn tasks` ask for."""

    def __init__(self, options: Any):
        self.options, self.own = options, options.tasks
        _require_sizes(self.own, options.ensemble)
        self.png = can_draw(options.output)
        # As for one task: the start has key number 0, the runs number 1.
        key = jax.random.key(options.start.seed)
        self.key = jax.random.fold_in(key, 1)
        self.ts = save_times(options.times)
        self.schedule = schedule_from(self.own, options.times.alpha_max)
        self.rule = rule_from(options.rule, options.times.alpha_max)
        self.averages = averages_from(options.averages)
        self.weights = start_from(self.own, options.start, jax.random.fold_in(key, 0))
        self.heads = _heads(self.own, options.start, jax.random.fold_in(key, 2))
        problem = problem_from(options.problem)
        self.tasks = [
            Task(problem, row, 0 if self.own.one_head else number)
            for number, row in enumerate(np.repeat(np.eye(self.own.tasks), self.own.units, axis=1))
        ]
        wanted = options.ensemble.theory
        cheap = is_cheap(problem, self.rule, overlaps(self.weights), Gaussian(), self.averages)
        is_run = self.own.level != "ode"
        self.theory = is_run and (wanted == "on" or (wanted == "auto" and cheap))
        others = ["ode"] if self.theory else []
        self.output = output_path(options.output, "tasks", self.png, others)

    def run(self) -> tuple[dict[str, Any], int]:
        """The datasets by level, and how many runs stopped early."""
        found = {"ode": self._learn("ode")} if self.theory else {}
        found[self.own.level] = self._learn(self.own.level)
        self._report(found)
        return found, sum(_tell(name, dataset) for name, dataset in found.items())

    def write(self, found: dict[str, Any]) -> list[Path]:
        """The files of these datasets, and their figure."""
        return write_files(found, self.output, self.own.level, png=self.png)

    def _learn(self, level: str) -> Any:
        start = self.weights if level == "sgd" else overlaps(self.weights)
        drift = None if self.own.drift is None else Drift(self.own.drift)
        given = (level, self.tasks, self.rule, start, self.ts, self.heads, self.schedule)
        told = {"options": json.dumps(dataclasses.asdict(self.options), default=str)}
        keywords: dict[str, Any] = {"drift": drift, "averages": self.averages}
        if level == "ode":
            return to_dataset(learn(*given, **keywords), attributes=told)
        keywords |= {"n": self.options.start.n} if level == "chain" else {}
        one = lambda key: learn(*given, key=key, **keywords)
        told |= {"seed": self.options.start.seed}
        runs = self.options.ensemble.runs
        if runs == 1:
            return to_dataset(one(self.key)).assign_attrs(told)
        found = eqx.filter_vmap(one)(jax.random.split(self.key, runs))
        return to_dataset(found, over={"seed": range(runs)}).assign_attrs(told)

    def _report(self, found: dict[str, Any]) -> None:
        """Print the error of every task along the way."""
        student, own = self.options.problem.student, self.own
        size = "infinity" if own.level == "ode" else self.options.start.n
        print(
            f"{student} student, k = {self.options.start.k}; {own.tasks} tasks of {own.units} "
            f"teacher units, similarity {own.similarity:g}; n = {size}"
        )
        names = [f"eg {i + 1}, {name}" for name in found for i in range(own.tasks)]
        print("\n" + f"{'alpha':>10}" + "".join(f"{name:>16}" for name in names))
        columns = [_median(dataset["eg_tasks"]) for dataset in found.values()]
        for row in np.unique(np.linspace(0, len(self.ts) - 1, _ROWS).round().astype(int)):
            values = np.concatenate([one[row] for one in columns])
            print(f"{self.ts[row]:>10.4g}" + "".join(f"{value:>16.6g}" for value in values))
        print()


def _median(errors: Any) -> np.ndarray:
    """(times, tasks), over the runs."""
    found = errors.median("seed") if "seed" in errors.dims else errors
    return found.transpose("alpha", "task").values


def _tell(name: str, dataset: Any) -> int:
    codes, counts = np.unique(dataset.result.values, return_counts=True)
    for code, count in zip(codes, counts, strict=True):
        runs = "" if dataset.result.size == 1 else f"{count} of {dataset.result.size} runs: "
        print(f"{name}: {runs}result {code}, {Result(code).meaning}")
    return int(counts[codes != Result.SUCCESS].sum())


def _require_sizes(own: Any, ensemble: Any) -> None:
    """Raises: ValueError for no tasks, units or runs, a similarity that teachers cannot have."""
    for name, value in (("tasks", own.tasks), ("units", own.units), ("runs", ensemble.runs)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}.")
    lowest = -1.0 / (own.tasks - 1) if own.tasks > 1 else -1.0
    if not lowest <= own.similarity <= 1:
        raise ValueError(
            f"--similarity must lie between {lowest:g} and 1 for {own.tasks} tasks, so that there "
            f"are such teachers; got {own.similarity:g}."
        )
    if own.level == "ode" and ensemble.runs > 1:
        raise ValueError("--runs goes with --level chain or sgd: the ODE has nothing random.")


def schedule_from(own: Any, alpha_max: float) -> list[tuple[float, list[float]]]:
    """The phases. Raises: ValueError for shares next to switches, or of another number."""
    if own.shares is not None:
        if own.switch is not None or own.replay is not None:
            raise ValueError("--shares interleaves all tasks: leave out --switch and --replay.")
        return [(math.inf, _numbers("shares", own.shares))]
    given = _numbers("switch", own.switch) if isinstance(own.switch, str) else own.switch
    if given is None:
        given = [alpha_max * (number + 1) / own.tasks for number in range(own.tasks - 1)]
    ends = given if isinstance(given, list) else [given]
    if len(ends) != own.tasks - 1:
        raise ValueError(
            f"--switch needs {own.tasks - 1} times for {own.tasks} tasks; got {len(ends)}."
        )
    replay = own.replay or 0.0
    if not 0 <= replay <= 1:
        raise ValueError(f"--replay is a share of the steps, between 0 and 1; got {replay:g}.")
    return [(end, _phase(i, own.tasks, replay)) for i, end in enumerate([*ends, math.inf])]


def _phase(number: int, tasks: int, replay: float) -> list[float]:
    """The shares while this task is new: `replay` in equal parts for all earlier ones."""
    if number == 0:
        return [1.0] + [0.0] * (tasks - 1)
    return [replay / number] * number + [1.0 - replay] + [0.0] * (tasks - 1 - number)


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--{name} must be numbers separated by commas, such as 0.3,0.7; got {text!r}."
        ) from None


def start_from(own: Any, options: Any, key: jax.Array) -> Weights:
    """Random weights; the teachers' overlaps are exactly those that the similarity asks for."""
    m = own.tasks * own.units
    weights = init_weights(
        key, options.n, options.k, m, scale=options.init_scale, orthonormal_teacher=True
    )
    partners = np.full((own.tasks, own.tasks), own.similarity)
    np.fill_diagonal(partners, 1.0)
    # Square root of the matrix of overlaps, T = A A^T, by its eigenvectors: T may be singular
    values, vectors = np.linalg.eigh(np.kron(partners, np.eye(own.units)))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return eqx.tree_at(lambda w: w.w_teacher, weights, root @ weights.w_teacher)


def _heads(own: Any, options: Any, key: jax.Array) -> Any:
    shape = (1 if own.one_head else own.tasks, options.k)
    if options.v == "gaussian":
        return jax.random.normal(key, shape)
    return np.full(shape, float(options.v))
