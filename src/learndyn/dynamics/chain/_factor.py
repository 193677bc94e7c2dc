"""Square roots of covariances that change a little in every step, for many runs as lanes.

A factor of r rows is a list of its columns, each of shape (rows, lanes).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn.dynamics.chain._lanes import apart, inner

Column = Float[Array, "rows #wide"]

_SMALLEST, _LARGEST = 1e-300, 1e300
"""Squared lengths below are 0, those above have no finite inverse root: a run diverged."""

_TOGETHER = 4
"""Columns computed in one piece, between which partial sums are shared."""


def project_out(
    columns: list[Column],
    z: Float[Array, "rows lanes"],
    outside: Float[Array, " lanes"],
    opaque_true: Bool[Array, ""],
) -> tuple[list[Column], Column, Float[Array, " lanes"]]:
    """Rows B z-orthogonal to a vector x, their components along x, and the length of x.

    x has coordinates z along the frame in which the rows' coordinates are the columns, and
    length `outside` beyond it. The parts orthogonal to x have Gram matrix
    B (1 - z z^T/|x|^2) B^T; its factor is B times the Cholesky factor of the bracket, which is
    d_j = sqrt(s_(j+1)/s_j) on the diagonal and -z_i z_j / sqrt(s_(j+1) s_j) below it,
    s_j = outside**2 + sum_(i >= j) z_i**2: all numbers at most 1, and no cancellation.
    """
    # Sums of squares from the far end: only positive terms, so nothing cancels.
    squares = [outside * outside]
    for z_j in z[::-1]:
        squares.append(squares[-1] + z_j * z_j)
    length = jnp.sqrt(jnp.stack(squares[::-1]))
    inverse = 1.0 / jnp.maximum(length, _SMALLEST**0.5)
    sums, found = jnp.zeros_like(columns[0] * z[0]), []
    for last in range(len(columns), 0, -_TOGETHER):
        some = range(max(last - _TOGETHER, 0), last)

        def piece(columns: list, z: Array, length: Array, inverse: Array, sums: Array) -> tuple:
            # sums: of columns[l] z_l over l > j
            new = []
            for j in reversed(range(len(columns))):
                rest = (length[j + 1] * inverse[j]) * columns[j]
                new.append(rest - (z[j] * inverse[j + 1] * inverse[j]) * sums)
                sums = sums + columns[j] * z[j]
            return new, sums

        first, end = some.start, some.stop
        new, sums = apart(
            opaque_true,
            piece,
            columns[first:end],
            z[first:end],
            length[first : end + 1],
            inverse[first : end + 1],
            sums,
        )
        found += new
    return found[::-1], sums * inverse[0], length[0]


def rank_one_update(
    columns: list[Column], extra: Column, opaque_true: Bool[Array, ""]
) -> list[Column]:
    """Triangular factor of B B^T + q q^T from a triangular B and a vector q: Givens rotations."""
    result = []
    for j, column in enumerate(columns):
        below = (np.arange(len(columns)) > j)[:, None]

        def rotated(b: Array, q: Array, j: int = j, below: np.ndarray = below) -> tuple:
            square = b[j] * b[j] + q[j] * q[j]
            inverse = jnp.where(
                square < _LARGEST, 1.0 / jnp.sqrt(jnp.maximum(square, _SMALLEST)), jnp.nan
            )
            # Givens rotation of column j and q, which leaves 0 in row j of q
            # There is nothing to rotate where both are 0: a unit along the teacher, say.
            cos = jnp.where(square > 0, b[j] * inverse, 1.0)
            sin = q[j] * inverse
            return cos * b + sin * q, jnp.where(below, cos * q - sin * b, 0.0)

        new, extra = apart(opaque_true, rotated, column, extra)
        result.append(new)
    return result


def lq_factor(x: Float[Array, "rows cols lanes"], opaque_true: Bool[Array, ""]) -> list[Column]:
    """Columns of a lower-triangular L with L L^T = x x^T, at any rank: Householder reflections.

    Its diagonal is not negative, which makes it unique: a run that goes on from its overlaps
    finds the factor with which it stopped, and so meets the same inputs. The error of each row is
    relative to that row's own length.
    """
    rows, columns = x.shape[0], []
    # Zero columns where there are fewer columns than rows: the factor is square.
    x = jnp.pad(x, ((0, 0), (0, max(rows - x.shape[1], 0)), (0, 0)))

    def reflection(x: Array) -> tuple[Array, Array, Array, Array]:
        # Householder's reflection, which maps the first row onto its first axis
        first = x[0]
        norm = jnp.sqrt(inner(first, first))
        # The sign that adds: |x_0| + |x|, without cancellation
        tail = jnp.abs(first[0]) + norm
        axis = jnp.concatenate([jnp.copysign(tail, first[:1]), first[1:]])
        scale = 1.0 / jnp.maximum(norm * tail, _SMALLEST)
        sign = -jnp.copysign(1.0, first[0])  # that of the first entry's image
        return axis, scale * inner(x[1:], axis[None]), norm, sign

    def reflected(x: Array, axis: Array, weight: Array) -> Array:
        return x[1:] - weight[:, None] * axis

    for j in range(rows):
        axis, weight, norm, sign = apart(opaque_true, reflection, x)
        # The rows below, reflected; the first row is done.
        x = apart(opaque_true, reflected, x, axis, weight)
        zeros = jnp.zeros((j, *norm.shape), x.dtype)
        columns.append(jnp.concatenate([zeros, norm[None], sign * x[:, 0]]))
        x = x[:, 1:]
    return columns
