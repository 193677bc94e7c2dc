"""Unit vectors with given scalar products."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_ROUNDING = 2.0**-52
"""The spacing of float64 numbers at 1: less than d of it, left of a variance 1, counts as zero."""

_UNROLLED = 16
"""Eliminations of up to this many fields are written out, so that XLA fuses them; more loop."""

PARALLEL = 1e-12
"""Unit rows that differ by less, in sine of their angle, differ by rounding only: parallel fields
get rows within 1e-15, and Gram-Schmidt adds its own rounding."""


def unit_rows(r: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Unit vectors with the scalar products r, a positive semi-definite correlation matrix.

    The method is Cholesky's with pivots: the field that has most left comes first. What is left of
    fields below the rounding of r, d * 2**-52 in variance, counts as zero: so parallel fields get
    the same vector up to 1e-15, and an r that is not quite positive semi-definite gets a neighbour
    that is.
    Error: rounding of r, whatever the rank. Not to be differentiated.
    """
    d = r.shape[0]

    def eliminate(step: Any, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
        # Cholesky's elimination, with the largest pivot
        rows, left = so_far
        first = jnp.argmax(left)
        # Pivoting: the field of which most is left comes first.
        size = left[first]
        column = (r[first] - rows @ rows[first]) / jnp.sqrt(jnp.where(size > 0, size, 1.0))
        column = jnp.where(size <= d * _ROUNDING, 0.0, column)  # NaN stays NaN
        left = jnp.where(np.arange(d) == first, -jnp.inf, left - column**2)
        return rows.at[:, step].set(column), left

    start = jnp.zeros_like(r), jnp.diagonal(r)
    rows, _ = jax.lax.fori_loop(0, d, eliminate, start, unroll=d <= _UNROLLED)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def sine(left: Float[Array, "*shape d"]) -> Float[Array, "*shape"]:
    """The sine of the angle between two unit rows, from what Gram-Schmidt leaves of one of them."""
    size = jnp.linalg.norm(left, axis=-1)
    return jnp.where(size < PARALLEL, 0.0, size)  # NaN stays NaN
