"""The jumps of a function as a sum of steps, without which it is continuous."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array

from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.problems._regularity import evaluate, regularity

MOST_KNOTS = 16
"""A function with more knots is left to nodes: averages take all pairs of knots."""

_DIGITS, _ROUNDING = 12, 1e-14
"""Bisection finds a place to 14 digits at least: a number of at most 12 digits that close is meant
exactly."""

_SAME = 1e-11
"""Places that differ by less are one: a knot of two lines is known to a rounding of their values
over the difference of their slopes."""

_BESIDE = np.array([1e-9, 2e-9, 1e-6])
"""Distances from a jump, over its own size where that is above 1, at which both sides are looked
at. From the first two the limits are extrapolated: they lie far outside the rounding of a place,
and a curvature of order 1 moves the limits by 1e-18."""

_MOVES_ON = 1e3
"""By at most so much times the distance, and the jump's size, a function moves on next to a jump.
What moves faster is no jump, but a steep place that bisection did not resolve."""


def steps_of(g: Callable) -> PiecewiseLinear | None:
    """All jumps of the elementwise g, within 128 of 0, as a sum of steps; without any where g is
    continuous.

    None: they are not known (traced parameters), or more than 16, or g has no limits there.
    """
    found = regularity(g).jumps
    if len(found) > MOST_KNOTS or not np.isfinite(found).all():
        return None
    places = np.array([rounded(place) for place in found])
    if not len(places):
        return PiecewiseLinear(0.0, 0.0)
    beside = np.maximum(1.0, np.abs(places))[:, None] * _BESIDE
    x = np.concatenate(
        [places[:, None] - beside, places[:, None], places[:, None] + beside], axis=1
    )
    values = evaluate(g, x).astype(float)
    left, at, right = values[:, :3], values[:, 3], values[:, 4:]
    # Linear extrapolation to the jump from both sides.
    below, above = (2 * side[:, 0] - side[:, 1] for side in (left, right))
    jumps = np.array([rounded(jump) for jump in above - below])
    moved = np.maximum(np.abs(left - below[:, None]), np.abs(right - above[:, None]))
    if not (moved <= _MOVES_ON * beside * np.abs(jumps)[:, None]).all():
        return None
    shares = np.array([rounded(share) for share in (at - below) / jumps])
    knots, none = tuple(places.tolist()), (0.0,) * len(places)
    return PiecewiseLinear(0.0, 0.0, knots, none, tuple(jumps.tolist()), tuple(shares.tolist()))


def without_steps(g: Callable, steps: PiecewiseLinear, x: Array) -> Any:
    """g(x) without its jumps, elementwise."""
    return g(x) - steps.stepped(x)


def with_steps(g: PiecewiseLinear, steps: PiecewiseLinear) -> PiecewiseLinear:
    """The sum of a continuous function and steps, the knots in ascending order.

    A knot of both was found twice, which rounding may tell apart: it is where the jump is.
    """
    near = lambda x, y: abs(x - y) <= _SAME * max(1.0, abs(x))
    meeting = [next((x for x in steps.knots if near(x, knot)), knot) for knot in g.knots]
    bends = dict(zip(meeting, g.bends, strict=True))
    jumps = dict(zip(steps.knots, steps.jumps, strict=True))
    shares = dict(zip(steps.knots, steps.shares, strict=True))
    knots = tuple(sorted({*jumps, *bends}))
    return PiecewiseLinear(
        g.constant,
        g.slope,
        knots,
        tuple(bends.get(knot, 0.0) for knot in knots),
        tuple(jumps.get(knot, 0.0) for knot in knots),
        tuple(shares.get(knot, 0.0) for knot in knots),
    )


def rounded(place: float) -> float:
    """The short number that bisection has missed by rounding, if there is one."""
    short = float(f"{place:.{_DIGITS}g}") if abs(place) > _ROUNDING else 0.0
    return short if abs(short - place) <= _ROUNDING * max(1.0, abs(place)) else place
