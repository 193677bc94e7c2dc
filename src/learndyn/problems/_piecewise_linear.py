"""Which elementwise functions are piecewise linear: found out from their values."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from learndyn._checks import is_concrete
from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.problems._activations import derivative
from learndyn.problems._functions import declared
from learndyn.problems._jumps import MOST_KNOTS, steps_of, with_steps, without_steps
from learndyn.problems._regularity import evaluate, remembered

_NEAR = np.arange(-40 * 64, 40 * 64 + 1) / 64
"""Points 1/64 apart, as far as 40: a N(0, 1) field has no probability beyond. They are multiples of
a power of 2, so that values of functions with short coefficients are free of rounding."""

_FAR = 40 * (1e6 / 40) ** (np.arange(1, 121) / 120)
"""Points further out, by factors of 1.09, up to 1e6, on either side."""

_GRID = np.concatenate([-_FAR[::-1], _NEAR, _FAR])
"""All points at which a function is looked at, in ascending order."""

_BETWEEN = _GRID + (0.5 + 0.4 * np.sin(np.arange(len(_GRID)))) * np.gradient(_GRID)
"""A point between each of those and the next, each time at another share of the way."""

_AROUND = np.concatenate([side * 10.0 ** -np.arange(1, 15) for side in (-1, 1)])
"""Distances from a knot at which a function that only rounds off its corner would show."""

_ROUNDING = 64
"""Differences up to this many units in the last place of the terms that add up are rounding."""


def piecewise_linear(g: Callable, *, jumps: bool = False) -> PiecewiseLinear | None:
    """The elementwise g as a piecewise linear function, if it is one; None if it is not.

    jumps: whether a g that jumps is taken, too; jumps are looked for within 128 of 0.

    Decided from values of g and of its derivative at 11 000 points up to 1e6, and at points that
    come close to each knot: there g must agree to rounding. A g is taken with at most 16 knots
    that are 1/16 or more apart (further from 0, a fifth of the distance); its parameters must not
    be traced. The answer is remembered. What a class declares (`pieces`) is believed.
    """
    found = declared(g, "pieces")
    if found is None and is_concrete(g):
        found = remembered(_measured, g) or (remembered(_measured_with_jumps, g) if jumps else None)
    return found if found is None or jumps or found.is_continuous else None


def _measured_with_jumps(g: Callable) -> PiecewiseLinear | None:
    steps = steps_of(g)
    if steps is None or steps.is_continuous:
        return None
    rest = _measured(eqx.Partial(without_steps, g, steps))
    return None if rest is None else with_steps(rest, steps)


def _measured(g: Callable) -> PiecewiseLinear | None:
    at_once = jax.jit(lambda x: jnp.stack([g(x), derivative(g, x)]))
    try:
        values, slopes = evaluate(at_once, _GRID)
    except jax.errors.TracerArrayConversionError:
        return None  # g closes over traced parameters
    if not (np.isfinite(values).all() and np.isfinite(slopes).all()):
        return None
    eps = float(jnp.finfo(values.dtype).eps)
    found = _joined(values.astype(float), slopes.astype(float), eps)
    if found is None or not _agrees(found, _GRID, values, slopes, eps):
        return None
    knots = np.array(found.knots)
    closer = (knots[:, None] + np.maximum(1.0, np.abs(knots))[:, None] * _AROUND).ravel()
    # As many points in each call, so that one program does for all.
    others = (_BETWEEN, np.resize(closer, _GRID.shape)) if len(knots) else (_BETWEEN,)
    for x in others:
        values, slopes = evaluate(at_once, x)
        if not _agrees(found, x, values, slopes, eps):
            return None
    return found


def _joined(
    values: Float[np.ndarray, " points"], slopes: Float[np.ndarray, " points"], eps: float
) -> PiecewiseLinear | None:
    """The lines along which neighbouring points lie, joined where they meet."""
    left, right = slopes[:-1], slopes[1:]
    straight = np.abs(left - right) <= _ROUNDING * eps * (np.abs(left) + np.abs(right))
    starts, ends = _runs(straight)
    if not 1 <= len(starts) <= MOST_KNOTS + 1:
        return None
    # Take each line where it comes closest to 0: there its intercept loses least to rounding.
    at = np.array(
        [_closest(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    )
    slope = slopes[at]
    intercept = values[at] - slope * _GRID[at]
    bends = np.diff(slope)
    if (bends == 0).any():
        return None
    knots = -np.diff(intercept) / bends
    inside = (knots >= _GRID[ends[:-1]]) & (knots <= _GRID[starts[1:]])
    if not inside.all():
        return None
    # Adding 0 makes -0 the same as 0.
    first = float(intercept[0]) + 0.0, float(slope[0]) + 0.0
    return PiecewiseLinear(*first, tuple((knots + 0.0).tolist()), tuple(bends.tolist()))


def _runs(straight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last points of the runs of three or more points of one slope."""
    padded = np.concatenate([[False], straight, [False]]).astype(int)
    first, last = np.flatnonzero(np.diff(padded) > 0), np.flatnonzero(np.diff(padded) < 0)
    long = last - first >= 2
    return first[long], last[long]


def _closest(start: int, end: int) -> int:
    """The inner point of a run that is closest to 0; at its ends there may be a knot."""
    return start + 1 + int(np.argmin(np.abs(_GRID[start + 1 : end])))


def _agrees(
    found: PiecewiseLinear,
    x: np.ndarray,
    values: np.ndarray,
    slopes: np.ndarray,
    eps: float,
) -> bool:
    """Whether g has these values and slopes at x, to rounding; at a knot any slope will do."""
    knots, bends = np.array(found.knots), np.array(found.bends)
    sizes = np.abs(found.constant) + np.abs(found.slope * x)
    apart = x[:, None] - knots
    sizes = sizes + np.maximum(apart, 0) @ np.abs(bends) + np.abs(values)
    close = np.abs(values - found(x)) <= _ROUNDING * eps * sizes
    on_knot = (np.abs(apart) <= _ROUNDING * eps * (1.0 + np.abs(knots))).any(axis=1)
    expected = found.slope + (apart > 0) @ bends
    steepest = np.abs(found.slopes).max()
    right = on_knot | (np.abs(slopes - expected) <= _ROUNDING * eps * steepest)
    return bool(close.all() and right.all())
