"""States from files: where a run starts, or starts again."""

import csv
import io
import os
from pathlib import Path

import numpy as np

from learndyn.datasets._build import overlaps_at
from learndyn.datasets._files import load, reading
from learndyn.states import GroupedOverlaps, Overlaps, Weights

_SECOND_NAMES = {"A": "v_teacher"}
_STATE = ("Q", "R", "T", "v", "v_teacher", "b", "b_teacher")


def read_state(
    path: str | os.PathLike[str], alpha: float = 0.0
) -> Weights | Overlaps | GroupedOverlaps:
    """The state in a file.

    - .nc: the overlaps of a saved dataset at `alpha` (the nearest saved time), `GroupedOverlaps`
      where it has groups of directions.
    - .npz: `Weights` from arrays w, w_teacher, or `Overlaps` from Q, R, T; both may have v,
      v_teacher, b, b_teacher (A, the paper's name, is v_teacher).
    - .csv: `Overlaps` from rows name, i, j, value; j is empty for vectors.

    Args:
        path: of a .nc, .npz or .csv file.
        alpha: the time in a saved dataset; None: the last one.

    Raises:
        FileNotFoundError: where there is no such file; another OSError where it cannot be read.
        ValueError: for another ending, or contents that make no state.

    Example:
        >>> _ = ld.save(ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]]), "start.npz")
        >>> ld.read_state("start.npz").T
        Array([[1.]], dtype=float64)
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix == ".nc":
        return overlaps_at(load(path), alpha)
    if path.suffix not in readers:
        raise ValueError(f"a state is read from .nc, .npz or .csv; got {str(path)!r}.")
    arrays = readers[path.suffix](path)
    if {"w", "w_teacher"} <= arrays.keys():
        return Weights(arrays["w"], arrays["w_teacher"], *(arrays.get(name) for name in _STATE[3:]))
    missing = [name for name in _STATE[:3] if name not in arrays]
    if missing:
        raise ValueError(
            f"{str(path)!r} has no {missing}; it has {sorted(arrays)}. A start needs Q, R and T "
            "(or, in .npz, w and w_teacher), and may have v, v_teacher, b, b_teacher."
        )
    return Overlaps(*(arrays.get(name) for name in _STATE))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with reading(path, "NumPy archive of numbers (.npz)"), np.load(path) as file:
        return {_SECOND_NAMES.get(str(name), str(name)): file[name] for name in file.files}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """Arrays from rows name, i, j, value; j is empty for vectors. Every entry must be there."""
    entries: dict[str, dict[tuple[int, ...], float]] = {}
    with reading(path, "table of text (.csv)"):
        text = path.read_text(encoding="utf-8")
    with io.StringIO(text, newline="") as file:
        rows = csv.DictReader(file)
        if not {"name", "i", "j", "value"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{str(path)!r} must have the columns name,i,j,value; got {rows.fieldnames}."
            )
        for number, row in enumerate(rows, start=2):
            name = row["name"] or ""
            try:
                index = tuple(int(row[side]) for side in "ij" if row[side] not in (None, ""))
                value = float(row["value"])
            except (TypeError, ValueError):
                raise ValueError(f"{str(path)!r}, line {number}: cannot read {row}.") from None
            entries.setdefault(_SECOND_NAMES.get(name, name), {})[index] = value
    return {name: _filled(path, name, found) for name, found in entries.items()}


def _filled(path: Path, name: str, entries: dict[tuple[int, ...], float]) -> np.ndarray:
    ndim = max(map(len, entries))
    if any(len(index) != ndim or min(index, default=0) < 0 for index in entries):
        raise ValueError(f"{str(path)!r}: {name} mixes vectors and matrices, or indices below 0.")
    shape = tuple(max(index[axis] for index in entries) + 1 for axis in range(ndim))
    array = np.full(shape, np.nan)
    for index, value in entries.items():
        array[index] = value
    if np.isnan(array).any():
        lost = [int(i) for i in np.argwhere(np.isnan(array))[0]]
        raise ValueError(f"{str(path)!r}: {name} has no finite entry {lost}.")
    return array
