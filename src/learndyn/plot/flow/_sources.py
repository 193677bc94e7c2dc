"""The few numbers of runs and jumps, or of their datasets, that are drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._style import GREY, THEORY, colours, label_ends

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

RunLike = Any
"""A `flow.Run`, its dataset, or a sequence of these; checked where it is read."""

JumpsLike = Any
"""A `flow.Jumps` or its dataset; checked where it is read."""

MODELS = {
    "LinearNeuron": "linear neuron",
    "LinearNetwork": "linear network",
    "DiagonalNetwork": "diagonal network",
    "ModularAddition": "modular addition",
    "TwoLayer": "two-layer network",
}
"""Models as a figure names them."""

_SIZES = {"input": "inputs", "hidden": "hidden", "site": "sites", "output": "outputs"}
"""Dimensions that a figure tells, and what it calls them."""


DASHED: dict[str, Any] = {
    "color": THEORY,
    "linestyle": (0, (4, 2)),
    "linewidth": 1.0,
    "zorder": 3,
}
"""The look of a prediction."""

_SEEN = 0.01
"""A curve that never exceeds this part of the largest one cannot be told from 0 in a figure."""

_NAMED = 12
"""Curves that are named at their ends: more could not be read."""


def runs_in(source: RunLike, name: str) -> "list[xarray.Dataset]":
    """Every run of `source` as a dataset without batch axes.

    Raises: ValueError for anything else.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        if not source:
            raise ValueError(f"{name} holds no run, so there is nothing to draw.")
        return [run for i, one in enumerate(source) for run in runs_in(one, f"{name}[{i}]")]
    dataset = _as_dataset(source, name, "t", "a flow.Run or its dataset")
    batch = [dim for dim in dataset.loss.dims if dim != "t"]
    sizes = [dataset.sizes[dim] for dim in batch]
    places = [dict(zip(batch, index, strict=True)) for index in np.ndindex(*sizes)]
    return [dataset.isel(place) for place in places]


def one_run(source: RunLike, name: str) -> "xarray.Dataset":
    """The only run of `source`. Raises: ValueError for several, or anything else."""
    runs = runs_in(source, name)
    if len(runs) != 1:
        raise ValueError(
            f"{name} holds {len(runs)} runs, but this figure shows one: take it out, run[i] or "
            "dataset.isel(...)."
        )
    return runs[0]


def jumps_of(source: JumpsLike) -> "xarray.Dataset | None":
    """Jumps as a dataset; None for None. Raises: ValueError for anything else."""
    if source is None:
        return None
    return _as_dataset(source, "jumps", "plateau", "a flow.Jumps or its dataset")


def require_variables(run: "xarray.Dataset", names: Sequence[str], of: str) -> None:
    """Raises: ValueError where a run has not these variables, which a certain model has."""
    if missing := [name for name in names if name not in run]:
        raise ValueError(
            f"this figure is of {of}; the run of {run.attrs.get('model', 'a model')} has no "
            f"{missing}."
        )


def jump_times(
    jumps: "xarray.Dataset", run: "xarray.Dataset", alpha: float | None, times: Any
) -> np.ndarray:
    """Predicted times of the jumps in the run's unit.

    times: themselves, where the caller knows better. alpha: norm scale of the start; None: that of
    the jumps, or else of the run's start.
    Raises: ValueError for as many times as there are no jumps, or a start without a scale.
    """
    count = jumps.sizes["jump"]
    if times is not None:
        times = np.asarray(times, float)
        if times.shape != (count,):
            raise ValueError(
                f"times must have one entry for each of the {count} jumps; got shape {times.shape}."
            )
        return times
    from learndyn.flow.jumps._result import unit_of_time

    known = jumps.attrs.get("alpha") if alpha is None else alpha
    scale = start_scale(run) if known is None else float(known)
    if not 0 < scale < 1:
        raise ValueError(
            f"alpha, the norm scale of the start, must lie in (0, 1); got {scale:g}. Give alpha=, "
            "or the predicted times=."
        )
    return unit_of_time(scale, int(jumps.attrs["degree"])) * jumps.times.values


def start_scale(run: "xarray.Dataset") -> float:
    """The norm scale of a run's start: of a linear network the root mean square of its weights, of
    a diagonal one sqrt|u² - v²|, of others the norm of a neuron, in their geometric mean.

    Raises: ValueError for a model of which no scale is known.
    """
    first = run.isel(t=0)
    model = run.attrs.get("model")
    if model == "LinearNetwork":
        layers = [first[name].values.ravel() for name in first if _is_layer(str(name))]
        return float(np.sqrt(np.mean(np.concatenate(layers) ** 2)))
    if model == "DiagonalNetwork":
        return _geometric_mean(np.sqrt(np.abs(first.u.values**2 - first.v.values**2)))
    if model in ("TwoLayer", "ModularAddition"):
        layers = [first[name] for name in ("u", "v", "w", "b") if name in first]
        squares = [(x**2).sum([dim for dim in x.dims if dim != "hidden"]).values for x in layers]
        return _geometric_mean(np.sqrt(np.sum(squares, axis=0)))
    raise ValueError(
        f"the scale of the start of {model} is not known: give alpha=, its norm scale, or the "
        "predicted times=."
    )


def staircase(
    ax: "Axes", times: np.ndarray, levels: np.ndarray, end: float, **look: Any
) -> np.ndarray:
    """A line that rests at each level (plateaus,) until the time (jumps,) of the next one.

    Returns: the times that lie before the end.
    """
    seen = times[times < end]
    edges = np.concatenate([[ax.get_xlim()[0]], seen, [end]])
    heights = levels[: len(seen) + 1]
    ax.plot(np.repeat(edges, 2)[1:-1], np.repeat(heights, 2), **DASHED, **look)
    return seen


def tell_setting(ax: "Axes", runs: "list[xarray.Dataset]") -> None:
    """The setting in one grey line over the axes, with the runs that stopped early."""
    run = runs[0]
    model = str(run.attrs.get("model", ""))
    # Outputs are told of networks with several; a dataset may hold labels, which have outputs, too.
    told = [dim for dim in _SIZES if dim in run.sizes and (dim != "output" or "maps" in run)]
    sizes = [f"{run.sizes[dim]} {_SIZES[dim]}" for dim in told]
    words = [MODELS.get(model, model), *sizes]
    words += [f"{len(runs)} runs"] if len(runs) > 1 else _scale_words(run)
    if failed := sum(int(one.result) != 0 for one in runs):
        words.append(f"{failed} of {len(runs)} runs stopped early")
    ax.set_title(", ".join(word for word in words if word), fontsize=7.5, color=GREY)


def _scale_words(run: "xarray.Dataset") -> list[str]:
    try:
        return [f"start of scale {scale_text(start_scale(run))}"]
    except ValueError:  # not known of this model, or a start of zeros
        return []


def name_curves(
    ax: "Axes", t: np.ndarray, curves: np.ndarray, names: Sequence[str], pattern: str
) -> list[Any]:
    """Draw curves (times, curves), named at their ends; those that stay near 0 are grey, with one
    name for all. Returns: their colours.
    """
    size = np.nanmax(np.abs(curves), axis=0, initial=0.0)
    seen = size > _SEEN * (size.max() if len(size) else 0.0)
    palette = iter(colours([str(name) for name in np.asarray(names)[seen]]))
    looks = [next(palette) if one else GREY for one in seen]
    ends = []
    for curve, name, colour, one in zip(curves.T, names, looks, seen, strict=True):
        ax.plot(t, curve, color=colour, zorder=2 if one else 1)
        if one:
            ends.append((_last(curve), pattern.format(name), colour))
    if not seen.all():
        ends.append((0.0, "others" if seen.any() else "all", GREY))
    if len(ends) <= _NAMED:
        label_ends({ax: ends})
    return looks


def _last(curve: np.ndarray) -> float:
    finite = curve[np.isfinite(curve)]
    return float(finite[-1]) if len(finite) else 0.0


def label_time(ax: "Axes", run: "xarray.Dataset") -> None:
    """The time axis: steps of descent, or time of flow, as far as it was saved."""
    is_descent = run.attrs.get("kind") == "descent"
    ax.set_xlabel("steps" if is_descent else "time $t$")
    ax.set_xlim(float(run.t[0]), float(run.t[-1]))


def scale_text(value: float) -> str:
    """The scale of a start, to two digits."""
    return f"{value:.2g}"


def _as_dataset(source: Any, name: str, axis: str, what: str) -> "xarray.Dataset":
    import xarray as xr

    if not isinstance(source, xr.Dataset):
        source = _made(source)
    if not isinstance(source, xr.Dataset) or axis not in source.dims or "loss" not in source:
        raise ValueError(f"{name} must be {what}; got {type(source).__name__}.")
    return source


def _made(source: Any) -> Any:
    """The dataset of a run or of jumps, for which JAX is there already; else `source` itself."""
    from learndyn.datasets import is_flow, to_dataset

    if is_flow(source):
        shape = getattr(source, "result", np.zeros(())).shape
        return to_dataset(source, over={f"run_{i}": range(size) for i, size in enumerate(shape)})
    return source


def _is_layer(name: str) -> bool:
    return name[:1] == "w" and name[1:].isdigit()


def _geometric_mean(norms: np.ndarray) -> float:
    if not (norms > 0).all():
        raise ValueError(
            "a neuron of the start has norm 0, so that it has no norm scale: give alpha=, or the "
            "predicted times=."
        )
    return float(np.exp(np.mean(np.log(norms))))
