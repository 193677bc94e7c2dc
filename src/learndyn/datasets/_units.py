"""Which student unit learns which teacher unit, and arrays in that order."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn.datasets._schema import UNITS

if TYPE_CHECKING:
    import xarray

_RUN_AXES = ("alpha", *UNITS)
"""Dimensions that a single run has."""


class Matching(NamedTuple):
    """Student units in the order of their teachers. Both (…, student), with the runs' dimensions.

    order: positions from 0. teacher: of the unit at each place, counted from 1; 0 where a run of a
    sweep has fewer units.
    """

    order: "xarray.DataArray"
    teacher: "xarray.DataArray"


def cosines(dataset: "xarray.Dataset") -> "xarray.DataArray":
    """R_ij / sqrt(Q_ii T_jj), NaN where a vector vanishes; (…, alpha, student, teacher)."""
    squares = _diagonal(dataset["Q"], "student") * _diagonal(dataset["T"], "teacher")
    found = dataset["R"] / np.sqrt(squares.where(squares > 0))
    time = ["alpha"] if "alpha" in found.dims else []
    return found.transpose(..., *time, "student", "teacher")


def matching(cosine: "xarray.DataArray") -> Matching:
    """Every teacher's unit at the last time that each run reached.

    First as many pairs as there are units on the smaller side, with the largest sum of |cosine|
    (the assignment problem); then each student unit that is left goes to the teacher with which
    its |cosine| is largest.
    """
    import xarray as xr

    sizes = cosine.shape[-2:]
    runs = [str(dim) for dim in cosine.dims if dim not in _RUN_AXES]
    last = _last_finite(np.abs(cosine.values), "alpha" in cosine.dims)
    pairs = [_matched(one) for one in last.reshape(-1, *sizes)]
    shape = tuple(cosine.sizes[dim] for dim in runs)
    coords = {name: x for name, x in cosine.coords.items() if set(x.dims) <= set(runs)}
    labelled = (
        xr.DataArray(np.array(part).reshape(*shape, sizes[0]), coords, (*runs, "student"))
        for part in zip(*pairs, strict=True)
    )
    return Matching(*labelled)


def in_order(array: "xarray.DataArray", match: Matching) -> "xarray.DataArray":
    """`array` with the student units of every run in the order of their teachers."""
    import xarray as xr

    places: dict[Any, Any] = {
        side: match.order.reset_coords(drop=True).rename(student=side)
        for side in ("student", "student_")
        if side in array.dims
    }
    # Positions along the runs' dimensions pair each run with its own order.
    runs = [dim for dim in match.order.dims if dim != "student" and dim in array.dims]
    places |= {dim: xr.DataArray(np.arange(array.sizes[dim]), dims=[dim]) for dim in runs}
    bare = array.drop_vars([name for name in array.coords if name in places])
    found = bare.isel({k: v.drop_vars(list(v.coords)) for k, v in places.items()})
    return found.transpose(*runs_first(array, match)).assign_coords(
        {dim: array[dim] for dim in runs if dim in array.coords}
    )


def runs_first(array: "xarray.DataArray", match: Matching) -> list[Any]:
    """The dimensions that `array` has after it is put in order."""
    new = [dim for dim in match.order.dims if dim != "student" and dim not in array.dims]
    return [*new, *array.dims]


def _diagonal(matrix: "xarray.DataArray", side: str) -> "xarray.DataArray":
    import xarray as xr

    last = matrix.transpose(..., side, f"{side}_")
    coords = {name: x for name, x in last.coords.items() if not {side, f"{side}_"} & set(x.dims)}
    return xr.DataArray(np.einsum("...ii->...i", last.values), coords, last.dims[:-1])


def _last_finite(values: np.ndarray, over_time: bool) -> np.ndarray:
    """(…, student, teacher) at the last time at which a run still had numbers."""
    if not over_time:
        return values
    going = np.asarray(np.isfinite(values).any(axis=(-2, -1)))
    last = values.shape[-3] - 1 - np.argmax(going[..., ::-1], axis=-1)
    return np.take_along_axis(values, last[..., None, None, None], axis=-3).squeeze(-3)


def _matched(cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of the students of one run, and their teachers from 1."""
    from scipy.optimize import linear_sum_assignment

    there = np.isfinite(cosine)
    size = np.where(there, cosine, -1.0)  # units that a run does not have come last
    teacher = np.argmax(size, axis=1) + 1
    students, teachers = linear_sum_assignment(size, maximize=True)
    teacher[students] = teachers + 1
    first = np.zeros(len(teacher), bool)
    first[students] = True
    absent = ~there.any(axis=1)
    teacher[absent] = 0
    order = np.lexsort((np.arange(len(teacher)), teacher, ~first, absent))
    return order, teacher[order]
