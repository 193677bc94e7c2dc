"""Four directions in the canonical frame of two pairs: partial correlations and P4.

Four Gaussian fields are four unit vectors 0, 1, 2, 3. The planes of the pairs {0, 1} and {2, 3}
meet at two principal angles, whose cosines sigma_1 >= |sigma_2| are the canonical correlations
(Hotelling 1936). In orthonormal bases of the planes in which their cross-correlation is
diag(sigma_1, sigma_2), the vectors are

    0, 1: (cos a_j, sin a_j)                2, 3: (cos b_l, sin b_l)

and with gamma_i = 1 - sigma_i**2 every minor of the correlation matrix is a short sum in which
nothing cancels. So correlations, partial correlations and P4 all belong to one and the same
positive semi-definite matrix, however singular it is; their errors cannot disagree, and amount to
rounding of the covariance.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.special import arctan2
from learndyn.integrals.relu.correlations import Angles, cosines_and_sines
from learndyn.integrals.relu.unit_rows import sine

PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
"""The six pairs of four fields; a pair is followed or preceded by the two fields that it leaves."""

REST = np.array([1, 0, 3, 2, 5, 4])
"""Where in `PAIRS` to find the two fields that a pair leaves."""

_ORDERS = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 2, 1]])
"""Each way to split four fields into two pairs, as an order of the fields; doing it twice undoes
it."""

_SPLITS = _ORDERS.reshape(3, 2, 2)
"""The same as two pairs each."""

_BACK = np.array(
    [[PAIRS.index(tuple(sorted(order[[*pair]]))) for pair in PAIRS] for order in _ORDERS]
)
"""Where the pair of each place in `PAIRS` is after such a reordering."""

_J = np.array([0, 1, 0, 1])
_L = np.array([0, 1, 1, 0])
_SIDE = np.array([1.0, 1.0, -1.0, -1.0])
"""The four pairs across are (j, 2 + l). The sign says on which side of j its partner in {0, 1}
lies, times the same for l."""

_FLOOR = 1e-100
"""It replaces gamma = 0, so that partial correlations are those of nearby matrices; to call them
0 there would make ReLU averages of four vectors in one plane wrong by some percent. The value is
far below any gamma that rounding leaves (1e-32), and its square is still a float64 number."""

_NODES = 48
"""Gauss-Legendre nodes of the integral in P4; the value is empirical, see `_NEAREST`."""

_X, _WEIGHT = np.polynomial.legendre.leggauss(_NODES)
_X, _WEIGHT = 0.5 * (1.0 + _X), 0.5 * _WEIGHT
"""The nodes and their weights between 0 and 1."""

_NEAREST = 1e-9
"""A singularity of the path that is nearer to y = 0 than this, in units of the smallest q, is taken
to be at this distance. The value is empirical: with it and the 48 nodes, P4 is within 2e-13 over
pairs with q from 1 to 1e-6 in 2, 3 and 4 dimensions."""


class Frame(eqx.Module):
    """Canonical frame of the pairs {0, 1} and {2, 3}.

    sigma, gamma: (2,) canonical correlations and 1 - sigma**2; a, b: (2, 2) columns
    (cos, sin) of the vectors 0, 1 and 2, 3; within: (2, 2) columns (r_01, sqrt(1 - r_01**2))
    and the same of 2, 3.
    """

    sigma: Float[Array, "2"]
    gamma: Float[Array, "2"]
    a: Float[Array, "2 2"]
    b: Float[Array, "2 2"]
    within: Float[Array, "2 2"]


class Cone(eqx.Module):
    """Four unit vectors as ReLU averages need them; six entries in the order of `PAIRS`.

    partial: arcsin of the correlation given that the two fields left are 0; volume: sqrt(det) of
    the correlation matrix; p4: the probability that all four fields are positive.
    """

    angles: Angles
    partial: Float[Array, "6"]
    volume: Float[Array, ""]
    p4: Float[Array, ""]


def cone(x: Float[Array, "4 d"]) -> Cone:
    """The cone of four unit vectors, the rows of x. Not to be differentiated.

    The closest two fields go into one pair of the frame: then the part of P4 that is integrated
    vanishes with their angle, and its error with it.
    """
    sines = cosines_and_sines(x, x)[1]
    # The split of the four fields whose pairs hold the smallest angle
    closest = jnp.argmin(jnp.min(sines[_SPLITS[..., 0], _SPLITS[..., 1]], axis=1))
    found = _cone(x[jnp.array(_ORDERS)[closest]])
    back = jnp.array(_BACK)[closest]
    return eqx.tree_at(
        lambda c: (c.angles, c.partial), found, (found.angles[back], found.partial[back])
    )


def _cone(x: Float[Array, "4 d"]) -> Cone:
    f = canonical_frame(x)
    across, q_across = _correlations_across(f)
    r = jnp.concatenate([f.within[0], across])
    q = jnp.concatenate([f.within[1], q_across])
    root = jnp.sqrt(f.gamma[0] * f.gamma[1])
    # The two fields that a pair across leaves are the partners of j and l: hence the `REST`.
    left = jnp.concatenate([_covariance_within(f), _covariance_across(f, f.gamma)[REST[:4]]])
    q_of_rest = jnp.concatenate([f.within[1], q_across[REST[:4]]])
    theta, partial = arctan2(jnp.stack([r, left]), jnp.stack([q, root * q_of_rest]))
    volume = f.within[1, 0] * f.within[1, 1] * root
    return Cone(Angles(r, q, theta), partial, volume, _p4(f, theta, across, q_across))


def canonical_frame(x: Float[Array, "4 d"]) -> Frame:
    """Principal angles between the planes of rows 0, 1 and of rows 2, 3 of x, and the four
    vectors in bases along them."""
    # Hotelling's canonical correlations: singular values of the product of two orthonormal bases
    e, first = _plane_basis(x[0], x[1])
    f, second = _plane_basis(x[2], x[3])
    sigma, gamma, phi, psi = _singular_values(e @ f.T)
    one = jnp.array([1.0, 0.0])
    a = jnp.stack([_turned_back(one, phi), _turned_back(first, phi)], axis=1)
    b = jnp.stack([_turned_back(one, psi), _turned_back(second, psi)], axis=1)
    return Frame(sigma, gamma, a, b, jnp.stack([first, second], axis=1))


def _singular_values(
    m: Float[Array, "2 2"],
) -> tuple[Float[Array, "2"], Float[Array, "2"], Float[Array, "2"], Float[Array, "2"]]:
    """sigma, 1 - sigma**2, and phi, psi as directions: m = turn(phi) diag(sigma) turn(-psi).

    m is the sum of a part that keeps orientation, (sigma_1 + sigma_2)/2 times a turn by
    phi - psi, and one that reverses it, (sigma_1 - sigma_2)/2 times a reflection, of angle
    phi + psi.
    """
    keep = jnp.stack([m[0, 0] + m[1, 1], m[1, 0] - m[0, 1]])
    reverse = jnp.stack([m[0, 0] - m[1, 1], m[1, 0] + m[0, 1]])
    (total, difference), directions = _polar(jnp.stack([keep, reverse]))
    # From 1 - sigma_1 follow 1 - sigma_2 and 1 + sigma_2: no gamma is negative or has lost digits.
    deficit = jnp.maximum(1.0 - 0.5 * (total + difference), 0.0)
    sigma = jnp.stack([1.0 - deficit, 0.5 * (total - difference)])
    gamma_1 = deficit * (2.0 - deficit)
    gamma_2 = (deficit + difference) * (deficit + total)
    phi = _half_angle(_turned(directions[0], directions[1]))
    gamma = jnp.maximum(jnp.stack([gamma_1, gamma_2]), _FLOOR)
    return sigma, gamma, phi, _turned_back(phi, directions[0])


def _plane_basis(
    a: Float[Array, " d"], b: Float[Array, " d"]
) -> tuple[Float[Array, "2 d"], Float[Array, "2"]]:
    """An orthonormal basis of the plane of a and b, whose first vector is a; and b in that basis.

    Where b is parallel to a the second basis vector is 0.
    """
    # Gram-Schmidt, twice: the second time removes what rounding left of a.
    rest = b - (a @ b) * a
    rest = rest - (a @ rest) * a
    length = sine(rest)
    other = jnp.where(length > 0, rest / jnp.where(length > 0, length, 1.0), 0.0)
    return jnp.stack([a, other]), jnp.stack([a @ b, length])


def _correlations_across(f: Frame) -> tuple[Float[Array, "4"], Float[Array, "4"]]:
    """r = sigma_1 cos a cos b + sigma_2 sin a sin b of the pairs across, and sqrt(1 - r**2)."""
    (cos_a, sin_a), (cos_b, sin_b) = f.a[:, _J], f.b[:, _L]
    r = f.sigma[0] * cos_a * cos_b + f.sigma[1] * sin_a * sin_b
    in_plane = f.sigma[1] * cos_a * sin_b - f.sigma[0] * sin_a * cos_b
    out_of_plane = f.gamma[0] * cos_b**2 + f.gamma[1] * sin_b**2
    return r, jnp.sqrt(in_plane**2 + out_of_plane)


def _covariance_within(f: Frame) -> Float[Array, "2"]:
    """The covariance of 0, 1 given 2, 3, and the reverse: gamma_1 cos cos + gamma_2 sin sin."""
    return f.gamma @ jnp.stack([f.a[:, 0] * f.a[:, 1], f.b[:, 0] * f.b[:, 1]], axis=1)


def _covariance_across(f: Frame, gamma: Float[Array, "2 ..."]) -> Float[Array, "4 ..."]:
    """The covariance of the partners of j and l given j and l, times q_jl**2 / (q_01 q_23):
    +-(sigma_2 gamma_1 cos a cos b + sigma_1 gamma_2 sin a sin b)."""
    along, across = _SIDE * f.sigma[::-1, None] * f.a[:, _J] * f.b[:, _L]
    if gamma.ndim == 2:
        along, across = along[:, None], across[:, None]
    return along * gamma[0] + across * gamma[1]


def _p4(
    f: Frame, theta: Float[Array, "6"], r: Float[Array, "4"], q: Float[Array, "4"]
) -> Float[Array, ""]:
    """P(all four > 0), by Plackett's identity (1954).

    Correlations t r_jl between the pairs are switched on from t = 0 (independent pairs) to 1:
    dP4/dt = sum_jl r_jl P2(partners given j, l at t) / (2 pi sqrt(1 - t**2 r_jl**2)). The
    quarter in P2 integrates to arcsin r_jl / 8 pi. The rest is a function of y = 1 - t**2.
    On the way sigma becomes t sigma, so that gamma becomes gamma + y sigma**2.
    """
    # Plackett's path, at the nodes of its quadrature
    # Gauss-Legendre quadrature, after the substitution that `_path` explains
    y, weight = _path(jnp.min(q), jnp.min(f.gamma))
    t = jnp.sqrt(1.0 - y)
    gamma = f.gamma[:, None] + f.sigma[:, None] ** 2 * y
    q_at_t = jnp.sqrt(q[:, None] ** 2 + r[:, None] ** 2 * y)
    left = t * _covariance_across(f, gamma)
    partial = arctan2(left, jnp.sqrt(gamma[0] * gamma[1]) * q_at_t)
    # Plackett's integral without the quarters, and the independent pairs from which it starts
    added = (r[:, None] / q_at_t * partial) @ (weight / t)
    independent = jnp.prod(0.25 + theta[:2] / (2 * np.pi))
    return independent + jnp.sum(np.pi * theta[2:] + added) / (8 * np.pi**2)


def _path(
    q: Float[Array, ""], gamma: Float[Array, ""]
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Nodes 0 < y < 1 and weights for a function that is analytic but for y <= -min(q**2, gamma).

    In x, y = scale (exp(x) - 1), such a function has its singularities at a distance of pi.
    """
    # 1e-18 stands for q = 0, where there is nothing to integrate.
    scale = jnp.maximum(jnp.minimum(q**2, gamma), _NEAREST * q + 1e-18)
    depth = jnp.log1p(1.0 / scale)
    # y = scale (exp(x) - 1) for x from 0 to depth, and dy = (y + scale) dx
    growth = jnp.exp(depth * _X)
    return scale * (growth - 1.0), scale * depth * _WEIGHT * growth


def _polar(z: Float[Array, "n 2"]) -> tuple[Float[Array, " n"], Float[Array, "n 2"]]:
    """Lengths and directions of plane vectors; the direction of 0 is (1, 0)."""
    size = jnp.hypot(z[:, 0], z[:, 1])
    direction = z / jnp.where(size > 0, size, 1.0)[:, None]
    return size, jnp.where(size[:, None] > 0, direction, jnp.array([1.0, 0.0]))


def _turned(z: Float[Array, "2"], w: Float[Array, "2"]) -> Float[Array, "2"]:
    """z turned by the angle of w."""
    return jnp.stack([z[0] * w[0] - z[1] * w[1], z[0] * w[1] + z[1] * w[0]])


def _turned_back(z: Float[Array, "2"], w: Float[Array, "2"]) -> Float[Array, "2"]:
    """z turned back by the angle of w."""
    return jnp.stack([z[0] * w[0] + z[1] * w[1], z[1] * w[0] - z[0] * w[1]])


def _half_angle(z: Float[Array, "2"]) -> Float[Array, "2"]:
    """The direction of half the angle of z, |z| = 1: that of z + 1, or of z - 1 a quarter back."""
    right = z[0] >= 0
    x, y = jnp.where(right, 1.0 + z[0], z[1]), jnp.where(right, z[1], 1.0 - z[0])
    return jnp.stack([x, y]) / jnp.hypot(x, y)
