"""Pictures of outcomes: theory as lines, experiment as crosses, published numbers as circles."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.atlas._entry import Panel, Published
from learndyn.atlas._outcome import Outcome, at_text, setting_line, symbol
from learndyn.plot._style import GREY, colours, label_ends, pyplot, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 4.6, 3.2
"""Inches of a panel, as wide as the narrowest figure of `learndyn.plot`."""

_LINE = 78
"""Characters of the grey line that fit over one panel at 7 points."""

_FEW = 24
"""Crosses along a curve, at most: enough to follow it, few enough to see the line under them."""

_ROUNDING = 1e-16
"""Values below this, over the largest, are rounding, and not shown on a logarithmic axis."""

_CROSS: dict[str, Any] = {"markersize": 6, "markeredgewidth": 1.2, "zorder": 5}

_LABEL = 34
"""Characters of a label along the vertical axis; longer ones take two lines."""

_SHORT = 30.0
"""Largest over smallest value of a logarithmic axis that needs labels between powers of ten: a
longer one has two of these at least."""

_NAMED = 7
"""Curves that are named at their right ends; more would not be told apart."""


def picture(found: Outcome) -> "Figure":
    """The figure of an outcome, with one grey line for the claim and the setting."""
    panels = [panel for panel in found.entry.panels if _is_drawn(found, panel)]
    with style():
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        size = (_WIDTH * columns, _HEIGHT * rows + 0.25)
        figure, axes = pyplot().subplots(rows, columns, figsize=size, squeeze=False)
        named: dict[Axes, list[tuple[float, str, Any]]] = {}
        for ax, panel in zip(axes.flat, panels, strict=False):
            named[ax] = (_draw_matrix if panel.x is None else _draw_curves)(ax, found, panel)
            ax.set_title(panel.title, loc="left")
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        _tell(figure, found, _LINE * columns)
        label_ends({ax: ends for ax, ends in named.items() if ends})
    return figure


def _is_drawn(found: Outcome, panel: Panel) -> bool:
    """Whether the run has the variable, and the words that the panel selects."""
    dataset = found.dataset
    words = {name: x for name, x in panel.at.items() if isinstance(x, str)}
    there = any(name in dataset for name in (panel.of, f"{panel.of}_predicted"))
    return there and all(x in dataset[name].values for name, x in words.items())


def _tell(figure: "Figure", found: Outcome, width: int) -> None:
    """The grey line over the figure; a long one is broken between two settings."""
    claim = found.entry.claim if found.entry.claim == "reproduces" else "phenomenon, own numbers"
    words = f"{found.entry.name} ({claim}): {setting_line(found)}"
    lines = [""]
    for part in words.split(", "):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        if len(joined) > width and lines[-1]:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = joined
    figure.suptitle("\n".join(lines), fontsize=7.0, color=GREY, x=0.99, ha="right")


def _draw_matrix(ax: "Axes", found: Outcome, panel: Panel) -> list[Any]:
    """A matrix in shades, with its numbers."""
    values = _selected(found.dataset[panel.of], panel.at)
    matrix = np.asarray(values.transpose(*values.dims))
    matrix = matrix[~np.isnan(matrix).all(axis=1)]
    matrix = matrix[:, ~np.isnan(matrix).all(axis=0)]
    limit = float(np.nanmax(np.abs(matrix))) or 1.0
    ax.imshow(matrix, cmap="RdBu_r", vmin=-1.3 * limit, vmax=1.3 * limit, aspect="auto")
    for (i, j), value in np.ndenumerate(matrix):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7)
    ax.set(xlabel=_dim_name(values.dims[1]), ylabel=_dim_name(values.dims[0]))
    ax.set_xticks(range(matrix.shape[1]), [str(i + 1) for i in range(matrix.shape[1])])
    ax.set_yticks(range(matrix.shape[0]), [str(i + 1) for i in range(matrix.shape[0])])
    return []


def _draw_curves(ax: "Axes", found: Outcome, panel: Panel) -> list[tuple[float, str, Any]]:
    """All curves of a panel. Returns: what is to be written at their right ends."""
    dataset = found.dataset
    first = dataset[panel.of if panel.of in dataset else f"{panel.of}_predicted"]
    curves = [None] if panel.by is None else list(first[panel.by].values.tolist())
    palette = dict(zip(curves, colours(curves), strict=True))
    ends, looks = [], {}
    for value in curves:
        at = {**panel.at, **({} if panel.by is None else {panel.by: value})}
        colour = palette[value]
        last = _draw_one(ax, found, panel, at, colour, looks)
        shown = [one for one in found.rows if _belongs(one.published, panel, at)]
        places = [(one.published.at[str(panel.x)], one.published.number) for one in shown]
        circles = [place for place in places if _has_room(panel, *place)]
        if circles:
            looks["published"] = ax.plot(*np.transpose(circles), "o", **_circle(colour))[0]
        if panel.by is not None and np.isfinite(last):
            ends.append((last, at_text(panel.by, value), colour))
    _set_axes(ax, first, panel)
    handles = [_handle(line, label) for label, line in looks.items()]
    if len(handles) > 1:
        ax.legend(handles=handles, loc="best")
    return ends if len(ends) <= _NAMED else ends[:: -(-len(ends) // _NAMED)]


def _draw_one(
    ax: "Axes", found: Outcome, panel: Panel, at: dict, colour: Any, looks: dict
) -> float:
    """One curve: its line and its crosses. Returns: its last value."""
    dataset, name = found.dataset, panel.of
    theory, run, error = (
        _selected(dataset[one], at) if one in dataset else None
        for one in (f"{name}_predicted", name, f"{name}_error")
    )
    crossed = run is not None and (theory is not None or error is not None)
    line: Any = theory if theory is not None else run
    if theory is not None or not crossed:
        looks["theory"] = ax.plot(line[panel.x], line, color=colour, zorder=2)[0]
    if crossed:
        assert run is not None
        places = _thinned(np.asarray(run[panel.x]), "x" in panel.log)
        x, y = np.asarray(run[panel.x])[places], np.asarray(run)[places]
        bars = None if error is None else np.asarray(error)[places]
        if bars is None or not np.isfinite(bars).any():
            looks["measured"] = ax.plot(x, y, "x", color=colour, **_CROSS)[0]
        else:
            drawn = ax.errorbar(x, y, bars, fmt="x", color=colour, elinewidth=0.9, **_CROSS)
            looks["measured"] = drawn.lines[0]
    finite = np.asarray(line)[np.isfinite(np.asarray(line))]
    return float(finite[-1]) if len(finite) else float("nan")


def _selected(values: Any, at: dict | Any) -> Any:
    """The values at these coordinates, those that they have."""
    for name, wanted in at.items():
        if name in values.dims:
            plain = isinstance(wanted, str)
            values = values.sel({name: wanted}, **({} if plain else {"method": "nearest"}))
    return values


def _belongs(published: Published, panel: Panel, at: dict) -> bool:
    """Whether a published number lies on the curve of `panel.of` at these coordinates."""
    if published.of != panel.of or not published.value or panel.x not in published.at:
        return False
    others = {name: x for name, x in published.at.items() if name != panel.x}
    return all(name in at and at[name] == value for name, value in others.items())


def _has_room(panel: Panel, x: Any, y: Any) -> bool:
    """Whether a point has a place on logarithmic axes; elsewhere it would push the layout away."""
    return ("x" not in panel.log or x > 0) and ("y" not in panel.log or y > 0)


def _circle(colour: Any) -> dict[str, Any]:
    return {
        "markersize": 7,
        "markerfacecolor": "none",
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
        "zorder": 4,
        "clip_on": False,
    }


def _handle(line: Any, label: str) -> Any:
    """An entry of the legend that looks like `line`, in grey where curves have colours."""
    from copy import copy

    shown = copy(line)
    shown.set_label(label)
    return shown


def _thinned(x: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Places of at most `_FEW` crosses, evenly along the axis."""
    if len(x) <= _FEW:
        return np.arange(len(x))
    inside = np.flatnonzero(x > 0) if logarithmic else np.arange(len(x))
    spaced = np.geomspace if logarithmic else np.linspace
    wanted = spaced(x[inside][0], x[inside][-1], _FEW)
    return np.unique(inside[np.abs(x[inside][:, None] - wanted).argmin(axis=0)])


def _set_axes(ax: "Axes", first: Any, panel: Panel) -> None:
    assert panel.x is not None
    if "x" in panel.log:
        ax.set_xscale("log")
    if "y" in panel.log:
        ax.set_yscale("log", nonpositive="mask")
        low, high = ax.get_ylim()
        ax.set_ylim(bottom=max(low, _ROUNDING * high))
    values = np.asarray(first[panel.x])
    if values.size <= _FEW:
        ax.margins(x=0.04)
        if np.issubdtype(values.dtype, np.integer) and values.size <= 12 and "x" not in panel.log:
            ax.set_xticks(values)
    if "x" in panel.log:
        _label_between_powers(ax)
    long_name = first[panel.x].attrs.get("long_name", panel.x)
    ax.set_xlabel("α = steps / N" if panel.x == "alpha" else f"{long_name} {_sign(panel.x)}")
    ax.set_ylabel(textwrap.fill(str(first.attrs.get("long_name", panel.of)), _LABEL))


def _label_between_powers(ax: "Axes") -> None:
    """Labels at 2 and 5 on a short axis, for those of Matplotlib at 2, 3, 4 and 6 overlap."""
    from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, NullFormatter

    low, high = ax.get_xlim()
    plain = LogFormatterSciNotation()
    chosen = FuncFormatter(lambda x, at: plain(x, at) if f"{x:.0e}"[0] in "25" else "")
    ax.xaxis.set_minor_formatter(chosen if high < _SHORT * low else NullFormatter())


def _sign(name: str) -> str:
    found = symbol(name)
    return found if found != name else ""


def _dim_name(dim: Any) -> str:
    return {"student": "student unit", "student_": "student unit", "teacher": "teacher unit"}.get(
        str(dim), str(dim)
    )
