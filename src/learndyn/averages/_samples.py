"""Sums over nodes of what one sample contributes: labels, gradients and errors."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.averages._types import FieldAverages
from learndyn.problems import FieldGradient, Layers, MultiIndex, Problem, Squared

_ZETA_STEP = 1 / 16


def sum_fields(
    problem: Problem,
    f: Float[Array, "p d"],
    centred: Float[Array, "p d"],
    zeta: Float[Array, " p"],
    weight: Float[Array, " p"],
    layers: Layers,
) -> FieldAverages:
    """The field averages, with samples at fields f. `centred` has the value of f; it stands
    apart because f may carry derivatives with respect to the biases, and centred fields do not.
    """
    k, d = len(layers.v), f.shape[1]
    lam, rho = f[:, :k], f[:, k:]
    c_f, c_c, dv, c = (jnp.zeros(shape) for shape in ((k, d), (k, k), k, k))
    for probability, y in _labels(problem, rho, zeta, layers):
        gradient: FieldGradient = jax.vmap(problem.gradient, (0, 0, None))(lam, y, layers)
        weighted = gradient.c * (weight * probability)[:, None]
        c_f += weighted.T @ centred
        c_c += weighted.T @ gradient.c
        dv += (weight * probability) @ gradient.dv
        c += jnp.sum(weighted, axis=0)
    return FieldAverages(c_f, c_c, dv, c)


def sum_errors(
    problem: Problem,
    f: Float[Array, "p d"],
    centred: Float[Array, "p d"],
    zeta: Float[Array, " p"],
    weight: Float[Array, " p"],
    layers: Layers,
) -> Float[Array, ""]:
    """The generalisation error; arguments as for `sum_fields`."""
    k = len(layers.v)
    phi = jax.vmap(problem.student_output, (0, None))(f[:, :k], layers)
    phi_teacher = clean_teacher_output(problem, f[:, k:], layers)
    if problem.is_classification:
        return weight @ ((phi >= 0) != (phi_teacher >= 0)).astype(phi.dtype)
    return 0.5 * weight @ (phi - phi_teacher) ** 2


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
