"""Averages <g'(x_i) g'(x_k) Delta**2> of a piecewise linear network whose teacher jumps.

As in `conditioned` the fields z of units i and k are given, and Delta**2 splits into two parts.

What the units contribute one by one is a closed form at each z. A jump of a teacher unit a at h is
there a layer around the line on which the mean of f_a is h, as wide as what z leaves of f_a, so
that it becomes a jump where a student approaches the teacher. Nodes are taken in pieces between the
ends of these layers.

What two units contribute together, beyond a product of the slopes that they have at z, needs no
nodes in z. By Price's theorem its derivative with respect to the covariance of their fields is an
average of two delta functions, which fix both fields, and leave the probability that those of units
i and k are on given pieces. So it is an integral over one number, the covariance, of a closed form.
"""

from functools import lru_cache
from itertools import combinations, permutations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn._numerics.special import arcsin
from learndyn.integrals.half_planes import root
from learndyn.integrals.piecewise_linear.conditioned import (
    REACH,
    SHARPEST,
    Given,
    Resolution,
    spreads,
)
from learndyn.integrals.piecewise_linear.function import Network, PiecewiseLinear
from learndyn.integrals.piecewise_linear.pairs import Steps, held, steps_at
from learndyn.integrals.piecewise_linear.steps import FAR, above, density, step_averages

_THIRDS = np.array([1 / 3, 2 / 3])
"""Pieces of the student's units are cut here as well, so that they are at most 5 standard
deviations long where there are no layers."""

_SMALLEST = 1e-30
"""Bounds divisors from below that are 0 where fields are parallel or independent; it lies far below
the square of what rounding leaves of a correlation."""

_NARROW = 0.2
"""Where the layer in which two lines meet is narrower, half of it below this number times exp(-n /
2), n being the nodes on a piece, it is cut once, in the middle. What has been integrated along a
line bends there, but does not jump, so the error is the square of the width times a slope: 3e-6 at
level 0."""

_HAIR = 1e-6
"""Layers of single lines are cut once where half of them is below this number: the variance within
is no odd function, so that the error is the width times a variance."""


def jumping_products(
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

    Arguments as for `conditioned_products`; resolution: nodes on each of the pieces, which are
    more, and in the integral over covariances.
    Error: falls with the resolution by about 5 for each node, whatever the distance of student and
    teacher, also where a teacher's field is nearly determined by those of two students. Symmetric
    in the units to rounding.
    """
    steps = steps_at(net, c, b)
    r, q = steps.r, steps.q
    knots = (jnp.array(g.knots) - b[:k, None]) / steps.scale[:k, None]
    everything = jnp.arange(len(net.unit))

    jumps, slots = np.flatnonzero(net.jump.any(axis=0)), _slots(net, g, k)
    pairs = _pairs_of_lines(net.unit[jumps], len(g.knots))

    def diagonal(i: Array) -> Array:
        layers = _layers(steps.h, r[i][net.unit], q[i][net.unit], resolution.line)
        z, weight = _on_pieces(knots[i], layers, g.slopes**2, resolution.line)
        z = jnp.stack([z, jnp.zeros_like(z)])
        loading = jnp.stack([r[i], jnp.zeros_like(r[i])], axis=-1)
        given = Given(loading, r - jnp.outer(r[i], r[i]), everything)
        return weight @ (_square(net, steps, u, b, given, z) + noise_variance)

    def ordered(pair: tuple[Array, Array]) -> Array:
        i, j = pair
        sharp = jnp.maximum(q[i, j], SHARPEST)
        through_j = (r[j] - r[i] * r[i, j]) / sharp
        left = r - jnp.outer(r[i], r[i]) - jnp.outer(through_j, through_j)
        given = Given(jnp.stack([r[i], through_j], axis=-1), left, everything)
        spread, count, unit = spreads(given), resolution.plane, jnp.asarray(net.unit)
        narrow = _NARROW * np.exp(-0.5 * count)
        # Their own knots are ends of pieces already.
        h = jnp.where((unit == i) | (unit == j), FAR, steps.h)
        # Lines across which the integrand jumps: those of the teacher, and the knots of j.
        across = jnp.concatenate([unit[jumps], jnp.full(len(g.knots), j)])
        at = jnp.concatenate([steps.h[jumps], knots[j]])
        lines = _Lines(r[i][across], through_j[across], spread[across], at)
        alone = _layers(steps.h, r[i][unit], q[i][unit], count)
        # Where a line depends on x alone, it meets all others in its own layer: that comes first.
        alone = alone.at[1].multiply(0.1)
        layers = jnp.concatenate([alone, lines.meet(*pairs, count, narrow)], axis=1)
        first, weight = _on_pieces(knots[i], layers, g.slopes, count, slots.outer)

        def across_j(x: Array) -> tuple[Array, Array]:
            at = h - r[i][unit] * x, through_j[unit], spread[unit]
            layers = _layers(*at, count, _HAIR)
            knots_j = (knots[j] - r[i, j] * x) / sharp
            return _on_pieces(knots_j, layers, g.slopes, count, slots.inner)

        second, inner = jax.vmap(across_j)(first)
        z = jnp.stack([jnp.broadcast_to(first[:, None], second.shape), second])
        z, weight = z.reshape(2, -1), (weight[:, None] * inner).ravel()
        return weight @ (_square(net, steps, u, b, given, z) + noise_variance)

    coupling = _Coupling(net, g, steps, u, knots, resolution.correlation)
    one, two = _pairs_left(tuple(net.unit.tolist()), k)
    own = jax.lax.map(diagonal, jnp.arange(k))
    own += jax.lax.map(lambda args: coupling.on_line(*args), (jnp.arange(k), one))
    if k == 1:
        return own[:, None]
    i, j = np.array(list(permutations(range(k), 2))).T
    nested = jnp.zeros((k, k)).at[i, j].set(jax.lax.map(ordered, (jnp.array(i), jnp.array(j))))
    i, j = np.triu_indices(k, 1)
    both = jax.lax.map(lambda args: coupling.on_plane(*args), (jnp.array(i), jnp.array(j), two))
    coupled = jnp.zeros((k, k)).at[i, j].set(both).at[j, i].set(both)
    return jnp.diag(own) + 0.5 * (nested + nested.T) + coupled


# Nodes


class _Slots(NamedTuple):
    """How often pieces between knots are cut at ends of layers."""

    outer: int
    inner: int


def _slots(net: Network, g: PiecewiseLinear, k: int) -> _Slots:
    """As many as lines of one teacher unit and knots of one student have ends, and two more.

    Half of the lines of two units are between two knots, or where the inner piece begins.
    """
    of_unit = int(np.count_nonzero(net.jump)) // (len(net.constant) - k)
    return _Slots(2 * (of_unit + len(g.knots) + 1), 2 * (of_unit + 1))


class _Lines(NamedTuple):
    """Lines along x + across y + spread xi = h, each for an N(0, 1) number xi."""

    along: Array
    across: Array
    spread: Array
    h: Array

    def meet(
        self, first: np.ndarray, second: np.ndarray, count: int, narrow: float
    ) -> Float[Array, "2 ends"]:
        """The layers in x in which pairs of lines meet: where y is eliminated."""
        a, b = (_Lines(*(value[index] for value in self)) for index in (first, second))
        # Never 0, so that fields which do not depend on y have no layer here.
        variance = (a.spread * b.across) ** 2 + (b.spread * a.across) ** 2 + SHARPEST**2
        h = a.h * b.across - b.h * a.across
        slope = a.along * b.across - b.along * a.across
        return _layers(h, slope, jnp.sqrt(variance), count, narrow)


def _pairs_of_lines(unit: Int[np.ndarray, " jumps"], knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of lines that are not parallel, of jumps of these units and knots of a student."""
    of = np.concatenate([unit, np.full(knots, -1)])
    first, second = np.triu_indices(len(of), 1)
    apart = of[first] != of[second]
    return first[apart], second[apart]


def _layers(
    h: Array, r: Array, spread: Array, count: int, narrow: float = 0.0
) -> Float[Array, "2 ends"]:
    """Ends in z of the layers in which r z + spread xi, xi being a N(0, 1) number, passes h, and
    half their widths. One narrower than `narrow` has the middle as one end, and none else.

    count: n, of the nodes that will be taken in each. Within t standard deviations their error is
    exp(-2 n**2 / t**2), that of equal steps of pi t / n as in the middle of Gauss and Legendre's
    rule; beyond, exp(-t**2 / 2) is missed. Both are exp(-n) for t = sqrt(2 n).
    """
    slope = jnp.where(jnp.abs(r) > _SMALLEST, r, _SMALLEST)
    middle, half = h / slope, np.sqrt(2 * count) * spread / jnp.abs(slope)
    low = jnp.where(half < narrow, middle, middle - half)
    high = jnp.where(half < narrow, FAR, middle + half)
    return jnp.stack([jnp.concatenate([low, high]), jnp.concatenate([half, half])])


def _on_pieces(
    knots: Float[Array, " knots"],
    layers: Float[Array, "2 ends"],
    slopes: Float[np.ndarray, " pieces"],
    count: int,
    slots: int | None = None,
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Nodes of a N(0, 1) number between the knots, weighted with the slopes, in pieces that end
    where layers do.

    slots: to how many ends of layers a piece has room, the narrowest first; None: for all.
    """
    edge = jnp.array([REACH])
    ends = jnp.concatenate([-edge, jnp.clip(knots, -REACH, REACH), edge])
    # Gauss and Legendre's rule
    node, share = np.polynomial.legendre.leggauss(count)
    z, weight = [], []
    for piece in np.flatnonzero(slopes).tolist():
        low, high = ends[piece], ends[piece + 1]
        inner, half = layers
        if slots is not None and slots < len(inner):
            # Of equally narrow ones the first on the line, whatever the order of the units.
            order = jnp.argsort(jax.lax.stop_gradient(inner))
            inner, half = inner[order], half[order]
            narrowest = jnp.where((inner > low) & (inner < high), -half, -jnp.inf)
            inner = inner[jax.lax.top_k(jax.lax.stop_gradient(narrowest), slots)[1]]
        inner = jnp.concatenate([inner, low + (high - low) * _THIRDS])
        cuts = jnp.concatenate([low[None], jnp.sort(jnp.clip(inner, low, high)), high[None]])
        half = 0.5 * jnp.diff(cuts)[:, None]
        z.append((cuts[:-1, None] + half * (1 + node)).ravel())
        weight.append((slopes[piece] * half * share).ravel())
    z = jnp.concatenate(z)
    return z, jnp.concatenate(weight) * density(z)


# What units contribute one by one


def _square(
    net: Network,
    steps: Steps,
    u: Float[Array, " d"],
    b: Float[Array, " d"],
    given: Given,
    z: Float[Array, "2 nodes"],
) -> Float[Array, " nodes"]:
    """<Delta**2 | z>, but for what two units contribute together beyond first order in the
    covariance that is left of their fields."""
    scale, spread = u * steps.scale, spreads(given)
    # (steps, nodes): the last axis is the longest, along which the processor's vectors run.
    mean = given.loading @ z
    t = (steps.h[:, None] - mean[net.unit]) / spread[net.unit, None]
    passed, peak = above(t), density(t)
    ramp = peak - t * passed
    jump, raised = (u @ net.jump)[:, None], ((scale @ net.bend) * spread[net.unit])[:, None]
    own = ramp * raised + passed * jump
    constant = u @ (net.constant + net.slope * b)
    expected = constant + (scale * net.slope) @ mean + jnp.sum(own, axis=0)
    # The first order, by Stein's lemma: slopes, which jumps have where they are. What jumps of two
    # units contribute together is left to pairs of them.
    bent = scale[:, None] * (net.bend @ passed)
    slope = (scale * net.slope)[:, None] + bent
    at_jumps = (u[:, None] * net.jump / spread[:, None]) @ peak
    first = jnp.sum((given.left @ (slope + 2 * at_jumps)) * slope, axis=0)
    first += jnp.sum((at_jumps * spread[:, None]) ** 2, axis=0)
    # The rest of the variance of a unit: <g**2> from its steps in order, of which the last one
    # decides, less the square of the mean and the first order.
    same = 1.0 * (net.unit[:, None] == net.unit)
    before = np.tril(2.0 * same, -1) + np.eye(len(net.unit))
    of_unit = 1.0 * (net.unit == np.arange(len(u))[:, None])
    ramps, h = before @ raised, (steps.h / spread[net.unit])[:, None]
    jumps = before @ (jump - raised * h) + ramps * h
    square = jnp.sum(jumps * own + ramps * (jump * ramp + raised * (passed - t * ramp)), axis=0)
    known = (of_unit @ own) ** 2 + (spread[:, None] * (bent + at_jumps)) ** 2
    return expected**2 + first + square - jnp.sum(known, axis=0)


# What two units contribute together


class _Coupling(NamedTuple):
    """What pairs of steps of different units add to <w Delta**2>, where w is a product of slopes.

    Equation: with the thresholds h, l of two steps and s between 0 and the covariance S that z
    leaves of their fields, K(s) = <w delta(f - h) delta(f' - l)> gives int_0^S K ds for two jumps,
    int (S - s) K ds for two bends beyond first order, and int (S - s) (-dK/dh) ds for a jump at h
    and a bend at l.
    """

    net: Network
    g: PiecewiseLinear
    steps: Steps
    u: Float[Array, " d"]
    knots: Float[Array, "k knots"]
    nodes: int

    def on_line(self, i: Array, pairs: Int[Array, "pairs 2"]) -> Float[Array, ""]:
        """w = g'(x_i)**2."""
        grows, knots = np.diff(self.g.slopes**2), self.knots[i]

        def weight(at: _Fixed) -> Array:
            mean, variance = at.mean(i), at.covariance(i, i)
            t = (knots - mean[..., None]) / jnp.sqrt(variance)[..., None]
            return self.g.slopes[0] ** 2 + above(t) @ grows

        loading = self.steps.r[i][:, None]
        return self._integral(weight, loading, pairs)

    def on_plane(self, i: Array, j: Array, pairs: Int[Array, "pairs 2"]) -> Float[Array, ""]:
        """w = g'(x_i) g'(x_j)."""
        first, grows, r = self.g.slopes[0], np.diff(self.g.slopes), self.steps.r

        def weight(at: _Fixed) -> Array:
            spread_i, spread_j = (jnp.sqrt(at.covariance(a, a)) for a in (i, j))
            t_i = (self.knots[i] - at.mean(i)[..., None]) / spread_i[..., None]
            t_j = (self.knots[j] - at.mean(j)[..., None]) / spread_j[..., None]
            rho = held(at.covariance(i, j) / (spread_i * spread_j))[..., None, None]
            left = root((1 - rho) * (1 + rho))
            both = step_averages(t_i[..., :, None], t_j[..., None, :], rho, left).both
            one = first * (above(t_i) + above(t_j)) @ grows
            return first**2 + one + jnp.einsum("...xy,x,y->...", both, grows, grows)

        sharp = jnp.maximum(self.steps.q[i, j], SHARPEST)
        return self._integral(weight, jnp.stack([r[i], (r[j] - r[i] * r[i, j]) / sharp], 1), pairs)

    def _integral(self, weight: Any, loading: Array, pairs: Int[Array, "pairs 2"]) -> Array:
        if not pairs.shape[0]:
            return jnp.zeros(())
        x, y = pairs.T
        unit, r = jnp.asarray(self.net.unit), self.steps.r
        a, b = unit[x], unit[y]
        given = jnp.sum(loading[a] * loading[b], axis=-1)
        spread = spreads(Given(loading, r - loading @ loading.T, x))
        size, total = spread[a] * spread[b], r[a, b] - given
        # Gauss and Legendre's rule in theta, s = size sin(theta): the integrand is smooth up to
        # where both fields are parallel once z is known.
        end = arcsin(jnp.clip(total / size, -1.0, 1.0))[:, None]
        node, share = np.polynomial.legendre.leggauss(self.nodes)
        theta = 0.5 * end * (1 + node)
        s = size[:, None] * jnp.sin(theta)
        shares = 0.5 * end * share * size[:, None] * jnp.cos(theta)
        c = given[:, None] + s

        def peak(h: Array, other: Array) -> Array:
            at = _Fixed(r, a[:, None], b[:, None], h[:, None], other[:, None], c)
            return at.density() * weight(at)

        jump, raised = self.u @ self.net.jump, (self.u * self.steps.scale) @ self.net.bend
        jumps, bends = jump[x] * jump[y], raised[x] * raised[y]
        thresholds = self.steps.h[x], self.steps.h[y]
        if not self.net.bend.any():
            return 2 * jumps @ jnp.sum(shares * peak(*thresholds), axis=-1)
        tangents = jump[x] * raised[y], raised[x] * jump[y]
        value, change = jax.jvp(peak, thresholds, tangents)
        second = (total[:, None] - s) * (bends[:, None] * value - change)
        return 2 * jnp.sum(shares * (jumps[:, None] * value + second))


class _Fixed(NamedTuple):
    """Fields of correlations r, given that those of units a and b, whose correlation is c instead,
    are h and l."""

    r: Float[Array, "d d"]
    a: Array
    b: Array
    h: Array
    other: Array
    c: Array

    def density(self) -> Array:
        """The density of the fields of a and b at h and l."""
        left = self._left()
        far = self.h * self.h - 2 * self.c * self.h * self.other + self.other * self.other
        return jnp.exp(-0.5 * far / left) / (2 * np.pi * jnp.sqrt(left))

    def mean(self, i: Array) -> Array:
        x, y = self.r[i, self.a], self.r[i, self.b]
        along = x * (self.h - self.c * self.other) + y * (self.other - self.c * self.h)
        return along / self._left()

    def covariance(self, i: Array, j: Array) -> Array:
        """What is left of the covariance of i and j; never 0 for a field with itself."""
        x, y, x2, y2 = self.r[i, self.a], self.r[i, self.b], self.r[j, self.a], self.r[j, self.b]
        known = (x * x2 + y * y2 - self.c * (x * y2 + y * x2)) / self._left()
        left = self.r[i, j] - known
        return jnp.where(i == j, jnp.maximum(left, SHARPEST**2), left)

    def _left(self) -> Array:
        return jnp.maximum((1 - self.c) * (1 + self.c), _SMALLEST)


@lru_cache
def _pairs_left(unit: tuple[int, ...], k: int) -> tuple[np.ndarray, np.ndarray]:
    """(k, pairs, 2) pairs of steps of different units that do not belong to a student; (k (k - 1) /
    2, pairs, 2) nor to another."""
    pairs = [(x, y) for x, y in combinations(range(len(unit)), 2) if unit[x] != unit[y]]
    others = lambda *own: [(x, y) for x, y in pairs if not {unit[x], unit[y]} & {*own}]
    one = [others(i) for i in range(k)]
    two = [others(i, j) for i, j in combinations(range(k), 2)]
    shaped = lambda found: np.array(found, int).reshape(len(found), len(found[0]), 2)
    return shaped(one), shaped(two) if two else np.zeros((0, 0, 2), int)
