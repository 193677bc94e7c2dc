"""The two states of learning: weights in n dimensions, and the overlaps that matter."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_float,
    brief,
    in_single,
    is_concrete,
    require_finite,
    require_shape,
)
from learndyn._readable import Readable
from learndyn._types import Absent, RealLike
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule
from learndyn.states._checks import (
    broadcast_layers,
    checked_layers,
    common_batch,
    require_psd,
    rounded_off,
    unit_counts,
)


class Overlaps(Readable):
    """The macroscopic state: Q_ii' = w_i.w_i'/n, R_ij = w_i.w*_j/n, T_jj' = w*_j.w*_j'/n.

    Leading batch axes are allowed here and broadcast; functions that take one state are vmapped
    over them.

    Args:
        Q: (k, k) overlaps of the student's units, dimensionless; [[Q, R], [R^T, T]] is positive
            semi-definite (singular is valid: student = teacher, more units than directions).
        R: (k, m) overlaps of student and teacher.
        T: (m, m) overlaps of the teacher's units.
        v, v_teacher: (k,), (m,) second layers; ones where not given.
        b, b_teacher: (k,), (m,) biases; None where there are none. Given one, the other is 0.

    Raises:
        ValueError: for wrong shapes, k or m < 1, non-finite entries, asymmetric Q or T, or an
            eigenvalue below -1e-10 times the trace. Where Q, R or T arrive in float32 that is
            -1e-5, and what is not positive semi-definite by rounding is projected: the negative
            eigenvalues are set to 0, so that they are as valid as if computed in float64.

    Source:
        Goldt et al. 2020, Eq. (5).

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> start.covariance
        Array([[0.2, 0.1],
               [0.1, 1. ]], dtype=float64)
        >>> start.v
        Array([1.], dtype=float64)
    """

    Q: Float[Array, "*batch k k"]
    R: Float[Array, "*batch k m"]
    T: Float[Array, "*batch m m"]
    v: Float[Array, "*batch k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch k"] | Absent
    b_teacher: Float[Array, "*batch m"] | Absent

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
        precision = np.float32 if in_single(Q, R, T) else jnp.result_type(float)
        Q, R, T = as_float(Q, "Q"), as_float(R, "R"), as_float(T, "T")
        k, m = unit_counts(Q, T)
        require_shape(Q, (k, k), "Q", "student by student")
        require_shape(T, (m, m), "T", "teacher by teacher")
        require_shape(R, (k, m), "R", "student by teacher, matching Q and T")
        layers = checked_layers(k, m, v, v_teacher, b, b_teacher)
        batch = common_batch({"Q": Q, "R": R, "T": T}, layers)
        Q = jnp.broadcast_to(Q, (*batch, k, k))
        R = jnp.broadcast_to(R, (*batch, k, m))
        T = jnp.broadcast_to(T, (*batch, m, m))
        self.v, self.v_teacher, self.b, self.b_teacher = broadcast_layers(layers, batch)
        require_psd(Q, R, T, precision)
        self.Q, self.R, self.T = rounded_off(Q, R, T, precision)

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

    @property
    def output_weights(self) -> Float[Array, "*batch d"]:
        """(v, -v*), with which student minus teacher is one network."""
        return jnp.concatenate([self.v, -self.v_teacher], axis=-1)


class Weights(Readable):
    """The microscopic state of student and teacher.

    Args:
        w: (k, n) first layer of the student.
        w_teacher: (m, n) first layer of the teacher.
        v, v_teacher: (k,), (m,) second layers; ones where not given.
        b, b_teacher: (k,), (m,) biases; None where there are none.
        latent_teacher: (m, d) first layer of a teacher that sees the d latent variables of
            `HiddenManifold` inputs, whose `weights` sets it; w_teacher is then what the inputs show
            of it. None: the teacher sees the inputs.

    Raises:
        ValueError: for wrong shapes or non-finite entries.

    Example:
        >>> weights = ld.Weights(w=jnp.ones((2, 5)), w_teacher=jnp.ones((1, 5)))
        >>> weights.k, weights.m, weights.n, weights.v
        (2, 1, 5, Array([1., 1.], dtype=float64))
    """

    w: Float[Array, "*batch k n"]
    w_teacher: Float[Array, "*batch m n"]
    v: Float[Array, "*batch k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch k"] | Absent
    b_teacher: Float[Array, "*batch m"] | Absent
    latent_teacher: Float[Array, "*batch m d"] | Absent

    def __init__(
        self,
        w: RealLike,
        w_teacher: RealLike,
        v: RealLike | None = None,
        v_teacher: RealLike | None = None,
        b: RealLike | None = None,
        b_teacher: RealLike | None = None,
        latent_teacher: RealLike | None = None,
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
        layers = checked_layers(k, m, v, v_teacher, b, b_teacher)
        batch = common_batch({"w": w, "w_teacher": w_teacher}, layers)
        self.latent_teacher = _latent(latent_teacher, (*batch, m))
        self.w = jnp.broadcast_to(w, (*batch, k, n))
        self.w_teacher = jnp.broadcast_to(w_teacher, (*batch, m, n))
        self.v, self.v_teacher, self.b, self.b_teacher = broadcast_layers(layers, batch)

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


def _latent(teacher: RealLike | None, units: tuple[int, ...]) -> Float[Array, "*batch m d"] | None:
    """units: batch axes and number of units."""
    if teacher is None:
        return None
    teacher = as_float(teacher, "latent_teacher")
    if teacher.ndim < 2 or teacher.shape[-2] != units[-1] or 0 in teacher.shape:
        raise ValueError(
            f"latent_teacher must have shape ({units[-1]}, d), one row for each unit of the "
            f"teacher; got shape {teacher.shape}."
        )
    require_finite(latent_teacher=teacher)
    return jnp.broadcast_to(teacher, (*units, teacher.shape[-1]))


def euclidean_overlaps(weights: Weights | Any) -> Overlaps:
    """The order parameters of `weights` for white inputs. Raises: ValueError for anything else."""
    if not isinstance(weights, Weights):
        raise ValueError(
            f"overlaps: weights must be Weights; got {brief(weights)}. Make them with "
            "ld.Weights(w, w_teacher) or ld.init_weights; order parameters that are known already "
            "go into ld.Overlaps(Q, R, T)."
        )
    w, w_teacher, n = weights.w, weights.w_teacher, weights.n
    q = jnp.einsum("...in,...kn->...ik", w, w) / n
    r = jnp.einsum("...in,...kn->...ik", w, w_teacher) / n
    t = jnp.einsum("...in,...kn->...ik", w_teacher, w_teacher) / n
    return Overlaps(q, r, t, *weights.layers)


def in_double(state: Overlaps) -> Overlaps:
    """Overlaps that were made in float32 in float64, where JAX now has it, and projected."""
    if not in_single(state.Q) or jnp.result_type(float) != jnp.float64:
        return state
    return Overlaps(state.Q, state.R, state.T, *state.layers)


def require_compatible(
    problem: Problem, rule_trains_biases: bool, state: Overlaps | Weights | Any
) -> None:
    """What problem, rule and state, grouped or not, must agree on: biases that are trained must
    exist."""
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


def tested(rule: AbstractRule, state: Overlaps) -> Overlaps:
    """`state` with the second layer with which a student that learns by `rule` is tested."""
    return eqx.tree_at(lambda s: s.v, state, rule.tested_layer(state.v))
