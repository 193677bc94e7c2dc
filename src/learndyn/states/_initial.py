"""Where runs start: the initialisations people use, and weights with given overlaps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._checks import (
    as_float,
    as_key,
    is_concrete,
    psd_slack,
    require_at_least,
    require_unbatched,
)
from learndyn._types import KeyLike, RealLike
from learndyn.states._arguments import StateLike, as_overlaps, require_arguments
from learndyn.states._states import Weights

_RANK_SLACK = 1e-13
"""The largest eigenvalue of a covariance, over its trace, that counts as 0 in float64. It is left
out of the weights, so this is hardly more than rounding, and tighter than `psd_slack`."""

_STARTS = ("random", "informed", "denoising")
_LAYERS = ("mean", "sqrt", "gaussian")


def init_weights(
    key: KeyLike,
    n: int,
    k: int,
    m: int,
    *,
    start: str = "random",
    scale: RealLike = None,
    teacher_scale: RealLike = 1.0,
    orthonormal_teacher: bool = False,
    v: RealLike = None,
    v_teacher: RealLike = None,
    b: RealLike = None,
    b_teacher: RealLike = None,
) -> Weights:
    """Random weights of a student with k units and a teacher with m units in n dimensions.

    A part does not change when another is added: each has its own random numbers.

    Args:
        key: random key.
        n: input dimension.
        k: number of student units.
        m: number of teacher units.
        start: "random": the student is noise; "informed": unit i is the teacher's unit i plus
            noise, units beyond m are noise; "denoising": unit i is the teacher's unit i mod m plus
            noise and v_i = v*_n m/k, so that k = z m units average the label noise.
        scale: standard deviation of that noise, entry by entry; None: 1 for "random", 0.1 else.
        teacher_scale: standard deviation of the teacher's entries.
        orthonormal_teacher: make T = teacher_scale**2 times the unit matrix exactly; else it is
            that up to 1/sqrt n.
        v, v_teacher: second layers: numbers, or "mean" (1/units) and "sqrt" (1/sqrt units), the
            normalised committees, or "gaussian" (drawn at the layer's scale); None: ones.
        b, b_teacher: biases: numbers or "gaussian"; None: none.

    Raises:
        ValueError: for sizes below 1, negative scales, unknown words, an orthonormal teacher with m
            > n, a denoising start with k no multiple of m, or a key that is none.

    Source:
        Goldt et al. 2020, section 3 (random), Eq. (15) (denoising).

    Example:
        >>> weights = ld.init_weights(jax.random.key(0), n=50, k=3, m=2, orthonormal_teacher=True)
        >>> weights.w.shape
        (3, 50)
        >>> np.round(ld.overlaps(weights).T, 12)
        Array([[1., 0.],
               [0., 1.]], dtype=float64)
    """
    key = as_key(key)
    for name, size in (("n", n), ("k", k), ("m", m)):
        _require_size(size, name)
    _require_one_of(start, _STARTS, "start")
    scale = as_float((1.0 if start == "random" else 0.1) if scale is None else scale, "scale")
    teacher_scale = as_float(teacher_scale, "teacher_scale")
    require_at_least(scale, 0.0, "scale", "a standard deviation")
    require_at_least(teacher_scale, 0.0, "teacher_scale", "a standard deviation")
    # A key for each part, so that no part's numbers depend on whether another is drawn
    keys = [jax.random.fold_in(key, part) for part in range(6)]
    w_teacher = teacher_scale * _teacher(keys[0], n, m, orthonormal_teacher)
    v_teacher = _units(keys[2], v_teacher, m, teacher_scale, "v_teacher", _LAYERS)
    if start == "denoising":
        v = _denoising_layer(v, v_teacher, k, m)
    w = scale * jax.random.normal(keys[1], (k, n))
    return Weights(
        w if start == "random" else w + _copied(w_teacher, k, start),
        w_teacher,
        _units(keys[3], v, k, scale, "v", _LAYERS),
        v_teacher,
        _units(keys[4], b, k, scale, "b", ("gaussian",)),
        _units(keys[5], b_teacher, m, teacher_scale, "b_teacher", ("gaussian",)),
    )


def weights_from_overlaps(key: KeyLike, start: StateLike, n: int) -> Weights:
    """Weights in n dimensions with exactly these overlaps, at uniformly random orientation.

    So that SGD at any n, the chain and the ODE start from the same state.

    Args:
        key: random key.
        start: Q, R, T as given, to rounding (1e-14 relative to the trace); v, b are copied.
            Singular overlaps (student = teacher, more units than directions) are valid. Where it is
            weights, their overlaps are used.
        n: input dimension, at least the rank of [[Q, R], [R^T, T]]; k + m always suffices.

    Raises:
        ValueError: for n below the rank, or a key or start that is none. With traced overlaps n < k
            + m cannot be checked, and weights that do not exist are NaN.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> weights = ld.weights_from_overlaps(jax.random.key(0), start, n=100)
        >>> np.round(ld.overlaps(weights).R, 12)
        Array([[0.1]], dtype=float64)
    """
    require_arguments("weights_from_overlaps", key=key, start=start, n=n)
    key, start = as_key(key), as_overlaps(start)
    _require_size(n, "n")
    require_unbatched(
        [("Q", start.Q, 2), ("R", start.R, 2), ("T", start.T, 2)], "weights_from_overlaps"
    )
    root = _square_root(start.covariance, n)
    w = n**0.5 * root @ _orthonormal_rows(key, root.shape[1], n)
    return Weights(w[: start.k], w[start.k :], *start.layers)


def _teacher(key: PRNGKeyArray, n: int, m: int, orthonormal: bool) -> Float[Array, "m n"]:
    if not orthonormal:
        return jax.random.normal(key, (m, n))
    if m > n:
        raise ValueError(f"an orthonormal teacher needs m <= n; got m={m}, n={n}.")
    return n**0.5 * _orthonormal_rows(key, m, n)


def _copied(w_teacher: Float[Array, "m n"], k: int, start: str) -> Float[Array, "k n"]:
    """What the student knows of the teacher."""
    m, n = w_teacher.shape
    if start == "denoising":
        return jnp.tile(w_teacher, (k // m, 1))
    return jnp.zeros((k, n), w_teacher.dtype).at[: min(k, m)].set(w_teacher[:k])


def _denoising_layer(v: RealLike, v_teacher: Array | None, k: int, m: int) -> RealLike:
    if k % m:
        raise ValueError(
            f'start="denoising" shares the teacher\'s units out evenly, so k must be a multiple of '
            f"m; got k={k}, m={m}."
        )
    shared = jnp.ones(m) if v_teacher is None else v_teacher
    return jnp.tile(shared, k // m) * (m / k) if v is None else v


def _units(
    key: PRNGKeyArray,
    value: RealLike,
    units: int,
    scale: Array,
    name: str,
    words: tuple[str, ...],
) -> Float[Array, " units"] | None:
    """A second layer or biases, one number per unit."""
    if not isinstance(value, str):
        return None if value is None else jnp.broadcast_to(*_checked_units(value, units, name))
    _require_one_of(value, words, name)
    if value == "gaussian":
        return scale * jax.random.normal(key, (units,))
    return jnp.full((units,), 1 / units if value == "mean" else 1 / units**0.5)


def _checked_units(value: RealLike, units: int, name: str) -> tuple[Array, tuple[int]]:
    value = as_float(value, name)
    if value.shape not in ((), (units,)):
        raise ValueError(f"{name} must have shape ({units},), one per unit; got {value.shape}.")
    return value, (units,)


@partial(jax.jit, static_argnames=("rows", "n"))
def _orthonormal_rows(key: PRNGKeyArray, rows: int, n: int) -> Float[Array, "rows n"]:
    """Orthonormal vectors of uniformly random orientation (Haar measure)."""
    # QR factorisation of a Gaussian matrix
    q, r = jnp.linalg.qr(jax.random.normal(key, (n, rows)))
    # LAPACK's signs are a convention; with R's diagonal positive Q is uniform.
    return (q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)).T


def _square_root(c: Float[Array, "d d"], n: int) -> Float[Array, "d rank"]:
    """F with F F^T = c and at most n columns; NaN, or ValueError, where there is none."""
    xp = np if is_concrete(c) else jnp  # NumPy compiles nothing
    values, vectors = xp.linalg.eigh(xp.asarray(c))
    slack = psd_slack(c.dtype) * xp.trace(c)
    zero = _RANK_SLACK * xp.trace(c) if c.dtype == jnp.float64 else slack
    # Eigenvalues ascend: in n dimensions all but the n largest must be 0.
    dropped, kept = values[: max(len(c) - n, 0)], values[max(len(c) - n, 0) :]
    if xp is np and (dropped > zero).any():
        rank = int((values > zero).sum())
        raise ValueError(
            f"overlaps of rank {rank} need n >= {rank} dimensions; got n={n}. Take a larger n."
        )
    possible = xp.all(dropped <= zero) & xp.all(values >= -slack)
    root = vectors[:, len(dropped) :] * xp.sqrt(xp.maximum(kept, 0.0))
    return jnp.asarray(xp.where(possible, root, np.nan))


def _require_size(size: int, name: str) -> None:
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
        raise ValueError(f"{name} must be a Python integer >= 1 (a size); got {size!r}.")


def _require_one_of(value: str, words: tuple[str, ...], name: str) -> None:
    if value not in words:
        known = ", ".join(f'"{word}"' for word in words)
        raise ValueError(f"{name} must be one of {known}; got {value!r}.")
