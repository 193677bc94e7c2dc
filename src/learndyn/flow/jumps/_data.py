"""Data as checked host arrays: sequences of jumps have variable length and are not traced."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from learndyn._checks import is_concrete

REDUCE = ("mean", "sum")


class Samples(NamedTuple):
    """x (samples, d), y (samples, c), and the weight of a sample in the loss."""

    x: Float[np.ndarray, "samples d"]
    y: Float[np.ndarray, "samples c"]
    weight: float


class SecondMoments(NamedTuple):
    """sxx (d, d), syx (c, d) and the loss of the zero function, None if unknown."""

    sxx: Float[np.ndarray, "d d"]
    syx: Float[np.ndarray, "c d"]
    zero: float | None


def samples(x: Any, y: Any, reduce: str, function: str) -> Samples:
    """Samples from arrays, or from `flow.Data` in place of x."""
    if hasattr(x, "x"):
        x, y, reduce = x.x, x.y, getattr(x, "reduce", reduce)
    if y is None:
        raise ValueError(f"{function} needs labels y, or a flow.Data in place of x; got none.")
    if reduce not in REDUCE:
        raise ValueError(f'reduce must be "mean" or "sum"; got {reduce!r}.')
    x, y = host(x, "x", function), host(y, "y", function)
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not x.size:
        raise ValueError(
            f"{function} needs x of shape (samples, d) and y of (samples,) or (samples, c); got "
            f"{x.shape} and {y.shape}."
        )
    return Samples(x, y, 1.0 if reduce == "sum" else 1.0 / len(x))


def moments(sxx: Any, syx: Any, function: str) -> SecondMoments:
    """Moments from arrays, or from `flow.Moments` or `flow.Data` in place of sxx."""
    zero = None
    if hasattr(sxx, "x"):
        data = samples(sxx, None, "mean", function)
        weighted = data.weight * data.x
        return SecondMoments(
            data.x.T @ weighted, data.y.T @ weighted, data.weight * float(np.sum(data.y**2)) / 2
        )
    if hasattr(sxx, "sxx"):
        syy = getattr(sxx, "syy", None)
        zero = (
            None if syy is None else float(np.trace(np.atleast_2d(host(syy, "syy", function)))) / 2
        )
        sxx, syx = sxx.sxx, sxx.syx
    sxx, syx = host(sxx, "sxx", function), host(syx, "syx", function)
    syx = syx[None] if syx.ndim == 1 else syx
    d = syx.shape[-1]
    if sxx.shape != (d, d) or syx.ndim != 2 or not d:
        raise ValueError(
            f"{function} needs sxx of shape (d, d) and syx of (c, d) or (d,); got {sxx.shape} and "
            f"{syx.shape}."
        )
    # Sums over samples in another order differ by less.
    if np.abs(sxx - sxx.T).max() > 1e-10 * np.abs(sxx).max():
        raise ValueError("sxx must be symmetric; it is a covariance. Symmetrise it.")
    return SecondMoments((sxx + sxx.T) / 2, syx, zero)


def host(value: Any, name: str, function: str) -> np.ndarray:
    """`value` as a finite float64 array on the host."""
    if not is_concrete(value):
        raise ValueError(
            f"{function} has results of variable length and cannot be traced; call it outside jit, "
            f"vmap and grad ({name} is traced)."
        )
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise ValueError(f"{name} must be real numbers; got dtype {array.dtype}.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got NaN or infinity among its entries.")
    return array
