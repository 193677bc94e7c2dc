"""What makes a state valid: sizes that fit, finite values, overlaps that real weights can have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from learndyn._checks import (
    as_float,
    asymmetry,
    is_concrete,
    psd_slack,
    require_finite,
    require_shape,
)
from learndyn._types import RealLike
from learndyn.problems import Layers


def unit_counts(q: Array, t: Array) -> tuple[int, int]:
    if q.ndim < 2 or t.ndim < 2 or q.shape[-1] < 1 or t.shape[-1] < 1:
        raise ValueError(
            "Q and T must be square matrices with k, m >= 1 units; got shapes "
            f"{q.shape} and {t.shape}. For one unit write [[1.0]]."
        )
    return q.shape[-1], t.shape[-1]


def checked_layers(
    k: int,
    m: int,
    v: RealLike | None,
    v_teacher: RealLike | None,
    b: RealLike | None,
    b_teacher: RealLike | None,
) -> Layers:
    """Second layers, ones by default, and biases, 0 where only the other one is given."""
    no_biases = b is None and b_teacher is None
    layers = Layers(
        _units(v, k, 1.0, "v"),
        _units(v_teacher, m, 1.0, "v_teacher"),
        None if no_biases else _units(b, k, 0.0, "b"),
        None if no_biases else _units(b_teacher, m, 0.0, "b_teacher"),
    )
    require_finite(**layers._asdict())
    return layers


def _units(value: RealLike | None, size: int, default: float, name: str) -> Array:
    if value is None:
        return as_float(np.full(size, default), name)
    value = as_float(value, name)
    if value.ndim == 0:
        value = jnp.broadcast_to(value, (size,))
    require_shape(value, (size,), name, "one entry per unit")
    return value


def common_batch(matrices: dict[str, Array], layers: Layers) -> tuple[int, ...]:
    """The batch axes of all of these, broadcast."""
    vectors = {name: x for name, x in layers._asdict().items() if x is not None}
    shapes = {name: x.shape[:-2] for name, x in matrices.items()}
    shapes |= {name: x.shape[:-1] for name, x in vectors.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        raise ValueError(f"batch axes must broadcast; got {shapes}.") from error


def broadcast_layers(layers: Layers, batch: tuple[int, ...]) -> Layers:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, x.shape[-1])), layers)


def require_psd(
    Q: Float[Array, "*batch k k"],
    R: Float[Array, "*batch k m"],
    T: Float[Array, "*batch m m"],
    precision: DTypeLike,
) -> None:
    """Concrete overlaps are symmetric, finite and positive semi-definite.

    precision: the float type in which they were computed, whose rounding is allowed.

    Raises: ValueError where not. Traced values pass: a solve gives NaN and a result code.
    """
    if not is_concrete(Q, R, T):
        return
    q, t, c = np.asarray(Q), np.asarray(T), concrete_covariance(Q, R, T)
    if not np.isfinite(c).all():
        raise ValueError("Q, R and T must be finite; got NaN or infinity among them.")
    for name, matrix in (("Q", q), ("T", t)):
        allowed = asymmetry(precision) * (1 + np.abs(matrix).max())
        if np.abs(matrix - np.swapaxes(matrix, -1, -2)).max() > allowed:
            raise ValueError(f"{name} must be symmetric; got\n{matrix}")
    # LAPACK sorts eigenvalues in ascending order.
    smallest = np.linalg.eigvalsh(c)[..., 0]
    trace = np.trace(c, axis1=-2, axis2=-1)
    if (smallest < -psd_slack(precision) * trace).any():
        raise ValueError(
            "the overlaps [[Q, R], [R^T, T]] must be positive semi-definite, as any real weights "
            f"make them; got a smallest eigenvalue of {smallest.min():.3g} (trace "
            f"{trace.max():.3g}). Use overlaps(weights), or check R**2 <= Q T entry by entry."
            f"{_hint(smallest, trace, precision)}"
        )


def _hint(smallest: Any, trace: Any, precision: DTypeLike) -> str:
    """What else may be wrong with overlaps that single precision would explain."""
    single = psd_slack(np.float32)
    if jnp.finfo(precision).bits == 32 or (smallest < -single * trace).any():
        return ""
    return (
        " Rounding in float32 makes them so: if they were computed in float32, pass float32 "
        "arrays, which are projected; if they are printed numbers, give more digits."
    )


def rounded_off(Q: Array, R: Array, T: Array, precision: DTypeLike) -> tuple[Array, Array, Array]:
    """Overlaps without what rounding in single precision adds, for further use in double.

    The nearest positive semi-definite covariance in the Frobenius norm: its symmetric part with the
    negative eigenvalues set to 0. What is worse than rounding is left for later checks to refuse.
    """
    double = jnp.finfo(Q.dtype).bits == 64
    if not double or jnp.finfo(precision).bits == 64:
        return Q, R, T
    xp, k = (np if is_concrete(Q, R, T) else jnp), Q.shape[-1]
    top = xp.concatenate([Q, R], axis=-1)
    c = xp.concatenate([top, xp.concatenate([xp.swapaxes(R, -1, -2), T], axis=-1)], axis=-2)
    even = 0.5 * (c + xp.swapaxes(c, -1, -2))
    finite = xp.isfinite(even).all()
    values, vectors = xp.linalg.eigh(xp.where(finite, even, 0.0))
    trace = xp.trace(c, axis1=-2, axis2=-1)
    near = (vectors * xp.maximum(values, 0.0)[..., None, :]) @ xp.swapaxes(vectors, -1, -2)
    projected = xp.where((values[..., 0] < 0)[..., None, None], near, even)
    gap = xp.abs(c - xp.swapaxes(c, -1, -2)).max(axis=(-2, -1))
    even_enough = gap <= asymmetry(precision) * (1 + xp.abs(c).max(axis=(-2, -1)))
    is_rounding = (values[..., 0] >= -psd_slack(precision) * trace) & even_enough & finite
    c = jnp.asarray(xp.where(is_rounding[..., None, None], projected, c))
    return c[..., :k, :k], c[..., :k, k:], c[..., k:, k:]


def concrete_covariance(
    Q: Float[Array, "*batch k k"], R: Float[Array, "*batch k m"], T: Float[Array, "*batch m m"]
) -> np.ndarray:
    """C = [[Q, R], [R^T, T]] by NumPy, for checks.

    JAX would compile a program for each of the steps, 0.1 s in all before the first curve.
    """
    q, r, t = np.asarray(Q), np.asarray(R), np.asarray(T)
    top = np.concatenate([q, r], axis=-1)
    bottom = np.concatenate([np.swapaxes(r, -1, -2), t], axis=-1)
    return np.concatenate([top, bottom], axis=-2)
