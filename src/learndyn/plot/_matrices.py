"""Overlap matrices as heat maps: the state at a glance, alone or inside a learning curve."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._setting import tell_setting, tell_setting_once
from learndyn.plot._style import (
    GREY,
    figure_of,
    pyplot,
    require_dataset,
    short,
    spread,
    style,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_MAP = "RdBu_r"
_MOST_NUMBERED = 10
"""Units on a side of a map that have room for a number each, in a map of 1.35 inches."""

_SIDES = {
    "R": ("teacher unit", "student unit"),
    "Q": ("student unit", "student unit"),
    "T": ("teacher unit", "teacher unit"),
}


def overlap_matrices(
    dataset: "xarray.Dataset",
    alphas: Sequence[float],
    *,
    quantities: Sequence[str] = ("R", "Q"),
) -> np.ndarray:
    """Heat maps of overlaps, one row per quantity and one column per time in `alphas`.

    Args:
        dataset: one setting; of several seeds the first run is shown, since units are numbered
            differently in each. Blue is negative, red positive, white zero; one scale for all.
        alphas: times of the columns.
        quantities: variables of the rows.

    Raises:
        ValueError: for anything but a dataset of one setting, or no times.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> axes = plot.overlap_matrices(ld.to_dataset(run), alphas=[0.0, 2.0])
        >>> axes.shape
        (2, 2)
    """
    plt = pyplot()

    states = states_at(dataset, alphas)
    # One scale for all maps, symmetric about 0, so that colours can be compared
    limit = largest(states, quantities)
    with style():
        heights = [states[0][name].shape[0] for name in quantities]
        figure, axes = plt.subplots(
            len(quantities),
            len(states),
            figsize=(1.0 + 1.35 * len(states), 0.6 + 1.35 * len(quantities)),
            squeeze=False,
            height_ratios=heights,
            layout="compressed",
        )
        images = []
        for row, name in zip(axes, quantities, strict=True):
            for ax, state in zip(row, states, strict=True):
                images.append(heat_map(ax, state[name].values, limit))
                number_units(ax, state[name].shape)
            row[0].set_ylabel(f"${name}$\n{_SIDES[name][1]}")
            for ax in row:
                ax.set_xlabel(_SIDES[name][0])
        for ax, state in zip(axes[0], states, strict=True):
            ax.set_title(rf"$\alpha$ = {short(float(state.alpha))}", loc="center")
        tell_setting(axes[0, -1], [dataset])
        tell_setting_once(axes[:, ::-1])
        bar = figure.colorbar(images[0], ax=axes, shrink=0.7, aspect=18, pad=0.02)
        bar.outline.set(visible=False)
        bar.ax.tick_params(length=2)
    return axes


def overlap_insets(
    ax: "Axes",
    dataset: "xarray.Dataset",
    alphas: Sequence[float],
    *,
    quantity: str = "R",
    places: Sequence[tuple[float, float]] | None = None,
    size: float = 0.19,
) -> "list[Axes]":
    """Heat maps of `quantity` inside a learning curve, each tied to its point on the curve.

    This is how Fig. 1b of Goldt et al. (2020) shows R before and after specialisation.

    Args:
        ax: axes that show the learning curve.
        dataset: as for `overlap_matrices`, with the eg that the axes show.
        alphas: times of the maps.
        quantity: the variable to draw, "R", say.
        places: lower left corners in fractions of the axes; None: next to the curve.
        size: side of a map, in fractions of the axes' height.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> ax = plot.learning_curve(ld.to_dataset(run))
        >>> insets = plot.overlap_insets(ax, ld.to_dataset(run), alphas=[1.0])
        >>> len(insets)
        1
    """
    states = states_at(dataset, alphas)
    limit = largest(states, [quantity])
    figure_of(ax).draw_without_rendering()  # settles limits and positions
    width = float(size * ax.bbox.height / ax.bbox.width)
    if places is None:
        places = _places(ax, dataset, [float(state.alpha) for state in states], (width, size))
    inside = []
    with style():
        for state, (x, y) in zip(states, places, strict=True):
            inset = ax.inset_axes((x, y, width, size))
            heat_map(inset, state[quantity].values, limit)
            title = rf"${quantity}$ at $\alpha$ = {short(float(state.alpha))}"
            inset.set_title(title, fontsize=7, pad=2.5, loc="center")
            _tie(ax, inset, float(state.alpha), float(state.eg))
            inside.append(inset)
        _move_legend(ax, inside)
    return inside


def states_at(dataset: Any, alphas: Sequence[float]) -> "list[xarray.Dataset]":
    """The saved states nearest to `alphas`, of the first run. Raises: ValueError for a sweep."""
    dataset = require_dataset(dataset, "dataset")
    if len(alphas) == 0:
        raise ValueError("alphas is empty: give at least one time to show.")
    one = dataset.isel(seed=0) if "seed" in dataset.dims else dataset
    others = [dim for dim in one["eg"].dims if dim != "alpha"]
    if others:
        raise ValueError(f"the dataset has the dimensions {others}; select one value of each.")
    return [one.sel(alpha=alpha, method="nearest") for alpha in alphas]


def largest(states: "list[xarray.Dataset]", quantities: Sequence[str]) -> float:
    """The largest size of an overlap, the end of the scale of colours."""
    sizes = [np.nanmax(np.abs(state[name].values)) for state in states for name in quantities]
    return float(max(sizes))


def heat_map(ax: "Axes", values: np.ndarray, limit: float) -> Any:
    """The map of one matrix; the scale of colours goes from -limit to limit."""
    image = ax.imshow(values, cmap=_MAP, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color=GREY, linewidth=0.6)
    return image


def number_units(ax: "Axes", shape: tuple[int, ...]) -> None:
    """Numbers of the units, from 1, where there is room for them."""
    if max(shape) <= _MOST_NUMBERED:
        ax.set_xticks(np.arange(shape[1]), [str(i + 1) for i in range(shape[1])], fontsize=6)
        ax.set_yticks(np.arange(shape[0]), [str(i + 1) for i in range(shape[0])], fontsize=6)


def _places(
    ax: "Axes", dataset: Any, alphas: list[float], size: tuple[float, float]
) -> list[tuple[float, float]]:
    """Corners next to the points at alphas: above the curve where there is room, else below."""
    width, height = size
    title, gap = 0.07, 0.07
    curve = _in_axes(ax, np.asarray(dataset.alpha), _eg(dataset))
    points = _in_axes(ax, np.array(alphas), np.ones(len(alphas)))
    centres = spread(np.clip(points[:, 0], 0.6 * width, 1 - 0.6 * width), 1.7 * width)
    centres = np.clip(centres, 0.6 * width, 1 - 0.6 * width)
    places = []
    for centre in centres:
        under = curve[np.abs(curve[:, 0] - centre) < 0.75 * width, 1]
        top, bottom = (under.max(), under.min()) if len(under) else (0.4, 0.4)
        above = top + gap + height + title <= 1.0
        y = top + gap if above else max(bottom - gap - height - title, 0.02)
        places.append((float(centre - width / 2), float(y)))
    return places


def _in_axes(ax: "Axes", x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points in fractions of the axes, those that the axes can show."""
    x = np.maximum(x, ax.get_xlim()[0])  # an exact zero has no place on a logarithmic axis
    shown = np.isfinite(y) & (y > 0)
    return ax.transAxes.inverted().transform(ax.transData.transform(np.c_[x, y][shown]))


def _eg(dataset: Any) -> np.ndarray:
    return np.asarray(dataset["eg"].isel(seed=0) if "seed" in dataset.dims else dataset["eg"])


def _move_legend(ax: "Axes", insets: "list[Axes]") -> None:
    """Put the legend into the first corner where it covers neither curves nor insets."""
    legend, figure = ax.get_legend(), figure_of(ax)
    if legend is None:
        return
    lines = np.concatenate([_in_axes(ax, *map(np.asarray, line.get_data())) for line in ax.lines])
    lines = ax.transAxes.transform(lines)
    for place in ("upper right", "lower left", "upper left", "lower right", "center left"):
        legend.set_loc(place)
        figure.draw_without_rendering()
        box = legend.get_window_extent()
        covered = any(box.overlaps(inset.get_window_extent()) for inset in insets)
        if not covered and not box.count_contains(lines):
            return


def _tie(ax: "Axes", inset: "Axes", alpha: float, eg: float) -> None:
    """A thin line from the point on the curve to the nearer edge of the map that shows it."""
    from matplotlib.patches import ConnectionPatch

    alpha = max(alpha, ax.get_xlim()[0])  # an exact zero has no place on a logarithmic axis
    ax.plot([alpha], [eg], "o", color="black", markersize=3, zorder=6, clip_on=False)
    point = ax.transData.transform((alpha, eg))[1]
    tie = ConnectionPatch(
        (alpha, eg),
        (0.5, 0.0 if point < inset.bbox.y0 else 1.2),
        coordsA=ax.transData,
        coordsB=inset.transAxes,
        color=GREY,
        linewidth=0.6,
        zorder=1,
    )
    tie.set_in_layout(False)
    figure_of(ax).add_artist(tie)
