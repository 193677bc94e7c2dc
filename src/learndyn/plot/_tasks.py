"""Several tasks: the error of each, when each is learned, and their heads."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._curves import TIME, are_geometric, learning_curve
from learndyn.plot._layers import draw_unit
from learndyn.plot._style import COLOURS, GREY, label_ends, style

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_STRIP, _ROOM = 0.05, 0.1
"""Heights of the schedule's strip, and of what is kept free for it, over that of the axes: colours
are seen, and no curve runs under them."""


def has_tasks(datasets: list[Any]) -> bool:
    """Whether these are runs of several tasks."""
    return any(dataset is not None and "eg_tasks" in dataset for dataset in datasets)


def heads_move(datasets: list[Any]) -> bool:
    """Whether a second layer is trained in any of these datasets."""
    return any(
        bool(abs(dataset["heads"] - dataset["heads"].isel(alpha=0)).max() > 0)
        for dataset in datasets
        if dataset is not None and "heads" in dataset
    )


def task_curves(
    theory: "xarray.Dataset | None" = None,
    experiment: "xarray.Dataset | None" = None,
    *,
    log_time: bool | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The generalisation error of each task against time, a colour each, and the schedule: a strip
    on top has the colours of the tasks that are learned, as high as their shares, and a dotted line
    stands at each switch.

    A switch stands at the first saved time at which the shares are new: save the time of a switch
    to have it exact.

    Args:
        theory, experiment: datasets of `ld.learn`, theory as lines, experiment as crosses.
        log_time: whether time is logarithmic; None: where the saved times are.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for anything but datasets of several tasks.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1, 0.1]], T=[[1.0, 0.5], [0.5, 1.0]])
        >>> first = ld.Task(ld.Problem(), v_teacher=[1.0, 0.0], until=5.0)
        >>> second = ld.Task(ld.Problem(), v_teacher=[0.0, 1.0])
        >>> run = ld.learn("ode", [first, second], ld.SGD(lr=0.5), start, [0.0, 5.0, 10.0])
        >>> ax = plot.task_curves(ld.to_dataset(run))
        >>> [text.get_text() for text in ax.texts]
        ['task 1', 'task 2']
    """
    keywords = {"quantity": "eg_tasks", "by": "task", "log_time": log_time, "ax": ax}
    ax = learning_curve(theory, experiment, **keywords)
    first = experiment if theory is None else theory
    if first is not None and "shares" in first:
        with style():
            _make_room(ax)
            _draw_schedule(ax, _shares(first))
    return ax


def _make_room(ax: "Axes") -> None:
    """Raise the upper end of the axis, so that curves end below the strip."""
    to_axis, back = ax.yaxis.get_transform(), ax.yaxis.get_transform().inverted()
    low, high = to_axis.transform(ax.get_ylim())
    ax.set_ylim(top=float(back.transform(low + (high - low) / (1.0 - _ROOM))))


def _shares(dataset: "xarray.Dataset") -> "xarray.DataArray":
    """(alpha, task), those of the first run where there are several: they are the same in all."""
    shares = dataset["shares"]
    others = {dim: 0 for dim in shares.dims if dim not in ("alpha", "task")}
    return shares.isel(others).transpose("alpha", "task")


def _draw_schedule(ax: "Axes", shares: "xarray.DataArray") -> None:
    """The strip of tasks, and lines at switches."""
    times, values = np.asarray(shares.alpha), shares.values
    new = np.flatnonzero((np.diff(values, axis=0) != 0).any(axis=1)) + 1
    edges = [*times[np.r_[0, new]], times[-1]]
    low, high = ax.get_xlim()
    strip = {"transform": ax.get_xaxis_transform(), "clip_on": True, "linewidth": 0, "zorder": 1}
    for begin, end, row in zip(edges[:-1], edges[1:], values[np.r_[0, new]], strict=True):
        tops = 1.0 - _STRIP * (1.0 - np.cumsum(row))
        begin, end = np.clip([begin, end], low, high)
        for task, (top, share) in enumerate(zip(tops, row, strict=True)):
            bottom, colour = top - _STRIP * share, COLOURS[task % len(COLOURS)]
            ax.fill_between([begin, end], bottom, top, color=colour, alpha=0.8, **strip)
    for time in times[new]:
        ax.axvline(time, color=GREY, linestyle=":", linewidth=0.8, zorder=0)


def draw_heads(ax: "Axes", theory: Any, experiment: Any) -> None:
    """The second layer of each head, a colour each: theory as lines, the experiment's medians as
    crosses."""
    drawn = [one for one in (theory, experiment) if one is not None and "heads" in one]
    times = np.asarray(drawn[0].alpha)
    if are_geometric(times):
        ax.set_xscale("log")
        times = times[times > 0]
    ax.set_xlim(times[0], times[-1])
    ends = []
    for head in range(drawn[0].sizes["head"]):
        colour = COLOURS[head % len(COLOURS)]
        for unit in range(drawn[0].sizes["student"]):
            at = {"head": head, "student": unit}
            lasts = [draw_unit(ax, "heads", one, at, colour, line=one is theory) for one in drawn]
            ends.append((lasts[0], f"$v^{{({head + 1})}}_{{{unit + 1}}}$", colour))
    ax.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
    ax.set_xlabel(TIME)
    ax.set_title("heads, second layers $v$")
    label_ends({ax: [end for end in ends if np.isfinite(end[0])]})
