"""Averages near singular overlaps (student = teacher), exact to first order in the overlaps.

There C has fewer directions than fields, so nodes f = S z do not move into the missing ones and
derivatives through them are wrong. Price's theorem needs no S: d<h>/dC_ab = <d2h/df_a df_b> / 2.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn import _losses
from learndyn._checks import is_concrete
from learndyn._linalg import psd_cholesky
from learndyn._problem import Layers, MultiIndex, Problem
from learndyn._smoothness import gradient_jumps, is_smooth, loss_slope_jumps
from learndyn._states import Overlaps
from learndyn.averages import AbstractAverages, FieldAverages, GaussHermite, NodeAverages
from learndyn.averages._nodes import _labels, clean_teacher_output, needs_zeta_node

_ORDERS = {1: 96, 2: 64, 3: 30}
"""Gauss-Hermite nodes a direction, by the number of directions there are."""

_CHUNK = 256  # nodes whose second derivatives are held at a time


class Averaged(NamedTuple):
    """Everything that is averaged over one sample."""

    fields: FieldAverages
    eg: Float[Array, ""]


class ExpandedAverages(AbstractAverages):
    """Averages to first order about `state`: value and derivatives as plain arrays."""

    state: Overlaps
    value: Averaged
    by_fields: Averaged  # <d2h/df df>, two further axes
    by_layers: tuple[Averaged, Averaged, Averaged]  # d/dv, d/db, d/db_teacher, one further axis

    def field_averages(
        self, problem: Problem, state: Overlaps, cross: Float[Array, "p d"] | None = None
    ) -> FieldAverages:
        if cross is not None:
            raise ValueError("averages at singular overlaps have no further probe fields.")
        return self._at(state).fields

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        return self._at(state).eg

    def _at(self, state: Overlaps) -> Averaged:
        change = 0.5 * (state.covariance - self.state.covariance)
        result = _plus(self.value, self.by_fields, change)
        for name, derivative in zip(("v", "b", "b_teacher"), self.by_layers, strict=True):
            new, old = getattr(state, name), getattr(self.state, name)
            result = result if new is None else _plus(result, derivative, new - old)
        return result


def _plus(value: Averaged, derivative: Averaged, change: Array) -> Averaged:
    def add(x: Array, dx: Array) -> Array:
        return x + jnp.tensordot(dx, change, change.ndim)

    return jax.tree_util.tree_map(add, value, derivative)


def expansion(
    problem: Problem, state: Overlaps, averages: NodeAverages
) -> tuple[NodeAverages, ExpandedAverages] | None:
    """Averages right in value, and right in derivatives, at a singular state; else None.

    Raises: ValueError where C is singular and the problem has jumps or kinks.
    """
    factor = psd_cholesky(state.covariance)
    if not is_concrete(factor) or bool((jnp.diagonal(factor) > 0).all()):
        return None
    if not _is_smooth(problem, state.m):
        raise ValueError(
            "derivatives at singular overlaps (student = teacher, or more units than "
            "directions) need a closed form or a problem without jumps and kinks; got "
            f"{problem}. Move the state off the singular point, or use ReLU with squared loss "
            "and no biases, which has a closed form."
        )
    nodes = _nodes(np.asarray(jnp.diagonal(factor)) > 0, problem, averages)
    return nodes, _expand(problem, state, nodes)


@eqx.filter_jit
def _expand(problem: Problem, state: Overlaps, averages: NodeAverages) -> ExpandedAverages:
    f, zeta, weight, layers = averages._sample(state)

    def sample(f: Array, layers: Layers, zeta: Array) -> Averaged:
        return _one_sample(problem, f, zeta, layers)

    def everything(f: Array, zeta: Array) -> tuple[Averaged, Averaged, Layers]:
        by_layers = jax.jacfwd(sample, 1)(f, layers, zeta)
        return sample(f, layers, zeta), jax.hessian(sample)(f, layers, zeta), by_layers

    value, by_fields, by_layers = _weighted_sum(everything, (f, zeta), weight)
    # A tree of Layers within each leaf of Averaged: turn it inside out.
    parts = [
        jax.tree_util.tree_map(
            lambda entry, name=name: getattr(entry, name),
            by_layers,
            is_leaf=lambda node: isinstance(node, Layers),
        )
        for name in ("v", "b", "b_teacher")
    ]
    return ExpandedAverages(state, value, by_fields, tuple(parts))


def _one_sample(problem: Problem, f: Array, zeta: Array, layers: Layers) -> Averaged:
    lam, rho = jnp.split(f, [len(layers.v)])
    phi_teacher = clean_teacher_output(problem, rho[None], layers)[0]
    eg = 0.5 * (problem.student_output(lam, layers) - phi_teacher) ** 2
    fields = None
    for probability, y in _labels(problem, rho[None], zeta[None], layers):
        gradient = problem.gradient(lam, y[0], layers)
        c = gradient.c
        term = FieldAverages(jnp.outer(c, f), jnp.outer(c, c), gradient.dv, c)
        term = jax.tree_util.tree_map(lambda x, p=probability: x * p, term)
        fields = term if fields is None else jax.tree_util.tree_map(jnp.add, fields, term)
    return Averaged(fields, eg)


def _weighted_sum(function, points: tuple[Array, ...], weight: Float[Array, " points"]):
    """sum_p weight_p function(*points_p), a chunk of points at a time."""
    pad = -len(weight) % _CHUNK

    def chunked(x: Array) -> Array:
        x = jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(-1, _CHUNK, *x.shape[1:])

    def add(total, chunk):
        *points, weight = chunk
        values = jax.vmap(function)(*points)
        part = jax.tree_util.tree_map(lambda x: jnp.tensordot(weight, x, 1), values)
        return jax.tree_util.tree_map(jnp.add, total, part), None

    shapes = jax.eval_shape(function, *(x[0] for x in points))
    zeros = jax.tree_util.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, [chunked(x) for x in (*points, weight)])[0]


def _nodes(present: np.ndarray, problem: Problem, averages: NodeAverages) -> NodeAverages:
    """Few directions take Gauss-Hermite nodes, exact for smooth integrands."""
    used = np.append(present, True) if needs_zeta_node(problem) else present
    dims = int(used.sum())
    if dims not in _ORDERS:
        return averages
    few, weight = GaussHermite(_ORDERS[dims]).nodes(dims)
    z = np.zeros((1, few.shape[1], len(used)))
    z[..., used] = few
    return NodeAverages(jnp.asarray(z), jnp.asarray(weight), score=False)


def _is_smooth(problem: Problem, m: int) -> bool:
    def curvature(phi: Array, y: Array) -> Array:
        return _losses.slope(problem.loss, phi, y)

    if gradient_jumps(problem, m) or loss_slope_jumps(curvature):
        return False
    if not isinstance(problem.teacher, MultiIndex):
        return is_smooth(problem, m)
    teacher = problem.teacher

    def steepness(rho: Array, zeta: Array) -> Array:
        direction = jnp.cos(jnp.arange(m) + 1.0)  # any direction that meets every kink
        return jax.jvp(lambda r: teacher(r, zeta), (rho,), (direction,))[1]

    smooth = eqx.tree_at(lambda p: p.teacher, problem, MultiIndex(steepness))
    return not gradient_jumps(smooth, m)
