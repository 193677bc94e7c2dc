"""Symmetric roots of covariances: they commute with permutations and sign flips of the fields.

Cholesky's factor does not: it serves the first field before the second, so that averages over
fixed nodes would treat equal units differently.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_ABSENT = 1e-14
"""Eigenvalues of a matrix of unit scale below this are rounding, a hundred units in the last place:
the direction does not exist."""

_ABSENT_ROOT = 0.5 * _ABSENT**0.5
"""Sums of two eigenvalues of a root below this are of two absent directions: a present one alone
has twice this."""


def scaled_root(
    c: Float[Array, "d d"], variances: Float[Array, " d"]
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """S with S S^T = c for a positive semi-definite c, and a left inverse X of S.

    S = D sqrt(c / D D) with D = diag(sqrt(variances)): small fields keep their digits next to
    large ones. Permuting or flipping fields permutes or flips rows and columns of S. X S is the
    projector on what directions there are. Both, and their derivatives, are finite at any rank.
    variances: (d,) the scale of each field, at least c's diagonal; 0 where a field is 0.
    """
    present = variances > 0
    scale = jnp.where(present, jnp.sqrt(jnp.where(present, variances, 1.0)), 0.0)
    inverse_scale = jnp.where(present, 1 / jnp.where(present, scale, 1.0), 0.0)
    root, inverse = psd_root(c * inverse_scale[:, None] * inverse_scale)
    return scale[:, None] * root, inverse * inverse_scale


@jax.custom_jvp
def psd_root(c: Float[Array, "d d"]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """The symmetric root of a positive semi-definite c of unit scale, and its pseudo-inverse."""
    values, vectors = jnp.linalg.eigh(c)
    present = values > _ABSENT
    root = jnp.sqrt(jnp.where(present, values, 1.0))
    inverse = jnp.where(present, 1 / root, 0.0)
    root = jnp.where(present, root, 0.0)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


@psd_root.defjvp
def _psd_root_jvp(primals: tuple, tangents: tuple) -> tuple:
    # dC = S dS + dS S; the inverse changes by -X dS X as long as the rank stays.
    (root, inverse), (change,) = psd_root(*primals), tangents
    d_root = _sylvester(root, 0.5 * (change + change.T))
    return (root, inverse), (d_root, -inverse @ d_root @ inverse)


def _sylvester(s: Float[Array, "d d"], rhs: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The X with s X + X s = rhs (Sylvester's equation) for a root s, and X = 0 between absent
    directions, where any finite value would do.

    Solved in the eigenbasis, and differentiated as an equation: eigenvectors of equal eigenvalues,
    which symmetric states have, have no derivatives.
    """
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(s))
    total = values[:, None] + values
    present = total > _ABSENT_ROOT

    def solve(_: Callable, b: Array) -> Array:
        inner = vectors.T @ b @ vectors
        return vectors @ jnp.where(present, inner / jnp.where(present, total, 1.0), 0.0) @ vectors.T

    return jax.lax.custom_linear_solve(lambda x: s @ x + x @ s, rhs, solve, symmetric=True)
