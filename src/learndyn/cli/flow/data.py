"""What a network learns from: a teacher on random inputs, or a file."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from learndyn import flow
from learndyn.datasets import reading

_TEACHERS = {
    "neuron": "1,0.5",
    "linear": "3,2,1",
    "diagonal": "1,-0.7,0.4,0,0,0",
    "relu": "1,-1",
}
"""Coefficients of the teacher where nobody says them, by network."""

_RELU_SAMPLES = 40
"""Samples for ReLU units, which cannot learn from second moments."""

_GIVEN = {"teacher": None, "covariance": None, "samples": None, "noise": 0.0}
"""Options that say what a file says, too, and what they are when they are not given."""


def numbers(name: str, text: str) -> Float[np.ndarray, " n"]:
    """The numbers of an option. Raises: ValueError for anything else."""
    try:
        found = np.array([float(word) for word in text.split(",")])
    except ValueError:
        found = np.array([np.nan])
    if not np.isfinite(found).all():
        raise ValueError(f"--{name} must be numbers separated by commas; got {text!r}.")
    return found


def data_of(kind: str, options: Any, generator: np.random.Generator) -> Any:
    """The data of a network: `flow.Data`, or `flow.Moments` of infinitely many samples.

    kind: "neuron", "linear", "diagonal" or "relu".
    Raises: ValueError for options that do not go together, or a file that is none; OSError where it
    cannot be read.
    """
    given = options.data
    if given.data is not None:
        _require_nothing_else(given)
        return _of_file(kind, given.data)
    text = _TEACHERS[kind] if given.teacher is None else given.teacher
    coefficients = numbers("teacher", text)
    sizes = options.inputs if kind == "relu" else len(coefficients)
    variances = _variances(given.covariance, sizes, kind)
    samples = _RELU_SAMPLES if kind == "relu" and given.samples is None else given.samples
    if samples is None:
        if given.noise:
            raise ValueError("--noise goes with --samples: their second moments do not change.")
        teacher = np.diag(coefficients) if kind == "linear" else coefficients[None]
        return flow.Moments(np.diag(variances), teacher * variances)
    if samples < 1 or not given.noise >= 0:
        raise ValueError(
            f"--samples must be at least 1, and --noise >= 0; got {samples} and {given.noise:g}."
        )
    x = generator.normal(size=(samples, len(variances))) * np.sqrt(variances)
    y = _labels(kind, coefficients, x, generator)
    return flow.Data(x, y + given.noise * generator.normal(size=y.shape))


def encoding_of(options: Any, generator: np.random.Generator) -> Float[np.ndarray, " p"]:
    """The encoding x (p,) of modular addition: waves of random phases, or from a file."""
    if options.data is not None:
        return _columns(options.data, ("x",))["x"].ravel()
    amplitudes = numbers("amplitudes", options.amplitudes)
    if options.p < 3 or options.p % 2 == 0 or len(amplitudes) > options.p // 2:
        raise ValueError(
            "--p must be odd and at least 3, with at most (p - 1)/2 --amplitudes; got p = "
            f"{options.p} and {len(amplitudes)} of them."
        )
    phases = generator.uniform(0, 2 * np.pi, len(amplitudes))
    turns = np.outer(
        np.arange(1, len(amplitudes) + 1), 2 * np.pi * np.arange(options.p) / options.p
    )
    x = amplitudes @ np.cos(turns + phases[:, None])
    return x - x.mean()


def _variances(text: str | None, inputs: int, kind: str) -> Float[np.ndarray, " d"]:
    if text is None:
        return np.ones(inputs)
    found = numbers("covariance", text)
    if len(found) != inputs or not (found >= 0).all():
        wanted = "--inputs" if kind == "relu" else "the coefficients of the teacher"
        raise ValueError(
            f"--covariance must be {inputs} variances >= 0, as many as {wanted}; got {text!r}."
        )
    return found


def _labels(
    kind: str,
    coefficients: Float[np.ndarray, " n"],
    x: Float[np.ndarray, "samples d"],
    generator: np.random.Generator,
) -> np.ndarray:
    """What the teacher says, (samples,) or (samples, c)."""
    if kind == "linear":
        return x * coefficients
    if kind != "relu":
        return x @ coefficients
    directions = generator.normal(size=(len(coefficients), x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.maximum(x @ directions.T, 0.0) @ coefficients


def _require_nothing_else(options: Any) -> None:
    for name, unset in _GIVEN.items():
        if getattr(options, name) != unset:
            raise ValueError(
                f"--{name} would be ignored next to --data {str(options.data)!r}, which has inputs "
                "and labels; leave one of them out."
            )


def _of_file(kind: str, path: Path) -> Any:
    found = _columns(path, ("x", "y"))
    x, y = found["x"], found["y"]
    x = x[:, None] if x.ndim == 1 else x
    if kind == "linear" and y.ndim == 1:
        y = y[:, None]
    if kind != "linear" and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if kind != "linear" and y.ndim > 1:
        raise ValueError(
            f"{str(path)!r} has labels y of shape {y.shape}, but this network has one output; use "
            "`learndyn flow linear`, or one column."
        )
    return flow.Data(x, y)


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays by name out of an .npz, .nc or .csv file."""
    readers = {".npz": _of_npz, ".nc": _of_netcdf, ".csv": _of_csv}
    if path.suffix not in readers:
        raise ValueError(f"--data is read from .npz, .nc or .csv; got {str(path)!r}.")
    with reading(path, f"{path.suffix} file with {' and '.join(names)}"):
        found = readers[path.suffix](path)
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{str(path)!r} has no {missing}; it has {sorted(found)}.")
    return {name: np.asarray(found[name], float) for name in names}


def _of_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _of_netcdf(path: Path) -> dict[str, np.ndarray]:
    import xarray as xr

    dataset = xr.load_dataset(path, engine="h5netcdf")
    return {str(name): dataset[name].values for name in dataset.variables}


def _of_csv(path: Path) -> dict[str, np.ndarray]:
    """Columns whose names begin with x and y, in their order."""
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    table = np.array([[float(cell) for cell in row] for row in rows if row])
    found = {}
    for letter in "xy":
        columns = [i for i, name in enumerate(header) if name.strip()[:1] == letter]
        if columns:
            found[letter] = table[:, columns[0] if len(columns) == 1 else columns]
    others = {name: table[:, i] for i, name in enumerate(header) if name.strip()[:1] not in "xy"}
    return others | found
