"""Linear algebra at singular Jacobians: what is neutral stays where it is."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

NEUTRAL = 1e-10
"""A singular value below this times the largest counts as zero. Rounding leaves 1e-15 or so of a
neutral one, more where averages are over nodes; slow directions have larger ones."""


_UNPAIRED = 1e-6
"""Left and right null vectors whose scalar products are below this, relative to the largest, are
orthogonal but for rounding, as in a Jordan block: rounding of 1e-16 turns a null vector by up to
1e-16 over `NEUTRAL`."""


class Decomposition(NamedTuple):
    """matrix = left diag(values) right^T, with the neutral ones marked."""

    left: Float[Array, "p p"]
    values: Float[Array, " p"]
    right: Float[Array, "p p"]
    neutral: Bool[Array, " p"]


def decompose(
    matrix: Float[Array, "p p"], tolerance: float | Float[Array, ""] = NEUTRAL
) -> Decomposition:
    """Singular value decomposition; the columns of right[:, neutral] span the null space."""
    left, values, right_t = jnp.linalg.svd(matrix)
    return Decomposition(left, values, right_t.T, values <= tolerance * values[0])


def pseudo_solve(parts: Decomposition, rhs: Float[Array, " p"]) -> Float[Array, " p"]:
    """The x of least norm that minimises |matrix x - rhs|, neutral directions left out."""
    # Moore-Penrose inverse by singular values
    inverse = jnp.where(parts.neutral, 0.0, 1 / jnp.where(parts.neutral, 1.0, parts.values))
    return parts.right @ (inverse * (parts.left.T @ rhs))


def secular_part(parts: Decomposition, source: Float[Array, " p"]) -> Float[Array, " p"]:
    """The part of `source` that pushes along neutral directions and cannot be balanced.

    It is P source with P the projector on the null space along the range; 0 wherever the
    source lies in the range.
    """
    left = jnp.where(parts.neutral, parts.left, 0.0)
    right = jnp.where(parts.neutral, parts.right, 0.0)
    # Left null vectors pair with right ones; without pairing (a Jordan block) nothing is removed.
    pairing = jnp.linalg.pinv(left.T @ right, rtol=_UNPAIRED)
    return right @ (pairing @ (left.T @ source))
