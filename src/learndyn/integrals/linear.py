"""Closed-form Gaussian averages for g(x) = x: second moments of the fields."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def pair(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """<f_a f_b> = C_ab for all pairs (I2)."""
    return c


def first_layer(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """What the gradient c_i = u_i (sum_a u_a f_a - sigma zeta) needs.

    Returns G (k, d) with <c_i f_p> = sum_b G_ib Cov(f_b, f_p), and <c_i c_k> (k, k).
    """
    outer = jnp.outer(u[:k], u)
    return outer, outer[:, :k] * (u @ c @ u + noise_variance)
