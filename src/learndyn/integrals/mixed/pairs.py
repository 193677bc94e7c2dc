"""Averages over pairs of fields of units with kinks: a piecewise linear part and a smooth rest.

Every unit is g = L + S, where L is piecewise linear and has all kinks and jumps of g, so that S has
a continuous slope. Units of the student do not jump. An average of two units is a sum of four: L
with L in closed form, S with S by Mehler's series, and L with S by the same series, in which the
Hermite coefficients of L are known in closed form.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.piecewise_linear import (
    FAR,
    Network,
    above,
    density,
    pair_averages,
    steps_at,
)
from learndyn.integrals.smooth import Series, Units
from learndyn.integrals.smooth.pairs import mehler
from learndyn.integrals.smooth.units import powers, standardised

_REACH = 9.0
"""Standard deviations within which averages over one field are taken: the probability beyond is
below 1e-18."""

_NODE, _WEIGHT = np.polynomial.legendre.leggauss(40)
"""Gauss and Legendre's rule for each piece: it integrates the density of N(0, 1) over all of
[-9, 9] to rounding."""


class PairSums(NamedTuple):
    """Averages of the error signal s_i = g'(x_i) D with D = sum_a u_a g_a(x_a), x_a = f_a + b_a.

    G: (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p; h: (k,)
    <g(x_i) D>; f: (k,) <s_i>.
    """

    G: Float[Array, "k d"]
    h: Float[Array, " k"]
    f: Float[Array, " k"]


def error_averages(
    net: Network, rest: Units, c: Float[Array, "d d"], u: Float[Array, " d"], rule: Series
) -> PairSums:
    """Averages of the error signal over two fields at a time.

    net: the piecewise linear parts L; rest: the parts S, and the biases; c: covariance of the
    fields; u: (v, -v*).
    Equation: G_ic = u_c <g'_i g'_c> + delta_ic <g''_i D>, by Stein's lemma.
    Error: that of Mehler's series, see `_Fields.crossed` and `mehler`.
    """
    k, f = rest.k, _Fields(net, rest, c, rule)
    bent, r, sigma = pair_averages(net, c, f.b), f.r, f.sigma
    g, slopes = f.values(f.z, f.x), f.slopes(f.z, f.x)
    ramp_g, ramp_slope = (f.crossed("ramp", of) for of in (f.values, f.slopes))
    step_g, step_slope = (f.crossed("step", of) for of in (f.values, f.slopes))
    smooth_slopes = mehler(slopes, slopes, r, rule)
    g_g = bent.g_g + ramp_g + ramp_g.T + mehler(g, g, r, rule)
    dg_g = (bent.dg_g + step_g + ramp_slope.T)[:k] + mehler(slopes[:k], g, r[:k], rule)
    dg_dg = bent.dg_dg + step_slope + step_slope.T + smooth_slopes
    ddg_g = (bent.ddg_g + f.crossed("delta", f.values))[:k]
    if rest.is_curved:
        curvatures = f.curvatures(f.z, f.x)[:k]
        ddg_g += f.crossed("ramp", f.curvatures).T[:k] + mehler(curvatures, g, r[:k], rule)
    else:  # <S''_i g_c> = (<f_i S'_i g_c> - Cov(f_i, f_c) <S'_i g'_c>) / Var(f_i)
        tilted = f.tilted_slopes(f.z, f.x)[:k]
        own = f.crossed("ramp", f.tilted_slopes).T[:k] + mehler(tilted, g, r[:k], rule)
        own -= r[:k] * sigma * (step_slope.T + smooth_slopes)[:k]
        ddg_g += own / sigma[:k, None]
    G = u * dg_dg[:k] + jnp.eye(k, len(c)) * (ddg_g @ u)[:, None]
    return PairSums(G, g_g[:k] @ u, dg_g @ u)


def second_moments(
    net: Network, rest: Units, c: Float[Array, "d d"], rule: Series
) -> Float[Array, "d d"]:
    """<g_a(x_a) g_b(x_b)> of all pairs; arguments as for `error_averages`."""
    f = _Fields(net, rest, c, rule)
    g, crossed = f.values(f.z, f.x), f.crossed("ramp", f.values)
    return pair_averages(net, c, f.b).g_g + crossed + crossed.T + mehler(g, g, f.r, rule)


Smooth = Callable[[Array, Array], Array]
"""A function of z, with x = sigma z + b, for all units: (d, ...) -> (d, ...)."""


class _Fields:
    """The fields of a network at one state, and averages of a piecewise linear unit with a smooth
    one."""

    def __init__(self, net: Network, rest: Units, c: Float[Array, "d d"], rule: Series):
        self.net, self.rest, self.rule, self.b = net, rest, rule, rest.biases(len(c))
        self.sigma, self.r = standardised(c)
        self.table = powers(self.r, rule.hermite.shape[-2] + 2)
        self.scale, _, _, self.h = steps_at(net, c, self.b)
        self.z, self.x = rule.z, self._moved(rule.z)
        self.kinked = self._kinked()

    def values(self, z: Array, x: Array) -> Array:
        return self.rest.values(x)

    def slopes(self, z: Array, x: Array) -> Array:
        return self.rest.slopes(x)

    def tilted_slopes(self, z: Array, x: Array) -> Array:
        return z * self.rest.slopes(x)

    def curvatures(self, z: Array, x: Array) -> Array:
        """S'' of the student's units; 0 for the teacher's, of which it is not needed."""
        k = self.rest.k
        _, curved = jax.jvp(self.rest.student_slope, (x[:k],), (jnp.ones_like(x[:k]),))
        return jnp.concatenate([curved, jnp.zeros_like(x[k:])])

    def crossed(self, kind: str, smooth: Smooth) -> Float[Array, "d d"]:
        """<L_a S_c> of units a, c; kind: "ramp" for L itself, "step" for L', "delta" for L'', which
        is of use where L does not jump; smooth: for S.

        Mehler's series, cut and closed by its ends in the same way as `mehler`; averages at the
        ends, r = 1 and -1, are taken in pieces between the kinks. So the error is that of the
        orders that are cut times r**orders, and 0 at the ends.
        """
        kinked, theirs = self.kinked[kind], smooth(self.z, self.x) @ self.rule.hermite.T
        orders = kinked.shape[1]
        signs = (-1.0) ** np.arange(orders)
        same, opposite = self._at_ends(kind, smooth)
        same, opposite = same - kinked @ theirs.T, opposite - (kinked * signs) @ theirs.T
        even, odd = 0.5 * (same + opposite), 0.5 * (same - opposite)
        order, table = self.rule.order, self.table
        rest = even * table[order] + odd * table[order + 1]
        # A linear function has the first two orders alone, so that nothing of it is cut.
        bent = kinked + self._linear(kind, orders)
        return jnp.einsum("an,cn,nac->ac", bent, theirs, table[:orders]) + rest

    def _kinked(self) -> dict[str, Float[Array, "d n"]]:
        """Hermite coefficients of kinks and jumps of the piecewise linear parts, in closed form.

        Equation: with h = (t - b)/sigma and orthonormal polynomials he_n, delta(x - t) has the
        coefficients phi(h) he_n(h) / sigma, its integral, a step, phi(h) he_{n-1}(h) / sqrt(n), and
        the integral of that, a ReLU, sigma phi(h) he_{n-2}(h) / sqrt(n (n - 1)).
        """
        orders, h = self.rule.hermite.shape[-2], self.h
        waves = hermite_functions(h, orders)
        root = np.sqrt(np.arange(1, orders))[:, None]
        steps = jnp.concatenate([above(h)[None], waves[:-1] / root])
        ramps = jnp.concatenate([(density(h) - h * above(h))[None], steps[:-1] / root])
        scale, bend, jump = self.scale[:, None], jnp.asarray(self.net.bend), self.net.jump
        kinked = {
            "ramp": scale * (bend @ ramps.T),
            "step": bend @ steps.T,
            "delta": bend @ waves.T / scale,
        }
        if jump.any():
            kinked["ramp"] += jump @ steps.T
            kinked["step"] += jump @ waves.T / scale
        return kinked

    def _linear(self, kind: str, orders: int) -> Float[Array, "d n"]:
        """The coefficients of the linear function that L is left of all kinks."""
        none, slope = jnp.zeros((len(self.b), orders)), jnp.asarray(self.net.slope)
        if kind == "delta":
            return none
        if kind == "step":
            return none.at[:, 0].set(slope)
        at_zero = self.net.constant + slope * self.b
        return none.at[:, 0].set(at_zero).at[:, 1].set(slope * self.sigma)

    def _at_ends(self, kind: str, smooth: Smooth) -> Float[Array, "2 d d"]:
        """The averages of all kinks and jumps of L_a with S_c at x_c = sigma_c z + b_c and
        -sigma_c z + b_c, where a's field is sigma_a z."""
        kinks = self._at_end_of(kind, self.net.bend, smooth)
        lower = {"ramp": "step", "step": "delta"}.get(kind)
        if lower is None or not self.net.jump.any():
            return kinks
        return kinks + self._at_end_of(lower, self.net.jump, smooth)

    def _at_end_of(
        self, kind: str, height: Float[np.ndarray, "d steps"], smooth: Smooth
    ) -> Float[Array, "2 d d"]:
        """The same of a sum of ramps, steps or delta functions, times `height`."""
        sign = jnp.array([1.0, -1.0])[:, None, None]
        if kind == "delta":
            z = sign * self.h[:, None] * jnp.ones((len(self.b), 1, 1, 1))
            weight = density(self.h)[:, None] / self.scale[self.net.unit][:, None]
            weight = weight * jnp.ones_like(z)
        else:
            z, weight = self._pieces()
            if kind == "ramp":
                scale = self.scale[self.net.unit][:, None]
                weight = weight * scale * (z - self.h[:, None])
            z = sign * z
        at_steps = jnp.sum(weight * smooth(z, self._moved(z)), axis=-1)
        return jnp.einsum("aj,csj->sac", height, at_steps)

    def _pieces(self) -> tuple[Array, Array]:
        """Nodes z (d, 2, steps, nodes) and weights of all steps of units a, for averages with
        smooth parts at z and -z: from the threshold on, in pieces between the kinks of those."""
        d, (unit, h) = len(self.b), (self.net.unit, self.h)
        most = int(np.bincount(unit, minlength=d).max())
        which = np.full((d, most), len(unit))
        for a in range(d):
            own = np.flatnonzero(unit == a)
            which[a, : len(own)] = own
        kinks = jnp.append(h, FAR)[which]
        kinks = jnp.stack([kinks, -kinks], axis=1)[:, :, None]  # (d, 2, 1, kinks)
        first = jnp.clip(h, -_REACH, _REACH)[:, None]
        inner = jnp.sort(jnp.clip(kinks, first, _REACH), axis=-1)
        ends = jnp.broadcast_to(first, (*inner.shape[:-1], 1))
        edges = jnp.concatenate([ends, inner, jnp.full_like(ends, _REACH)], axis=-1)
        half = 0.5 * jnp.diff(edges, axis=-1)[..., None]
        z = edges[..., :-1, None] + half * (1 + _NODE)
        weight = half * _WEIGHT * density(z)
        flat = (*z.shape[:-2], -1)
        return z.reshape(flat), weight.reshape(flat)

    def _moved(self, z: Array) -> Array:
        """x = sigma z + b of all units: z (points,) the same for all, or (d, ...)."""
        shape = (-1,) + (1,) * max(1, z.ndim - 1)
        return self.sigma.reshape(shape) * z + self.b.reshape(shape)


def hermite_functions(h: Float[Array, "..."], orders: int) -> Float[Array, "orders ..."]:
    """phi(h) he_n(h) for n = 0 ... orders - 1, by the recurrence of the polynomials."""

    def following(two: tuple[Array, Array], n: Array) -> tuple[tuple[Array, Array], Array]:
        before, here = two
        after = (h * here - jnp.sqrt(n) * before) / jnp.sqrt(n + 1)
        return (here, after), here

    start = jnp.zeros_like(h), density(h)
    return jax.lax.scan(following, start, jnp.arange(orders, dtype=h.dtype))[1]
