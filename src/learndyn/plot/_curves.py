"""Learning curves: theory as lines, experiments as crosses with the band of their ensemble."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn._titles import TITLES
from learndyn.plot._data import Curve, curves_of, datasets_by_name, symbol
from learndyn.plot._setting import tell_setting
from learndyn.plot._style import (
    CROSSES,
    EXPERIMENT,
    GREY,
    THEORY,
    colour_scale,
    colours,
    figure_of,
    label_ends,
    new_axes,
    style,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

TIME = r"$\alpha$ = steps / $n$"
_ERRORS = {
    "eg": r"generalisation error $\epsilon_g$",
    "eg_tasks": r"generalisation error $\epsilon_g$ of each task",
}
"""Quantities that span decades, and how their axis is called."""
_VISIBLE = 0.02
"""Error of the averages, over the value, below which its band is thinner than the line, on a
logarithmic axis of four decades."""

_HATCH = "//////"
"""Fine lines, so that an error does not look like the scatter of runs."""

_LOWEST = 0.1
"""Part of the value down to which bands of theory go: a logarithmic axis has no place for 0."""

_FAINT = 0.2
"""Opacity of bands, over which lines and crosses are seen."""

_MARKERS = 22
"""Crosses along a curve: enough to follow it, few enough to see the line under them."""

_SIZE = 4.0
"""Points from end to end of a cross."""


def learning_curve(
    theory: "xarray.Dataset | Mapping[Any, xarray.Dataset] | None" = None,
    experiment: "xarray.Dataset | Mapping[Any, xarray.Dataset] | None" = None,
    *,
    quantity: str = "eg",
    by: str | None = None,
    log_time: bool | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """`quantity` against time: theory as dark lines, experiments as blue crosses.

    Where the dataset of a theory has `eg_std`, as that of `fluctuations` does, and the experiments
    have one input dimension n, eg has the band of the scatter that theory predicts for one run.
    Where it has `averages_error_eg` and that would be seen, lines of eg have a hatched band for the
    error that comes from the Gaussian averages.

    The training error of an experiment that recorded it is a dotted line next to eg. Runs that
    stopped early are left out after they did. The line over the axes has the setting, counts such
    runs, and values that are not positive, which a logarithmic axis cannot show.

    Args:
        theory, experiment: datasets, or dicts of them by label; what has a label, or a value of
            `by`, has its own colour, the same for theory and experiment. Several seeds show as
            their median and, shaded, the range of the middle 68 % of runs.
        quantity: the variable to draw.
        by: the dimension along which the curves differ; None: the only one other than alpha and
            seed. More than six numbers get a colour bar in place of names.
        log_time: whether time is logarithmic; None: where the saved times are.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for anything but datasets, or dimensions left to choose.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> ax = plot.learning_curve(ld.to_dataset(run))
        >>> ax.get_yscale(), len(ax.lines)
        ('log', 1)
    """
    lines = curves_of(theory, "theory", quantity, by)
    points = curves_of(experiment, "experiment", quantity, by)
    if not lines + points:
        raise ValueError("there is nothing to draw: give theory, experiment, or both.")
    lines = [curve._replace(n=_dimension(curve, points)) for curve in lines]
    named = dict.fromkeys(curve.value for curve in lines + points if curve.value is not None)
    with style():
        ax = new_axes(ax)
        palette = dict(zip(named, colours(list(named)), strict=True))
        _set_scales(ax, lines + points, log_time, is_error=quantity in _ERRORS)
        for curve in lines:
            _draw_line(ax, curve, palette.get(curve.value, THEORY))
        for curve in points:
            _draw_points(ax, curve, palette.get(curve.value, EXPERIMENT))
        ax.set_xlabel(TIME)
        ax.set_ylabel(_ERRORS.get(quantity, quantity))
        training = _draw_training_error(ax, experiment, by, palette) if quantity == "eg" else []
        _label(ax, lines, points, palette, training)
        datasets = [*datasets_by_name(theory).values(), *datasets_by_name(experiment).values()]
        tell_setting(ax, datasets, _failures(lines + points), _unseen(ax, lines + points))
    return ax


def _draw_line(ax: "Axes", curve: Curve, colour: Any) -> None:
    ax.plot(curve.times, curve.quantile(0.5), color=colour, zorder=2)
    _draw_band(ax, curve, colour)
    middle = curve.quantile(0.5)
    for width, look in (
        (curve.scatter, {"color": colour, "alpha": _FAINT, "linewidth": 0}),
        (curve.averages_error if _has_visible_error(curve) else None, _hatched(colour)),
    ):
        if width is not None:
            low = middle - width
            if ax.get_yscale() == "log":
                low = np.fmax(low, _LOWEST * middle)
            ax.fill_between(curve.times, low, middle + width, zorder=1, **look)


def _dimension(line: Curve, points: list[Curve]) -> float | None:
    """The n of the experiments that belong to a theory; None where they have several, or none."""
    own = [point for point in points if line.value is None or point.value == line.value]
    found = {point.n for point in own or points if point.n is not None}
    return found.pop() if len(found) == 1 else line.n


def _has_visible_error(curve: Curve) -> bool:
    """Whether a band for the error of the averages would be thicker than the line."""
    if curve.averages_error is None:
        return False
    return bool((curve.averages_error > _VISIBLE * np.abs(curve.quantile(0.5))).any())


def _draw_points(ax: "Axes", curve: Curve, colour: Any) -> None:
    shown = thinned(ax, curve.times)
    look = CROSSES | {"markersize": _SIZE, "color": colour, "zorder": 3, "clip_on": False}
    ax.plot(curve.times[shown], curve.quantile(0.5)[shown], **look)
    _draw_band(ax, curve, colour)


def _draw_band(ax: "Axes", curve: Curve, colour: Any) -> None:
    if len(curve.values) > 1:
        low, high = curve.quantile(0.16), curve.quantile(0.84)
        look = {"color": colour, "alpha": _FAINT, "linewidth": 0}
        ax.fill_between(curve.times, low, high, zorder=1, **look)


def _set_scales(ax: "Axes", curves: list[Curve], log_time: bool | None, *, is_error: bool) -> None:
    # Errors span decades, and one that is 0 by rounding is left out; any other quantity that is 0,
    # as R is, rules a logarithm out.
    positive = [curve.values[np.isfinite(curve.values)] > 0 for curve in curves]
    if any(one.any() for one in positive) if is_error else all(one.all() for one in positive):
        ax.set_yscale("log", nonpositive="mask")
    times = np.unique(np.concatenate([curve.times for curve in curves]))
    if are_geometric(curves[0].times) if log_time is None else log_time:
        ax.set_xscale("log")
        times = times[times > 0]
    if len(times) > 1:
        ax.set_xlim(times[0], times[-1])


def are_geometric(times: np.ndarray) -> bool:
    """Whether saved times spread so much that they were meant for a logarithmic axis."""
    steps = np.diff(times[times > 0])
    # Linear times have equal steps; geometric ones over two decades grow by more than 20.
    return len(steps) > 2 and bool(steps[-1] > 20 * steps[0])


def thinned(ax: "Axes", times: np.ndarray) -> np.ndarray:
    """Indices of times that lie evenly along the axis, whatever its scale."""
    low, high = ax.get_xlim()
    if ax.get_xscale() == "log":
        wanted = np.geomspace(low, high, _MARKERS)
    else:
        wanted = np.linspace(low, high, _MARKERS)
    # An exact zero has no place on a logarithmic axis.
    inside = np.flatnonzero((times >= low) & (times <= high))
    nearest = np.abs(times[inside][:, None] - wanted).argmin(axis=0)
    return np.unique(inside[nearest])


def _label(
    ax: "Axes",
    lines: list[Curve],
    points: list[Curve],
    palette: dict[Any, Any],
    others: list[Any],
) -> None:
    """Names at the ends of the curves; a legend for what lines and markers are."""
    named = {curve.value: curve for curve in lines + points if curve.label}
    if (scale := colour_scale(list(named))) is not None:
        by = next(curve.by for curve in named.values())
        bar = figure_of(ax).colorbar(scale, ax=ax, pad=0.02, aspect=28)
        bar.outline.set(visible=False)
        bar.set_label(symbol(str(by)))
    elif len(named) > 1:
        ends = [(_last(c), str(c.label), palette[value]) for value, c in named.items()]
        label_ends({ax: [end for end in ends if np.isfinite(end[0])]})
    dark = _shade(lines, palette, THEORY)
    blue = _shade(points, palette, EXPERIMENT)
    handles = [*_handle(lines, dark, marker=False), *_handle(points, blue, marker=True), *others]
    if any(_has_visible_error(curve) for curve in lines):
        handles.append(_patch("error of the averages", **_hatched(dark)))
    if any(handle.get_label() for handle in handles):
        ax.legend(handles=handles, loc="best")


def _shade(curves: list[Curve], palette: dict[Any, Any], own: str) -> Any:
    """The colour that stands for curves in the legend: grey for several colours."""
    found = {palette.get(curve.value, own) for curve in curves}
    return found.pop() if len(found) == 1 else GREY


def _draw_training_error(
    ax: "Axes", experiment: Any, by: str | None, palette: dict[Any, Any]
) -> list[Any]:
    """Dotted lines for what the experiments recorded of it. Returns: their place in the legend."""
    from matplotlib.lines import Line2D

    recorded = {
        name: dataset
        for name, dataset in datasets_by_name(experiment).items()
        if "train_error" in dataset and "alpha" in dataset["train_error"].dims
    }
    look: dict[str, Any] = {"linestyle": ":", "linewidth": 1.2}
    for name, dataset in recorded.items():
        for curve in curves_of(dataset, "experiment", "train_error", by):
            value = curve.value if name is None else name
            ax.plot(curve.times, curve.quantile(0.5), color=palette.get(value, EXPERIMENT), **look)
    shade = GREY if len(palette) > 1 else next(iter(palette.values()), EXPERIMENT)
    return [Line2D([], [], color=shade, label="training error", **look)] if recorded else []


def _handle(curves: list[Curve], colour: Any, *, marker: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    if not curves:
        return []
    level, runs = curves[0].level, len(curves[0].values)
    name = TITLES.get(level, level) or ("experiment" if marker else "theory")
    name += f", median of {runs} runs" if runs > 1 else ""
    look: dict[str, Any] = CROSSES | {"markersize": _SIZE} if marker else {}
    faint = {"color": colour, "alpha": _FAINT, "linewidth": 0}
    handles: list[Any] = [Line2D([], [], color=colour, label=name, **look)]
    if runs > 1:
        handles.append(_patch("middle 68 % of runs", **faint))
    if any(curve.scatter is not None for curve in curves):
        handles.append(_patch("predicted scatter of one run", **faint))
    return handles


def _patch(label: str, **look: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(label=label, **look)


def _hatched(colour: Any) -> dict[str, Any]:
    """The look of the error of the averages."""
    look = {"facecolor": "none", "edgecolor": colour, "alpha": 0.6, "linewidth": 0}
    return look | {"hatch": _HATCH}


def _last(curve: Curve) -> float:
    finite = curve.quantile(0.5)
    finite = finite[np.isfinite(finite)]
    return float(finite[-1]) if len(finite) else np.nan


def _failures(curves: list[Curve]) -> str:
    failed, runs = sum(c.failed for c in curves), sum(len(c.values) for c in curves)
    return f"{failed} of {runs} runs stopped early" if failed else ""


def _unseen(ax: "Axes", curves: list[Curve]) -> str:
    """How many values a logarithmic axis leaves out."""
    if ax.get_yscale() != "log":
        return ""
    medians = [curve.quantile(0.5)[curve.times > 0] for curve in curves]
    count = sum(int((values <= 0).sum()) for values in medians)
    return f"{count} values ≤ 0 not shown" if count else ""
