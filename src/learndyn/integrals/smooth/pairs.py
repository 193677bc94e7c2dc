"""Averages over two fields at a time, by Mehler's series, closed by its ends."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.smooth.rules import Rules, Series
from learndyn.integrals.smooth.units import Units, powers, standardised


class ErrorAverages(NamedTuple):
    """Averages of the error signal s_i = g'(f_i + b_i) D with D = sum_a u_a g_a(f_a + b_a).

    G: (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p; h: (k,)
    <g(f_i + b_i) D>; f: (k,) <s_i>; slopes: (k, k) <g'(f_i + b_i) g'(f_j + b_j)>.
    """

    G: Float[Array, "k d"]
    h: Float[Array, " k"]
    f: Float[Array, " k"]
    slopes: Float[Array, "k k"]


def error_averages(
    units: Units, c: Float[Array, "d d"], u: Float[Array, " d"], rules: Rules
) -> ErrorAverages:
    """Averages of the error signal over two fields at a time.

    c: covariance of the fields; u: (v, -v*).
    Equation: G_ic = u_c <g'_i g'_c> + delta_ic <g''_i D>, by Stein's lemma.
    """
    k = units.k
    rule, sigma, r, x = _prepared(units, c, rules)
    g, slopes = units.values(x), units.slopes(x)
    third = slopes[:k] * rule.z
    if units.is_curved:
        _, third = jax.jvp(units.student_slope, (x[:k],), (jnp.ones_like(x[:k]),))
    # All pairs at once: one program. Rows g, g' and the third of students, columns g and g'.
    rows, columns = jnp.concatenate([g[:k], slopes[:k], third]), jnp.concatenate([g, slopes])
    found = mehler(rows, columns, jnp.tile(r[:k], (3, 2)), rule)
    d = len(c)
    with_g, both = found[:, :d] @ u, found[k : 2 * k, d:]
    h, f, own = with_g[:k], with_g[k : 2 * k], with_g[2 * k :]
    if not units.is_curved:
        # <g''_i D> = (<f_i g'_i D> - sum_c Cov(f_i, f_c) u_c <g'_i g'_c>) / Var(f_i)
        own = (own - jnp.sum(r[:k] * sigma * u * both, axis=1)) / sigma[:k]
    G = u * both + jnp.eye(k, d) * own[:, None]
    return ErrorAverages(G, h, f, both[:, :k])


def second_moments(units: Units, c: Float[Array, "d d"], rules: Rules) -> Float[Array, "d d"]:
    """<g_a(f_a + b_a) g_b(f_b + b_b)> of all pairs, positive semi-definite like C itself."""
    rule, _, r, x = _prepared(units, c, rules)
    g = units.values(x)
    return mehler(g, g, r, rule)


def _prepared(
    units: Units, c: Float[Array, "d d"], rules: Rules
) -> tuple[Series, Float[Array, " d"], Float[Array, "d d"], Float[Array, "d points"]]:
    """The rule, standard deviations, correlations, and each unit's argument at the nodes."""
    rule = rules.series
    sigma, r = standardised(c)
    return rule, sigma, r, sigma[:, None] * rule.z + units.biases(len(c))[:, None]


def mehler(
    f: Float[Array, "a points"],
    h: Float[Array, "b points"],
    r: Float[Array, "a b"],
    rule: Series,
) -> Float[Array, "a b"]:
    """<f_a(x) h_b(y)> of standard normal x, y with correlation r_ab, from values at rule.z.

    Mehler's series sum_n f_n h_n r**n of the Hermite coefficients, cut at N orders, N even. What
    it leaves out is known at r = 1 and r = -1, where x = +-y and the average is over one number;
    its even and its odd part enter as one more order each, so that the ends of the range are
    exact, near which a long run lives. The error is at most |r|**N times the norms of what is
    cut from f and h; the matrix stays positive semi-definite where h = f.
    """
    f_n, h_n = f @ rule.hermite.T, h @ rule.hermite.T
    table = powers(r, len(rule.hermite) + 2)
    signs = (-1.0) ** np.arange(len(rule.hermite))
    same = (f * rule.weight) @ h.T - f_n @ h_n.T
    opposite = (f * rule.weight) @ h[:, ::-1].T - (f_n * signs) @ h_n.T
    even, odd = 0.5 * (same + opposite), 0.5 * (same - opposite)
    rest = even * table[rule.order] + odd * table[rule.order + 1]
    return jnp.einsum("an,bn,nab->ab", f_n, h_n, table[: len(rule.hermite)]) + rest
