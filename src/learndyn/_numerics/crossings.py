"""Where a function of one number crosses a level, as differentiable numbers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._types import Scalar

_FAR = 1e300
"""Stands for a crossing that is not there."""

_GRID = np.sinh(np.linspace(-np.arcsinh(64.0), np.arcsinh(64.0), 256))
"""Where signs are looked at: within 64 of 0, finer near 0, which is not among them itself."""

_HALVINGS = 54
"""They take an interval no wider than 3 down to rounding."""


def crossings(fn: Callable, level: Scalar | float, most: int = 2) -> Float[Array, " most"]:
    """The first `most` places where the elementwise `fn` crosses `level`, else 1e300.

    Derivatives with respect to what `fn` depends on are those of the implicit function.
    """
    grid = jnp.asarray(_GRID)
    above = fn(grid) >= level
    crossed = above[1:] != above[:-1]
    index = jnp.argsort(~crossed)[:most]  # a stable sort: the first ones come first
    side = above[index]

    def halve(_: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = both
        middle = 0.5 * (low + high)
        same = (fn(middle) >= level) == side
        return jnp.where(same, middle, low), jnp.where(same, high, middle)

    # Bisection, and one step of Newton's method that carries the derivatives
    ends = grid[index], grid[index + 1]
    place = jax.lax.stop_gradient(jax.lax.fori_loop(0, _HALVINGS, halve, ends)[1])
    value, slope = jax.jvp(fn, (place,), (jnp.ones_like(place),))
    slope = jax.lax.stop_gradient(slope)
    # A slope below 1e-12 is rounding: a Newton step would leave the interval.
    steps = jnp.abs(slope) > 1e-12
    moved = jnp.where(steps, (value - level) / jnp.where(steps, slope, 1.0), 0.0)
    moved = moved - jax.lax.stop_gradient(moved)
    return jnp.where(crossed[index], place - moved, _FAR)
