"""Put the outcomes of a sweep in grid order: one labelled dataset."""

import json
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np

from learndyn._results import Result
from learndyn.datasets import CONSTANTS, Labelled, are_codes, build, provenance
from learndyn.dynamics import level_of
from learndyn.problems import Function, describe
from learndyn.sweeps._axes import POINT, Axis, singles
from learndyn.sweeps._call import takes_key
from learndyn.sweeps._plan import Plan
from learndyn.sweeps._run import Outcome

if TYPE_CHECKING:
    import xarray


def assemble(plan: Plan, outcomes: Iterable[Outcome]) -> "xarray.Dataset":
    """The dataset of all outcomes, in any order. Cells that raised or are missing hold NaN.

    Raises: the first error where every cell that was run raised; ValueError for no outcomes.
    """
    outcomes = list(outcomes)
    errors = {cell: error for outcome in outcomes for cell, error in outcome.errors.items()}
    finished = [outcome for outcome in outcomes if outcome.arrays]
    if not outcomes:
        raise ValueError("there is nothing to assemble: no run of the sweep was finished.")
    if not finished:
        raise errors[min(errors)]
    _warn(plan, errors)
    names = dict.fromkeys(name for outcome in finished for name in outcome.arrays)
    flat = _of_one_size({name: _gathered(plan, name, finished) for name in names})
    clashes = {"alpha", *plan.names, *(dim for dims, _ in flat.values() for dim in dims)}
    flat = {f"{name}_used" if name in clashes else name: found for name, found in flat.items()}
    if "result" not in flat:
        codes = np.full(plan.cells, Result.ERROR.value, np.int8)
        codes[np.concatenate([outcome.cells for outcome in finished])] = Result.SUCCESS.value
        flat["result"] = Labelled((), codes)
    reached = np.concatenate([outcome.cells for outcome in outcomes])
    if are_codes(flat["result"].array):  # a user's own numbers of that name are NaN there
        flat["result"].array[np.setdiff1d(np.arange(plan.cells), reached)] = Result.NOT_RUN.value
    variables = {
        name: _without_idle_dims(plan, name, dims, array.reshape((*plan.shape, *array.shape[1:])))
        for name, (dims, array) in flat.items()
    }
    coordinates = coordinates_of(plan)
    attributes = attributes_of(plan, errors)
    return build(variables, coordinates, attributes, along=dims_of(coordinates, plan.dims))


def _gathered(plan: Plan, name: str, outcomes: list[Outcome]) -> Labelled:
    """One array over all cells; shorter axes and cells without outcome are filled up."""
    having = [outcome for outcome in outcomes if name in outcome.arrays]
    dims = common_dims(plan, name, [outcome.arrays[name] for outcome in having])
    arrays = [_with_axes(outcome.arrays[name].array, 1 + len(dims)) for outcome in having]
    shape = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    complete = sum(len(outcome.cells) for outcome in having) == plan.cells
    dtype, fill = np.result_type(*arrays), 0.0
    if name == "result" and all(are_codes(array) for array in arrays):
        fill = Result.ERROR.value
    elif not complete or any(array.shape[1:] != shape for array in arrays):
        dtype, fill = np.result_type(dtype, np.float64), np.nan
    whole = np.full((plan.cells, *shape), fill, dtype)
    for outcome, array in zip(having, arrays, strict=True):
        whole[(outcome.cells, *(slice(size) for size in array.shape[1:]))] = array
    return Labelled(dims, whole)


def common_dims(plan: Plan, name: str, found: list[Labelled]) -> tuple[str, ...]:
    """One name for each axis: that which all runs agree on and which fits, else `name` and number.

    An axis that is as long as ts in some runs alone, for example, is no axis of times.
    """
    rank = max(len(labelled.dims) for labelled in found)
    if any(len(labelled.dims) != rank for labelled in found):
        warnings.warn(
            f"{name} has different numbers of axes in different runs of the sweep; the missing "
            "ones have one entry, and NaN fills the rest.",
            RuntimeWarning,
            stacklevel=5,
        )
    names = []
    for axis in range(rank):
        here = [labelled for labelled in found if len(labelled.dims) > axis]
        told = {labelled.dims[axis] for labelled in here}
        sizes = {labelled.array.shape[1 + axis] for labelled in here}
        fits = told.isdisjoint(plan.dims) and ("alpha" not in told or sizes == {len(plan.call.ts)})
        names.append(told.pop() if len(told) == 1 and fits else f"{name}_{axis}")
    return tuple(names)


def _with_axes(array: np.ndarray, ndim: int) -> np.ndarray:
    """`array` with axes of length 1 at its end."""
    return array.reshape(*array.shape, *[1] * (ndim - array.ndim))


def _of_one_size(flat: dict[str, Labelled]) -> dict[str, Labelled]:
    """Arrays that share a dimension, filled up with NaN to its largest size."""
    sizes: dict[str, int] = {}
    for dims, array in flat.values():
        for dim, size in zip(dims, array.shape[1:], strict=True):
            sizes[dim] = max(size, sizes.get(dim, 0))

    def filled(dims: tuple[str, ...], array: np.ndarray) -> Labelled:
        shape = (len(array), *(sizes[dim] for dim in dims))
        if shape == array.shape:
            return Labelled(dims, array)
        whole = np.full(shape, np.nan, np.result_type(array, np.float64))
        whole[tuple(map(slice, array.shape))] = array
        return Labelled(dims, whole)

    return {name: filled(*labelled) for name, labelled in flat.items()}


def _without_idle_dims(plan: Plan, name: str, dims: tuple[str, ...], array: np.ndarray) -> Labelled:
    """Drop dimensions that cannot matter: a teacher does not depend on a learning rate.

    Which ones follows from the plan, not from the numbers; these only have to agree.
    """
    kept = list(plan.dims)
    if name in CONSTANTS or name == "alpha_actual":
        for dim in plan.dims:
            if matters(plan, name, dim):
                continue
            axis = kept.index(dim)
            smaller = _reduced(array, axis)
            if smaller is not None:
                array = smaller
                kept.remove(dim)
    return Labelled((*kept, *dims), array)


def matters(plan: Plan, name: str, dim: str) -> bool:
    axis = next((axis for axis in plan.axes if axis.dim == dim), None)
    names = {dim} if axis is None else {one.dim for one in axis.single}
    if name == "alpha_actual":
        # Which times can be met depends on n; states that share a program share their n.
        return "n" in names or (dim == "start" and axis is not None and not axis.data)
    if axis is None:  # the seeds
        starts = next((a.values for a in plan.axes if a.kind == "start"), [plan.call.start])
        return any(takes_key(start) for start in starts)
    return axis.kind == "start" or not names.isdisjoint(plan.call.start_names)


def _reduced(array: np.ndarray, axis: int) -> np.ndarray | None:
    """`array` without `axis` if all its entries along it agree, NaN aside."""
    rows = np.moveaxis(array, axis, 0)
    one = rows[0]
    # Failed runs hold NaN: the first run that has a value speaks for them.
    for row in rows[1:]:
        one = np.where(np.isnan(one), row, one)
    agree = np.isnan(rows) | (rows == one)
    return one if agree.all() else None


def coordinates_of(plan: Plan) -> dict[str, np.ndarray]:
    coordinates = {axis.dim: axis.labels for axis in plan.axes}
    coordinates |= {part.dim: part.labels for axis in plan.axes for part in axis.parts}
    if plan.seeds is not None:
        coordinates["seed"] = np.arange(plan.seeds)
    return {**coordinates, "alpha": np.asarray(plan.call.ts)}


def dims_of(coordinates: Mapping[str, Any], dims: tuple[str, ...]) -> dict[str, str]:
    """Along what those coordinates lie that have no dimension named like them: values of `zip`."""
    return {name: POINT for name in coordinates if name not in dims and name != "alpha"}


def attributes_of(plan: Plan, errors: dict[int, Exception]) -> dict[str, Any]:
    call = plan.call
    n = call.keywords.get("n", getattr(call.start, "n", None))
    attributes = provenance(
        call.problem,
        plan.rules,
        level=level_name(call.level),
        n=None if n is None or "n" in plan.names else n,
        seed=plan.key,
    )
    attributes["swept"] = " ".join(plan.names)
    if values := _values_by_label(plan):
        attributes["swept_values"] = json.dumps(values)
    attributes["chunk"] = plan.chunk
    if call.keywords:
        attributes["keywords"] = json.dumps(describe(call.keywords))
    if errors:
        attributes["errors"] = json.dumps(
            [{"cell": place_of(plan, cell), "error": repr(errors[cell])} for cell in sorted(errors)]
        )
    return attributes


def _values_by_label(plan: Plan) -> dict[str, dict[str, Any]]:
    """What a problem or rule had for each label that is not the value itself."""
    return {
        one.dim: {
            str(name): describe(Function(value) if _is_plain(value) else value)
            for name, value in zip(one.labels.tolist(), one.values, strict=True)
        }
        for one in singles(plan.axes)
        if one.kind in ("rule", "problem") and not _labels_are_values(one)
    }


def _labels_are_values(axis: Axis) -> bool:
    return axis.labels.dtype.kind in "if" and all(np.ndim(value) == 0 for value in axis.values)


def _is_plain(value: Any) -> bool:
    """Whether a value is a function of the user's that is no module."""
    return callable(value) and not isinstance(value, eqx.Module)


def level_name(level: Any) -> str:
    """That of a level of description, or the qualified name of any other function."""
    known = level_of(level)
    if known is not None:
        return known.name
    level = getattr(level, "func", level)  # functools.partial
    module = getattr(level, "__module__", None) or ""
    return f"{module}.{getattr(level, '__qualname__', type(level).__name__)}"


def place_of(plan: Plan, cell: int) -> dict[str, Any]:
    where = np.unravel_index(cell, plan.shape) if plan.shape else ()
    labels = {dim: values for dim, values in coordinates_of(plan).items() if dim != "alpha"}
    return {
        dim: labels[dim][i].item() if hasattr(labels[dim][i], "item") else str(labels[dim][i])
        for dim, i in zip(plan.dims, where, strict=True)
    }


def _warn(plan: Plan, errors: dict[int, Exception]) -> None:
    if errors:
        cell = min(errors)
        warnings.warn(
            f"{len(errors)} of {plan.cells} runs of the sweep raised an error and hold NaN, the "
            f"first at {place_of(plan, cell)}: {errors[cell]!r}. All messages are in the "
            "attribute `errors`.",
            RuntimeWarning,
            stacklevel=4,
        )
