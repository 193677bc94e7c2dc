"""Directions of hidden neurons in the plane, and those that attract them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._style import COLOURS, GREY, new_axes, style
from learndyn.plot.flow._sources import (
    RunLike,
    label_time,
    one_run,
    require_variables,
    tell_setting,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_COLOUR = {1: COLOURS[0], -1: COLOURS[1]}
"""Colours of neurons that add to the output and that subtract from it."""

_FAINTEST = 0.15
"""Opacity of the neuron of least mass, which a figure should still show."""


def neuron_directions(run: RunLike, directions: Any = None, *, ax: "Axes | None" = None) -> "Axes":
    """Angles of the input weights of a `ld.TwoLayer` against time, for inputs in the plane.

    Args:
        run: one run with two inputs, or one input and biases (the vector is then (w, b)), or its
            dataset. Blue neurons add to the output, red ones subtract; those of little mass |v| |w|
            at the end are faint.
        directions: (directions, 2) extremal ones, or of a teacher, as dashed lines; or a mapping
            from the sign of the output weight to such, {1: ..., -1: ...}, as of
            `flow.extremal_directions`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for a batch, another model or more inputs, or directions of another shape.

    Example:
        >>> w, v = 0.1 * jnp.eye(2), jnp.array([0.1, -0.1])
        >>> start = ld.TwoLayer(w=w, v=v, b=None, activation=ld.ReLU())
        >>> data = flow.Data(x=[[1.0, 0.2], [0.1, 1.0]], y=[1.0, -1.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 1.0])
        >>> len(plot.neuron_directions(run).lines) >= 2
        True
    """
    run = one_run(run, "run")
    vectors = _vectors(run)
    signs = np.where(run.v.values[0] < 0, -1, 1).tolist()
    with style():
        ax = new_axes(ax)
        label_time(ax, run)
        angles = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))
        opacity = _opacity(run, vectors)
        for i in np.argsort(opacity).tolist():
            _draw_angle(ax, run.t.values, angles[:, i], _COLOUR[signs[i]], float(opacity[i]))
        for sign, rows in _by_sign(directions).items():
            for angle in np.degrees(np.arctan2(rows[:, 1], rows[:, 0])):
                colour = _COLOUR.get(sign, GREY)
                ax.axhline(angle, color=colour, linestyle=(0, (4, 2)), linewidth=0.9, zorder=1)
        ax.set(ylim=(-180.0, 180.0), yticks=np.arange(-180, 181, 90))
        ax.set_ylabel("angle of the input weights / degrees")
        _legend(ax, set(signs), has_lines=directions is not None)
        tell_setting(ax, [run])
    return ax


def _vectors(run: "xarray.Dataset") -> np.ndarray:
    """Input weights (times, neurons, 2)."""
    require_variables(run, ("w", "v"), "two-layer networks, with w and v")
    vectors = run.w.values if run.w.ndim == 3 else np.zeros((1, 1, 0))
    if "b" in run:
        vectors = np.concatenate([vectors, run.b.values[..., None]], axis=-1)
    if vectors.shape[-1] != 2 or "hidden" not in run.v.dims:
        raise ValueError(
            "angles are shown of a TwoLayer with two inputs, or one input and biases; its neurons "
            f"have {vectors.shape[-1]} input weights. For others draw flow.alignment."
        )
    return vectors


def _opacity(run: "xarray.Dataset", vectors: np.ndarray) -> np.ndarray:
    there = np.flatnonzero(np.isfinite(run.loss.values))
    last = there[-1] if len(there) else 0
    mass = np.abs(run.v.values[last]) * np.linalg.norm(vectors[last], axis=-1)
    return _FAINTEST + (1 - _FAINTEST) * np.sqrt(mass / (mass.max() or 1.0))


def _draw_angle(ax: "Axes", t: np.ndarray, angle: np.ndarray, colour: str, opacity: float) -> None:
    """One neuron; its line is interrupted where the angle goes over 180 degrees."""
    turns = np.flatnonzero(np.abs(np.diff(angle)) > 180.0) + 1
    t, angle = np.insert(t, turns, np.nan), np.insert(angle, turns, np.nan)
    ax.plot(t, angle, color=colour, alpha=opacity, linewidth=1.1, zorder=2)


def _by_sign(directions: Any) -> dict[int, np.ndarray]:
    if directions is None:
        return {}
    given = directions if isinstance(directions, Mapping) else {0: directions}
    rows = {sign: np.asarray(rows, float) for sign, rows in given.items()}
    for one in rows.values():
        if one.ndim != 2 or one.shape[1] != 2:
            raise ValueError(
                f"directions must have shape (directions, 2), or be a mapping from signs to such; "
                f"got shape {one.shape}."
            )
    return rows


def _legend(ax: "Axes", signs: set[int], *, has_lines: bool) -> None:
    from matplotlib.lines import Line2D

    names = {1: "output weight > 0", -1: "output weight < 0"}
    handles = [Line2D([], [], color=_COLOUR[s], label=names[s]) for s in sorted(signs)[::-1]]
    if has_lines:
        look = {"color": GREY, "linestyle": (0, (4, 2)), "linewidth": 0.9}
        handles.append(Line2D([], [], label="extremal directions", **look))
    ax.legend(handles=handles, loc="best")
