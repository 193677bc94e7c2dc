"""The plain numbers of datasets that a page holds."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn._titles import THEORIES, TITLES
from learndyn.plot._curves import are_geometric
from learndyn.plot._data import shown_value, symbol
from learndyn.plot._setting import setting_of
from learndyn.plot._style import require_dataset
from learndyn.plot.flow._sources import MODELS

if TYPE_CHECKING:
    import xarray

_MOST = 450_000
"""Numbers in a page: 2.4 MB in base64, so that the page stays below 3 MB."""

_CURVES = 0.4
"""Share of them that curves may take; of longer ones some times are left out."""

_FRAMES = 60
"""Times of the matrices that are kept before runs are left out: a film of some seconds."""

_WIDEST = 64
"""Rows or columns of a matrix that can still be told apart in a page."""


class Kind(NamedTuple):
    """What is shown of one kind of dataset, and how it is called.

    matrices: names, with what rows and columns count.
    """

    time: str
    time_name: str
    quantity: str
    quantity_name: str
    matrices: dict[str, tuple[str, str]]


_STUDENT, _TEACHER = "student", "teacher"

_TRAJECTORY = Kind(
    "alpha",
    "α",
    "eg",
    "generalisation error",
    {
        "R": (_STUDENT, _TEACHER),
        "Q": (_STUDENT, _STUDENT),
        "T": (_TEACHER, _TEACHER),
        "v": (_STUDENT, ""),
        "v_teacher": (_TEACHER, ""),
        "b": (_STUDENT, ""),
        "b_teacher": (_TEACHER, ""),
        "heads": ("head", _STUDENT),
    },
)

_CLOCKS = {"alpha": "α = steps / n", "t": "time t of gradient flow"}
"""The names of the axis of time."""

_STARRED = {"v_teacher": "v*", "b_teacher": "b*"}
"""What belongs to the teacher, as the literature writes it."""

_OVERLAPS = ("R", "Q", "T")
"""These share one scale of colours; every other quantity has its own."""

_NOT_LAYERS = ("loss", "speed", "result", "end")
"""Variables of a flow that are no matrices."""


def page_data(dataset: Any, theory: Any = None) -> dict[str, Any]:
    """Everything that the page shows, as data for JSON.

    Raises: ValueError as `explore`.
    """
    given = {"dataset": dataset} | ({} if theory is None else {"theory": theory})
    kinds = {name: _kind(require_dataset(one, name), name) for name, one in given.items()}
    kind = kinds["dataset"]
    if any(other.time != kind.time for other in kinds.values()):
        raise ValueError(
            f"dataset is along {kind.time}, but theory along {kinds['theory'].time}: give two of "
            "the same kind."
        )
    axes = _axes(given, kind)
    thinned = {name: _thin_curves(one, kind, len(given)) for name, one in given.items()}
    curves = [_curve(one, kind, _n(dataset)) for one in thinned.values()]
    room = _MOST - sum(_numbers(curve) for curve in curves)
    frames, seeds = _fitting(list(given.values()), kind, room)
    shown = {name: _at_frames(one, kind, given["dataset"], frames) for name, one in given.items()}
    limits = _limits(list(shown.values()), kind)
    sets = [_matrices(one, kinds[name], seeds, limits) for name, one in shown.items()]
    title = " and ".join(dict.fromkeys(_title(one) for one in given.values()))
    return {
        "title": title[:1].upper() + title[1:],
        "setting": plain_text(setting_of(given.values())),
        "time": {
            "name": kind.time_name,
            "label": _CLOCKS[kind.time],
            "frames": _floats(np.asarray(dataset[kind.time], float)[frames]),
            "log": bool(are_geometric(np.asarray(dataset[kind.time], float))),
        },
        "quantity": kind.quantity_name,
        "axes": [_axis(name, values) for name, values in axes.items()],
        "runs": [str(seed) for seed in _seeds(dataset)[:seeds]],
        "curves": curves,
        "sets": [one for one in sets if one["maps"]],
        "starred": _STARRED,
        "notes": _notes(given, kind, frames, seeds, thinned),
    }


def _seeds(dataset: "xarray.Dataset") -> list[Any]:
    """The names of a dataset's runs, as its coordinate has them; none where there is one run."""
    return dataset["seed"].values.tolist() if dataset.sizes.get("seed", 1) > 1 else []


def plain_text(tex: str) -> str:
    """A line without TeX: Greek letters as they are."""
    for name, letter in (("eta", "η"), ("sigma", "σ"), ("kappa", "κ"), ("beta", "β")):
        tex = tex.replace(rf"\{name}", letter)
    return tex.replace("$", "")


def _kind(dataset: "xarray.Dataset", name: str) -> Kind:
    if "eg" in dataset and "alpha" in dataset["eg"].dims:
        return _TRAJECTORY
    if "loss" in dataset and "t" in dataset["loss"].dims:
        return Kind("t", "t", "loss", "loss", _layers(dataset))
    raise ValueError(
        f"{name} must have eg along alpha, or the loss of a gradient flow along t; its variables "
        f"are {[str(found) for found in dataset.data_vars]}. Give a run, an ensemble or a sweep; "
        "jumps are drawn by learndyn.plot.loss_curve."
    )


def _layers(dataset: "xarray.Dataset") -> dict[str, tuple[str, str]]:
    """Vectors and matrices of a flow that fit into a page, with their dimensions."""
    batch = set(dataset["loss"].dims)
    found = {}
    for name, array in dataset.data_vars.items():
        own = [str(dim) for dim in array.dims if dim not in batch]
        is_layer = "t" in array.dims and not str(name).startswith((*_NOT_LAYERS, "velocity_"))
        if is_layer and 1 <= len(own) <= 2 and all(array.sizes[dim] <= _WIDEST for dim in own):
            found[str(name)] = (own[0], own[1] if len(own) == 2 else "")
    return found


def _axes(given: Mapping[str, "xarray.Dataset"], kind: Kind) -> dict[str, np.ndarray]:
    """The swept dimensions and their values. Raises: ValueError where the datasets differ."""
    found: dict[str, np.ndarray] = {}
    for dataset in given.values():
        for dim in dataset[kind.quantity].dims:
            if dim in (kind.time, "seed"):
                continue
            values = np.asarray(dataset[dim])
            known = found.setdefault(str(dim), values)
            if len(known) != len(values) or not _are_equal(known, values):
                raise ValueError(
                    f"dataset and theory must have the same values of {dim!r}; got {known} and "
                    f"{values}. Select those that they share with .sel."
                )
    return found


def _are_equal(left: np.ndarray, right: np.ndarray) -> bool:
    numbers = left.dtype.kind in "iuf" and right.dtype.kind in "iuf"
    return bool(np.allclose(left, right) if numbers else (left == right).all())


def _axis(name: str, values: np.ndarray) -> dict[str, Any]:
    letter = plain_text(symbol(name))
    label = name if letter == name else f"{name} ({letter})"
    return {"name": name, "label": label, "values": [shown_value(value) for value in values]}


def _n(dataset: "xarray.Dataset") -> Any:
    """The input dimension, a number or along its own axis; None where it is not known."""
    if "n" in dataset.coords:
        return dataset["n"]
    return dataset.attrs.get("n") or None


def _title(dataset: "xarray.Dataset") -> str:
    level, model = dataset.attrs.get("level", ""), dataset.attrs.get("model", "run")
    return str(TITLES.get(level, level) or MODELS.get(model, model))


def _is_theory(dataset: "xarray.Dataset") -> bool:
    return dataset.attrs.get("level") in THEORIES


def _thin_curves(dataset: "xarray.Dataset", kind: Kind, parts: int) -> "xarray.Dataset":
    """The curves of `dataset` at as many times as there is room for."""
    wanted = [kind.quantity, "eg_std", "train_error"]
    found = dataset[[name for name in wanted if name in dataset]]
    cells = math.prod(n for dim, n in found[kind.quantity].sizes.items() if dim != kind.time)
    # Median, two ends of a band, and runs
    per_time = cells + 4 * cells // dataset.sizes.get("seed", 1)
    times = dataset.sizes[kind.time]
    kept = max(2, min(times, int(_CURVES * _MOST / parts / per_time)))
    return found.isel({kind.time: _evenly(times, kept)})


def _evenly(count: int, kept: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, kept)).round().astype(int))


def _curve(dataset: "xarray.Dataset", kind: Kind, n: Any) -> dict[str, Any]:
    values = dataset[kind.quantity]
    runs = values.sizes.get("seed", 1)
    curve = {
        "theory": _is_theory(dataset),
        "name": _title(dataset),
        "times": _floats(np.asarray(dataset[kind.time], float)),
    }
    if "seed" in values.dims:
        low, middle, high = (values.quantile(q, "seed") for q in (0.16, 0.5, 0.84))
        curve["runs"] = _packed(values, [kind.time])
    else:
        low, middle, high = None, values, None
    if runs > 1:
        curve["name"] += f", median of {runs} runs"
        curve["band"] = "middle 68 % of runs"
    elif "eg_std" in dataset and n is not None:
        scatter = dataset["eg_std"] / np.sqrt(n)
        low, high = values - scatter, values + scatter
        curve["band"] = "predicted scatter of one run, ± one standard deviation"
    if "band" in curve:
        curve |= {"low": _packed(low, [kind.time]), "high": _packed(high, [kind.time])}
    if "train_error" in dataset and kind.time in dataset["train_error"].dims:
        error = dataset["train_error"]
        error = error.median("seed") if "seed" in error.dims else error
        curve["training"] = _packed(error, [kind.time])
    return curve | {"median": _packed(middle, [kind.time])}


def _numbers(curve: Mapping[str, Any]) -> int:
    return sum(math.prod(x["shape"]) for x in curve.values() if isinstance(x, dict))


def _fitting(given: "Sequence[xarray.Dataset]", kind: Kind, room: int) -> tuple[np.ndarray, int]:
    """Indices of the times at which matrices are kept, and how many runs are."""
    times, seeds = given[0].sizes[kind.time], given[0].sizes.get("seed", 1)
    moving = [
        one[name]
        for one in given
        for name in kind.matrices
        if name in one and kind.time in one[name].dims
    ]
    once, per_run = (
        sum(_size(x, (kind.time, "seed")) for x in moving if ("seed" in x.dims) == repeated)
        for repeated in (False, True)
    )
    frames = min(times, _FRAMES)
    kept = (room // frames - once) // max(1, per_run)
    kept = max(1, min(seeds, kept))
    return _evenly(times, max(2, room // max(1, once + kept * per_run))), kept


def _size(array: "xarray.DataArray", without: Sequence[str]) -> int:
    return math.prod(n for dim, n in array.sizes.items() if dim not in without)


def _at_frames(
    dataset: "xarray.Dataset", kind: Kind, clock: "xarray.Dataset", frames: np.ndarray
) -> "xarray.Dataset":
    """`dataset` at those of its saved times that are nearest to the times of the frames."""
    times = np.asarray(clock[kind.time], float)[frames]
    own = np.asarray(dataset[kind.time], float)
    nearest = np.abs(own[:, None] - times).argmin(axis=0)
    return dataset.isel({kind.time: nearest})


def _matrices(
    dataset: "xarray.Dataset", kind: Kind, seeds: int, limits: Mapping[str, float]
) -> dict[str, Any]:
    kept = dataset.isel(seed=slice(seeds)) if "seed" in dataset.dims else dataset
    of_runs = {*kept[kind.quantity].dims, kind.time}
    maps = []
    for name, (rows, columns) in kind.matrices.items():
        if name not in kept:
            continue
        array = kept[name]
        own = [dim for dim in array.dims if dim not in of_runs]
        time = [kind.time] if kind.time in array.dims else []
        packed = _packed(array, [*time, *own])
        packed["dims"] = ["frame" if dim == kind.time else dim for dim in packed["dims"]]
        one = {"name": name, "rows": rows, "columns": columns, "limit": limits[name]}
        maps.append(one | {"values": packed, "units": [array.sizes[dim] for dim in own]})
    return {"name": _title(dataset), "maps": maps}


def _limits(shown: "Sequence[xarray.Dataset]", kind: Kind) -> dict[str, float]:
    """The end of every quantity's scale of colours, which is symmetric about 0.

    Both datasets, and the three overlaps, have the same scale, so that colours can be compared.
    """
    largest = {
        name: max((_largest(one[name].values) for one in shown if name in one), default=0.0)
        for name in kind.matrices
    }
    together = max((largest[name] for name in _OVERLAPS if name in largest), default=0.0)
    largest |= {name: together for name in _OVERLAPS if name in largest}
    return {name: float(f"{x:.4g}") or 1.0 for name, x in largest.items()}


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _packed(array: Any, last: Sequence[Any]) -> dict[str, Any]:
    """An array as little-endian float32 in base64, with these dimensions last."""
    ordered = array.transpose(..., *last)
    with np.errstate(over="ignore"):  # what float32 cannot hold is drawn as missing
        values = ordered.values.astype("<f4")
    text = base64.b64encode(values.tobytes()).decode()
    return {"dims": [str(dim) for dim in ordered.dims], "shape": list(values.shape), "f32": text}


def _floats(values: np.ndarray) -> list[float]:
    return [float(f"{x:.6g}") for x in values]


def _notes(
    given: "Mapping[str, xarray.Dataset]",
    kind: Kind,
    frames: np.ndarray,
    seeds: int,
    thinned: "Mapping[str, xarray.Dataset]",
) -> list[str]:
    """What the page leaves out."""
    dataset, notes = given["dataset"], []
    times, runs = dataset.sizes[kind.time], dataset.sizes.get("seed", 1)
    if len(frames) < times:
        notes.append(f"Matrices are shown at {len(frames)} of {times} times.")
    if seeds < runs:
        notes.append(f"Matrices are shown for {seeds} of {runs} runs.")
    if (kept := thinned["dataset"].sizes[kind.time]) < times:
        notes.append(f"Curves are shown at {kept} of {times} times.")
    codes = [np.asarray(one["result"]) for one in given.values() if "result" in one]
    if failed := sum(int((code != 0).sum()) for code in codes):
        notes.append(f"{failed} runs stopped early; nothing is drawn after that.")
    return notes
