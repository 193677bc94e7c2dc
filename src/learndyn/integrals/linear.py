"""Closed-form Gaussian averages for g(x) = x: second moments of the fields."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def pair(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """<f_a f_b> = C_ab for all pairs (I2)."""
    return c


def first_layer(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """Averages of the error signal s_i = sum_a u_a f_a - sigma zeta, which is the same for k units.

    Returns G (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p), and <s_i s_k> (k, k).
    """
    return jnp.tile(u, (k, 1)), jnp.full((k, k), u @ c @ u + noise_variance)
