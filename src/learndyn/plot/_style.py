"""How figures look, and the few helpers that every figure needs."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn._extras import require_extra
from learndyn.datasets import require_writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, for things without an order; its yellow is too pale for lines."""

GREY = "#6E6E6E"

THEORY = "#1f1f1f"
"""The colour of theory, which is drawn as lines."""

EXPERIMENT = COLOURS[0]
"""The colour of experiments, which are drawn as crosses."""

CROSSES: dict[str, Any] = {"linestyle": "none", "marker": "x", "markeredgewidth": 1.0}
"""The look of experiments, whatever their colour."""

_SETTINGS: dict[Any, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 220,
    "font.size": 8.5,
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#303030",
    "axes.labelcolor": "#202020",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.0,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#303030",
    "ytick.color": "#303030",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "xtick.major.size": 3.5,
    "ytick.major.size": 3.5,
    "xtick.minor.size": 2.0,
    "ytick.minor.size": 2.0,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.6,
}


def pyplot() -> Any:
    """Matplotlib's pyplot. Raises: ImportError that says how to install it."""
    require_extra("matplotlib", "plot", "learndyn.plot")
    import matplotlib.pyplot as plt

    return plt


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The look of these figures, inside a `with`, for figures of one's own.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> with plot.style():
        ...     figure, ax = plt.subplots()
        ...     shown = ax.spines["top"].get_visible()
        >>> plt.close(figure)
        >>> shown
        False
    """
    plt = pyplot()

    with plt.rc_context(_SETTINGS):
        yield


def save(axes: "Axes | np.ndarray", path: str | os.PathLike[str]) -> Path:
    """Write the figure of these axes; the ending of `path` chooses the format. Closes it.

    Args:
        axes: axes of the figure, one or several.
        path: where to write.

    Raises:
        OSError: where no file can be written there.
        ImportError: without Matplotlib.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> plot.save(plot.learning_curve(ld.to_dataset(run)), "run.png").name
        'run.png'
    """
    plt = pyplot()

    figure = figure_of(axes)
    path = Path(path)
    require_writable(path)
    with style():
        figure.savefig(path)
    plt.close(figure)
    return path


def figure_of(axes: "Axes | np.ndarray") -> "Figure":
    """The figure that axes, or an array of them, belong to."""
    first: Any = axes.flat[0] if isinstance(axes, np.ndarray) else axes
    return first.get_figure(root=True)


def new_axes(ax: "Axes | None", width: float = 4.6, height: float = 3.1) -> "Axes":
    """`ax`, or the axes of a new figure of this size in inches."""
    plt = pyplot()

    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def require_dataset(value: Any, name: str) -> Any:
    """`value`, if it is a dataset: figures take nothing else, since datasets know what they hold.

    Raises: ValueError that says how to make one.
    """
    import xarray as xr

    if not isinstance(value, xr.Dataset):
        raise ValueError(
            f"{name} must be a dataset; got {type(value).__name__}. Make one with "
            "learndyn.to_dataset or learndyn.sweep."
        )
    return value


def colours(values: Sequence[Any]) -> list[Any]:
    """One colour each: a palette for names, a scale from dark to light for numbers."""
    import matplotlib as mpl

    if (bar := colour_scale(values)) is not None:
        return [bar.to_rgba(value) for value in values]
    if _are_numbers(values) or len(values) > len(COLOURS):
        scale = mpl.colormaps["viridis"]
        return [scale(x) for x in np.linspace(0.0, 0.85, len(values))]
    return list(COLOURS[: len(values)])


MOST_NAMED = 6
"""Curves that are named at their ends; the names of more would not be told apart, and numbers get a
colour bar."""

_DECADE = 10.0
"""Numbers that differ by more than this factor are swept over their logarithm."""


def colour_scale(values: Sequence[Any]) -> Any:
    """What Matplotlib makes a colour bar of for many numbers; None for few, or for names."""
    if len(values) <= MOST_NAMED or not _are_numbers(values):
        return None
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm, Normalize

    low, high = min(values), max(values)
    norm = LogNorm(low, high) if 0 < _DECADE * low < high else Normalize(low, high)
    # Without its pale end, which lines cannot have
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, 256))
    return ScalarMappable(norm, ListedColormap(shades))


def _are_numbers(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(isinstance(value, int | float) for value in values)


def short(number: float) -> str:
    """A time of three digits or more, without exponent: 0.125, 19, 1000."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def label_ends(labels: "Mapping[Axes, Sequence[tuple[float, str, Any]]]") -> None:
    """Write texts next to the right ends of curves, without overlap.

    labels: for each axes the texts as (y, text, colour). All axes in one call, because a figure has
        to be laid out before the height of its axes is known, which takes most of the time.
    """
    for fig in {id(fig): fig for fig in map(figure_of, labels)}.values():
        if (engine := fig.get_layout_engine()) is not None:
            engine.execute(fig)
    for ax, ends in labels.items():
        _label_ends_of(ax, ends)


def _label_ends_of(ax: "Axes", labels: Sequence[tuple[float, str, Any]]) -> None:
    """Label the curves of one `Axes` whose position and limits no longer change."""
    to_pixels = ax.transData.transform
    low, high = ax.bbox.y0, ax.bbox.y1
    spacing = 1.25 * 8.0 * figure_of(ax).dpi / 72
    wanted = np.array([to_pixels((ax.get_xlim()[1], y))[1] for y, _, _ in labels])
    placed = spread(np.clip(wanted, low, high), spacing)
    for (_, text, colour), y in zip(labels, placed, strict=True):
        ax.annotate(
            text,
            xy=(1.0, (y - low) / (high - low)),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            ha="left",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        )


def spread(positions: np.ndarray, spacing: float) -> np.ndarray:
    """Move positions as little as is needed to be `spacing` apart, in the same order."""
    # Isotonic regression by pooling adjacent violators
    order = np.argsort(positions, kind="stable")
    # Groups of touching labels, each centred on the mean of what its members want.
    groups: list[list[float]] = []
    for wish in positions[order].tolist():
        groups.append([wish, 1.0])
        while len(groups) > 1 and _touch(groups[-2], groups[-1], spacing):
            (below, m), (above, n) = groups[-2], groups[-1]
            groups[-2:] = [[(m * below + n * above) / (m + n), m + n]]
    placed = [
        centre + spacing * (i - (count - 1) / 2)
        for centre, count in groups
        for i in range(int(count))
    ]
    result = np.empty(len(positions))
    result[order] = placed
    return result


def _touch(below: list[float], above: list[float], spacing: float) -> bool:
    return above[0] - below[0] < spacing * (below[1] + above[1]) / 2
