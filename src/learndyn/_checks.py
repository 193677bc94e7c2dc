"""Checks of input, written once: what must hold, what arrived, what to do.

Only concrete values are checked here. A traced value cannot raise; functions that accept
traced values turn bad ones into NaN and a result code instead.
"""

import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from learndyn._types import CountLike, KeyLike, RealLike

_LONGEST_REPR = 60
"""The longest repr, in characters, that a message shows; beyond it a message shows the kind of
thing, because tables of numbers hide the sentence around them."""

_PSD_SLACK = {64: 1e-10, 32: 1e-5}
"""How negative an eigenvalue of a covariance may be, over its trace, by bits of the float type.
Rounding leaves 1e-15 (1e-7); overlaps that come from long runs or from a file have lost more."""

_ASYMMETRY = {64: 1e-8, 32: 1e-4}
"""How much a covariance may differ from its transpose, over 1 + its largest entry, by bits of the
float type: what printed digits lose."""


def psd_slack(dtype: DTypeLike) -> float:
    """The negative eigenvalue of a covariance, over its trace, that still counts as rounding."""
    return _PSD_SLACK[jnp.finfo(dtype).bits]


def asymmetry(dtype: DTypeLike) -> float:
    """The asymmetry of a covariance, over 1 + its largest entry, that still counts as rounding."""
    return _ASYMMETRY[jnp.finfo(dtype).bits]


def is_concrete(*values: Any) -> bool:
    """Whether no leaf of any value is being traced by jit, vmap or grad."""
    leaves = jax.tree_util.tree_leaves(values)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def as_float(value: RealLike, name: str) -> Array:
    """`value` as a float array in JAX's default float type.

    Raises: ValueError where it is not a real number or array of real numbers.
    """
    if is_concrete(value):
        # A number stays a number while something else is traced: averages are chosen by it.
        with jax.ensure_compile_time_eval():
            return _as_float(value, name)
    return _as_float(value, name)


def _as_float(value: RealLike, name: str) -> Array:
    if _is_plain(value):
        # NumPy converts in a microsecond; each conversion by JAX starts a compiled program.
        return jnp.asarray(np.asarray(value, jax.dtypes.canonicalize_dtype(float)))
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a real number or array of real numbers; got {value!r}."
        ) from error
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise ValueError(
            f"{name} must be real; got dtype {array.dtype}. Pass a float or an array of floats."
        )
    return array.astype(jnp.result_type(float))


def in_single(*values: Any) -> bool:
    """Whether one of these is an array in single or half precision, whose digits are rounded so."""
    dtypes = [getattr(value, "dtype", None) for value in values]
    return any(dtype in (np.float32, np.float16, jnp.bfloat16) for dtype in dtypes if dtype)


def in_default_float(tree: Any) -> Any:
    """`tree` with all its floats in JAX's default float type."""

    def one(leaf: Any) -> Any:
        is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, jnp.result_type(float)) if is_float else leaf

    return jax.tree.map(one, tree)


def _is_plain(value: Any) -> bool:
    """Whether `value` is a Python number or a NumPy array of real numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "iuf"
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_count(value: CountLike, name: str, why: str, lower: int = 1) -> int:
    """`value` as a Python integer >= lower. Raises: ValueError where it is not one."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    # Python's True is an integer, 1.
    if count is None or isinstance(value, bool) or count < lower:
        raise ValueError(f"{name} must be a Python integer >= {lower} ({why}); got {value!r}.")
    return count


def as_key(key: KeyLike, name: str = "key") -> Key[Array, ""]:
    """`key` as one JAX random key of the newer style; the older one is an array of uint32.

    Raises: ValueError for anything else, such as an integer, and for several keys.
    """
    typed = _typed_key(key)
    if typed is None:
        meant = key if isinstance(key, int | np.integer) and not isinstance(key, bool) else 0
        raise ValueError(
            f"{name} must be a JAX random key; got {brief(key)}. Write "
            f"{name}=jax.random.key({int(meant)})."
        )
    if typed.ndim:
        raise ValueError(
            f"{name} must be one random key; got keys of shape {typed.shape}. For one run for each "
            "key use jax.vmap over them, or seeds= in learndyn.sweep."
        )
    return typed


def _typed_key(key: KeyLike) -> Array | None:
    """Keys of both of JAX's styles as the newer one; None for anything else."""
    if not isinstance(key, jax.Array | np.ndarray):
        return None
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jnp.asarray(key)
    if key.dtype != np.uint32:
        return None
    try:
        return jax.random.wrap_key_data(jnp.asarray(key))
    except TypeError:  # an array of another shape
        return None


_SHORT_FLOATS = frozenset({"float32", "float16", "bfloat16"})
"""Floats of fewer than 64 bits, which arithmetic with float64 would hide but not mend."""


def require_x64(what: str, *trees: Any) -> None:
    """Theory in single precision is silently wrong near convergence, so it is refused, and so
    are trees that were built before double precision was switched on.
    """
    runs_double = jnp.result_type(float) == jnp.float64
    dtypes = {str(getattr(leaf, "dtype", None)) for leaf in jax.tree_util.tree_leaves(trees)}
    short = min(dtypes & _SHORT_FLOATS, default=None)
    if not runs_double or short:
        found = (
            f"one of its arguments was made in {short}" if runs_double else "JAX runs in float32"
        )
        again = " Then make that argument again." if runs_double else ""
        raise ValueError(
            f"{what} needs float64, but {found}. Put this line before any "
            'computation: jax.config.update("jax_enable_x64", True), or set JAX_ENABLE_X64=1.'
            f"{again}"
        )


def require_at_least(
    value: Array | np.ndarray | np.generic,
    lower: float,
    name: str,
    why: str,
    *,
    strict: bool = False,
) -> None:
    """Concrete `value` must be finite and >= lower (> lower where strict)."""
    if not is_concrete(value):
        return
    values = np.asarray(value)
    good = np.isfinite(values) & ((values > lower) if strict else (values >= lower))
    if not good.all():
        sign = ">" if strict else ">="
        raise ValueError(
            f"{name} must be finite and {sign} {lower:g} ({why}); got {shown(values)}."
        )


def require_finite(**named: Array | None) -> None:
    """Concrete arrays must hold neither NaN nor infinity."""
    for name, value in named.items():
        if value is not None and is_concrete(value) and not np.isfinite(np.asarray(value)).all():
            raise ValueError(f"{name} must be finite; got NaN or infinity among its entries.")


def require_shape(value: Array, shape: tuple[int, ...], name: str, why: str) -> None:
    """The trailing axes of `value` must have exactly this shape."""
    # Axes in front of these are batch axes, which are free.
    if value.shape[len(value.shape) - len(shape) :] != shape or value.ndim < len(shape):
        raise ValueError(f"{name} must have shape {shape} ({why}); got shape {value.shape}.")


def require_unbatched(named: Iterable[tuple[str, Array | None, int]], function: str) -> None:
    """Each (name, array, ndim) must have just that many axes: batches go through vmap."""
    for name, array, ndim in named:
        if array is not None and array.ndim != ndim:
            raise ValueError(
                f"{function} takes one run at a time: {name} must have {ndim} axes; got shape "
                f"{array.shape}. For a batch use jax.vmap or filter_vmap, or learndyn.sweep."
            )


def checked_times(ts: RealLike) -> Array:
    """Times of at least one entry, one axis, strictly increasing, none negative."""
    ts = as_float(ts, "ts")
    if ts.ndim != 1 or ts.shape[0] < 1:
        raise ValueError(
            f"ts must be a one-dimensional array of at least one time; got shape {ts.shape}. For "
            "example jnp.linspace(0.0, 100.0, 201)."
        )
    if is_concrete(ts):
        values = np.asarray(ts)
        if not np.isfinite(values).all() or values[0] < 0 or (np.diff(values) <= 0).any():
            raise ValueError(
                "ts must be finite, >= 0 and strictly increasing; got "
                f"{shown(values)}. Sort it and drop repeated times, for example with numpy.unique."
            )
    return ts


def brief(value: Any) -> str:
    """What arrived, in a few words: arrays by shape, the rest by its repr where that is short."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, jax.Array | np.ndarray) and np.ndim(value):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    if len(text) <= _LONGEST_REPR and "\n" not in text:
        return text
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)} entries"
    return f"{type(value).__name__}(...)"


def shown(value: np.ndarray) -> str:
    """Numbers for a message, the first and last of many."""
    if np.ndim(value) == 0:
        return f"{float(value):g}"
    return np.array2string(np.asarray(value), threshold=8, precision=6)
