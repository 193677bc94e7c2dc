"""What a person is told at the end of `learndyn flow`."""

from typing import Any

import numpy as np

from learndyn._results import Result

_ROWS = 6
"""Times in the printed table: a glance, and the file has them all."""

_SIZES = {"input": "inputs", "hidden": "hidden units", "site": "sites", "output": "outputs"}

_NAMES = {
    "neuron": "linear neuron",
    "linear": "linear network",
    "diagonal": "diagonal network",
    "relu": "ReLU network",
    "modular": "modular addition",
}


def report(run: Any, jumps: Any, theory: Any, note: str | None) -> int:
    """Print the loss along the way, the jumps, and why each run stopped.

    run, jumps, theory: datasets, the last two or None. Returns how many runs stopped early.
    """
    # Moments and labels have outputs, too.
    told = [dim for dim in _SIZES if dim in run.sizes and (dim != "output" or "maps" in run)]
    sizes = [f"{run.sizes[dim]} {_SIZES[dim]}" for dim in told]
    print(", ".join([_NAMES[run.attrs["network"]], *sizes]))
    _print_losses(run, theory)
    if jumps is not None:
        _print_jumps(run, jumps)
    if note is not None:
        print(f"theory: {note}")
    return _tell(run)


def _print_losses(run: Any, theory: Any) -> None:
    columns = {f"loss{text}": values for text, values in _columns(run)}
    if theory is not None:
        columns |= {f"closed form{text}": values for text, values in _columns(theory)}
    print("\n" + f"{'t':>10}" + "".join(f"{name:>18}" for name in columns))
    for row in np.unique(np.linspace(0, run.sizes["t"] - 1, _ROWS).round().astype(int)):
        values = "".join(f"{column[row]:>18.6g}" for column in columns.values())
        print(f"{float(run.t[row]):>10.4g}" + values)
    print()


def _columns(run: Any) -> list[tuple[str, np.ndarray]]:
    """A column for each run, with what distinguishes it from the others; no more than three."""
    if "delta" not in run.dims:
        return [("", run.loss.values)]
    chosen = np.unique(np.linspace(0, run.sizes["delta"] - 1, 3).round().astype(int))
    return [(f", {float(run.delta[i]):g}", run.loss.values[i]) for i in chosen]


def _print_jumps(run: Any, jumps: Any) -> None:
    """Predicted times next to those at which the loss falls through the mean of two levels."""
    print(f"{'jump':>10}{'predicted t':>18}{'measured t':>18}{'loss after':>18}")
    # Rounding may leave a last level below 0.
    for i, predicted in enumerate(jumps.predicted.values):
        before, after = jumps.loss.values[i : i + 2]
        measured = _first_fall(run, (before + after) / 2) if before > after else np.nan
        found = f"{measured:.6g}" if np.isfinite(measured) else "not reached"
        print(f"{i + 1:>10}{predicted:>18.6g}{found:>18}{max(after, 0.0):>18.6g}")
    print()


def _first_fall(run: Any, level: float) -> float:
    """When the loss falls below the level, linear between saved times; NaN where it does not."""
    t, loss = run.t.values, run.loss.values
    below = np.flatnonzero((loss[:-1] > level) & (loss[1:] <= level))
    if not len(below):
        return np.nan
    i = below[0]
    return float(t[i] + (loss[i] - level) / (loss[i] - loss[i + 1]) * (t[i + 1] - t[i]))


def _tell(run: Any) -> int:
    codes, counts = np.unique(run.result.values, return_counts=True)
    for code, count in zip(codes, counts, strict=True):
        runs = "" if run.result.size == 1 else f"{count} of {run.result.size} runs: "
        print(f"flow: {runs}result {code}, {Result(code).meaning}")
    return int(counts[codes != Result.SUCCESS].sum())
