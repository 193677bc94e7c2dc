"""<s_i s_j> of the error signals of two units, by conditioning on their fields."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.smooth.rules import Given, Rules
from learndyn.integrals.smooth.units import Units, powers, standardised

_NO_DIRECTION = 1e-7
"""Below this, sqrt((1 +- r)/2) is rounding: sum or difference of the two fields is 0."""

_TINY = 1e-300
"""Where there is nothing to compare with, an error of 0 is none."""

_NO_SPREAD = 1e-13
"""Products of conditional standard deviations below this are rounding: the correlation of two
fields that the given ones determine is not there, and does not matter."""


def error_products(
    units: Units, c: Float[Array, "d d"], u: Float[Array, " d"], rules: Rules
) -> Float[Array, "k k"]:
    """<s_i s_j> of the error signals s_i = g'(f_i + b_i) D of k units.

    c: covariance of the fields; u: (v, -v*) in D = sum_a u_a g_a(f_a + b_a).
    Derivatives with respect to c are those with respect to biases, by the heat equation
    d<h>/dC_ab = <d2h / db_a db_b> / 2, right at singular C too. First derivatives only.
    """
    return _products(c, (units, u, jnp.zeros(len(c), c.dtype)), rules)


def misfit(units: Units, c: Float[Array, "d d"], rules: Rules) -> Float[Array, ""]:
    """Largest relative error of the lattices on averages over one field: of g'**2 for those that
    are conditioned on, of g for those of other fields, which vary less once these are given.

    Where units are too steep for a lattice, levels may agree by chance; this error shows it.
    """
    k, checks = units.k, rules.checks
    sigma, r = standardised(c)
    free = sigma * jnp.sqrt(jnp.max(jnp.maximum(1 - r[:k] ** 2, 0.0), axis=0))
    b = units.biases(len(c))[:, None]
    slopes = units.student_slope(sigma[:k, None] * checks.nodes + b[:k]) ** 2
    values = units.values(free[:, None] * checks.nodes + b)
    exact = slopes @ checks.exact[:2].T
    outer = jnp.abs(slopes @ checks.rough[:2].T - exact) / (exact + _TINY)
    size = jnp.sqrt(values**2 @ checks.exact[2:].T)
    inner = jnp.abs(values @ (checks.rough - checks.exact)[2:].T) / (size + _TINY)
    counts = jnp.arange(2) > 0 if k == 1 else jnp.full(2, True)  # one unit needs no plane
    return jnp.max(jnp.where(counts, jnp.concatenate([outer, inner]), 0.0))


def two_fields(plane: Any, r: Array) -> Float[Array, "2 p"]:
    """Two standard normal fields of correlation r at the nodes of the plane."""
    z_plus, z_minus, _ = plane
    p, q = _half_angle(r)
    return jnp.stack([p * z_plus + q * z_minus, p * z_plus - q * z_minus])


def _half_angle(r: Array) -> tuple[Array, Array]:
    r = jnp.clip(r, -1.0, 1.0)
    return jnp.sqrt(0.5 * (1 + r)), jnp.sqrt(0.5 * (1 - r))


def by_heat_equation(summed: Callable) -> Callable:
    """summed(c, (units, u, shift), rules), whose derivatives with respect to c are those with
    respect to the shift of all fields."""

    @eqx.filter_custom_jvp
    def average(c: Array, rest: Any, rules: Rules) -> Array:
        return summed(c, rest, rules)

    @average.def_jvp
    def average_jvp(primals: Any, tangents: Any) -> Any:
        c, rest, rules = primals
        dc, d_rest, _ = tangents
        value, change = summed(c, rest, rules), None
        if jax.tree.leaves(d_rest):
            value, change = eqx.filter_jvp(lambda rest: summed(c, rest, rules), (rest,), (d_rest,))
        if dc is None:
            return value, jnp.zeros_like(value) if change is None else change
        through_c = _through_covariance(summed, dc, *primals)
        return value, through_c if change is None else change + through_c

    return average


def _through_covariance(summed: Callable, dc: Array, c: Array, rest: Any, rules: Rules) -> Array:
    """The change with c: half the second derivatives with respect to the shifts, times dc."""
    units, u, shift = rest

    def second(directions: tuple[Array, Array]) -> Array:
        def first(shift: Array) -> Array:
            at = lambda shift: summed(c, (units, u, shift), rules)
            return jax.jvp(at, (shift,), (directions[0],))[1]

        return jax.jvp(first, (shift,), (directions[1],))[1]

    a, b = np.triu_indices(len(c))
    curvature = jax.lax.map(second, (jnp.eye(len(c))[a], jnp.eye(len(c))[b]))
    half = jnp.where(a == b, 0.5 * dc[a, b], 0.5 * (dc[a, b] + dc[b, a]))
    return jnp.tensordot(half, curvature, 1)


class Fields(NamedTuple):
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
    net = Fields(units, sigma, r, u, units.biases(d) + shift)
    return over_pairs(
        lambda which: _on_line(net, rules, which), lambda which: _on_plane(net, rules, which), d, k
    )


_products = by_heat_equation(_summed)


def over_pairs(on_line: Callable, on_plane: Callable, d: int, k: int) -> Float[Array, "k k"]:
    """Averages for all pairs of k students, of d units: of a student with itself, and of two.

    They are functions of all units in order, after one or two students were put in front.
    """
    lines = jax.lax.map(on_line, _units_first(d, k, 1))
    if k == 1:
        return lines[:, None]
    planes = jax.lax.map(on_plane, _units_first(d, k, 2))
    i, j = np.triu_indices(k, 1)
    return jnp.diag(lines).at[i, j].set(planes).at[j, i].set(planes)


def _units_first(d: int, k: int, count: int) -> np.ndarray:
    """All units in order, after each student, or each pair of students, has been put in front."""
    chosen = itertools.combinations(range(k), count)
    return np.array([[*front, *(a for a in range(d) if a not in front)] for front in chosen])


def _on_line(net: Fields, rules: Rules, which: Array) -> Float[Array, ""]:
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


def _on_plane(net: Fields, rules: Rules, which: Array) -> Float[Array, ""]:
    """<s_i s_j>, i, j = which[:2], by conditioning on f_i and f_j.

    In the frame of their normed sum and difference, f_i/sigma_i, f_j/sigma_j = p z_plus +-
    q z_minus: it stays itself, but for signs, where the units are exchanged or turned.
    """
    z_plus, z_minus, weight = rules.plane
    others = which[2:]
    x = two_fields(rules.plane, net.r[which[0], which[1]])
    x = net.sigma[which[:2], None] * x + net.b[which[:2], None]
    slopes = net.units.student_slope(x)
    own = net.u[which[:2]] @ net.units.student(x)
    loading = loadings(net.r, which)[others]
    inner = rules.given_plane
    z = jnp.stack([z_plus, z_minus])
    square = _squared_error(net, inner, others, net.units.k - 2, loading, z, own)
    return jnp.sum(weight * slopes[0] * slopes[1] * square)


def loadings(r: Float[Array, "d d"], which: Array) -> Float[Array, "d 2"]:
    """How all fields depend on z_plus and z_minus of the units which[:2]."""
    i, k = which[:2]
    p, q = _half_angle(r[i, k])
    return jnp.stack([_over(r[:, i] + r[:, k], p), _over(r[:, i] - r[:, k], q)], axis=1)


def _over(x: Array, size: Array) -> Array:
    """x / (2 size), 0 where that direction does not exist."""
    exists = size > _NO_DIRECTION
    return jnp.where(exists, 0.5 * x / jnp.where(exists, size, 1.0), 0.0)


def _squared_error(
    net: Fields,
    inner: Given,
    others: Array,
    students: int,
    loading: Float[Array, "a given"],
    z: Float[Array, "given p"],
    own: Float[Array, " p"],
) -> Float[Array, " p"]:
    """<D**2 | z>, where `own` is the part of D that z determines."""
    mean, variance, _ = expanded(net, inner, others, students, loading, z)
    return (own + mean) ** 2 + variance


def correlations_left(
    r: Float[Array, "d d"], loading: Float[Array, "d given"], one: Array, other: Array
) -> Float[Array, "one other"]:
    """Correlations of two sets of fields, given the numbers that all depend on by `loading`."""
    spread = _spread(loading)
    among = r[one[:, None], other] - loading[one] @ loading[other].T
    return _correlation(among, spread[one][:, None] * spread[other])


def _spread(loading: Float[Array, "a given"]) -> Float[Array, " a"]:
    return jnp.sqrt(jnp.maximum(1 - jnp.sum(loading**2, axis=1), 0.0))


def _correlation(among: Float[Array, "a b"], scale: Float[Array, "a b"]) -> Float[Array, "a b"]:
    loose = scale > _NO_SPREAD
    return jnp.clip(jnp.where(loose, among / jnp.where(loose, scale, 1.0), 0.0), -1.0, 1.0)


def expanded(
    net: Fields,
    inner: Given,
    others: Array,
    students: int,
    loading: Float[Array, "a given"],
    z: Float[Array, "given p"],
) -> tuple[Float[Array, " p"], Float[Array, " p"], Float[Array, "orders a p"]]:
    """Mean and variance of the sum of the other units' outputs given z, and their coefficients.

    Given z each other field is loading_a.z + s_a xi_a. Its unit's output is expanded in polynomials
    of xi_a, and Mehler's series sums over the correlations rho_ab of xi_a and xi_b.
    """
    spread = _spread(loading)
    among = net.r[others[:, None], others] - loading @ loading.T
    rho = _correlation(among, spread[:, None] * spread)
    # (units, xi, nodes): the last axis is the longest, along which the processor's vectors run.
    x = spread[:, None, None] * inner.xi[:, None] + (loading @ z)[:, None]
    sigma, b, u = (number[others][:, None, None] for number in (net.sigma, net.b, net.u))
    g = u * net.units.values(sigma * x + b, students)
    orders = jnp.einsum("nq,aqp->nap", inner.moments, g)
    coupled = jnp.einsum("nab,nbp->nap", powers(rho, len(inner.moments))[1:], orders[1:])
    return jnp.sum(orders[0], axis=0), jnp.sum(coupled * orders[1:], axis=(0, 1)), orders
