"""What a user's function is, by its values: an error function, a polynomial, odd or even.

A function is taken for a known one only where it agrees everywhere that is looked at, near 0 on a
fine grid and far out; those with traced parameters, whose values are not there, are nothing known.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.integrals.rescaled import Scale
from learndyn.problems import _losses
from learndyn.problems._functions import declared
from learndyn.problems._regularity import evaluate, remembered

_NEAR, _FAR = 40.0, 1e6
"""How far a grid of spacing 1/64 reaches, and points in geometric progression beyond it."""

_AGREES = 1e-13
"""Relative difference that rounding explains."""

_HIGHEST_DEGREE = 16
"""Polynomials above it are not recognised: the nodes that are exact for them grow with it."""

_POLYNOMIAL_REACH = 20.0
"""Within which a polynomial of that degree is compared; beyond, powers alone are left."""

_PHI = (-2.3, -0.6, 0.4, 1.7, 55.0)
"""Outputs and labels at which a loss is compared with the squared one."""


_PRESENT = 1e-11
"""Coefficients of a polynomial below this share of the largest are the rounding of a fit."""


class _Points(NamedTuple):
    """Where a function is looked at: on a grid, at Chebyshev's nodes, and at three numbers."""

    grid: np.ndarray
    nodes: np.ndarray
    ends: np.ndarray


@functools.cache
def _points() -> _Points:
    # An irrational shift: no user's knot lies exactly on a point.
    near = np.arange(0.0, _NEAR, 1 / 64) + 1e-3 * math.sqrt(2)
    positive = np.concatenate([near, np.geomspace(_NEAR, _FAR, 64)])
    nodes = np.polynomial.chebyshev.chebpts1(_HIGHEST_DEGREE + 5)
    return _Points(np.concatenate([-positive[::-1], positive]), nodes, np.array([0.0, 0.01, 1e3]))


def _seen(g: Callable) -> _Points | None:
    """g at those points, in one call; None where its values are not there."""
    return remembered(_look, g) if is_concrete(g) else None


def _look(g: Callable) -> _Points:
    values = evaluate(jax.jit(lambda x: g(x)), np.concatenate(_points()))
    return _Points(*np.split(values, np.cumsum([len(x) for x in _points()])[:-1]))


def parity(g: Callable) -> str | None:
    """ "odd", "even", or None for neither."""
    return remembered(_parity, g)


def polynomial_degree(g: Callable) -> int | None:
    """The degree of a polynomial; None for any other function."""
    known = declared(g, "degree")
    return known if known is not None else remembered(_polynomial_degree, g)


def error_function(g: Callable) -> Scale | None:
    """gain and slope of g(x) = gain erf(slope x/sqrt 2); None for any other function."""
    return remembered(_error_function, g)


def squared_scale(loss: Callable) -> float | None:
    """s of a loss whose slope is s (phi - y); None for any other loss."""
    if _losses.is_squared(loss):
        return 1.0
    if _losses.is_classification(loss):
        return None
    return remembered(_squared_scale, loss)


def _parity(g: Callable) -> str | None:
    seen = _seen(g)
    if seen is None or not np.isfinite(seen.grid).all():
        return None
    values, mirrored = seen.grid, seen.grid[::-1]
    size = np.maximum(np.abs(values), np.abs(mirrored))
    for name, expected in (("odd", -mirrored), ("even", mirrored)):
        if np.all(np.abs(values - expected) <= _AGREES * size):
            return name
    return None


def _polynomial_degree(g: Callable) -> int | None:
    seen, at = _seen(g), _points()
    if seen is None or not np.isfinite(seen.nodes).all():
        return None
    # Chebyshev's nodes determine the polynomial, and the points of the grid test it.
    fit = np.polynomial.chebyshev.chebfit(at.nodes, seen.nodes, len(at.nodes) - 1)
    present = np.abs(fit) > _PRESENT * np.abs(fit).max()
    degree = int(np.max(np.nonzero(present)[0], initial=0))
    if degree > _HIGHEST_DEGREE or not present.any():
        return None
    powers = np.polynomial.chebyshev.cheb2poly(fit[: degree + 1])
    powers[np.abs(powers) < _PRESENT * np.abs(powers).max()] = 0.0
    close = np.abs(at.grid) < _POLYNOMIAL_REACH
    x, found = at.grid[close], seen.grid[close]
    size = np.polynomial.polynomial.polyval(np.abs(x), np.abs(powers))
    expected = np.polynomial.polynomial.polyval(x, powers)
    # The fit's rounding grows outside [-1, 1] by the leading power's 2**degree.
    agrees = np.abs(found - expected) <= _PRESENT * 2.0**degree * size
    return degree if agrees.all() else None


def _error_function(g: Callable) -> Scale | None:
    # Here, since importing it takes 0.1 s and the library's own activations do not need it.
    from scipy.special import erf, erfinv

    seen = _seen(g)
    if seen is None:
        return None
    origin, near, end = (float(x) for x in seen.ends)
    # Too steep for the grid, or no limit: not a function that can be compared with erf.
    if origin != 0 or not 0 < abs(near) < 0.5 * abs(end) < math.inf:
        return None
    slope = _rounded(float(erfinv(near / end) * math.sqrt(2) / _points().ends[1]))
    expected = end * erf(slope * _points().grid / math.sqrt(2))
    agrees = np.all(np.abs(seen.grid - expected) <= _AGREES * abs(end))
    return Scale(end, slope) if agrees else None


def _rounded(slope: float) -> float:
    """A slope found by value to 14 digits: a short decimal where there is one."""
    short = float(f"{slope:.12g}")
    return short if abs(short - slope) <= 10 * _AGREES * abs(slope) else slope


def _squared_scale(loss: Callable) -> float | None:
    phi, y = (x.ravel() for x in np.meshgrid(_PHI, np.array(_PHI) + 0.3))
    if not is_concrete(loss):
        return None
    with jax.ensure_compile_time_eval():
        slope = jax.vmap(lambda phi, y: _losses.slope(loss, phi, y))
        found = np.asarray(slope(jnp.asarray(phi), jnp.asarray(y)))
    scale = float(found[0] / (phi[0] - y[0]))
    agrees = np.all(np.abs(found - scale * (phi - y)) <= _AGREES * (np.abs(phi) + np.abs(y)))
    return scale if agrees and scale != 0 else None
