"""<s_i s_k> of the error signals of smooth students of a piecewise linear teacher, which may jump.

As in `smooth.products` the fields of units i and k are given, on a lattice, and the outputs of the
other students are expanded in polynomials of what is left of their fields. The teacher's output has
its mean, its variance and its own coefficients in closed form, so that nothing jumps on the lattice
but where the two fields determine a field of the teacher.
"""

from itertools import combinations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln

from learndyn.integrals.mixed.pairs import hermite_functions
from learndyn.integrals.piecewise_linear import (
    Network,
    PiecewiseLinear,
    Steps,
    above,
    conditioned,
    network,
    steps_at,
)
from learndyn.integrals.smooth import Rules, Units
from learndyn.integrals.smooth.products import (
    Fields,
    by_heat_equation,
    correlations_left,
    expanded,
    loadings,
    over_pairs,
    two_fields,
)
from learndyn.integrals.smooth.rules import Given
from learndyn.integrals.smooth.units import powers, standardised

_WIDTH = 1.2
"""The width of the narrowest layers of a teacher that jumps, in spacings of a lattice: see
`conditioned.given_moments`."""

_SHARPNESS = 3
"""A power of how much narrower a layer is than the lattice resolves, with which errors grow: the
value is empirical, at angles of 0.3 to 0 between a teacher unit and the plane of two students."""

_LEAST = 1e-100
"""Bounds divisors from below, which are 0 where there is nothing to divide."""

_CORRELATIONS = 12
"""Nodes of the integral over correlations of two ramps of the teacher: twice as many as leave an
error of 2e-5 for networks that have all their ramps there."""


class SmoothStudents(eqx.Module):
    """k smooth units and a piecewise linear teacher, and the variance of the label's noise.

    units: whose first k, alike, are the students; its teacher's functions are not used.
    """

    units: Units
    noise_variance: Float[Array, ""]
    teacher: PiecewiseLinear = eqx.field(static=True)


def error_products(
    students: SmoothStudents, c: Float[Array, "d d"], u: Float[Array, " d"], rules: Rules
) -> Float[Array, "k k"]:
    """<s_i s_k> of the error signals s_i = g'(x_i) (sum_a u_a g_a(x_a) - sigma zeta) of k units.

    c: covariance of the fields f, x = f + b; u: (v, -v*).
    Error: that of the lattices. It grows where a field of the teacher is nearly determined by those
    of two students, within a few percent of its standard deviation; where two are, and jump, to
    1e-2. First derivatives only, as those of `smooth.products`.
    """
    return _products(c, (students, u, jnp.zeros(len(c), c.dtype)), rules)


def _summed(
    c: Float[Array, "d d"],
    rest: tuple[SmoothStudents, Float[Array, " d"], Float[Array, " d"]],
    rules: Rules,
) -> Float[Array, "k k"]:
    students, u, shift = rest
    units, d = students.units, len(c)
    sigma, r = standardised(c)
    fields = Fields(units, sigma, r, u, units.biases(d) + shift)
    net = network(PiecewiseLinear(0.0, 0.0), students.teacher, units.k, d - units.k)
    at = steps_at(net, c, fields.b)
    noise = students.noise_variance

    def on_line(which: Array) -> Float[Array, ""]:
        z, weight = rules.line
        x = sigma[which[0]] * z + fields.b[which[0]]
        loading = jnp.stack([r[:, which[0]], jnp.zeros(d)], axis=1)
        inner, width = rules.given_line, _WIDTH * _spacing(z)
        z = jnp.stack([z, jnp.zeros_like(z)])
        own, others = u[which[0]] * units.student(x), which[1 : units.k]
        square = _squared_error(fields, net, at, inner, others, loading, z, own, width)
        return jnp.sum(weight * units.student_slope(x) ** 2 * (square + noise))

    def on_plane(which: Array) -> Float[Array, ""]:
        z_plus, z_minus, weight = rules.plane
        x = two_fields(rules.plane, r[which[0], which[1]])
        x = sigma[which[:2], None] * x + fields.b[which[:2], None]
        loading = loadings(r, which)
        inner, z = rules.given_plane, jnp.stack([z_plus, z_minus])
        width = _WIDTH * _spacing_of_plane(rules)
        own, others = u[which[:2]] @ units.student(x), which[2 : units.k]
        square = _squared_error(fields, net, at, inner, others, loading, z, own, width)
        return jnp.sum(weight * jnp.prod(units.student_slope(x), axis=0) * (square + noise))

    return over_pairs(on_line, on_plane, d, units.k)


_products = by_heat_equation(_summed)


def widening(c: Float[Array, "d d"], k: int, rules: Rules) -> Float[Array, ""]:
    """By how much steps of the teacher are made wider at most, from 0, where none is, to 1/2, where
    the fields of two students determine one of the teacher's."""
    r = standardised(c)[1]
    given = _known(r, k) if k > 1 else r[:1, 1:] ** 2
    spread = jnp.sqrt(jnp.maximum(1 - given, 0.0))
    return 0.5 * jnp.max(_unresolved(spread, given, _spacing_of_plane(rules)))


def missed(c: Float[Array, "d d"], k: int, rules: Rules, order: int) -> Float[Array, ""]:
    """What a lattice misses of the narrowest step of the teacher (order 1), over its height, or of
    its narrowest bend (order 2), but for a factor, where these are not made wider.

    Equation: spacing**order times what a normal law of width w leaves of the first wave of
    Poisson's sum, exp(-2 pi**2 (w / spacing)**2).
    """
    r = standardised(c)[1]
    plane = k > 1
    given = _known(r, k) if plane else r[:1, k:] ** 2
    spacing = _spacing_of_plane(rules) if plane else _spacing(rules.line[0])
    wide = jnp.maximum(1 - given, 0.0) / jnp.maximum(given * spacing**2, _LEAST)
    return spacing**order * jnp.max(jnp.exp(-2 * np.pi**2 * wide))


def crossing(c: Float[Array, "d d"], k: int, rules: Rules) -> Float[Array, ""]:
    """The square of the spacing of the lattice, where the fields of one or two students determine
    how those of two teacher units are related, and less where they leave something open.

    Steps of both then meet at a point of the lattice, or on its line: there is a kink, whose error
    is of that size.
    """
    r, m = standardised(c)[1], len(c) - k
    if m == 1:
        return jnp.zeros(())
    a, b = np.triu_indices(m, 1)
    # On a line: xi is eliminated from the fields l z + s xi of two units with nearly the same xi.
    along, among = r[:k, k:], r[k:, k:]
    spread = jnp.sqrt(jnp.maximum((1 - along) * (1 + along), 0.0))
    both = spread[:, a] * spread[:, b]
    rho = (among[a, b] - along[:, a] * along[:, b]) / jnp.maximum(both, _LEAST)
    side = jnp.where(rho < 0, -1.0, 1.0)
    slope = along[:, a] * spread[:, b] - side * along[:, b] * spread[:, a]
    spacing = _spacing(rules.line[0])
    # Layers that are narrow themselves are made wider.
    wide = jnp.maximum(spread, _WIDTH * spacing * jnp.abs(along))
    left = wide[:, a] * wide[:, b] * jnp.sqrt(jnp.maximum(2 * (1 - jnp.abs(rho)), 0.0))
    on_line = spacing**2 * jnp.max(_unresolved(left, slope**2, spacing)) ** _SHARPNESS
    if k == 1:
        return on_line
    given, spacing = _known(r, k), _spacing_of_plane(rules)
    each = _unresolved(jnp.sqrt(jnp.maximum(1 - given, 0.0)), given, spacing)
    # Lines that cross at a right angle are no less smooth together than each of them is.
    square = given[:, a] * given[:, b]
    cosine = _known(r, k, pairs=True)[:, a, b] ** 2 / jnp.maximum(square, _LEAST)
    share = (each[:, a] * each[:, b]) ** _SHARPNESS * cosine**4
    return jnp.maximum(on_line, spacing**2 * jnp.max(share))


def _known(r: Float[Array, "d d"], k: int, *, pairs: bool = False) -> Array:
    """What the fields of each pair of students explain of the variance (pairs, m) of those of the
    teacher; pairs: of their covariances (pairs, m, m)."""
    which = jnp.asarray(list(combinations(range(k), 2)))
    loading = jax.vmap(lambda pair: loadings(r, pair)[k:])(which)
    return loading @ jnp.swapaxes(loading, 1, 2) if pairs else jnp.sum(loading**2, axis=2)


def _unresolved(spread: Array, slope_squared: Array, spacing: Array) -> Array:
    """1 for layers of no width, 0 for those that a lattice resolves."""
    width = _WIDTH * spacing * jnp.sqrt(slope_squared)
    narrower = spread / jnp.maximum(jnp.maximum(spread, width), _LEAST)
    return (1 - narrower) * (1 + narrower)


def _spacing_of_plane(rules: Rules) -> Float[Array, ""]:
    z_plus, z_minus, _ = rules.plane
    return _spacing((z_plus - z_minus) / np.sqrt(2))


def _spacing(z: Float[Array, " p"]) -> Float[Array, ""]:
    """The spacing of a lattice, row by row in ascending order; further nodes, without weight, are
    at 0."""
    return jnp.max(jnp.diff(z))


def _squared_error(
    fields: Fields,
    net: Network,
    at: Steps,
    inner: Given,
    others: Array,
    loading: Float[Array, "d 2"],
    z: Float[Array, "2 p"],
    own: Float[Array, " p"],
    width: Array,
) -> Float[Array, " p"]:
    """<D**2 | z>, where `own` is the part of D that z determines, and others are students."""
    rest = np.flatnonzero(net.bend.any(axis=0))
    given = conditioned.Given(loading, fields.r - loading @ loading.T, jnp.asarray(rest))
    label, spread_of_label = conditioned.given_moments(
        net, at, fields.u, fields.b, given, z.T, _CORRELATIONS, width
    )
    square = (own + label) ** 2 + spread_of_label
    if not (others.shape[0] or net.jump.any()):
        return square
    # Steps that are too narrow for the lattice are replaced by wider ones, see `given_moments`.
    teacher, orders = jnp.arange(fields.units.k, len(loading)), inner.moments.shape[-2]
    sizes = orders, 0.0 if net.bend.any() else width
    coefficients = _coefficients(fields, net, at, given, z, *sizes)
    if net.jump.any() and not net.bend.any() and teacher.shape[0] > 1:
        hard = _coefficients(fields, net, at, given, z, orders, 0.0)
        rho = correlations_left(fields.r, loading, teacher, teacher) * (1 - np.eye(len(teacher)))
        table = powers(rho, orders)[1:]
        for sign, found in ((1.0, coefficients), (-1.0, hard)):
            coupled = jnp.einsum("nac,ncp->nap", table, found)
            square += sign * jnp.sum(coupled * found, axis=(0, 1))
    if not others.shape[0]:
        return square
    mean, variance, of_others = expanded(fields, inner, others, len(others), loading[others], z)
    rho = correlations_left(fields.r, loading, others, teacher)
    both = jnp.einsum("nac,ncp->nap", powers(rho, orders)[1:], coefficients)
    covariance = jnp.sum(both * of_others[1:], axis=(0, 1))
    return square + mean**2 + 2 * mean * (own + label) + variance + 2 * covariance


def _coefficients(
    fields: Fields,
    net: Network,
    at: Steps,
    given: conditioned.Given,
    z: Float[Array, "2 p"],
    orders: int,
    width: Array | float,
) -> Float[Array, "orders m p"]:
    """Hermite coefficients, from the first order on, of the teacher's outputs given z, in what is
    left of their fields; see `pairs`. width: see `conditioned.given_moments`."""
    k, unit = fields.units.k, net.unit
    spread, wide, share = conditioned.widths(given, width)
    t = (at.h - z.T @ given.loading[unit].T) / wide[unit]
    terms = 1 if isinstance(width, float) else conditioned.SOFTENING  # 0.0 widens nothing
    waves = hermite_functions(t, orders - 1 + 2 * (terms - 1))
    n, steps = np.arange(1, orders)[:, None, None], jnp.zeros(())
    # The heat equation: two more derivatives in every term.
    for more in range(terms):
        size = np.exp(0.5 * (gammaln(n + 2 * more) - gammaln(n + 1)) - gammaln(more + 1))
        steps += size * (-share[unit]) ** more * waves[2 * more :][: orders - 1]
    steps *= powers((spread / wide)[unit], orders)[1:, None]
    root = jnp.sqrt(n)
    ramps = jnp.concatenate([above(t)[None], steps[:-1] / root[1:]])
    height = fields.u * at.scale * spread
    found = jnp.einsum("as,nps->nap", height[:, None] * net.bend, ramps)
    found += jnp.einsum("as,nps->nap", fields.u[:, None] * net.jump, steps)
    return found.at[0].add((height * net.slope)[:, None])[:, k:]
