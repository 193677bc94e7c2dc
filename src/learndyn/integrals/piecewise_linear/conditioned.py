"""Averages <g'(x_i) g'(x_k) Delta**2> of a piecewise linear network, by conditioning on two fields.

Delta = sum_a u_a g(x_a) is the difference of student and teacher. Given the fields of units i and
k, all others are Gaussian, and the mean and the variance of Delta are known: the mean exactly, the
variance up to one smooth integral for each pair of ReLUs (Price's theorem),

    Cov((x - h)_+, (y - k)_+) = r P(x > h) P(y > k) + int_0^r (r - s) density(h, k; s) ds,

and where the teacher jumps, those of a step with a step and with a ReLU in closed form. What is
left is an integral over two numbers. It is nested and split at the knots of both units, so that the
integrand is smooth on each piece; pieces on which g' vanishes are left out. Both orders of nesting
are averaged, which treats all units alike.
"""

from functools import lru_cache
from itertools import permutations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Int

from learndyn._numerics.special import arcsin
from learndyn.integrals.half_planes import root
from learndyn.integrals.piecewise_linear.function import Network, PiecewiseLinear
from learndyn.integrals.piecewise_linear.pairs import Steps, steps_at
from learndyn.integrals.piecewise_linear.steps import (
    StepAverages,
    above,
    density,
    step_averages,
)

REACH = 7.0
"""Standard deviations to which the integrals extend: beyond is a probability of 3e-12."""

SHARPEST = 1e-9
"""A standard deviation, in units of the field's own, below which a field counts as known. Averages
change by as much; its square is what rounding of a correlation leaves, 1e-16, or less."""


_WIDER = 2.0
"""Standard deviation of the normal law to which the nodes of a piece are fitted. Where a piece is
much longer than the N(0, 1) law is wide, as between the knots of a small student, nodes that are
fitted to the piece miss the law: off the diagonal 4 % at Q = 0.001. Of 1.5, 2, 2.5 and 3 the
largest error is smallest with 2, for layers of ReLU and hard tanh on pieces of all lengths."""

_CLOSE = 0.95
"""Correlations above this are taken from 1, those below from 0. The value is empirical: with it and
6 nodes the error of diagonal products of ReLU and hard tanh is at most 2e-5 at all distances tried,
1 to 1e-4. With 0.7 it is 2e-5 at generic states, with 0.99 it is 4e-5 at a distance of 0.3."""

SOFTENING = 7
"""Terms of the series by which a step is made wider. With layers 1.2 spacings wide what a lattice
misses of the last term is 3e-7 of the jump, and the terms left out are 1e-5 at spacings of 0.43;
more terms would have to be wider."""

_LEAST_COSINE = 1e-100
"""Bounds a divisor from below, which is 0 for parallel fields alone: there its term is 0."""


class Resolution(NamedTuple):
    """Gauss-Legendre nodes: on each piece of the two conditioned fields, on each piece where there
    is one such field, and in the integral over correlations."""

    plane: int
    line: int
    correlation: int


class Given(NamedTuple):
    """The network's fields, given two numbers z of which they depend.

    loading: (d, 2) mean of each field, in units of its standard deviation, is loading @ z;
    left: (d, d) their covariances that are left; rest: the steps that are left to chance.
    """

    loading: Float[Array, "d 2"]
    left: Float[Array, "d d"]
    rest: Int[Array, " rest"]


def conditioned_products(
    net: Network,
    g: PiecewiseLinear,
    c: Float[Array, "d d"],
    b: Float[Array, " d"],
    u: Float[Array, " d"],
    k: int,
    noise_variance: Float[Array, ""],
    resolution: Resolution,
) -> Float[Array, "k k"]:
    """<s_i s_j> of the error signal s_i = g'(x_i) (sum_a u_a g(x_a) - sigma zeta) of k units.

    g: the students' function; c: covariance of the fields; b: (d,) biases; u: (v, -v*).
    Error: falls with the resolution; largest, relative to the result, where student and teacher
    differ by little. Symmetric in the units to rounding. Derivatives are those of the rule, which
    at singular c lacks the part of directions that are not there.
    """
    steps = steps_at(net, c, b)
    r, q = steps.r, steps.q
    knots = (jnp.array(g.knots) - b[:k, None]) / steps.scale[:k, None]
    bent = np.flatnonzero(net.bend.any(axis=0))
    rest = _steps_left(tuple(bent.tolist()), tuple(net.unit.tolist()), k)

    def diagonal(args: tuple[Array, Array]) -> Array:
        i, left_over = args
        z, weight = _on_pieces(knots[i], g.slopes**2, resolution.line)
        z = jnp.stack([z, jnp.zeros_like(z)], axis=-1)
        loading = jnp.stack([r[i], jnp.zeros_like(r[i])], axis=-1)
        given = Given(loading, r - jnp.outer(r[i], r[i]), left_over)
        mean, variance = given_moments(net, steps, u, b, given, z, resolution.correlation)
        return weight @ (mean**2 + variance + noise_variance)

    def ordered(args: tuple[Array, Array, Array]) -> Array:
        i, j, left_over = args
        first, weight = _on_pieces(knots[i], g.slopes, resolution.plane)
        sharp = jnp.maximum(q[i, j], SHARPEST)
        across = (knots[j] - r[i, j] * first[:, None]) / sharp
        second, inner = jax.vmap(lambda x: _on_pieces(x, g.slopes, resolution.plane))(across)
        z = jnp.stack([jnp.broadcast_to(first[:, None], second.shape), second], axis=-1)
        through_j = (r[j] - r[i] * r[i, j]) / sharp
        left = r - jnp.outer(r[i], r[i]) - jnp.outer(through_j, through_j)
        given = Given(jnp.stack([r[i], through_j], axis=-1), left, left_over)
        z, weight = z.reshape(-1, 2), (weight[:, None] * inner).ravel()
        mean, variance = given_moments(net, steps, u, b, given, z, resolution.correlation)
        return weight @ (mean**2 + variance + noise_variance)

    own = jax.lax.map(diagonal, (jnp.arange(k), rest.one))
    if k == 1:
        return own[:, None]
    i, j = np.array(list(permutations(range(k), 2))).T
    pairs = jax.lax.map(ordered, (jnp.array(i), jnp.array(j), rest.two))
    nested = jnp.zeros((k, k)).at[i, j].set(pairs)
    return jnp.diag(own) + 0.5 * (nested + nested.T)


class _Left(NamedTuple):
    """one: (k, rest) steps at which a slope grows that do not belong to a unit; two: (pairs, rest)
    nor to another."""

    one: Int[np.ndarray, "k rest"]
    two: Int[np.ndarray, "pairs rest"]


@lru_cache
def _steps_left(bent: tuple[int, ...], unit: tuple[int, ...], k: int) -> _Left:
    others = lambda *own: [s for s in bent if unit[s] not in own]
    one = [others(i) for i in range(k)]
    two = [others(i, j) for i, j in permutations(range(k), 2)]
    return _Left(np.array(one, int), np.array(two, int))


def _on_pieces(
    knots: Float[Array, " knots"], slopes: Float[np.ndarray, " pieces"], count: int
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Nodes of a N(0, 1) number on each piece between the knots, weighted with the slopes."""
    inner = jnp.clip(knots, -REACH, REACH)
    # Change of variables to a probability, in which pieces with most of the density stay long
    ends = ndtr(jnp.concatenate([jnp.array([-REACH]), inner, jnp.array([REACH])]) / _WIDER)
    nodes, weights = [], []
    for piece in np.flatnonzero(slopes).tolist():
        place, share = _clustered(count, piece > 0, piece < len(slopes) - 1)
        width = ends[piece + 1] - ends[piece]
        nodes.append(ends[piece] + width * place)
        weights.append(slopes[piece] * width * share)
    white = ndtri(jnp.concatenate(nodes))
    z = _WIDER * white
    return z, jnp.concatenate(weights) * _WIDER * density(z) / density(white)


@lru_cache
def _clustered(count: int, at_start: bool, at_end: bool) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1], denser towards ends at which there is a knot.

    There the integrand has layers, as wide as student and teacher differ.
    """
    x, weight = np.polynomial.legendre.leggauss(count)
    x, weight = 0.5 * (1 + x), 0.5 * weight
    if at_start and at_end:
        return x * x * (3 - 2 * x), weight * 6 * x * (1 - x)
    if at_start:
        return x * x, weight * 2 * x
    if at_end:
        return 1 - (1 - x) ** 2, weight * 2 * (1 - x)
    return x, weight


def spreads(given: Given) -> Float[Array, " d"]:
    """Standard deviations that are left to all fields, in units of their own; never 0."""
    return jnp.sqrt(jnp.maximum(jnp.diagonal(given.left), SHARPEST**2))


def widths(given: Given, width: Array | float) -> tuple[Array, Array, Array]:
    """All fields' spreads s, spreads w >= s whose layers in z are at least `width` wide, and
    (w**2 - s**2) / (2 w**2)."""
    spread = spreads(given)
    wide = jnp.maximum(spread, width * jnp.sqrt(jnp.sum(given.loading**2, axis=-1)))
    return spread, wide, 0.5 * (1 - spread / wide) * (1 + spread / wide)


def given_moments(
    net: Network,
    steps: Steps,
    u: Float[Array, " d"],
    b: Float[Array, " d"],
    given: Given,
    z: Float[Array, "nodes 2"],
    count: int,
    width: Array | float = 0.0,
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Mean and variance of Delta given each z.

    width: of the narrowest layers in z that the nodes resolve. A teacher made of steps alone gets
    wider ones where they are narrower, such that averages over z of smooth functions stay right.
    """
    scale = u * steps.scale
    raised = scale @ net.bend  # each step counts once, with the scale of the field it belongs to
    spread = spreads(given)
    mean = z @ given.loading.T
    t = (steps.h - mean[:, net.unit]) / spread[net.unit]
    passed = above(t)
    relus = spread[net.unit] * (density(t) - t * passed)
    constant = u @ (net.constant + net.slope * b)
    expected = constant + mean @ (scale * net.slope) + relus @ raised
    slope = scale * (net.slope + passed @ net.bend.T)
    straight = jnp.sum((slope @ given.left) * slope, axis=-1)
    variance = straight + _through_bends(net, steps, raised, spread, given, t, count)
    if net.jump.any():
        widened = Widened(passed, density(t))
        if not net.bend.any():
            widened = _widened(net, steps, given, mean, width)
        expected = expected + widened.passed @ (u @ net.jump)
        variance = variance + _through_jumps(net, steps, u, spread, given, t, widened)
    return expected, variance


class Widened(NamedTuple):
    """Steps [f > h] given z, and their delta functions times the spread of f, as smooth functions
    of z whose averages over z are those of the steps."""

    passed: Float[Array, "nodes steps"]
    peak: Float[Array, "nodes steps"]


def _widened(
    net: Network,
    steps: Steps,
    given: Given,
    mean: Float[Array, "nodes d"],
    width: Array | float,
) -> Widened:
    """Steps whose layers in z are at least this wide.

    Equation: the heat equation. A step of width s is exp(-a D**2) of one of width w, with a =
    (w**2 - s**2) / 2 and D the derivative across, whose powers give Hermite's functions. As D may
    act on what a step is multiplied with instead, the series converges where that is smooth.
    """
    spread, wide, share = (x[net.unit] for x in widths(given, width))
    t, narrower = (steps.h - mean[:, net.unit]) / wide, spread / wide
    passed, peak, term = above(t), jnp.ones_like(t), density(t)
    before, here = jnp.ones_like(t), t  # Hermite's polynomials of orders 2 n - 2 and 2 n - 1
    factor = jnp.ones_like(share)
    for n in range(1, SOFTENING):
        factor = -factor * share / n
        after = t * here - (2 * n - 1) * before
        passed, peak = passed + term * factor * here, peak + factor * after
        before, here = after, t * after - 2 * n * here
    return Widened(passed, term * peak * narrower)


def _through_bends(
    net: Network,
    steps: Steps,
    raised: Float[Array, " steps"],
    spread: Float[Array, " d"],
    given: Given,
    t: Float[Array, "nodes steps"],
    count: int,
) -> Float[Array, " nodes"]:
    """The part of the variance that is due to bends: the sum over all pairs of steps of
    int_0^r (r - s) density(t, t'; s) ds, each pair once."""
    first, second = np.triu_indices(given.rest.shape[0])
    x, y = given.rest[first], given.rest[second]
    unit = jnp.asarray(net.unit)
    spreads = spread[unit[x]] * spread[unit[y]]
    r = jnp.clip(given.left[unit[x], unit[y]] / spreads, -1.0, 1.0)
    r = jnp.where(unit[x] == unit[y], 1.0, r)  # free of rounding, which arcsin would enlarge
    side = jnp.where(r < 0, -1.0, 1.0)  # int_0^r of h, k is int_0^-r of h, -k
    weight = raised[x] * raised[y] * spreads * np.where(first == second, 1.0, 2.0)
    return _bend_covariance(t[:, x], side * t[:, y], side * r, count) @ weight


def _through_jumps(
    net: Network,
    steps: Steps,
    u: Float[Array, " d"],
    spread: Float[Array, " d"],
    given: Given,
    t: Float[Array, "nodes steps"],
    widened: Widened,
) -> Float[Array, " nodes"]:
    """The part of the variance in which the teacher's jumps take part: among themselves, with lines
    (by Stein's lemma), and with ReLUs."""
    unit, height = jnp.asarray(net.unit), u @ net.jump
    jumps = np.flatnonzero(net.jump.any(axis=0))
    along = ((u * steps.scale * net.slope) @ given.left / spread)[unit[jumps]]
    lines = widened.peak[:, jumps] @ (2 * height[jumps] * along)
    raised = (u * steps.scale) @ net.bend * spread[unit]

    def correlated(x: Any, y: Any) -> tuple[Array, StepAverages]:
        """Averages of the steps x and y, (nodes, pairs), and products of their probabilities."""
        r = jnp.clip(given.left[unit[x], unit[y]] / (spread[unit[x]] * spread[unit[y]]), -1.0, 1.0)
        r = jnp.where(unit[x] == unit[y], 1.0, r)
        q = root((1 - r) * (1 + r))
        return above(t[:, x]), step_averages(t[:, x], t[:, y], r, q)

    # Each pair of jumps once, and each jump with each ReLU.
    first, second = (jumps[index] for index in np.triu_indices(len(jumps)))
    same = net.unit[first] == net.unit[second]
    among = jnp.zeros(len(t))
    if same.any():
        x, y = first[same], second[same]
        # Both are passed where the later one is; knots are in ascending order.
        both, weight = widened.passed[:, y], np.where(x == y, 1.0, 2.0) * height[x] * height[y]
        among = (both - widened.passed[:, x] * both) @ weight
    if not same.all():
        x, y = first[~same], second[~same]
        passed, found = correlated(x, y)
        among += (found.both - passed * above(t[:, y])) @ (2 * height[x] * height[y])
    if not given.rest.shape[0]:
        return lines + among
    x = jnp.repeat(jumps, given.rest.shape[0])
    y = jnp.tile(given.rest, len(jumps))
    passed, found = correlated(x, y)
    mean = density(t[:, y]) - t[:, y] * above(t[:, y])
    relus = (found.step_relu - passed * mean) @ (2 * height[x] * raised[y])
    return lines + among + relus


def _bend_covariance(
    h: Float[Array, "nodes pairs"],
    k: Float[Array, "nodes pairs"],
    r: Float[Array, " pairs"],
    count: int,
) -> Float[Array, "nodes pairs"]:
    """int_0^r (r - s) density(h, k; s) ds for 0 <= r <= 1.

    For large r it is taken from its value at r = 1, and what lies between is integrated: so the
    difference of two fields that are almost parallel is right however small it is.
    """
    close = r > _CLOSE
    angle = arcsin(r)
    start, length = jnp.where(close, angle, 0.0), jnp.where(close, 0.5 * np.pi - angle, angle)
    squares, product = h * h + k * k, h * k
    total = jnp.where(close, _from_parallel(h, k, r), 0.0)
    # Gauss and Legendre's rule for theta, s = sin(theta): the integrand is smooth up to r = 1.
    # The sum is written out, so that XLA takes it in one pass over the nodes.
    points, shares = np.polynomial.legendre.leggauss(count)
    for point, share in zip(0.5 * (1 + points), 0.5 * shares, strict=True):
        theta = start + length * point
        s, root = jnp.sin(theta), jnp.maximum(jnp.cos(theta), _LEAST_COSINE)
        height = share * length * jnp.abs(r - s) / (2 * np.pi)
        total += height * jnp.exp((s * product - 0.5 * squares) / (root * root))
    return total


def _from_parallel(
    h: Float[Array, "nodes pairs"], k: Float[Array, "nodes pairs"], r: Float[Array, " pairs"]
) -> Float[Array, "nodes pairs"]:
    """int_0^1 (r - s) density(h, k; s) ds, by the averages of two parallel and two independent
    fields."""
    high, low = jnp.maximum(h, k), jnp.minimum(h, k)
    h_tail, k_tail = above(h), above(k)
    tail = jnp.minimum(h_tail, k_tail)
    parallel = (1 + high * low) * tail - low * density(high)
    relus = (density(h) - h * h_tail) * (density(k) - k * k_tail)
    return parallel - relus - h_tail * k_tail - (1 - r) * (tail - h_tail * k_tail)
