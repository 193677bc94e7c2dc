"""Overlaps against time: which student unit learns which teacher unit, and when."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._curves import TIME, are_geometric, thinned
from learndyn.plot._data import curves_of
from learndyn.plot._setting import tell_setting, tell_setting_once
from learndyn.plot._style import (
    COLOURS,
    CROSSES,
    GREY,
    label_ends,
    pyplot,
    require_dataset,
    style,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_TITLES = {"R": "student-teacher overlaps $R$", "Q": "student overlaps $Q$"}


def overlap_trajectories(
    theory: "xarray.Dataset | None" = None,
    experiment: "xarray.Dataset | None" = None,
    *,
    log_time: bool | None = None,
    axes: "tuple[Axes, Axes] | None" = None,
) -> "np.ndarray":
    """R (one colour per teacher unit) and Q (norms dark, others light) against time.

    Args:
        theory: lines.
        experiment: crosses, the median over its seeds. Other dimensions must have been selected
            away. Where the theory started from the experiment's `field_overlaps`, the crosses are
            `R_field` and `Q_field`, too.
        log_time: whether time is logarithmic; None: where the saved times are.
        axes: two of them, for R and for Q.

    Raises:
        ValueError: for anything but datasets of one setting.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> plot.overlap_trajectories(ld.to_dataset(run)).shape
        (2,)
    """
    plt = pyplot()

    given = {"theory": theory, "experiment": experiment}
    given = {name: dataset for name, dataset in given.items() if dataset is not None}
    if not given:
        raise ValueError("there is nothing to draw: give theory, experiment, or both.")
    for name, dataset in given.items():
        require_dataset(dataset, name)
    of_fields = len(given) == 2 and _starts_from_fields(given["theory"], given["experiment"])
    if of_fields:
        seen = {quantity: given["experiment"][f"{quantity}_field"] for quantity in "QR"}
        given["experiment"] = given["experiment"].assign(seen)
    own_figure = axes is None
    with style():
        if axes is None:
            axes = plt.subplots(1, 2, figsize=(6.6, 2.9), sharex=True)[1]
        panels = dict(zip("RQ", np.ravel(np.asarray(axes, object)), strict=True))
        for quantity, ax in panels.items():
            _draw(ax, quantity, given, log_time)
            ax.set_title(_TITLES[quantity] + (" of the fields" if of_fields else ""))
        first = next(iter(given.values()))
        found = np.asarray(axes, object)
        if own_figure:
            tell_setting(found[0], given.values())
            tell_setting_once(found)
        label_ends({ax: _ends(quantity, first) for quantity, ax in panels.items()})
    return found


def _starts_from_fields(theory: "xarray.Dataset", experiment: "xarray.Dataset") -> bool:
    """Whether the theory's first R is that of the experiment's fields, not of its weights."""
    if "R_field" not in experiment or "R" not in theory:
        return False
    start = theory.R.isel(alpha=0, drop=True)
    of_fields, of_weights = (
        float(abs(experiment[name].isel(alpha=0, drop=True) - start).sum())
        for name in ("R_field", "R")
    )
    return of_fields < of_weights


def _draw(ax: "Axes", quantity: str, given: dict[str, Any], log_time: bool | None) -> None:
    first = next(iter(given.values()))
    times = np.asarray(first.alpha)
    if are_geometric(times) if log_time is None else log_time:
        ax.set_xscale("log")
        times = times[times > 0]
    ax.set_xlim(times[0], times[-1])
    for name, dataset in given.items():
        rows, columns = (dataset.sizes[dim] for dim in dataset[quantity].dims[-2:])
        for i in range(rows):
            for j in range(columns if quantity == "R" else i + 1):
                _draw_entry(ax, quantity, name, dataset, i, j)
    ax.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
    ax.set_xlabel(TIME)


def _draw_entry(
    ax: "Axes", quantity: str, name: str, dataset: "xarray.Dataset", i: int, j: int
) -> None:
    entry = dataset[[quantity]].isel(dict(zip(dataset[quantity].dims[-2:], (i, j), strict=True)))
    (curve,) = curves_of(entry.assign_attrs(dataset.attrs), name, quantity, None)
    colour = _colour(quantity, i, j)
    # Norms are drawn over the many overlaps of different units.
    front = 3 if quantity == "R" or i == j else 2
    if name == "theory":
        ax.plot(curve.times, curve.quantile(0.5), color=colour, linewidth=1.2, zorder=front)
        return
    shown = thinned(ax, curve.times)
    look = CROSSES | {"markersize": 3.4, "color": colour, "zorder": front + 2, "clip_on": False}
    ax.plot(curve.times[shown], curve.quantile(0.5)[shown], **look)


def _colour(quantity: str, i: int, j: int) -> str:
    if quantity == "R":
        return COLOURS[j % len(COLOURS)]
    return COLOURS[0] if i == j else "#8FB8D6"


def _ends(quantity: str, dataset: "xarray.Dataset") -> list[tuple[float, str, str]]:
    """What to write at which height: one label per colour, none where the run had stopped."""
    values = dataset[quantity]
    values = values.median("seed") if "seed" in values.dims else values
    last = np.asarray(values)[-1]
    if not np.isfinite(last).all():
        return []
    if quantity == "R":
        units = range(last.shape[1])
        return [(float(last[:, j].max()), f"$R_{{i{j + 1}}}$", _colour("R", 0, j)) for j in units]
    labels = [(float(np.median(np.diag(last))), "$Q_{ii}$", _colour("Q", 0, 0))]
    off = last[np.tril_indices(len(last), -1)]
    return labels + ([(float(np.median(off)), "$Q_{ii'}$", _colour("Q", 1, 0))] if len(off) else [])
