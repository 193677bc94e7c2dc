"""Averages over pairs of fields of units with kinks: a piecewise linear part and a smooth rest.

Every unit is g = L + S, where L is piecewise linear and has all kinks of g, so that S has a
continuous slope. An average of two units is a sum of four: L with L in closed form, S with S by
Mehler's series, and L with S by the same series, in which the Hermite coefficients of L are known
in closed form.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.piecewise_linear import (
    Network,
    above,
    density,
    pair_averages,
    steps_at,
)
from learndyn.integrals.smooth import Series, Units
from learndyn.integrals.smooth.pairs import mehler
from learndyn.integrals.smooth.units import powers, standardised


class PairSums(NamedTuple):
    """Averages of the error signal s_i = g'(x_i) D with D = sum_a u_a g_a(x_a), x_a = f_a + b_a.

    G: (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p; h: (k,)
    <g(x_i) D>; f: (k,) <s_i>.
    """

    G: Float[Array, "k d"]
    h: Float[Array, " k"]
    f: Float[Array, " k"]


class Coefficients(NamedTuple):
    """Hermite coefficients (units, orders) of functions of x = sigma z + b, and of their first and
    second derivatives with respect to x."""

    values: Float[Array, "d n"]
    slopes: Float[Array, "d n"]
    curvatures: Float[Array, "d n"]


def error_averages(
    net: Network, rest: Units, c: Float[Array, "d d"], u: Float[Array, " d"], rule: Series
) -> PairSums:
    """Averages of the error signal over two fields at a time.

    net: the piecewise linear parts L; rest: the parts S, and the biases; c: covariance of the
    fields; u: (v, -v*).
    Equation: G_ic = u_c <g'_i g'_c> + delta_ic <g''_i D>, by Stein's lemma.
    Error: that of the series. L with an analytic S is right to rounding where the orders suffice
    for S; where S'' jumps, the orders that are cut are of relative size 1/orders in G.
    """
    k, b = rest.k, rest.biases(len(c))
    bent = pair_averages(net, c, b)
    linear = bent_coefficients(net, c, b, rule.hermite.shape[-2])
    sigma, r = standardised(c)
    x = sigma[:, None] * rule.z + b[:, None]
    smooth = _smooth_coefficients(rest, x, sigma, rule)
    table = powers(r[:k], rule.hermite.shape[-2])

    def crossed(of: str, of_other: str) -> Float[Array, "k d"]:
        own, other = (getattr(both, of)[:k] for both in (linear, smooth))
        theirs = getattr(smooth, of_other), getattr(linear, of_other)
        return _summed(own, theirs[0], table) + _summed(other, theirs[1], table)

    g, slopes = rest.values(x), rest.slopes(x)
    g_g = bent.g_g[:k] + crossed("values", "values") + mehler(g[:k], g, r[:k], rule)
    dg_g = bent.dg_g[:k] + crossed("slopes", "values") + mehler(slopes[:k], g, r[:k], rule)
    both = bent.dg_dg[:k] + crossed("slopes", "slopes") + mehler(slopes[:k], slopes, r[:k], rule)
    ddg_g = bent.ddg_g[:k] + crossed("curvatures", "values")
    ddg_g += _summed(smooth.curvatures[:k], smooth.values, table)
    G = u * both + jnp.eye(k, len(c)) * (ddg_g @ u)[:, None]
    return PairSums(G, g_g @ u, dg_g @ u)


def second_moments(
    net: Network, rest: Units, c: Float[Array, "d d"], rule: Series
) -> Float[Array, "d d"]:
    """<g_a(x_a) g_b(x_b)> of all pairs; arguments as for `error_averages`."""
    b = rest.biases(len(c))
    linear = bent_coefficients(net, c, b, rule.hermite.shape[-2]).values
    sigma, r = standardised(c)
    g = rest.values(sigma[:, None] * rule.z + b[:, None])
    crossed = _summed(linear, g @ rule.hermite.T, powers(r, rule.hermite.shape[-2]))
    return pair_averages(net, c, b).g_g + crossed + crossed.T + mehler(g, g, r, rule)


def bent_coefficients(
    net: Network, c: Float[Array, "d d"], b: Float[Array, " d"], orders: int
) -> Coefficients:
    """Hermite coefficients of piecewise linear units, in closed form.

    Equation: with phi he_n at h = (t - b)/sigma, he_n orthonormal, delta(x - t) has phi he_n /
    sigma, its step phi he_{n-1} / sqrt(n), and its ReLU sigma phi he_{n-2} / sqrt(n (n - 1)).
    """
    scale, _, _, h = steps_at(net, c, b)
    waves = _hermite_functions(h, orders)
    n = np.arange(1, orders)
    steps = jnp.concatenate([above(h)[None], waves[:-1] / np.sqrt(n)[:, None]])
    ramps = jnp.concatenate(
        [(density(h) - h * above(h))[None], steps[:-1] / np.sqrt(n)[:, None]]
    )
    of = lambda kinds: net.bend @ kinds.T
    first = jnp.asarray(net.slope)
    values = scale[:, None] * of(ramps)
    values = values.at[:, 0].add(net.constant + first * b).at[:, 1].add(first * scale)
    return Coefficients(values, of(steps).at[:, 0].add(first), of(waves) / scale[:, None])


def _hermite_functions(h: Float[Array, " steps"], orders: int) -> Float[Array, "orders steps"]:
    """phi(h) he_n(h) for n = 0 ... orders - 1, by the recurrence of the polynomials."""

    def following(two: tuple[Array, Array], n: Array) -> tuple[tuple[Array, Array], Array]:
        before, here = two
        after = (h * here - jnp.sqrt(n) * before) / jnp.sqrt(n + 1)
        return (here, after), here

    start = jnp.zeros_like(h), density(h)
    return jax.lax.scan(following, start, jnp.arange(orders, dtype=h.dtype))[1]


def _smooth_coefficients(
    rest: Units, x: Float[Array, "d points"], sigma: Float[Array, " d"], rule: Series
) -> Coefficients:
    values, slopes = rest.values(x) @ rule.hermite.T, rest.slopes(x) @ rule.hermite.T
    if rest.is_curved:
        _, curved = jax.jvp(rest.student_slope, (x[: rest.k],), (jnp.ones_like(x[: rest.k]),))
        return Coefficients(values, slopes, curved @ rule.hermite.T)
    # Where S'' jumps, its coefficients come from those of S', which are more accurate.
    root = np.sqrt(np.arange(1, slopes.shape[1]))
    raised = jnp.pad(slopes[: rest.k, 1:] * root, ((0, 0), (0, 1)))
    return Coefficients(values, slopes, raised / sigma[: rest.k, None])


def _summed(
    f: Float[Array, "a n"], h: Float[Array, "d n"], table: Float[Array, "n a d"]
) -> Float[Array, "a d"]:
    """Mehler's series sum_n f_n h_n r**n."""
    return jnp.einsum("an,dn,nad->ad", f, h, table)
