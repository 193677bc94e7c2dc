"""All that a theory of learning needs of a piecewise linear network with squared loss."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals import relu
from learndyn.integrals.piecewise_linear.conditioned import Resolution, conditioned_products
from learndyn.integrals.piecewise_linear.function import PiecewiseLinear, network
from learndyn.integrals.piecewise_linear.jumping import jumping_products
from learndyn.integrals.piecewise_linear.pairs import PairAverages, pair_averages

Covariance = Float[Array, "d d"]


class SignalAverages(NamedTuple):
    """Averages of the error e = sum_a u_a g(x_a) - sigma zeta and of its signals s_i = g'(x_i) e.

    G: (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p;
    product: (k, k) <s_i s_j>; h: (k,) <g(x_i) e>; mean: (k,) <s_i>.
    """

    G: Float[Array, "k d"]
    product: Float[Array, "k k"]
    h: Float[Array, " k"]
    mean: Float[Array, " k"]


def first_layer(
    student: PiecewiseLinear,
    teacher: PiecewiseLinear,
    c: Covariance,
    b: Float[Array, " d"] | None,
    u: Float[Array, " d"],
    k: int,
    noise_variance: Float[Array, ""],
    resolution: Resolution,
) -> SignalAverages:
    """The averages of k student units, of fields f with covariance c and x_a = f_a + b_a.

    b: None where there are no biases; u: (v, -v*).
    Error: rounding, except for `product` where `has_exact_products` is false: that has the error
    of `conditioned_products` at this resolution.
    """
    pairs = _pairs(student, teacher, c, b, k)
    h, mean = pairs.g_g[:k] @ u, pairs.dg_g[:k] @ u
    if _bends_at_zero(student, teacher, biases=b is not None):
        return SignalAverages(*_bent_at_zero(student, teacher, c, u, k, noise_variance), h, mean)
    gradient = u * pairs.dg_dg[:k] + jnp.eye(k, len(u)) * (pairs.ddg_g[:k] @ u)[:, None]
    if not student.knots:  # s_i is the error, times a number
        product = student.slope**2 * (u @ pairs.g_g @ u + noise_variance)
        return SignalAverages(gradient, jnp.full((k, k), product), h, mean)
    shift = jnp.zeros_like(u) if b is None else b
    net = network(student, teacher, k, len(u) - k)
    products = jumping_products if net.jump.any() else conditioned_products
    found = products(net, student, c, shift, u, k, noise_variance, resolution)
    return SignalAverages(gradient, found, h, mean)


def has_exact_products(student: PiecewiseLinear, teacher: PiecewiseLinear, *, biases: bool) -> bool:
    """Whether products <s_i s_j> are exact to rounding: the student is linear, or all knots are at
    0, without biases, and nothing jumps."""
    return not student.knots or _bends_at_zero(student, teacher, biases=biases)


def _bends_at_zero(student: PiecewiseLinear, teacher: PiecewiseLinear, *, biases: bool) -> bool:
    at_zero = not (biases or any(student.knots) or any(teacher.knots))
    return at_zero and teacher.is_continuous


def second_moments(
    student: PiecewiseLinear,
    teacher: PiecewiseLinear,
    c: Covariance,
    b: Float[Array, " d"] | None,
    k: int,
) -> Float[Array, "d d"]:
    """<g(x_a) g(x_b)>, to rounding; arguments as for `first_layer`."""
    return _pairs(student, teacher, c, b, k).g_g


def _pairs(
    student: PiecewiseLinear,
    teacher: PiecewiseLinear,
    c: Covariance,
    b: Float[Array, " d"] | None,
    k: int,
) -> PairAverages:
    net = network(student, teacher, k, c.shape[0] - k)
    return pair_averages(net, c, jnp.zeros(c.shape[0]) if b is None else b)


def _bent_at_zero(
    student: PiecewiseLinear,
    teacher: PiecewiseLinear,
    c: Covariance,
    u: Float[Array, " d"],
    k: int,
    noise_variance: Float[Array, ""],
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """G and <s_i s_j> where all knots are at 0: from the averages of ReLU, by linearity."""
    counts = [k, len(u) - k]
    below, above = (
        np.repeat([student.slopes[side], teacher.slopes[side]], counts) for side in (0, -1)
    )
    constant = np.repeat([student.constant, teacher.constant], counts)
    offset = u @ constant
    if not ((below == 0) | (above == 0)).all():
        g, phi = relu.two_sided_first_layer(above, below, c, u, k, noise_variance)
    else:
        g, phi = _one_sided(above, below, c, u, k, noise_variance)
    if not constant.any():
        return g, phi
    # A constant in e adds <g''_i> to G_ii, and moves the products by <g'_i g'_k e>.
    variance = jnp.diagonal(c)[:k]
    scale = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    curvature = jnp.where(variance > 0, (above - below)[:k] / ((2 * np.pi) ** 0.5 * scale), 0.0)
    g = g + offset * jnp.eye(k, len(u)) * curvature[:, None]
    signals = relu.two_sided_signals(above, below, c, u, k)
    steep = _pairs(student, teacher, c, None, k).dg_dg[:k, :k]
    return g, phi + 2 * offset * signals + offset**2 * steep


def _one_sided(
    above: np.ndarray,
    below: np.ndarray,
    c: Covariance,
    u: Float[Array, " d"],
    k: int,
    noise_variance: Float[Array, ""],
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """Each unit vanishes on one side of 0: it is a multiple of a ReLU of f, or of -f."""
    side = np.where(below == 0, 1.0, -1.0)
    height = np.where(below == 0, above, -below)
    g, phi = relu.first_layer(c * np.outer(side, side), u * height, k, noise_variance)
    steep = jnp.asarray(side * height)[:k]
    return steep[:, None] * side * g, jnp.outer(steep, steep) * phi
