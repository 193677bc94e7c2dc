"""Rules for a N(0, 1) number that are split where an integrand jumps or bends."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

REACH = 8.0
"""Standard deviations at which the range is cut off: a N(0, 1) number lies beyond with a
probability of 1e-15, rounding next to the whole."""


def split_rule(
    breaks: Float[Array, "*batch breaks"], order: int
) -> tuple[Float[Array, "*batch nodes"], Float[Array, "*batch nodes"]]:
    """Nodes x and weights w with sum_i w_i h(x_i) = <h(z)>, z ~ N(0, 1).

    breaks: where h is not smooth, in any order; those out of reach do nothing. 0 is one more: half
        of the density takes few nodes.
    order: nodes in each piece, of Gauss and Legendre's rule: 12 give a normal density to 3e-8, 16
        to 7e-12.
    Derivatives with respect to the breaks are right where h jumps at them.
    """
    # A composite rule of Gauss and Legendre
    t, weight = (jnp.asarray(x) for x in np.polynomial.legendre.leggauss(order))
    known = jnp.broadcast_to(jnp.array([-REACH, 0.0, REACH]), (*breaks.shape[:-1], 3))
    ends = jnp.sort(jnp.concatenate([known, jnp.clip(breaks, -REACH, REACH)], axis=-1), axis=-1)
    low, high = ends[..., :-1, None], ends[..., 1:, None]
    x = 0.5 * (low + high) + 0.5 * (high - low) * t
    density = jnp.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    w = 0.5 * (high - low) * weight * density
    flat = (*breaks.shape[:-1], -1)
    return x.reshape(flat), w.reshape(flat)
