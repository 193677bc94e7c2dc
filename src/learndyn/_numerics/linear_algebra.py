"""Linear algebra that stays finite at singular covariances."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_RELATIVE_PIVOT = 1e-14
"""A pivot below this times its diagonal entry is rounding, a hundred units in the last place: the
field depends on earlier ones."""

_UNROLLED = 12
"""Factors up to this size are written out column by column, so that XLA fuses them; larger ones
loop, since the time to compile grows with their size."""


def psd_cholesky(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Lower-triangular L with L L^T = c for a positive semi-definite c.

    A direction that earlier ones already span gets a zero column, so L, and derivatives of L,
    stay finite at any rank (LAPACK's factorisation gives NaN there).
    """
    d = c.shape[0]
    if d > _UNROLLED:
        return jax.lax.fori_loop(0, d, lambda j, low: _add_column(c, low, j), jnp.zeros_like(c))
    lower = jnp.zeros_like(c)
    for j in range(d):  # written out: XLA fuses the columns under vmap
        lower = _add_column(c, lower, j)
    return lower


def _add_column(c: Float[Array, "d d"], lower: Float[Array, "d d"], j: int | Array) -> Array:
    # Cholesky's elimination of one column
    # What earlier columns leave of column j: its head is the squared pivot.
    rest = c[:, j] - lower @ lower[j]
    present = rest[j] > _RELATIVE_PIVOT * jnp.abs(c[j, j])
    # The 1 is never used, but keeps the derivative of the square root finite.
    pivot = jnp.sqrt(jnp.where(present, rest[j], 1.0))
    below = jnp.arange(c.shape[0]) >= j
    return lower.at[:, j].set(jnp.where(present & below, rest / pivot, 0.0))


def psd_solve_lower(
    lower: Float[Array, "d d"], rhs: Float[Array, "d cols"]
) -> Float[Array, "d cols"]:
    """Solve lower @ x = rhs for a factor of `psd_cholesky`, with x = 0 at its zero pivots.

    Those pivots carry no probability, so any value would do; 0 keeps results bounded.
    """
    return _solve(lower, rhs, transposed=False)


def psd_solve_upper(
    lower: Float[Array, "d d"], rhs: Float[Array, "d cols"]
) -> Float[Array, "d cols"]:
    """Solve lower.T @ x = rhs for a factor of `psd_cholesky`, with x = 0 at its zero pivots."""
    return _solve(lower, rhs, transposed=True)


def _solve(
    lower: Float[Array, "d d"], rhs: Float[Array, "d cols"], *, transposed: bool
) -> Float[Array, "d cols"]:
    empty = jnp.diagonal(lower) == 0
    # Forward or back substitution, with 1 for the pivots by which nothing can be divided.
    safe = lower + jnp.diag(jnp.where(empty, 1.0, 0.0))
    rhs = jnp.where(empty[:, None], 0.0, rhs)
    solution = jax.scipy.linalg.solve_triangular(safe, rhs, trans=int(transposed), lower=True)
    return jnp.where(empty[:, None], 0.0, solution)


def symmetric_from_triu(values: Float[Array, " pairs"], size: int) -> Float[Array, "size size"]:
    """The symmetric matrix whose upper triangle, row by row, is `values`."""
    rows, cols = jnp.triu_indices(size)
    upper = jnp.zeros((size, size), values.dtype).at[rows, cols].set(values)
    return upper.at[cols, rows].set(values)


def triu(matrix: Float[Array, "size size"]) -> Float[Array, " pairs"]:
    """The upper triangle of a symmetric matrix, row by row."""
    return matrix[jnp.triu_indices(matrix.shape[0])]
