"""The loss of any run, with the plateaus and jumps that theory predicts drawn over it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._curves import are_geometric
from learndyn.plot._style import EXPERIMENT, GREY, THEORY, colours, new_axes, short, style
from learndyn.plot.flow._sources import (
    DASHED,
    JumpsLike,
    RunLike,
    jump_times,
    jumps_of,
    label_time,
    runs_in,
    staircase,
    tell_setting,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_NAMED = 7
"""Runs of a batch that get a colour and a line in the legend each; more are drawn alike."""

_SYMBOLS = {"delta": r"$\delta$", "lr": r"$\eta$", "alpha": r"$\alpha$"}
"""Names of batch axes as the literature writes them."""


def loss_curve(
    run: RunLike,
    jumps: JumpsLike = None,
    *,
    theory: RunLike = None,
    alpha: float | None = None,
    times: Any = None,
    log_loss: bool = False,
    log_time: bool | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The loss against time, with predicted levels and jump times as a dashed staircase.

    Args:
        run: a `flow.Run`, single or batched, its dataset, or a sequence of these.
        jumps: a `flow.Jumps` of the same data and normalisation, or its dataset.
        theory: what a closed form says of the same runs, as a dataset with t and loss: dashed
            lines.
        alpha: norm scale of the start, from which times of jumps follow; None: that of the jumps,
            or else of the run's start: the root mean square of the weights of a linear network,
            sqrt|u**2 - v**2| for a diagonal one, the geometric mean of the neurons' norms else.
        times: (jumps,) predicted times in the run's unit, in place of `jumps.at(alpha)`, such as
            those of `flow.linear_jump_times`, which know the constants (there a mode is half
            learned, and three quarters of the drop are behind).
        log_loss: a logarithmic loss.
        log_time: likewise; None: where the saved times are.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for anything else, times that are not as many as jumps, or a start whose scale
            is not known.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> plot.loss_curve(run).get_ylabel()
        'loss'
    """
    runs, predicted = runs_in(run, "run"), jumps_of(jumps)
    with style():
        ax = new_axes(ax)
        label_time(ax, runs[0])
        if are_geometric(runs[0].t.values) if log_time is None else log_time:
            ax.set_xscale("log")
            ax.set_xlim(float(runs[0].t[runs[0].t > 0][0]), float(runs[0].t[-1]))
        if log_loss:
            ax.set_yscale("log", nonpositive="mask")
        _draw_runs(ax, runs)
        for i, one in enumerate([] if theory is None else runs_in(theory, "theory")):
            label = "_" if i else "closed form"
            ax.plot(one.t, one.loss, **DASHED, label=label)
        if predicted is not None:
            _draw_theory(ax, predicted, jump_times(predicted, runs[0], alpha, times), log_loss)
        ax.set_ylabel("loss")
        if not log_loss:
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.legend(loc="best")
        tell_setting(ax, runs)
    return ax


def _draw_runs(ax: "Axes", runs: "list[xarray.Dataset]") -> None:
    labels = [_label(run) for run in runs]
    named = len(set(labels)) == len(runs) and 1 < len(runs) <= _NAMED
    palette = colours(list(range(len(runs)))) if named else [EXPERIMENT] * len(runs)
    faint = 1.0 if len(runs) == 1 or named else max(0.15, 1.0 / np.sqrt(len(runs)))
    kind = "descent" if runs[0].attrs.get("kind") == "descent" else "flow"
    for i, (run, label, colour) in enumerate(zip(runs, labels, palette, strict=True)):
        shown = label if named else "_" if i else f"gradient {kind}"
        ax.plot(run.t, run.loss, color=colour, alpha=faint, label=shown, zorder=2)


def _label(run: "xarray.Dataset") -> str:
    """What distinguishes a run from the others of its batch."""
    own = {str(name): run[name].item() for name in run.coords if run[name].ndim == 0}
    texts = {x: short(value) if isinstance(value, float) else value for x, value in own.items()}
    return ", ".join(f"{_SYMBOLS.get(name, name)} = {text}" for name, text in texts.items())


def _draw_theory(ax: "Axes", jumps: "xarray.Dataset", times: np.ndarray, log_loss: bool) -> None:
    levels = np.asarray(jumps.loss)
    for level in levels[levels > 0] if log_loss else levels:
        ax.axhline(level, color=GREY, linewidth=0.4, zorder=0)
    staircase(ax, times, levels, ax.get_xlim()[1], label="predicted levels and times")
    top = {"transform": ax.get_xaxis_transform(), "clip_on": False}
    inside = times[times < ax.get_xlim()[1]]
    ax.plot(inside, np.zeros(len(inside)), "|", color=THEORY, markersize=7, zorder=4, **top)
