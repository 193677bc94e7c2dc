"""Four directions in the canonical frame of two pairs: partial correlations and P4.

Four Gaussian fields are four unit vectors 0, 1, 2, 3. The planes of the pairs {0, 1} and {2, 3}
meet at two principal angles, whose cosines sigma_1 >= |sigma_2| are the canonical correlations
(Hotelling 1936). In orthonormal bases of the planes in which their cross-correlation is
diag(sigma_1, sigma_2), the vectors are

    0, 1: (cos a_j, sin a_j)                2, 3: (cos b_l, sin b_l)

and with gamma_i = 1 - sigma_i**2 every minor of the correlation matrix is a short sum, for
example 1 - r_jl**2 and the conditional covariances, in which nothing cancels. So correlations,
partial correlations and P4 all belong to one and the same positive semi-definite matrix however
singular it is, and errors in them cannot disagree: they amount to rounding of the covariance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from learndyn.averages._special import arctan2

_FLOOR = 1e-100
"""Replaces gamma = 0, so that partial correlations keep the limit they have there."""

_NODES, _DEPTH = 48, 42.0
"""Gauss-Legendre nodes in x, 1 - t**2 = exp(-x), 0 <= x <= depth. Empirical: P4 within 2e-11
over pairs with 1 - |r| from 1e-1 to 1e-14 and matrices of rank 2, 3 and 4."""

_SIGNS = np.array([[1.0, -1.0], [-1.0, 1.0]])
"""Which side of a vector its partner lies on, times the same for the other pair."""


class Frame(NamedTuple):
    """Canonical frame of the pairs {0, 1} and {2, 3}.

    sigma, gamma: (2,) canonical correlations and 1 - sigma**2; first, second: (2,) the unit
    vectors of each pair as complex numbers in the basis of their plane; r, q: (2,) correlation
    within each pair and sqrt(1 - r**2).
    """

    sigma: Float[Array, "2"]
    gamma: Float[Array, "2"]
    first: Complex[Array, "2"]
    second: Complex[Array, "2"]
    r: Float[Array, "2"]
    q: Float[Array, "2"]


class Cone(NamedTuple):
    """What ReLU averages need of four unit vectors: symmetric (4, 4) matrices, zero diagonal.

    r, q: correlation and sqrt(1 - r**2); partial: arcsin of the correlation given that the other
    two fields are 0; volume: sqrt(det) of the correlation matrix; p4: the probability
    that all four fields are positive.
    """

    r: Float[Array, "4 4"]
    q: Float[Array, "4 4"]
    partial: Float[Array, "4 4"]
    volume: Float[Array, ""]
    p4: Float[Array, ""]


def unit_rows(r: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Unit vectors with the scalar products r, a positive semi-definite correlation matrix.

    Error: rounding, whatever the rank; a negative eigenvalue counts as zero.
    """
    values, vectors = jnp.linalg.eigh(r)
    rows = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def cone(x: Float[Array, "4 d"]) -> Cone:
    """The cone of four unit vectors, the rows of x. Not to be differentiated."""
    frame = canonical_frame(x)
    r, q = _cross_correlations(frame)
    return Cone(
        r=_matrix(frame.r, r),
        q=_matrix(frame.q, q),
        # The partial correlation of 1 and 3 is what remains when 0 and 2 are given, and so on.
        partial=_matrix(_partial_within(frame), _partial_across(frame, q)[::-1, ::-1]),
        volume=jnp.prod(frame.q) * _root(frame.gamma),
        p4=_p4(frame, r, q),
    )


def canonical_frame(x: Float[Array, "4 d"]) -> Frame:
    """Principal angles between the planes of rows 0, 1 and of rows 2, 3 of x.

    Equation: the singular values of a 2 x 2 matrix M, from its parts that keep and that
    reverse orientation, of norms (sigma_1 + sigma_2)/2 and (sigma_1 - sigma_2)/2.
    """
    e, first = _plane(x[0], x[1])
    f, second = _plane(x[2], x[3])
    m = e @ f.T
    keep = jax.lax.complex(m[0, 0] + m[1, 1], m[1, 0] - m[0, 1])
    reverse = jax.lax.complex(m[0, 0] - m[1, 1], m[1, 0] + m[0, 1])
    total, difference = jnp.abs(keep), jnp.abs(reverse)
    # 1 - sigma_1, on which 1 -+ sigma_2 build: rounding can then not make gamma negative.
    deficit = jnp.maximum(1.0 - 0.5 * (total + difference), 0.0)
    gamma_1 = deficit * (2.0 - deficit)
    gamma_2 = (deficit + difference) * (deficit + total)
    turn = _root_of_phase(_phase(keep) * _phase(reverse))
    turn_second = jnp.conj(_phase(keep)) * turn
    return Frame(
        sigma=jnp.stack([1.0 - deficit, 0.5 * (total - difference)]),
        gamma=jnp.maximum(jnp.stack([gamma_1, gamma_2]), _FLOOR),
        first=jnp.stack([jnp.ones_like(first), first]) * jnp.conj(turn),
        second=jnp.stack([jnp.ones_like(second), second]) * jnp.conj(turn_second),
        r=jnp.stack([first.real, second.real]),
        q=jnp.stack([first.imag, second.imag]),
    )


def _plane(
    a: Float[Array, " d"], b: Float[Array, " d"]
) -> tuple[Float[Array, "2 d"], Complex[Array, ""]]:
    """An orthonormal basis (a, b without a) of a plane, and b in it as a complex number.

    Where b is parallel to a the second basis vector is 0.
    """
    rest = b - (a @ b) * a
    rest = rest - (a @ rest) * a  # Gram-Schmidt, twice
    length = jnp.linalg.norm(rest)
    other = rest / jnp.where(length > 0, length, 1.0)
    return jnp.stack([a, other]), jax.lax.complex(a @ b, length)


def _cross_correlations(f: Frame) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
    """r_jl = sigma_1 cos a cos b + sigma_2 sin a sin b, and sqrt(1 - r**2)."""
    cos_a, sin_a, cos_b, sin_b = _components(f)
    r = f.sigma[0] * cos_a * cos_b + f.sigma[1] * sin_a * sin_b
    in_plane = f.sigma[1] * cos_a * sin_b - f.sigma[0] * sin_a * cos_b
    out_of_plane = f.gamma[0] * cos_b**2 + f.gamma[1] * sin_b**2
    return r, jnp.sqrt(in_plane**2 + out_of_plane)


def _partial_within(f: Frame) -> Float[Array, "2"]:
    """Partial correlation of each pair given the other pair, as an angle.

    The conditional covariance is gamma_1 cos cos + gamma_2 sin sin.
    """
    pairs = jnp.stack([f.first, f.second])
    along, across = jnp.prod(pairs.real, axis=1), jnp.prod(pairs.imag, axis=1)
    return arctan2(f.gamma[0] * along + f.gamma[1] * across, _root(f.gamma) * f.q)


def _partial_across(f: Frame, q: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    """Entry (j, l): partial correlation, given j and l, of their two partners, as an angle."""
    return arctan2(_partner_covariance(f, f.gamma), _root(f.gamma) * q)


def _p4(f: Frame, r: Float[Array, "2 2"], q: Float[Array, "2 2"]) -> Float[Array, ""]:
    """P(all four > 0), by Plackett's identity (1954).

    Correlations t r_jl between the pairs are switched on from t = 0 (independent pairs) to 1:
    dP4/dt = sum_jl r_jl P2(partners given j, l at t) / (2 pi sqrt(1 - t**2 r_jl**2)). The
    quarter in P2 integrates to arcsin r_jl / 8 pi. The rest is a function of y = 1 - t**2,
    analytic but for y <= 0, where it can be singular however close: hence y = exp(-x).
    Along the way sigma becomes t sigma, and gamma becomes gamma + y sigma**2.
    """
    y, weight = path_nodes(_NODES, _DEPTH)
    t = np.sqrt(1.0 - y)
    gamma = f.gamma[:, None] + f.sigma[:, None] ** 2 * y
    q_at_t = jnp.sqrt(q[..., None] ** 2 + r[..., None] ** 2 * y)
    partial = arctan2(t * _partner_covariance(f, gamma), _root(gamma) * q_at_t)
    added = (r[..., None] / q_at_t * partial) @ (weight / t)
    independent = jnp.prod(0.25 + arctan2(f.r, f.q) / (2 * np.pi))
    return independent + jnp.sum(np.pi * arctan2(r, q) + added) / (8 * np.pi**2)


def path_nodes(count: int, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes y = exp(-x) in (0, 1) and weights, Gauss-Legendre in 0 <= x <= depth."""
    x, weight = np.polynomial.legendre.leggauss(count)
    y = np.exp(-0.5 * depth * (1.0 + x))
    return y, 0.5 * depth * weight * y


def _partner_covariance(f: Frame, gamma: Float[Array, "2 *nodes"]) -> Float[Array, "2 2 *nodes"]:
    """Conditional covariance of the partners of j and l, up to q_01 q_23 / q_jl**2:
    +-(sigma_2 gamma_1 cos a cos b + sigma_1 gamma_2 sin a sin b)."""
    cos_a, sin_a, cos_b, sin_b = _components(f)
    along, across = _SIGNS * f.sigma[1] * cos_a * cos_b, _SIGNS * f.sigma[0] * sin_a * sin_b
    if gamma.ndim > 1:
        along, across = along[..., None], across[..., None]
    return along * gamma[0] + across * gamma[1]


def _components(f: Frame) -> tuple[Array, Array, Array, Array]:
    """cos a, sin a as columns and cos b, sin b as rows."""
    a, b = f.first[:, None], f.second[None, :]
    return a.real, a.imag, b.real, b.imag


def _root(gamma: Float[Array, "2 *nodes"]) -> Float[Array, "*nodes"]:
    return jnp.sqrt(gamma[0] * gamma[1])


def _phase(z: Complex[Array, ""]) -> Complex[Array, ""]:
    size = jnp.abs(z)
    return jnp.where(size > 0, z / jnp.where(size > 0, size, 1.0), 1.0)


def _root_of_phase(z: Complex[Array, ""]) -> Complex[Array, ""]:
    """Square root of a unit complex number, as its normalised mean with 1 or -1."""
    right = z.real >= 0
    return jnp.where(right, 1.0, 1j) * _phase(jnp.where(right, 1.0 + z, 1.0 - z))


def _matrix(within: Float[Array, "2"], across: Float[Array, "2 2"]) -> Float[Array, "4 4"]:
    """Entries (0, 1), (2, 3) and the block between the pairs as one symmetric matrix."""
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    return jnp.block([[within[0] * swap, across], [across.T, within[1] * swap]])
