"""The two states of learning: weights in n dimensions, and the overlaps that matter."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_float,
    is_concrete,
    require_finite,
    require_shape,
    require_unbatched,
)
from learndyn._problem import Layers, MultiIndex, Problem
from learndyn._types import RealLike, ScalarFunction

_PSD_SLACK = 1e-10
"""Smallest eigenvalue of C, over its trace, that still counts as rounding."""


class Overlaps(eqx.Module):
    """The macroscopic state: Q_ik = w_i.w_k/n, R_in = w_i.w*_n/n, T_nm = w*_n.w*_m/n.

    Q: (k, k), R: (k, m), T: (m, m), dimensionless, with [[Q, R], [R^T, T]] positive
        semi-definite (singular is valid: student = teacher, more units than directions).
    v, v_teacher: (k,), (m,) second layers; ones where not given.
    b, b_teacher: (k,), (m,) biases; None where there are none. Given one, the other is 0.

    Leading batch axes are allowed here and broadcast; functions that take one state are vmapped
    over them.
    Raises: ValueError for wrong shapes, k or m < 1, non-finite entries, asymmetric Q or T, or
    an eigenvalue below -1e-10 times the trace.
    Source: Goldt et al. 2020, Eq. (5).
    """

    Q: Float[Array, "*batch k k"]
    R: Float[Array, "*batch k m"]
    T: Float[Array, "*batch m m"]
    v: Float[Array, "*batch k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch k"] | None
    b_teacher: Float[Array, "*batch m"] | None

    def __init__(
        self,
        Q: RealLike,
        R: RealLike,
        T: RealLike,
        v: RealLike | None = None,
        v_teacher: RealLike | None = None,
        b: RealLike | None = None,
        b_teacher: RealLike | None = None,
    ):
        Q, R, T = as_float(Q, "Q"), as_float(R, "R"), as_float(T, "T")
        k, m = _sizes(Q, T)
        require_shape(Q, (k, k), "Q", "student by student")
        require_shape(T, (m, m), "T", "teacher by teacher")
        require_shape(R, (k, m), "R", "student by teacher, matching Q and T")
        layers = _checked_layers(k, m, v, v_teacher, b, b_teacher)
        batch = _common_batch({"Q": Q, "R": R, "T": T}, layers)
        self.Q = jnp.broadcast_to(Q, (*batch, k, k))
        self.R = jnp.broadcast_to(R, (*batch, k, m))
        self.T = jnp.broadcast_to(T, (*batch, m, m))
        self.v, self.v_teacher, self.b, self.b_teacher = _broadcast(layers, batch)
        _require_psd(self)

    @property
    def k(self) -> int:
        """Number of student units."""
        return self.R.shape[-2]

    @property
    def m(self) -> int:
        """Number of teacher units."""
        return self.R.shape[-1]

    @property
    def covariance(self) -> Float[Array, "*batch d d"]:
        """C = [[Q, R], [R^T, T]], the covariance of the fields (lambda, rho)."""
        top = jnp.concatenate([self.Q, self.R], axis=-1)
        bottom = jnp.concatenate([jnp.swapaxes(self.R, -1, -2), self.T], axis=-1)
        return jnp.concatenate([top, bottom], axis=-2)

    @property
    def layers(self) -> Layers:
        """Second layers and biases, what the fields do not carry."""
        return Layers(self.v, self.v_teacher, self.b, self.b_teacher)


class Weights(eqx.Module):
    """The microscopic state of student and teacher.

    w: (k, n), w_teacher: (m, n); v, v_teacher, b, b_teacher as in `Overlaps`.
    Raises: ValueError for wrong shapes or non-finite entries.
    """

    w: Float[Array, "*batch k n"]
    w_teacher: Float[Array, "*batch m n"]
    v: Float[Array, "*batch k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch k"] | None
    b_teacher: Float[Array, "*batch m"] | None

    def __init__(
        self,
        w: RealLike,
        w_teacher: RealLike,
        v: RealLike | None = None,
        v_teacher: RealLike | None = None,
        b: RealLike | None = None,
        b_teacher: RealLike | None = None,
    ):
        w, w_teacher = as_float(w, "w"), as_float(w_teacher, "w_teacher")
        if w.ndim < 2 or w_teacher.ndim < 2 or 0 in w.shape or 0 in w_teacher.shape:
            raise ValueError(
                "w and w_teacher must have shapes (k, n) and (m, n) with k, m, n >= 1; got "
                f"{w.shape} and {w_teacher.shape}."
            )
        k, m, n = w.shape[-2], w_teacher.shape[-2], w.shape[-1]
        require_shape(w_teacher, (m, n), "w_teacher", "same input dimension as w")
        require_finite(w=w, w_teacher=w_teacher)
        layers = _checked_layers(k, m, v, v_teacher, b, b_teacher)
        batch = _common_batch({"w": w, "w_teacher": w_teacher}, layers)
        self.w = jnp.broadcast_to(w, (*batch, k, n))
        self.w_teacher = jnp.broadcast_to(w_teacher, (*batch, m, n))
        self.v, self.v_teacher, self.b, self.b_teacher = _broadcast(layers, batch)

    @property
    def n(self) -> int:
        """Input dimension."""
        return self.w.shape[-1]

    @property
    def k(self) -> int:
        """Number of student units."""
        return self.w.shape[-2]

    @property
    def m(self) -> int:
        """Number of teacher units."""
        return self.w_teacher.shape[-2]

    @property
    def layers(self) -> Layers:
        """Second layers and biases, what the fields do not carry."""
        return Layers(self.v, self.v_teacher, self.b, self.b_teacher)


def overlaps(weights: Weights) -> Overlaps:
    """The order parameters of `weights` (Goldt et al. 2020, Eq. (5))."""
    w, w_teacher, n = weights.w, weights.w_teacher, weights.n
    q = jnp.einsum("...in,...kn->...ik", w, w) / n
    r = jnp.einsum("...in,...kn->...ik", w, w_teacher) / n
    t = jnp.einsum("...in,...kn->...ik", w_teacher, w_teacher) / n
    return Overlaps(q, r, t, *weights.layers)


class TwoLayer(eqx.Module):
    """x -> sum_i v_i g(w_i.x/sqrt n + b_i): a network as an Equinox model."""

    w: Float[Array, "units n"]
    v: Float[Array, " units"]
    b: Float[Array, " units"] | None
    activation: ScalarFunction

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        fields = self.w @ x / self.w.shape[1] ** 0.5
        return self.v @ self.activation(fields if self.b is None else fields + self.b)


def student(problem: Problem, weights: Weights) -> TwoLayer:
    """The student network: `student(problem, weights)(x)` with x of shape (n,) is phi."""
    require_unbatched([("w", weights.w, 2)], "student")
    return TwoLayer(weights.w, weights.v, weights.b, problem.student)


def teacher(problem: Problem, weights: Weights) -> TwoLayer:
    """The teacher network without label noise.

    Raises: ValueError for a multi-index teacher, which is a function of fields, not a network.
    """
    require_unbatched([("w_teacher", weights.w_teacher, 2)], "teacher")
    if isinstance(problem.teacher, MultiIndex):
        raise ValueError(
            "teacher(...) needs a teacher given by an activation; a MultiIndex teacher is a "
            "function of the fields w_teacher @ x / sqrt(n): call problem.teacher with them."
        )
    return TwoLayer(weights.w_teacher, weights.v_teacher, weights.b_teacher, problem.teacher)


def require_compatible(
    problem: Problem, rule_trains_biases: bool, state: Overlaps | Weights
) -> None:
    """What problem, rule and state must agree on: biases that are trained must exist."""
    if rule_trains_biases and state.b is None:
        raise ValueError(
            "rule.lr_bias trains biases, but the state has none; give b (for example zeros) or "
            "set lr_bias=None."
        )
    if problem.has_multi_index_teacher and is_concrete(state.b_teacher):
        if state.b_teacher is not None and bool(np.asarray(state.b_teacher).any()):
            raise ValueError(
                "a MultiIndex teacher has no biases; got b_teacher="
                f"{np.asarray(state.b_teacher)}. Write them into its function."
            )


def _sizes(q: Array, t: Array) -> tuple[int, int]:
    if q.ndim < 2 or t.ndim < 2 or q.shape[-1] < 1 or t.shape[-1] < 1:
        raise ValueError(
            "Q and T must be square matrices with k, m >= 1 units; got shapes "
            f"{q.shape} and {t.shape}."
        )
    return q.shape[-1], t.shape[-1]


def _checked_layers(
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
        return jnp.full(size, default, jnp.result_type(float))
    value = as_float(value, name)
    if value.ndim == 0:
        value = jnp.broadcast_to(value, (size,))
    require_shape(value, (size,), name, "one entry per unit")
    return value


def _common_batch(matrices: dict[str, Array], layers: Layers) -> tuple[int, ...]:
    """The batch axes of all of these, broadcast."""
    vectors = {name: x for name, x in layers._asdict().items() if x is not None}
    shapes = {name: x.shape[:-2] for name, x in matrices.items()}
    shapes |= {name: x.shape[:-1] for name, x in vectors.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        raise ValueError(f"batch axes must broadcast; got {shapes}.") from error


def _broadcast(layers: Layers, batch: tuple[int, ...]) -> Layers:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, x.shape[-1])), layers)


def _require_psd(state: Overlaps) -> None:
    if not is_concrete(state.Q, state.R, state.T):
        return
    q, t, c = np.asarray(state.Q), np.asarray(state.T), np.asarray(state.covariance)
    if not np.isfinite(c).all():
        raise ValueError("Q, R and T must be finite; got NaN or infinity among them.")
    slack = 1e-8 if c.dtype == np.float64 else 1e-4
    for name, matrix in (("Q", q), ("T", t)):
        if np.abs(matrix - np.swapaxes(matrix, -1, -2)).max() > slack * (1 + np.abs(matrix).max()):
            raise ValueError(f"{name} must be symmetric; got\n{matrix}")
    smallest = np.linalg.eigvalsh(c)[..., 0]
    trace = np.trace(c, axis1=-2, axis2=-1)
    allowed = _PSD_SLACK if c.dtype == np.float64 else 1e-5
    if (smallest < -allowed * trace).any():
        raise ValueError(
            "the overlaps [[Q, R], [R^T, T]] must be positive semi-definite, as any real weights "
            f"make them; got a smallest eigenvalue of {smallest.min():.3g} (trace "
            f"{trace.max():.3g}). Use overlaps(weights), or check R**2 <= Q T entry by entry."
        )
