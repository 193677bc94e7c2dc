"""Whether a user's function reads entries that its arrays do not have.

JAX cannot raise in compiled code: an index beyond the end reads the last entry, or NaN, in silence.
But indices that are written as numbers are constants of the traced program, and are looked up here.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.lax import GatherScatterMode

Known = dict[Any, Any]
"""The variables of a program whose numbers do not depend on its arguments."""


def out_of_range(fn: Callable, *shapes: tuple[int, ...]) -> tuple[int, int] | None:
    """The first constant index of `fn` that is out of range, and the size of the axis it is for.

    shapes: of the arguments. None: there is none. Indices that depend on the arguments, and those
    of a mode that says what to do beyond the end ("clip"), pass, and so does what cannot be traced.
    """
    arguments = [jax.ShapeDtypeStruct(shape, jnp.result_type(float)) for shape in shapes]
    try:
        traced = jax.make_jaxpr(lambda *x: fn(*x))(*arguments)
    except Exception:  # whatever a user's function raises; where it is used it is raised again
        return None
    known = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    return next(_faults(traced.jaxpr, known), None)


def _faults(program: Jaxpr, known: Known) -> Iterator[tuple[int, int]]:
    """Constants are propagated through the program, and compared where they are indices."""
    known = {v: np.asarray(x) for v, x in known.items() if not isinstance(x, jax.core.Tracer)}

    def value(v: Any) -> Any:
        return np.asarray(v.val) if isinstance(v, Literal) else known.get(v)

    for step in program.eqns:
        values = [value(v) for v in step.invars]
        yield from _fault_of(step, values)
        parameters = [p if isinstance(p, tuple) else (p,) for p in step.params.values()]
        inner = [p for part in parameters for p in part if isinstance(p, ClosedJaxpr)]
        # Only calls hand their arguments on one by one; loops and branches bring other ones.
        is_call = len(inner) == 1 and step.primitive.name in ("jit", "pjit", "custom_jvp_call")
        for called in inner:
            given = dict(zip(called.jaxpr.constvars, called.consts, strict=True))
            if is_call:
                pairs = zip(called.jaxpr.invars, values, strict=True)
                given |= {v: x for v, x in pairs if x is not None}
            yield from _faults(called.jaxpr, given)
        if _is_cheap(step, values):
            with jax.ensure_compile_time_eval():
                found = step.primitive.bind(*map(jnp.asarray, values), **step.params)
            found = found if step.primitive.multiple_results else [found]
            known |= {v: np.asarray(x) for v, x in zip(step.outvars, found, strict=True)}


def _is_cheap(step: Any, values: list[Any]) -> bool:
    """Whether a step makes whole numbers or truth values out of constants: what indices are."""
    kinds = {np.dtype(v.aval.dtype).kind for v in step.outvars if hasattr(v.aval, "dtype")}
    return all(x is not None for x in values) and kinds <= set("iub")


def _fault_of(step: Any, values: list[Any]) -> Iterator[tuple[int, int]]:
    """The indices of one step that are out of range."""
    name = step.primitive.name
    if name == "dynamic_slice":
        shape, sizes = step.invars[0].aval.shape, step.params["slice_sizes"]
        starts = values[1 : 1 + len(shape)]
        bounds = zip(starts, shape, sizes, strict=True)
    elif name == "gather" and step.params["mode"] is not GatherScatterMode.CLIP:
        shape, axes = step.invars[0].aval.shape, step.params["dimension_numbers"].start_index_map
        bounds = _along(values[1], [(shape[a], step.params["slice_sizes"][a]) for a in axes])
    elif name.startswith("scatter") and step.params["mode"] is not GatherScatterMode.CLIP:
        shape = step.invars[0].aval.shape
        axes = step.params["dimension_numbers"].scatter_dims_to_operand_dims
        bounds = _along(values[1], [(shape[a], 1) for a in axes])
    else:
        return
    for start, size, taken in bounds:
        if start is None:
            continue
        for index in np.ravel(start):
            if not 0 <= index <= size - taken:
                # A negative index that is within range has had the size added to it.
                yield int(index) if index >= 0 else int(index) - size, size


def _along(
    indices: np.ndarray | None, axes: list[tuple[int, int]]
) -> Iterator[tuple[Any, int, int]]:
    """Indices (..., axes) with the size of each axis and how many entries are taken."""
    for place, (size, taken) in enumerate(axes):
        yield None if indices is None else indices[..., place], size, taken
