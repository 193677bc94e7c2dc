"""Run items: many runs in one compiled program, and one by one where that is impossible.

The bits of a run depend on its own values and key and on the lanes of the program alone: all
programs of a plan have the same number of lanes, also for a single run.
"""

import math
import time
import warnings
from collections.abc import Iterable, Iterator
from threading import get_ident
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learndyn.datasets import Labelled, labelled_arrays
from learndyn.dynamics import FAILED_RUN, level_of
from learndyn.sweeps._axes import are_numbers
from learndyn.sweeps._bar import sweep_bar
from learndyn.sweeps._call import Call
from learndyn.sweeps._devices import devices_here, on_devices
from learndyn.sweeps._items import Item, indices_of
from learndyn.sweeps._outlook import Outlook
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


class TooLong(Exception):
    """What is left of a sweep takes longer than one process is to work at it."""


def run(
    plan: Plan,
    items: Iterable[Item],
    *,
    progress: bool | None = None,
    patience: float = math.inf,
) -> Iterator[Outcome]:
    """The outcomes of all items as they are finished. No run can spoil another one. Several
    devices work side by side.

    patience: seconds of work left above which one device alone gives up. Raises: TooLong then.

    A program that raises is repeated with half of its runs at a time, so that only those at fault
    are lost, and the others come out of the same program as ever.
    """
    items = list(items)
    total = sum(len(item.cells) for item in items)
    runner = Runner(plan)
    outlook = Outlook(
        np.array([item.cost for item in items]), np.array([item.program for item in items], int)
    )
    devices = devices_here()
    if len(devices) > 1:
        outcomes = _side_by_side(runner, items, outlook, devices)
    else:
        outcomes = _one_by_one(runner, items, outlook, patience)
    with sweep_bar(progress, total, 0, outlook) as bar:
        for outcome in outcomes:
            yield outcome
            bar.update(len(outcome.cells))


def _one_by_one(
    runner: "Runner", items: list[Item], outlook: Outlook, patience: float
) -> Iterator[Outcome]:
    for number, item in enumerate(items):
        began = time.monotonic()
        yield from runner.outcomes(item)
        outlook.finished(number, time.monotonic() - began)
        if math.isinf(patience) or number == 0:
            continue  # the first item took its compilation, too: it says nothing of the others
        if (outlook.seconds_left() or 0.0) > patience:
            raise TooLong


def _side_by_side(
    runner: "Runner", items: list[Item], outlook: Outlook, devices: list[Any]
) -> Iterator[Outcome]:
    def timed(number: int) -> tuple[list[Outcome], float, int]:
        began = time.monotonic()
        return list(runner.outcomes(items[number])), time.monotonic() - began, get_ident()

    outlook.at_once = len(devices)
    for number, (outcomes, seconds, thread) in on_devices(timed, range(len(items)), devices):
        outlook.finished(number, seconds, thread)
        yield from outcomes


class Runner:
    """Runs the items of a plan, and remembers which programs cannot be traced."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._columns = _columns(plan)
        self._untraceable: set[int] = set()

    def outcomes(self, item: Item) -> Iterator[Outcome]:
        """What comes out of an item, in one piece or in several."""
        if item.program not in self._untraceable:
            try:
                yield _run_together(self.plan, item, self._columns)
                return
            except _NOT_TRACEABLE as error:
                _warn_of_loop(self.plan, error)
                self._untraceable.add(item.program)
            except Exception:  # whatever a user's function raises; told when it is run alone
                if not _is_traced(self.plan, item, self._columns):
                    self._untraceable.add(item.program)
                elif len(item.cells) > 1:
                    middle = len(item.cells) // 2
                    for half in (item.cells[:middle], item.cells[middle:]):
                        yield from self.outcomes(item._replace(cells=half))
                    return
        for cell in item.cells:
            yield _run_alone(self.plan, int(cell))


def _run_together(plan: Plan, item: Item, columns: dict[str, Any]) -> Outcome:
    """All runs of an item in one program. Raises: whatever the program raises."""
    result = jax.block_until_ready(_program(*_arguments(plan, item, columns)))
    arrays = labelled_arrays(result, len(plan.call.ts), batch=1)
    kept = {
        name: Labelled(dims, array[: len(item.cells)]) for name, (dims, array) in arrays.items()
    }
    return Outcome(item.cells, kept, {})


def _is_traced(plan: Plan, item: Item, columns: dict[str, Any]) -> bool:
    """Whether the program of an item can be made at all, whatever it does then."""
    try:
        result_shapes(plan, item, columns)
    except Exception:  # whatever a user's function raises
        return False
    return True


def result_shapes(plan: Plan, item: Item, columns: dict[str, Any] | None = None) -> Any:
    """What the program of an item returns, with shapes and dtypes in place of arrays."""
    columns = _columns(plan) if columns is None else columns
    return eqx.filter_eval_shape(_program, *_arguments(plan, item, columns))


def _arguments(plan: Plan, item: Item, columns: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of `_program` for the cells of an item, the last of which fills the lanes."""
    padded = np.full(item.lanes, item.cells[-1])
    padded[: len(item.cells)] = item.cells
    places = dict(zip(plan.dims, indices_of(padded, plan.shape), strict=True))
    data = _rows(columns, {dim: places[dim] for dim in columns})
    keys = data.pop("seed", None)
    key = plan.keys if plan.seeds is None else None
    return plan.call, item.static, item.lanes, data, keys, key


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
def _program(
    call: Call, static: dict[str, Any], lanes: int, data: dict[str, Any], keys: Any, key: Any
) -> Any:
    """`call` at all `lanes` rows of data and keys; `key` serves all where there are no seeds."""

    def one(row: dict[str, Any], row_key: Any) -> Any:
        return call({**static, **row}, key if row_key is None else row_key)

    return eqx.filter_vmap(one, axis_size=lanes)(data, keys)


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
    if isinstance(values[0], dict):  # those that go together, each by itself
        return {name: _stacked([row[name] for row in values]) for name in values[0]}
    if are_numbers(values):
        return _weak(jnp.asarray(np.array(values)))
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *values)


@jax.vmap
def _weak(value: Array) -> Array:
    """`value` as weakly typed as a Python number, so that a run is promoted as if called alone."""
    return jax.lax.full_like(0 if jnp.issubdtype(value.dtype, jnp.integer) else 0.0, value)
