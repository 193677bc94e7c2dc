"""Which variables the runs of a sweep have, and how large they are, before any of them is run."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._results import Result
from learndyn.datasets import CONSTANTS, Labelled, labelled_arrays
from learndyn.dynamics import Fluctuations, Trajectory
from learndyn.sweeps._assemble import common_dims, matters
from learndyn.sweeps._items import Item
from learndyn.sweeps._plan import Plan
from learndyn.sweeps._run import result_shapes, run


class Variable(NamedTuple):
    """One variable in a store.

    dims, shape: those of a run. dtype: that of the runs. stored: that in the store, which can
        hold NaN. everywhere: whether all runs have the variable, and of that shape. idle:
        dimensions of the grid that cannot matter. since: the grid that first had it, 0 at first.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    stored: str
    everywhere: bool
    idle: tuple[str, ...]
    since: int

    @property
    def fill(self) -> Any:
        """What stands where nothing was stored."""
        return np.nan if self.stored != "int8" else Result.NOT_RUN.value


Layout = dict[str, Variable]


def layout_of(plan: Plan, items: list[Item], since: int = 0) -> Layout:
    """The variables of all runs of `items`; one program, or one run, of each kind is looked at."""
    first = {item.program: item for item in reversed(items)}
    found = [_example(plan, item) for item in first.values()]
    kinds = [arrays for arrays, _ in found]
    exact = all(is_trajectory for _, is_trajectory in found)
    names = dict.fromkeys(name for arrays in kinds for name in arrays)
    layout = {}
    for name in names:
        having = [arrays[name] for arrays in kinds if name in arrays]
        layout[name] = _common(plan, name, having, len(having) == len(kinds), exact, since)
    layout = _of_one_size(layout)
    clashes = {"alpha", "item", "done", "cell", *plan.names}
    clashes |= {dim for variable in layout.values() for dim in variable.dims}
    layout = {f"{name}_used" if name in clashes else name: x for name, x in layout.items()}
    if "result" not in layout:
        layout["result"] = Variable((), (), "int8", "int8", True, (), since)
    return layout


def joined(stored: Layout, added: Layout) -> Layout:
    """The layout of an extended sweep. Raises: ValueError where a variable is another one."""
    whole = dict(stored)
    for name, new in added.items():
        old = stored.get(name)
        if old is None:
            whole[name] = new._replace(everywhere=False)
        elif len(old.dims) != len(new.dims) or old.stored != new.stored:
            raise ValueError(
                f"{name} has {len(old.dims)} axes of {old.stored} in the store, but "
                f"{len(new.dims)} of {new.stored} in the runs that are asked for now: take "
                "another store."
            )
        else:
            shape = tuple(map(max, old.shape, new.shape))
            same = old.everywhere and new.everywhere and old.shape == new.shape
            idle = tuple(dim for dim in old.idle if dim in new.idle)
            whole[name] = old._replace(shape=shape, everywhere=same, idle=idle)
    for name in stored.keys() - added.keys():
        whole[name] = whole[name]._replace(everywhere=False)
    return _of_one_size(whole)


def _example(plan: Plan, item: Item) -> tuple[dict[str, Labelled], bool]:
    """Arrays as the runs of an item have them, without the numbers; and whether of a trajectory."""
    try:
        shapes = result_shapes(plan, item)
    except Exception:  # whatever a user's function raises when it is traced
        outcomes = run(plan, [item._replace(cells=item.cells[:1])], progress=False)
        return next(iter(outcomes)).arrays, False
    zeros = jax.tree.map(_zeros, shapes)
    known = isinstance(shapes, Trajectory | Fluctuations)
    return labelled_arrays(zeros, len(plan.call.ts), batch=1), known


def _zeros(leaf: Any) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct) or jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
        return leaf
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _common(
    plan: Plan, name: str, having: list[Labelled], everywhere: bool, exact: bool, since: int
) -> Variable:
    dims = common_dims(plan, name, having)
    padded = [(*x.array.shape[1:], *[1] * (1 + len(dims) - x.array.ndim)) for x in having]
    shape = tuple(map(max, zip(*padded, strict=True)))
    dtype = np.result_type(*(x.array.dtype for x in having))
    if dtype.kind not in "biufc":
        raise ValueError(f"{name} must be an array of numbers to be stored; got {dtype}.")
    is_code = name == "result" and all(
        x.array.dtype == np.int8 and x.array.ndim == 1 for x in having
    )
    stored = dtype if is_code else np.result_type(dtype, *([] if dtype.kind in "fc" else [float]))
    idle = [dim for dim in plan.dims if not matters(plan, name, dim)]
    constant = exact and (name in CONSTANTS or name == "alpha_actual")
    same = everywhere and all(size == shape for size in padded)
    return Variable(
        dims, shape, dtype.str, str(stored), same, tuple(idle) if constant else (), since
    )


def _of_one_size(layout: Layout) -> Layout:
    """Variables that share a dimension, with its largest size."""
    sizes: dict[str, int] = {}
    for variable in layout.values():
        for dim, size in zip(variable.dims, variable.shape, strict=True):
            sizes[dim] = max(size, sizes.get(dim, 0))
    full = {name: tuple(sizes[dim] for dim in x.dims) for name, x in layout.items()}
    return {
        name: x._replace(shape=full[name], everywhere=x.everywhere and full[name] == x.shape)
        for name, x in layout.items()
    }
