"""Averages of two units of a piecewise linear network, in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.integrals.piecewise_linear.function import Network, PiecewiseLinear
from learndyn.integrals.piecewise_linear.steps import (
    FAR,
    StepAverages,
    above,
    density,
    step_averages,
)
from learndyn.integrals.relu.correlations import SMALLEST_VARIANCE, angles_from

PARALLEL = 2.0**-51
"""Fields with a correlation this close to 1 or -1 are parallel: two units in its last place."""


class PairAverages(NamedTuple):
    """Averages over the fields of units a and c, (d, d) each, with x_a = f_a + b_a.

    g_g: <g(x_a) g(x_c)>; dg_g: <g'(x_a) g(x_c)>; dg_dg: <g'(x_a) g'(x_c)>;
    ddg_g: <g''(x_a) g(x_c)>, where g'' is a sum of delta functions.
    Where g jumps, g' has a delta function: dg_g and ddg_g hold in rows of units a that do not jump,
    dg_dg where one of the two does not.
    """

    g_g: Float[Array, "d d"]
    dg_g: Float[Array, "d d"]
    dg_dg: Float[Array, "d d"]
    ddg_g: Float[Array, "d d"]


class Steps(NamedTuple):
    """Fields and the steps of a network at one state.

    scale: (d,) standard deviations; r, q: (d, d) correlations r and sqrt(1 - r**2);
    h: (steps,) thresholds in units of the standard deviation of their field.
    """

    scale: Float[Array, " d"]
    r: Float[Array, "d d"]
    q: Float[Array, "d d"]
    h: Float[Array, " steps"]


def steps_at(net: Network, c: Float[Array, "d d"], b: Float[Array, " d"]) -> Steps:
    """The steps where the fields have covariance c and the units these biases.

    Entry by entry, so that units that are alike get the same numbers: rows by Gram and Schmidt
    would depend on their order, and rounding would seed the end of a symmetric plateau.
    """
    variance = jnp.diagonal(c)
    present = ~(variance <= SMALLEST_VARIANCE)  # NaN is present, and stays NaN
    variance = jnp.where(present, variance, 1.0)
    product = jnp.where(present[:, None] & present, variance[:, None] * variance, 1.0)
    given = jnp.where(present[:, None] & present, c / jnp.sqrt(product), 0.0)
    given = jnp.where(jnp.eye(len(c), dtype=bool), 1.0, given)
    # Rounding may exceed 1. The value is clipped, the derivative is not.
    r = given + jax.lax.stop_gradient(held(given) - given)
    scale = jnp.where(present, jnp.sqrt(variance), SMALLEST_VARIANCE**0.5)
    h = (net.knot - b[net.unit]) / scale[net.unit]
    # step(0) = 0: a zero field does not pass a threshold at 0, unless g says so.
    beyond = jnp.where(net.closed & (h == 0), -FAR, jnp.maximum(h, FAR))
    h = jnp.where(present[net.unit] | (h < 0), h, beyond)
    return Steps(scale, r, angles_from(r).q, h)


def held(r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """r, but exactly 1 or -1 where it differs from that by rounding, or exceeds it."""
    return jnp.where(1.0 - jnp.abs(r) <= PARALLEL, jnp.sign(r), r)


def pair_averages(net: Network, c: Float[Array, "d d"], b: Float[Array, " d"]) -> PairAverages:
    """Averages of all pairs of units, of fields with covariance c and biases b.

    Everything is finite and continuous at every positive semi-definite c, except that g' jumps
    where a field vanishes at a knot. Derivatives are exact and bounded, see `correlations`.
    Error: rounding. Source: Stein's lemma; see `steps`.
    """
    at = steps_at(net, c, b)
    scale, r, q, h = at
    both = np.ix_(net.unit, net.unit)
    found = step_averages(h[:, None], h, r[both], q[both])
    first, bend = jnp.asarray(net.slope), jnp.asarray(net.bend)
    raised = bend * scale[:, None]  # (d, steps): a ReLU counts in units of its field's scale
    # g = constant + first f + ReLUs, and <f_a g_c> = C_ac <g'_c>, <f_a [f_c > h]> in the same way.
    constant = jnp.asarray(net.constant) + first * b
    relus = raised @ (density(h) - h * above(h))
    mean, slope = constant + relus, first + bend @ above(h)
    g_g = constant[:, None] * mean + relus[:, None] * constant
    g_g += c * (first[:, None] * slope + (slope - first)[:, None] * first)
    g_g += raised @ found.relu_relu @ raised.T
    dg_dg = first[:, None] * slope + (slope - first)[:, None] * first
    dg_dg += bend @ found.both @ bend.T
    # (steps, d): <[f_i > h] g_c>, and <g_c> given f_i = h
    along = r[net.unit] * (first * scale)
    above_step = above(h)[:, None] * constant + density(h)[:, None] * along
    above_step += found.step_relu @ raised.T
    at_step = constant + h[:, None] * along + found.relu_at @ raised.T
    at_step = (density(h) / scale[net.unit])[:, None] * at_step
    continuous = PairAverages(g_g, first[:, None] * mean + bend @ above_step, dg_dg, bend @ at_step)
    if not net.jump.any():
        return continuous
    jumping = _of_jumps(net, at, c, constant, found)
    return PairAverages(*(x + y for x, y in zip(continuous, jumping, strict=True)))


def _of_jumps(
    net: Network,
    at: Steps,
    c: Float[Array, "d d"],
    constant: Float[Array, " d"],
    found: StepAverages,
) -> PairAverages:
    """What jumps add to the averages of the continuous parts of the units.

    constant: (d,) the value of each unit left of all knots, at f = 0.
    Equation: a jump is a step, and its slope a delta function; lines by Stein's lemma.
    """
    first, bend, jump = (jnp.asarray(x) for x in (net.slope, net.bend, net.jump))
    peak = density(at.h) / at.scale[net.unit]  # the average of a step's delta function
    mean, slope = jump @ above(at.h), jump @ peak
    lines = constant[:, None] * mean + c * first[:, None] * slope
    relus = (bend * at.scale[:, None]) @ found.step_relu.T @ jump.T
    bends = bend @ (peak * found.step_at.T) @ jump.T  # (a, c): of the step of a, where c jumps
    slopes = first[:, None] * slope + bends
    return PairAverages(
        lines + lines.T + relus + relus.T + jump @ found.both @ jump.T,
        first[:, None] * mean + bend @ found.both @ jump.T,
        slopes + slopes.T,
        bend @ (peak[:, None] * found.step_at) @ jump.T,
    )


def squared_slope(
    g: PiecewiseLinear, norms: Float[Array, " k"], b: Float[Array, " k"]
) -> Float[Array, " k"]:
    """<g'(f_i + b_i)**2> of fields with these variances: the square of each piece's slope times
    its probability."""
    squares = g.slopes**2
    scale = jnp.sqrt(jnp.maximum(norms, SMALLEST_VARIANCE))
    passed = [
        grows * above((knot - b) / scale)
        for knot, grows in zip(g.knots, np.diff(squares), strict=True)
    ]
    return squares[0] + sum(passed, jnp.zeros_like(norms))
