"""The distribution of a label given one teacher field."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn.averages._places import Places
from learndyn.averages._samples import probability_positive
from learndyn.problems import Layers, MultiIndex, Problem, is_squared

_ZETA_NODES = 2
"""Times the order of the other rules: nodes of Gauss and Hermite's rule for noise that no exact
rule knows."""

_ZETA_INTERVALS = 64
"""Intervals of [-8, 8] in each of which a label may change once as a function of zeta."""

_ZETA_HALVINGS = 44
"""Halvings of such an interval, whose length is 1/4: they leave 1e-14, next to rounding."""

_STEP = 1e-6
"""The derivative by differences takes this: bisection leaves errors of 1e-14 / 1e-6."""


def label_distribution(
    problem: Problem,
    rho: Float[Array, " p"],
    layers: Layers,
    places: Places,
    exact: bool,
    order: int,
) -> tuple[Float[Array, "labels p"], Float[Array, "labels p"]]:
    """Probabilities and labels at each field.

    exact: whether a modulation is linear in a label of squared loss, so that two labels suffice.
    order: nodes in each piece of the other rules.
    """
    one = jnp.ones_like(rho)
    if problem.is_classification:
        positive = _positive(problem, rho, layers, places)
        return jnp.stack([positive, 1 - positive]), jnp.stack([one, -one])
    noiseless = isinstance(problem.teacher, MultiIndex) and not places.uses_zeta
    linear = exact and is_squared(problem.loss) and not isinstance(problem.teacher, MultiIndex)
    points = 1 if noiseless else 2 if linear else _ZETA_NODES * order
    # Gauss and Hermite's rule for zeta
    zeta, p = np.polynomial.hermite_e.hermegauss(points)
    label = jax.vmap(jax.vmap(problem.label, (0, None, None)), (None, 0, None))
    return jnp.outer(p / p.sum(), one), label(rho[:, None], jnp.asarray(zeta), layers)


def _positive(
    problem: Problem, rho: Float[Array, " p"], layers: Layers, places: Places
) -> Float[Array, " p"]:
    """P(y = 1) at each field."""
    if not isinstance(problem.teacher, MultiIndex):
        clean = jax.vmap(problem.teacher_output, (0, None))(rho[:, None], layers)
        return probability_positive(problem, clean)
    if not places.uses_zeta:
        return _is_positive(problem.teacher, rho, jnp.zeros_like(rho)).astype(rho.dtype)
    return _positive_over_zeta(problem.teacher, rho)


@jax.custom_jvp
def _positive_over_zeta(teacher: MultiIndex, rho: Float[Array, " p"]) -> Float[Array, " p"]:
    """The probability of the zeta at which f(rho, zeta) >= 0, its borders found by bisection."""
    ends = jnp.linspace(-8.0, 8.0, _ZETA_INTERVALS + 1)
    rho = jnp.broadcast_to(rho[:, None], (len(rho), _ZETA_INTERVALS))
    low, high = (jnp.broadcast_to(side, rho.shape) for side in (ends[:-1], ends[1:]))
    left, right = (_is_positive(teacher, rho, side) for side in (low, high))

    def halve(_: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = both
        middle = 0.5 * (low + high)
        same = _is_positive(teacher, rho, middle) == left
        return jnp.where(same, middle, low), jnp.where(same, high, middle)

    _, border = jax.lax.fori_loop(0, _ZETA_HALVINGS, halve, (low, high))
    below, at, above = (jax.scipy.special.ndtr(z) for z in (low, border, high))
    mass = jnp.where(left, at - below, 0.0) + jnp.where(right, above - at, 0.0)
    return jnp.sum(mass, axis=1)


@_positive_over_zeta.defjvp
def _positive_over_zeta_jvp(primals, tangents):
    (teacher, rho), (_, drho) = primals, tangents
    up, down = (_positive_over_zeta(teacher, rho + step) for step in (_STEP, -_STEP))
    return _positive_over_zeta(teacher, rho), (up - down) / (2 * _STEP) * drho


def _is_positive(
    teacher: MultiIndex, rho: Float[Array, "*p"], zeta: Float[Array, "*p"]
) -> Bool[Array, "*p"]:
    return jnp.vectorize(lambda rho, zeta: teacher(rho[None], zeta))(rho, zeta) >= 0
