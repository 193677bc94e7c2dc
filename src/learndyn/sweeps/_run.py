"""Run items: many runs in one compiled program, and one by one where that is impossible."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learndyn._progress import progress_bar
from learndyn.datasets import Labelled, labelled_arrays
from learndyn.dynamics import FAILED_RUN, level_of
from learndyn.sweeps._axes import are_numbers
from learndyn.sweeps._call import Call
from learndyn.sweeps._items import Item
from learndyn.sweeps._plan import Plan

_NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)
"""What JAX raises when a function needs numbers where it is given abstract values."""


class Outcome(NamedTuple):
    """What came out of some cells: arrays with the cells first, or why they raised."""

    cells: np.ndarray
    arrays: dict[str, Labelled]
    errors: dict[int, Exception]


def run(plan: Plan, items: Iterable[Item], *, progress: bool | None = None) -> Iterator[Outcome]:
    """The outcome of each item as it is finished. No run can spoil another one.

    A program that raises is repeated run by run, so that only the runs at fault are lost.
    """
    items = list(items)
    total = sum(len(item.cells) for item in items)
    together = any(item.size > 1 for item in items)
    columns = _columns(plan) if together else {}
    with progress_bar(progress, total=total, unit="run", title="sweep") as bar:
        for item in items:
            outcome, together = _run_together(plan, item, columns) if together else (None, False)
            if outcome is not None:
                yield outcome
                bar.update(len(item.cells))
                continue
            for cell in item.cells:
                yield _run_alone(plan, int(cell))
                bar.update(1)


def _run_together(plan: Plan, item: Item, columns: dict[str, Any]) -> tuple[Outcome | None, bool]:
    """All runs of an item in one program; None where it raised. And whether it can be traced.

    columns: what `_columns` makes of the plan, once for all items.
    """
    if item.size == 1:
        return None, True
    # Repeating the last cell fills the item, whose size is that of the program.
    padded = np.full(item.size, item.cells[-1])
    padded[: len(item.cells)] = item.cells
    places = dict(zip(plan.dims, np.unravel_index(padded, plan.shape), strict=True))
    data = _rows(columns, {dim: places[dim] for dim in columns})
    keys = data.pop("seed", None)
    key = plan.keys if plan.seeds is None else None
    try:
        result = jax.block_until_ready(_program(plan.call, item.static, data, keys, key))
        arrays = labelled_arrays(result, len(plan.call.ts), batch=1)
    except _NOT_TRACEABLE as error:
        _warn_of_loop(plan, error)
        return None, False
    except Exception:  # whatever a user's function raises; told when it is run alone
        return None, True
    kept = {
        name: Labelled(dims, array[: len(item.cells)]) for name, (dims, array) in arrays.items()
    }
    return Outcome(item.cells, kept, {}), True


def _warn_of_loop(plan: Plan, error: Exception) -> None:
    """A level of the library is slow run by run: something of the user's keeps it from tracing."""
    if level_of(plan.call.level) is not None:
        warnings.warn(
            f"the runs of this sweep go one by one and not side by side, because something cannot "
            f"be traced: {type(error).__name__}: {str(error).splitlines()[0]} Write the functions "
            "of problem, rule and start with jax.numpy.",
            RuntimeWarning,
            stacklevel=4,
        )


def _run_alone(plan: Plan, cell: int) -> Outcome:
    cells = np.array([cell])
    try:
        with warnings.catch_warnings():
            # The dataset's `result` tells how each run ended, here as in a compiled program.
            warnings.filterwarnings("ignore", FAILED_RUN, RuntimeWarning)
            result = plan.call(plan.values(cell), plan.key_of(cell))
        arrays = labelled_arrays(result, len(plan.call.ts))
    except Exception as error:  # whatever a user's function raises
        return Outcome(cells, {}, {cell: error})
    return Outcome(cells, {name: Labelled(d, a[None]) for name, (d, a) in arrays.items()}, {})


@eqx.filter_jit
def _program(call: Call, static: dict[str, Any], data: dict[str, Any], keys: Any, key: Any) -> Any:
    """`call` at every row of data and keys; `key` serves all rows where there are no seeds."""

    def one(row: dict[str, Any], row_key: Any) -> Any:
        return call({**static, **row}, key if row_key is None else row_key)

    return eqx.filter_vmap(one)(data, keys)


def _columns(plan: Plan) -> dict[str, Any]:
    """The traced values of each axis as arrays, and the keys, both with the values first."""
    columns = {axis.dim: _stacked(axis.values) for axis in plan.axes if axis.data}
    return columns if plan.seeds is None else columns | {"seed": plan.keys}


@jax.jit
def _rows(columns: dict[str, Any], places: dict[str, Array]) -> dict[str, Any]:
    """Each column at its places, an item's runs first: one program instead of one per value."""
    return {
        dim: jax.tree.map(lambda x, rows=places[dim]: x[rows], column)
        for dim, column in columns.items()
    }


def _stacked(values: list[Any]) -> Any:
    """Values of one structure as one, their leaves stacked."""
    if are_numbers(values):
        return _weak(jnp.asarray(np.array(values)))
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *values)


@jax.vmap
def _weak(value: Array) -> Array:
    """`value` as weakly typed as a Python number, so that a run is promoted as if called alone."""
    return jax.lax.full_like(0 if jnp.issubdtype(value.dtype, jnp.integer) else 0.0, value)
