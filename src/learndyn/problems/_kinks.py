"""The kinks of a function as a piecewise linear function, without which its slope is continuous."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.problems._activations import derivative
from learndyn.problems._jumps import MOST_KNOTS, rounded, steps_of, with_steps
from learndyn.problems._piecewise_linear import piecewise_linear
from learndyn.problems._regularity import evaluate, regularity, remembered


def kinked_part(g: Callable, *, jumps: bool = False) -> PiecewiseLinear | None:
    """A piecewise linear function L with the kinks of the elementwise g: g - L has a continuous
    slope. It is g itself where g is piecewise linear, and 0 where g has no kinks.

    jumps: whether a g that jumps is taken, too; L then jumps as g does.

    None: g jumps, or its slope does not approach a limit on both sides of a kink, or it has more
    than 16 kinks and jumps, or its parameters are traced. The answer is remembered.
    """
    same = piecewise_linear(g, jumps=jumps)
    if same is not None or not is_concrete(g):
        return same
    found = remembered(_measured, g)
    return found if found is None or jumps or found.is_continuous else None


def _measured(g: Callable) -> PiecewiseLinear | None:
    steps, kinks = steps_of(g), regularity(g).kinks
    if steps is None or len(kinks) + len(steps.knots) > MOST_KNOTS:
        return None
    knots = [rounded(kink) for kink in kinks]
    bends = [_bend(g, knot) for knot in knots]
    known = tuple(bend for bend in bends if bend is not None)
    if len(known) < len(knots):
        return None
    return with_steps(PiecewiseLinear(0.0, 0.0, tuple(knots), known), steps)


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
