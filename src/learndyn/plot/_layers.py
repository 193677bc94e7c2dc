"""Second layers and biases against time, where they are trained."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._curves import TIME, are_geometric, thinned
from learndyn.plot._data import curves_of
from learndyn.plot._style import CROSSES, GREY, MOST_NAMED, colours, label_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"v": "second layer $v$", "b": "biases $b$"}


def trained(datasets: list[Any]) -> list[str]:
    """Which of v and b move in any of these datasets."""
    return [name for name in TITLES if any(_moves(dataset, name) for dataset in datasets)]


def draw_layer(ax: "Axes", name: str, theory: Any, experiment: Any) -> None:
    """v or b of every student unit: the theory as lines, the experiment's medians as crosses."""
    first = experiment if theory is None else theory
    times = np.asarray(first.alpha)
    if are_geometric(times):
        ax.set_xscale("log")
        times = times[times > 0]
    ax.set_xlim(times[0], times[-1])
    units = [f"${name}_{{{i + 1}}}$" for i in range(first.sizes["student"])]
    palette = colours(units)
    ends = []
    drawn = [one for one in (theory, experiment) if one is not None and name in one]
    for i, (unit, colour) in enumerate(zip(units, palette, strict=True)):
        lasts = [
            draw_unit(ax, name, one, {"student": i}, colour, line=one is theory) for one in drawn
        ]
        ends.append((lasts[0], unit, colour))
    ax.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
    ax.set_xlabel(TIME)
    ax.set_title(TITLES[name])
    if len(units) <= MOST_NAMED:
        label_ends({ax: [end for end in ends if np.isfinite(end[0])]})


def draw_unit(
    ax: "Axes", name: str, dataset: Any, at: dict[str, int], colour: Any, *, line: bool
) -> float:
    """The variable `name` of the unit `at`, as a line or as crosses. Returns: the last value."""
    one = dataset[[name]].isel(at).assign_attrs(dataset.attrs)
    (curve,) = curves_of(one, "theory" if line else "experiment", name, None)
    values = curve.quantile(0.5)
    if line:
        ax.plot(curve.times, values, color=colour, linewidth=1.2, zorder=2)
    else:
        shown = thinned(ax, curve.times)
        look = CROSSES | {"markersize": 3.4, "color": colour, "zorder": 3, "clip_on": False}
        ax.plot(curve.times[shown], values[shown], **look)
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else np.nan


def _moves(dataset: Any, name: str) -> bool:
    if dataset is None or name not in dataset or "alpha" not in dataset[name].dims:
        return False
    values = dataset[name]
    # NaN, after a run has stopped, is no movement.
    return bool((values.notnull() & (values != values.isel(alpha=0))).any())
