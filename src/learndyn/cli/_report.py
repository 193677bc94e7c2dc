"""What a person is told at the end."""

from pathlib import Path
from typing import Any

import numpy as np

from learndyn._results import Result
from learndyn.cli._settings import Settings

_ROWS = 6
"""Times in the printed table: a glance, and the file has them all."""


def report(datasets: dict[str, Any], options: Any, settings: Settings) -> int:
    """Print the error along the way and why each run stopped. Returns how many stopped early."""
    q = next(iter(datasets.values())).sizes
    print(
        f"{options.problem.student} student, k = {q['student']}; "
        f"{options.problem.teacher or options.problem.student} teacher, m = {q['teacher']}; "
        f"{options.problem.loss} loss; n = {_dimension(datasets, settings)}"
    )
    columns = {name: np.atleast_2d(dataset.eg.values) for name, dataset in datasets.items()}
    print("\n" + f"{'alpha':>10}" + "".join(f"{'eg, ' + name:>16}" for name in columns))
    for row in np.unique(np.linspace(0, len(settings.ts) - 1, _ROWS).round().astype(int)):
        values = [_median(runs[:, row]) for runs in columns.values()]
        print(f"{settings.ts[row]:>10.4g}" + "".join(f"{value:>16.6g}" for value in values))
    print()
    return sum(_tell(name, dataset) for name, dataset in datasets.items())


def show_files(paths: list[Path], seconds: float) -> None:
    """Say what was written."""
    print(f"wrote {', '.join(map(str, paths))} ({seconds:.1f} s)")


def _tell(name: str, dataset: Any) -> int:
    codes, counts = np.unique(dataset.result.values, return_counts=True)
    for code, count in zip(codes, counts, strict=True):
        runs = "" if dataset.result.size == 1 else f"{count} of {dataset.result.size} runs: "
        print(f"{name}: {runs}result {code}, {Result(code).meaning}")
    return int(counts[codes != Result.SUCCESS].sum())


def _dimension(datasets: dict[str, Any], settings: Settings) -> str:
    return "infinity" if list(datasets) == ["ode"] else str(settings.n)


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan
