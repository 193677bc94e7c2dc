"""Closed-form Gaussian averages for g(x) = x: second moments of the fields.

I2, I3, I4 and J2 have the arguments of `learndyn.integrals`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Overlap = Float[Array, "*#shape"]
Average = Float[Array, "*shape"]


def I2(aa: Overlap, ab: Overlap, bb: Overlap) -> Average:
    """<a b>."""
    return ab


def J2(ii: Overlap, ij: Overlap, jj: Overlap) -> Average:
    """<1> = 1."""
    return jnp.ones_like(ij)


def I3(ii: Overlap, ia: Overlap, ic: Overlap, ac: Overlap, cc: Overlap) -> Average:
    """<a c>."""
    return ac


def I4(
    ii: Overlap,
    ij: Overlap,
    jj: Overlap,
    ia: Overlap,
    ib: Overlap,
    ja: Overlap,
    jb: Overlap,
    aa: Overlap,
    ab: Overlap,
    bb: Overlap,
) -> Average:
    """<a b>."""
    return ab


def squared_slope(norms: Float[Array, " k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """<1> = 1."""
    return jnp.ones_like(norms)


def pair(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """I2 of all pairs of fields: C itself."""
    return c


def first_layer(
    c: Float[Array, "d d"], u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """Averages of the error signal s_i = sum_a u_a f_a - sigma zeta, which is the same for k units.

    c: covariance of the fields; u: (v, -v*); k: number of student units.
    Returns G (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p), and <s_i s_j> (k, k).
    """
    return jnp.tile(u, (k, 1)), jnp.full((k, k), u @ c @ u + noise_variance)
