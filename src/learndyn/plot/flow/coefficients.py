"""What a linear function learns: coefficients, or singular values, one after another."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._style import GREY, new_axes, style
from learndyn.plot.flow._sources import (
    JumpsLike,
    RunLike,
    jump_times,
    jumps_of,
    label_time,
    name_curves,
    one_run,
    staircase,
    tell_setting,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


def coefficients(
    run: RunLike,
    jumps: JumpsLike = None,
    *,
    alpha: float | None = None,
    times: Any = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Coefficients beta of a model with one output, or singular values of an end-to-end matrix.

    Args:
        run: of a `flow.LinearNeuron`, `flow.DiagonalNetwork` or `flow.LinearNetwork`, or its
            dataset.
        jumps: of `flow.diagonal_jumps` or `flow.linear_jumps`: predicted values as dashed
            staircases.
        alpha, times: as for `loss_curve`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for a batch, another model, or as `loss_curve`.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> ax = plot.coefficients(run)
        >>> len(ax.lines)
        3
    """
    run, predicted = one_run(run, "run"), jumps_of(jumps)
    curves, symbol = _values(run, "run")
    with style():
        ax = new_axes(ax)
        label_time(ax, run)
        if predicted is not None:
            jumped = jump_times(predicted, run, alpha, times)
            for levels in _values(predicted, "jumps")[0].T:
                staircase(ax, jumped, levels, ax.get_xlim()[1])
        ax.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
        ax.set_ylabel("coefficients" if symbol == r"\beta" else "singular values")
        tell_setting(ax, [run])
        numbers = [str(i) for i in range(1, curves.shape[1] + 1)]
        name_curves(ax, run.t.values, curves, numbers, f"${symbol}_{{{{{{}}}}}}$")
    return ax


def _values(dataset: "xarray.Dataset", name: str) -> tuple[np.ndarray, str]:
    """Curves (times, coefficients) and their symbol."""
    if "beta" in dataset:
        return dataset.beta.values, r"\beta"
    if "maps" in dataset:
        maps = dataset.maps.values
        there = np.isfinite(maps).all(axis=(1, 2))
        values = np.full((len(maps), min(maps.shape[1:])), np.nan)
        values[there] = np.linalg.svd(maps[there], compute_uv=False)
        return values, "s"
    raise ValueError(
        f"{name} must be of a network that is linear, with coefficients beta or end-to-end "
        f"matrices; it has {list(dataset.data_vars)}."
    )
