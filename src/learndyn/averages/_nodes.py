"""Averages of any problem over a set of nodes: f = S z with C = S S^T."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._linalg import psd_cholesky, psd_solve_lower
from learndyn._losses import Squared
from learndyn._problem import FieldGradient, Layers, MultiIndex, Problem
from learndyn._states import Overlaps
from learndyn.averages._types import AbstractAverages, FieldAverages

Observable = Callable[[Array, Array, FieldGradient], Array]

_ZETA_STEP = 1 / 16


class NodeAverages(AbstractAverages):
    """Averages over nodes z (replicates, points, dims) with weights (points,).

    `score` says how to differentiate. Where the gradient of a sample is continuous, through
    the nodes. Where it jumps that is silently wrong, and the derivative acts on the measure
    instead: d<h>/dC = S^-T <h (z z^T - 1)> S^-1 / 2, d<h>/db = S^-T <h z>. First derivatives
    only; with a loss whose slope jumps (hinge, perceptron) derivatives with respect to v miss
    the motion of the jump.
    """

    z: Float[Array, "replicates points dims"]
    weight: Float[Array, " points"]
    score: bool = eqx.field(static=True)

    def field_averages(
        self, problem: Problem, state: Overlaps, cross: Float[Array, "p d"] | None = None
    ) -> FieldAverages:
        f, zeta, weight, layers = self._sample(state)
        lam, rho = f[:, : state.k], f[:, state.k :]
        k, d = state.k, state.k + state.m
        c_f, c_c, dv, c = (jnp.zeros(shape) for shape in ((k, d), (k, k), k, k))
        for probability, y in _labels(problem, rho, zeta, layers):
            gradient: FieldGradient = jax.vmap(problem.gradient, (0, 0, None))(lam, y, layers)
            weighted = gradient.c * (weight * probability)[:, None]
            c_f += weighted.T @ f
            c_c += weighted.T @ gradient.c
            dv += (weight * probability) @ gradient.dv
            c += jnp.sum(weighted, axis=0)
        if cross is not None:
            # E[f_p | f] = cross C^-1 f, by two triangular solves.
            factor = psd_cholesky(state.covariance)
            reversed_ = psd_solve_lower(factor, cross.T)
            c_f = psd_solve_lower(factor, c_f.T).T @ reversed_
        return FieldAverages(c_f, c_c, dv, c)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        f, _, weight, layers = self._sample(state)
        lam, rho = f[:, : state.k], f[:, state.k :]
        phi = jax.vmap(problem.student_output, (0, None))(lam, layers)
        phi_teacher = clean_teacher_output(problem, rho, layers)
        if problem.is_classification:
            return weight @ ((phi >= 0) != (phi_teacher >= 0)).astype(phi.dtype)
        return 0.5 * weight @ (phi - phi_teacher) ** 2

    def covariance_of(
        self, problem: Problem, state: Overlaps, observable: Observable
    ) -> Float[Array, "q q"]:
        """Covariance over samples of observable(lam, rho, gradient), a vector of length q.

        Exact in the label noise for observables up to second degree in the gradient.
        """
        f, zeta, weight, layers = self._sample(state)
        lam, rho = f[:, : state.k], f[:, state.k :]
        mean, second = jnp.zeros(()), jnp.zeros(())
        for probability, y in _labels(problem, rho, zeta, layers, points=3):
            gradient = jax.vmap(problem.gradient, (0, 0, None))(lam, y, layers)
            value = jax.vmap(observable)(lam, rho, gradient)
            weighted = value * (weight * probability)[:, None]
            mean = mean + jnp.sum(weighted, axis=0)
            second = second + weighted.T @ value
        return second - jnp.outer(mean, mean)

    def replicate(self, index: Array) -> "NodeAverages":
        """The same averages over one replicate alone, for error estimates."""
        return eqx.tree_at(lambda a: a.z, self, self.z[index][None])

    def _sample(
        self, state: Overlaps
    ) -> tuple[Float[Array, "p d"], Float[Array, " p"], Float[Array, " p"], Layers]:
        """Fields, label noise and weights of all nodes, and the layers to evaluate them with."""
        replicates, points, dims = self.z.shape
        d = state.k + state.m
        nodes = self.z.reshape(replicates * points, dims)
        z, zeta = nodes[:, :d], nodes[:, d] if dims > d else jnp.zeros(len(nodes))
        weight = jnp.tile(self.weight / replicates, replicates)
        if not self.score:
            return z @ psd_cholesky(state.covariance).T, zeta, weight, state.layers
        frozen = jax.lax.stop_gradient(state)
        factor = psd_cholesky(frozen.covariance)
        weight = weight * (1 + _score(z, factor, state, frozen))
        layers = state.layers._replace(b=frozen.b, b_teacher=frozen.b_teacher)
        return z @ factor.T, zeta, weight, layers


def clean_teacher_output(
    problem: Problem, rho: Float[Array, "p m"], layers: Layers
) -> Float[Array, " p"]:
    """phi* without label noise; a multi-index teacher is averaged over zeta."""
    if not isinstance(problem.teacher, MultiIndex):
        return jax.vmap(problem.teacher_output, (0, None))(rho, layers)
    # The trapezoidal rule is spectral for smooth f and forgiving where f jumps in zeta.
    zeta = jnp.arange(-8, 8 + _ZETA_STEP / 2, _ZETA_STEP)
    density = jnp.exp(-0.5 * zeta**2)
    density = density / density.sum()

    def averaged(one_rho: Float[Array, " m"]) -> Float[Array, ""]:
        return density @ jax.vmap(problem.teacher, (None, 0))(one_rho, zeta)

    return jax.lax.map(averaged, rho, batch_size=min(1024, len(rho)))


def needs_zeta_node(problem: Problem) -> bool:
    """Whether label noise needs a node dimension of its own, having no exact finite rule."""
    if problem.has_multi_index_teacher:
        return True
    return not (problem.is_classification or isinstance(problem.loss, Squared))


def _labels(
    problem: Problem,
    rho: Float[Array, "p m"],
    zeta: Float[Array, " p"],
    layers: Layers,
    points: int = 2,
) -> list[tuple[Float[Array, " p"] | float, Float[Array, " p"]]]:
    """Labels with their probabilities given the fields: a sum over label noise.

    Exact for classification and, with squared loss, for polynomials of c and dloss/dv of
    degree up to 2 points - 1, since those are linear in the noise.
    """
    if needs_zeta_node(problem):
        return [(1.0, jax.vmap(problem.label, (0, 0, None))(rho, zeta, layers))]
    clean = jax.vmap(problem.teacher_output, (0, None))(rho, layers)
    if problem.is_classification:
        one = jnp.ones_like(clean)
        positive = _probability_positive(clean, problem.noise)
        return [(positive, one), (1 - positive, -one)]
    x, w = np.polynomial.hermite_e.hermegauss(points)
    return [(p, clean + x_i * problem.noise) for x_i, p in zip(x, w / w.sum(), strict=True)]


def _probability_positive(clean: Float[Array, " p"], noise: Float[Array, ""]) -> Float[Array, " p"]:
    """P(clean + noise zeta >= 0), a step where noise = 0."""
    noisy = noise > 0
    smooth = jax.scipy.special.ndtr(clean / jnp.where(noisy, noise, 1.0))
    return jnp.where(noisy, smooth, jnp.where(clean >= 0, 1.0, 0.0))


def _score(
    z: Float[Array, "p d"], factor: Float[Array, "d d"], state: Overlaps, frozen: Overlaps
) -> Float[Array, " p"]:
    """A number that is 0 and whose derivative is that of the log density of f."""
    change = state.covariance - frozen.covariance
    half = psd_solve_lower(factor, change)
    whitened = psd_solve_lower(factor, half.T)
    score = 0.5 * (jnp.sum((z @ whitened) * z, axis=1) - jnp.trace(whitened))
    if state.b is None:
        return score
    shift = jnp.concatenate(jax.tree.leaves((state.b, state.b_teacher)))
    shift = shift - jax.lax.stop_gradient(shift)
    return score + z @ psd_solve_lower(factor, shift[:, None])[:, 0]
