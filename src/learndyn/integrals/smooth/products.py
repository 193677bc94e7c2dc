"""<s_i s_k> of the error signals of two units, by conditioning on their fields."""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.smooth.pairs import error_averages
from learndyn.integrals.smooth.rules import Given, Rules, Series
from learndyn.integrals.smooth.units import Units, powers, standardised

_NO_DIRECTION = 1e-7
"""Below this, sqrt((1 +- r)/2) is rounding: sum or difference of the two fields is 0."""

_NO_SPREAD = 1e-13
"""Products of conditional standard deviations below this are rounding: the correlation of two
fields that the given ones determine is not there, and does not matter."""


def error_products(
    units: Units, c: Float[Array, "d d"], u: Float[Array, " d"], rules: Rules
) -> Float[Array, "k k"]:
    """<s_i s_k> of the error signals s_i = g'(f_i + b_i) D of k units.

    c: covariance of the fields; u: (v, -v*) in D = sum_a u_a g_a(f_a + b_a).
    Derivatives with respect to c are those with respect to biases, by the heat equation
    d<h>/dC_ab = <d2h / db_a db_b> / 2, right at singular C too. First derivatives only.
    """
    return _products(c, (units, u, jnp.zeros(len(c), c.dtype)), rules)


def misfit(units: Units, c: Float[Array, "d d"], rules: Rules) -> Float[Array, ""]:
    """Largest relative error of the rules on integrals whose value is known, cheaply found.

    Those are <g'_i g'_k> on the nodes that are conditioned on, and <g_a>, a quarter and half a
    step off the centre, on the nodes for each other field, against the series' fine lattice. Where
    units are too steep for a lattice, levels may agree by chance; this check detects it.
    """
    k = units.k
    sigma, r = standardised(c)
    b = units.biases(len(c))
    exact = error_averages(units, c, jnp.zeros(len(c)), rules).slopes
    z, weight = rules.line
    slopes = units.student_slope(sigma[:k, None] * z + b[:k, None])
    found = jnp.diag(slopes**2 @ weight)
    if k > 1:
        pair = lambda ij: _slopes_on_plane(units, sigma, r, b, rules, *ij)
        i, j = np.triu_indices(k, 1)
        found = found.at[i, j].set(jax.lax.map(pair, (i, j)))
        found = found.at[j, i].set(found[i, j])
    own = jnp.sqrt(jnp.diagonal(exact))
    outer = jnp.max(jnp.abs(found - exact) / (own[:, None] * own))
    free = jnp.sqrt(jnp.max(jnp.maximum(1 - r[:k] ** 2, 0.0), axis=0))
    inner = [_off_centre(units, sigma, free, b, rules.series, given) for given in _givens(rules, k)]
    return jnp.max(jnp.stack([outer, *inner]))


def _givens(rules: Rules, k: int) -> list[Given]:
    return [rules.given_line] if k == 1 else [rules.given_line, rules.given_plane]


def _slopes_on_plane(
    units: Units, sigma: Array, r: Array, b: Array, rules: Rules, i: Array, j: Array
) -> Float[Array, ""]:
    x = _two_fields(rules.plane, r[i, j])
    both = jnp.stack([i, j])
    slopes = units.student_slope(sigma[both, None] * x + b[both, None])
    return jnp.sum(rules.plane[2] * slopes[0] * slopes[1])


def _off_centre(
    units: Units, sigma: Array, spread: Array, b: Array, fine: Series, given: Given
) -> Float[Array, ""]:
    """Error of the rule for one field on <g>, over the root of <g**2>."""
    step = given.xi[len(given.xi) // 2] - given.xi[len(given.xi) // 2 - 1]
    weight = given.moments[0]
    errors = []
    for part in (0.25, 0.5):
        at = lambda xi, part=part: units.values(
            (sigma * spread)[:, None] * (xi + part * step) + b[:, None]
        )
        exact, size = at(fine.z) @ fine.weight, jnp.sqrt(at(fine.z) ** 2 @ fine.weight)
        errors.append(jnp.max(jnp.abs(at(given.xi) @ weight - exact) / (size + 1e-300)))
    return jnp.max(jnp.stack(errors))


def _two_fields(plane: Any, r: Array) -> Float[Array, "2 p"]:
    """Two standard normal fields of correlation r at the nodes of the plane."""
    z_plus, z_minus, _ = plane
    p, q = _half_angle(r)
    return jnp.stack([p * z_plus + q * z_minus, p * z_plus - q * z_minus])


def _half_angle(r: Array) -> tuple[Array, Array]:
    r = jnp.clip(r, -1.0, 1.0)
    return jnp.sqrt(0.5 * (1 + r)), jnp.sqrt(0.5 * (1 - r))


@eqx.filter_custom_jvp
def _products(c: Array, rest: Any, rules: Rules) -> Float[Array, "k k"]:
    return _summed(c, rest, rules)


@_products.def_jvp
def _products_jvp(primals: Any, tangents: Any) -> Any:
    c, rest, rules = primals
    dc, d_rest, _ = tangents
    units, u, shift = rest
    value, change = _summed(c, rest, rules), None
    if jax.tree.leaves(d_rest):
        value, change = eqx.filter_jvp(lambda rest: _summed(c, rest, rules), (rest,), (d_rest,))
    if dc is None:
        return value, jnp.zeros_like(value) if change is None else change

    def second(directions: tuple[Array, Array]) -> Array:
        def first(shift: Array) -> Array:
            at = lambda shift: _summed(c, (units, u, shift), rules)
            return jax.jvp(at, (shift,), (directions[0],))[1]

        return jax.jvp(first, (shift,), (directions[1],))[1]

    a, b = np.triu_indices(len(c))
    curvature = jax.lax.map(second, (jnp.eye(len(c))[a], jnp.eye(len(c))[b]))
    half = jnp.where(a == b, 0.5 * dc[a, b], 0.5 * (dc[a, b] + dc[b, a]))
    through_c = jnp.tensordot(half, curvature, 1)
    return value, through_c if change is None else change + through_c


class _Network(NamedTuple):
    """All that one sum over nodes needs."""

    units: Units
    sigma: Float[Array, " d"]
    r: Float[Array, "d d"]
    u: Float[Array, " d"]
    b: Float[Array, " d"]


def _summed(c: Array, rest: Any, rules: Rules) -> Float[Array, "k k"]:
    units, u, shift = rest
    k, d = units.k, len(c)
    sigma, r = standardised(c)
    net = _Network(units, sigma, r, u, units.biases(d) + shift)
    lines = jax.lax.map(lambda which: _on_line(net, rules, which), _units_first(d, k, 1))
    if k == 1:
        return lines[:, None]
    planes = jax.lax.map(lambda which: _on_plane(net, rules, which), _units_first(d, k, 2))
    i, j = np.triu_indices(k, 1)
    return jnp.diag(lines).at[i, j].set(planes).at[j, i].set(planes)


def _units_first(d: int, k: int, count: int) -> np.ndarray:
    """All units in order, after each student, or each pair of students, has been put in front."""
    chosen = itertools.combinations(range(k), count)
    return np.array([[*front, *(a for a in range(d) if a not in front)] for front in chosen])


def _on_line(net: _Network, rules: Rules, which: Array) -> Float[Array, ""]:
    """<s_i s_i>, i = which[0], by conditioning on f_i."""
    z, weight = rules.line
    i, others = which[0], which[1:]
    loading = net.r[others, i][:, None]
    x = net.sigma[i] * z + net.b[i]
    slope = net.units.student_slope(x)
    own = net.u[i] * net.units.student(x)
    inner = rules.given_line
    square = _squared_error(net, inner, others, net.units.k - 1, loading, z[None], own)
    return jnp.sum(weight * slope**2 * square)


def _on_plane(net: _Network, rules: Rules, which: Array) -> Float[Array, ""]:
    """<s_i s_k>, i, k = which[:2], by conditioning on f_i and f_k.

    In the frame of their normed sum and difference, f_i/sigma_i, f_k/sigma_k = p z_plus +-
    q z_minus: it stays itself, but for signs, where the units are exchanged or turned.
    """
    z_plus, z_minus, weight = rules.plane
    (i, k), others = which[:2], which[2:]
    p, q = _half_angle(net.r[i, k])
    x = _two_fields(rules.plane, net.r[i, k])
    x = net.sigma[which[:2], None] * x + net.b[which[:2], None]
    slopes = net.units.student_slope(x)
    own = net.u[which[:2]] @ net.units.student(x)
    towards_i, towards_k = net.r[others, i], net.r[others, k]
    loading = jnp.stack([_over(towards_i + towards_k, p), _over(towards_i - towards_k, q)], axis=1)
    inner = rules.given_plane
    z = jnp.stack([z_plus, z_minus])
    square = _squared_error(net, inner, others, net.units.k - 2, loading, z, own)
    return jnp.sum(weight * slopes[0] * slopes[1] * square)


def _over(x: Array, size: Array) -> Array:
    """x / (2 size), 0 where that direction does not exist."""
    exists = size > _NO_DIRECTION
    return jnp.where(exists, 0.5 * x / jnp.where(exists, size, 1.0), 0.0)


def _squared_error(
    net: _Network,
    inner: Given,
    others: Array,
    students: int,
    loading: Float[Array, "a given"],
    z: Float[Array, "given p"],
    own: Float[Array, " p"],
) -> Float[Array, " p"]:
    """<D**2 | z>, where `own` is the part of D that z determines.

    Given z each other field is loading_a.z + s_a xi_a. Its unit's output is expanded in polynomials
    of xi_a, and Mehler's series sums over the correlations rho_ab of xi_a and xi_b.
    """
    spread = jnp.sqrt(jnp.maximum(1 - jnp.sum(loading**2, axis=1), 0.0))
    among = net.r[others[:, None], others] - loading @ loading.T
    scale = spread[:, None] * spread
    loose = scale > _NO_SPREAD
    rho = jnp.clip(jnp.where(loose, among / jnp.where(loose, scale, 1.0), 0.0), -1.0, 1.0)
    # (units, xi, nodes): the last axis is the longest, along which the processor's vectors run.
    x = spread[:, None, None] * inner.xi[:, None] + (loading @ z)[:, None]
    sigma, b, u = (number[others][:, None, None] for number in (net.sigma, net.b, net.u))
    g = u * net.units.values(sigma * x + b, students)
    orders = jnp.einsum("nq,aqp->nap", inner.moments, g)
    mean = own + jnp.sum(orders[0], axis=0)
    coupled = jnp.einsum("nab,nbp->nap", powers(rho, len(inner.moments))[1:], orders[1:])
    return mean**2 + jnp.sum(coupled * orders[1:], axis=(0, 1))
