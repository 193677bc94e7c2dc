"""Where a function of one number jumps or bends: declared by a class, or else measured once.

Averages over fixed nodes may be differentiated through the nodes only where the integrand
is continuous; where it jumps the result would be silently wrong.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.problems._functions import declared

_RANGES = (8.0, 32.0, 128.0)
"""Arguments up to the last are scanned, in windows that end at these: a N(0, 1) field leaves the
first with a probability of 1e-15, one of standard deviation 16 the last. Farther out squares of
exp(x), as in derivatives of log(cosh(x)), overflow, and look like jumps."""

_POINTS = 1025
"""Ends of the intervals of a window: 1/64 apart in the first, 1/21 and 1/5 in the others."""

_HALVINGS = 46
"""Halvings of an interval: 1/64 becomes 2e-16, 1/5 becomes 3e-15, the rounding of their ends."""

_RELATIVE_JUMP = 1e-6
"""A step that stays larger than this, over the function's size near by, is a jump. Continuous
functions step by their slope times 2e-16; those as steep as 1e9 would be taken for a jump."""

_ROUNDING = 1e-12
"""Steps below this times the function's largest value are rounding."""

_LINES = 8
"""Lines on which functions of several numbers are scanned at once."""

_BUNDLES = 6
"""So many times, with other lines, before a function counts as continuous. A region of probability
1/64 in its six fields is missed by all lines in fewer than one of 1e4 cases."""

_SIZES = (1.0, 3.0, 10.0)
"""Standard deviations of the points through which these lines go, in turn."""


class Regularity(NamedTuple):
    """Where a function g of one number is not smooth; an empty one is smooth.

    jumps: positions at which g itself jumps; kinks: at which g' jumps; bends: at which g'' does.
    Positions have the unit of the argument; NaN stands for one that is not known.
    """

    jumps: tuple[float, ...] = ()
    kinks: tuple[float, ...] = ()
    bends: tuple[float, ...] = ()

    @property
    def is_continuous(self) -> bool:
        return not self.jumps

    @property
    def has_continuous_slope(self) -> bool:
        return not (self.jumps or self.kinks)

    @property
    def is_smooth(self) -> bool:
        return self == SMOOTH


SMOOTH = Regularity()

UNKNOWN = Regularity((math.nan,), (math.nan,), (math.nan,))
"""That of a function with traced parameters, whose values are not there to look at."""


def regularity(g: Callable) -> Regularity:
    """That of an elementwise function: what its class declares, or else what is measured."""
    known = declared(g, "regularity")
    if known is not None:
        return known
    return remembered(measured_regularity, g)


def measured_regularity(g: Callable) -> Regularity:
    """Where the elementwise g, g' and g'' jump within 128 of 0."""
    if not is_concrete(g):
        return UNKNOWN
    return Regularity(
        jump_places(g, g), jump_places(slope_of(g), g), jump_places(slope_of(slope_of(g)), g)
    )


def slope_of(g: Callable) -> Callable:
    """g' by forward differentiation; g must act on each element alone."""
    return lambda x: jax.jvp(g, (x,), (jnp.ones_like(x),))[1]


def jumps_on_lines(fn: Callable, dims: int, leaves: Any) -> bool:
    """Whether fn: R^dims -> R jumps somewhere on a few lines: random ones, ones along a single
    coordinate, and ones along which all coordinates grow alike, where several thresholds meet."""
    if not is_concrete(leaves):
        return True  # nothing is known
    rng = np.random.default_rng(0)

    @jax.jit  # one program for all bundles
    def on_lines(t: jax.Array, origins: jax.Array, directions: jax.Array) -> jax.Array:
        return jax.vmap(jax.vmap(fn))(origins + t[..., None] * directions)

    def jumps(origins: np.ndarray, directions: np.ndarray) -> bool:
        return bool(_places(lambda t: on_lines(t, origins, directions), _LINES))

    return any(jumps(*_lines(rng, dims, bundle)) for bundle in range(_BUNDLES))


def _lines(rng: np.random.Generator, dims: int, bundle: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (lines, dims) and unit directions of a bundle of lines."""
    origins, random = rng.normal(size=(2, _LINES, dims))
    along = np.eye(dims)[rng.integers(dims, size=_LINES)]
    alike = np.where(rng.random((_LINES, dims)) < 0.5, -1.0, 1.0)
    alike[0] = 1.0
    kinds = np.stack([random, along, alike])
    directions = kinds[np.arange(_LINES) % 3, np.arange(_LINES)]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return _SIZES[bundle % len(_SIZES)] * origins, directions


def jump_places(
    fn: Callable, leaves: Any, lines: int = 1, wider: float | None = None
) -> tuple[float, ...]:
    """Where the elementwise `fn` of (points, lines) jumps in [-128, 128].

    By bisection: the larger step of every interval is followed down to rounding.
    leaves: what must be known for that; where it is traced the answer is one NaN.
    wider: a factor by which it is scanned farther out as well, more coarsely; None: it is not.
    """
    if not is_concrete(leaves):
        return (math.nan,)
    fn = jax.jit(lambda x, fn=fn: fn(x))  # a Module with parameters cannot be hashed
    near = _places(fn, lines)
    if wider is None:
        return near
    far = [wider * x for x in _places(lambda x: fn(wider * x), lines)]
    # The first window knows better what is there.
    return near + tuple(x for x in far if not abs(x) < _RANGES[0])


def _places(fn: Callable, lines: int) -> tuple[float, ...]:
    """Where `fn`, compiled, of (points, lines) jumps in [-128, 128]."""
    places, largest, inner = [], 0.0, 0.0
    for outer in _RANGES:
        found, size = _jumps_between(fn, inner, outer, lines, largest)
        places += found
        largest, inner = max(largest, size), outer
    return tuple(sorted(places))


def _jumps_between(
    fn: Callable, inner: float, outer: float, lines: int, largest: float
) -> tuple[list[float], float]:
    """Jumps at distances from `inner` to `outer` from 0, and the largest value there."""
    half = _POINTS // 2
    # A grid off the integers, so that no kink a person would write sits on a node unseen. It is
    # stretched, not shifted, so that one window begins where the last one ends.
    edges = np.linspace(inner, outer, half + 1)
    edges = edges + 1e-3 * np.sqrt(2) * (1 + edges)
    low, high = np.r_[-edges[1:], edges[:-1]], np.r_[-edges[:-1], edges[1:]]
    # What is within the window stands in each, so that all have one program, and counts in one.
    low, high = np.r_[low, -edges[0]], np.r_[high, edges[0]]
    low, high = (np.repeat(side[:, None], lines, axis=1) for side in (low, high))
    f_low, f_high = _everywhere(fn, low), _everywhere(fn, high)
    size = np.maximum(np.abs(f_low), np.abs(f_high))
    # Where a function overflows nothing is known, and nothing can be averaged.
    finite = np.isfinite(size)
    finite[-1] &= inner == 0
    f_low, f_high = np.where(finite, f_low, 0.0), np.where(finite, f_high, 0.0)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        f_middle = np.where(finite, evaluate(fn, middle), 0.0)
        left = np.abs(f_middle - f_low) > np.abs(f_high - f_middle)
        low, f_low = np.where(left, low, middle), np.where(left, f_low, f_middle)
        high, f_high = np.where(left, middle, high), np.where(left, f_middle, f_high)
    largest = max(largest, float(np.max(size, where=finite, initial=0.0)))
    jumped = finite & (np.abs(f_high - f_low) > _RELATIVE_JUMP * size + _ROUNDING * largest)
    return high[jumped].tolist(), largest


def _everywhere(fn: Callable, x: np.ndarray) -> np.ndarray:
    """fn(x), also of a function that gives one number for all x, such as a constant."""
    values = evaluate(fn, x)
    return values if values.ndim else np.full(x.shape, values)


def evaluate(fn: Callable, x: np.ndarray) -> np.ndarray:
    """fn(x) as numbers, also while something else is being traced."""
    with jax.ensure_compile_time_eval():
        return np.asarray(fn(jnp.asarray(x)))


class _Arguments:
    """Arguments of a measurement, equal where their structures and all their numbers are."""

    def __init__(self, args: tuple):
        self.args = args
        leaves, structure = jax.tree.flatten(args)
        numbers = tuple(np.asarray(x).tobytes() if hasattr(x, "dtype") else x for x in leaves)
        self._key = structure, numbers

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Arguments) and self._key == other._key


_remember = functools.lru_cache(maxsize=256)(lambda measure, given: measure(*given.args))


def remembered(measure: Callable, *args: Any) -> Any:
    """measure(*args), kept where the arguments are concrete and can be hashed."""
    if not is_concrete(args):
        return measure(*args)
    # What a measurement makes for itself must be numbers, also while something else is traced.
    with jax.ensure_compile_time_eval():
        try:
            return _remember(measure, _Arguments(args))
        except TypeError:
            return measure(*args)
