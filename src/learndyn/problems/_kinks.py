"""The kinks of a function as a piecewise linear function, without which its slope is continuous."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.problems._activations import derivative
from learndyn.problems._piecewise_linear import piecewise_linear
from learndyn.problems._regularity import evaluate, regularity, remembered

_MOST_KINKS = 16
"""A function with more kinks is left to nodes: averages take all pairs of kinks."""

_DIGITS, _ROUNDING = 12, 1e-14
"""Bisection finds a kink to 14 digits at least: a number of at most 12 digits that close is meant
exactly."""


def kinked_part(g: Callable) -> PiecewiseLinear | None:
    """A piecewise linear function L with the kinks of the elementwise g: g - L has a continuous
    slope. It is g itself where g is piecewise linear, and 0 where g has no kinks.

    None: g jumps, or its slope does not approach a limit on both sides of a kink, or it has more
    than 16 kinks, or its parameters are traced. The answer is remembered.
    """
    if not is_concrete(g):
        return None
    same = piecewise_linear(g)
    return remembered(_measured, g) if same is None else same


def _measured(g: Callable) -> PiecewiseLinear | None:
    found = regularity(g)
    if found.jumps or len(found.kinks) > _MOST_KINKS:
        return None
    knots = [_rounded(kink) for kink in found.kinks]
    bends = [_bend(g, knot) for knot in knots]
    known = tuple(bend for bend in bends if bend is not None)
    return PiecewiseLinear(0.0, 0.0, tuple(knots), known) if len(known) == len(knots) else None


def _rounded(place: float) -> float:
    """The short number that bisection has missed by rounding, if there is one."""
    short = float(f"{place:.{_DIGITS}g}") if abs(place) > _ROUNDING else 0.0
    return short if abs(short - place) <= _ROUNDING * max(1.0, abs(place)) else place


def _bend(g: Callable, knot: float) -> float | None:
    """The growth of g' at `knot`; None where g' has no limits there."""
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    # The error of a limit is of order step**2, and rounding eps: both stay below `share`.
    share = eps ** (1 / 3)
    steps = share * max(1.0, abs(knot)) * np.array([1.0, 0.25])
    x = knot + steps[:, None] * np.array([-2.0, -1.0, 1.0, 2.0])
    slopes = evaluate(lambda x: derivative(g, x), x)
    # Linear extrapolation to the knot from both sides.
    limits = 2 * slopes[:, 1:3] - slopes[:, [0, 3]]
    coarse, fine = limits[:, 1] - limits[:, 0]
    size = np.abs(slopes).max()
    if not abs(coarse - fine) <= share * size or abs(fine) <= share * size:
        return None
    return float(fine)
