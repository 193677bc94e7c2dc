"""Coarser and finer levels of averages, and where their nodes lie: small numbers by hand."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.averages import _places as places
from learndyn.averages import _series as series
from learndyn.averages._piecewise_linear import PiecewiseLinearAverages, _resolution
from learndyn.averages._split import SplitQuadrature
from learndyn.integrals.piecewise_linear import PiecewiseLinear, Resolution
from learndyn.integrals.smooth import LEVELS, Exact

STATE = ld.Overlaps([[0.9, 0.2], [0.2, 0.6]], [[0.3], [-0.1]], [[1.4]], [0.7, -1.3], [1.1])


# Levels of series and pieces


def test_levels_of_series(monkeypatch):
    default = series.at_level(4, even=True, curved=False)
    assert (default.level, default.even, default.curved) == (4, True, False)
    assert series.level_rtol(4) == default.rtol == 1e-7
    assert series.level_rtol(6) == 2.5e-8
    polynomials = series.at_level(Exact(2), even=False)
    monkeypatch.setattr(series, "at_level", lambda level, **how: (level, how))
    assert default.finer(2, 2) == (6, {"even": True, "curved": False, "bends": False})
    assert (default.falls, dataclasses.replace(default, bends=True).falls) == (math.inf, 4.0)
    at = lambda level: dataclasses.replace(default, level=level)
    assert at(len(LEVELS) - 3).finer(1, 1) is None
    assert at(len(LEVELS) - 4).finer(1, 1)[0] == len(LEVELS) - 2
    assert default.finer(40, 40) is None  # too dear
    assert (polynomials.level, polynomials.rtol, polynomials.finer(1, 1)) == (None, 0.0, None)
    assert polynomials.levels() is None
    assert float(polynomials.misfit(ld.Problem(), STATE)) == 0.0


def test_three_levels_of_series_are_three_back_this_and_the_next():
    """Their nodes, in arrays of one length, weigh nothing where a level has fewer."""
    levels = series.at_level(4, even=False).levels()
    counts = [int(np.sum(np.asarray(x) != 0)) for x in levels.rules.line[1]]
    wanted = [len(series.made(LEVELS[i], False).line[1]) for i in (1, 4, 5)]
    assert counts == wanted
    assert len(set(wanted)) == 3


def test_work_of_an_evaluation():
    """For each of k (k - 1) / 2 pairs a plane of nodes for the k + m - 2 other fields, for each of
    k units a line for the k + m - 1 others."""
    level = LEVELS[4]
    plane, line = level.counts(False)
    assert series._work(level, 3, 2, False) == 3 * 3 * plane + 3 * 4 * line
    assert series._work(level, 1, 2, False) == 2 * line
    least = series._DEAREST / (plane + 2 * line)
    assert series.is_affordable(level, 2, 1, False) == (least >= 1)


def test_the_first_level_is_the_cheapest_that_resolves(monkeypatch):
    told = {4: 0.5, 5: 0.1, 6: 0.01, 7: 0.001}
    monkeypatch.setattr(series, "_lattice_error", lambda level, table: told[LEVELS.index(level)])
    tanh = (jnp.tanh,)
    assert series._resolving(tanh, [4, 5, 6, 7], 1.0) == 6
    assert series._resolving(tanh, [4, 5], 1.0) == 5  # the nearest
    assert series._resolving(tanh, [5, 4], 1.0) == 5
    # Units with traced parameters are not looked at.
    found = []
    jax.eval_shape(
        lambda x: found.append(series._resolving((eqx.Partial(jnp.multiply, x),), [4, 5], 1.0)),
        jnp.ones(()),
    )
    assert found == [4]
    # Of many units all but the default are too dear.
    assert series.first_level(tanh, 40, 40, even=False) == 4
    assert series.first_level(tanh, 2, 2, even=True) == 6


@pytest.mark.parametrize("of_slopes", [False, True])
def test_errors_of_lattices_off_their_centre(of_slopes):
    """A wave that a level's lattices do not resolve, by the trapezoidal rule in NumPy: the unit
    is cos(w x), or its slope's square is cos(w x / 2)**2 = (1 + cos(w x)) / 2."""
    level, w = LEVELS[4], 8.5
    grid = np.linspace(-12.0, 12.0, 8001)
    table = np.stack([np.cos(w * grid), np.zeros_like(grid)])
    if of_slopes:
        table = np.stack([np.zeros_like(grid), np.cos(w / 2 * grid)])
    normal = lambda x: np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
    rules, wanted = series.made(level, half=False), []
    for x in (rules.given_plane.xi, rules.given_line.xi, rules.line[0]):
        shift = 0.37 * (x[1] - x[0])
        mean = np.exp(-(w**2) / 2) * np.cos(w * shift)
        square = (1 + np.exp(-2 * w**2) * np.cos(2 * w * shift)) / 2
        rough = normal(x) @ np.cos(w * (x + shift))
        size = ((1 + 2 * mean + square) / 4) ** 0.5 if of_slopes else square**0.5
        wanted.append(abs(rough - mean) / size / (2 if of_slopes else 1))
    # Linear interpolation between points 0.003 apart leaves (0.003 w)**2 / 8 of the wave.
    assert series._lattice_error(level, table) == pytest.approx(max(wanted), abs=4e-4)
    assert max(wanted) > 0.02


@pytest.mark.parametrize(
    ("units", "same_parity"),
    [
        ((ld.Erf(), ld.Tanh()), True),
        ((ld.Quadratic(), ld.Quadratic()), True),
        ((ld.Erf(), ld.Quadratic()), False),
        ((ld.ReLU(), ld.ReLU()), False),
    ],
    ids=["odd", "even", "both kinds", "neither"],
)
def test_parity_of_both_units(units, same_parity):
    assert series.same_parity(*units) is same_parity


def test_resolutions_grow_with_the_level():
    """14 (5/3)**level, 36 2**level, 6 1.5**level; in steps where a teacher jumps."""
    levels = (-1, 0, 1, 2)
    assert [_resolution(level, jumps=False) for level in levels] == [
        *(Resolution(8, 18, 4), Resolution(14, 36, 6)),
        *(Resolution(23, 72, 9), Resolution(39, 144, 14)),
    ]
    assert [_resolution(level, jumps=True) for level in levels] == [
        *(Resolution(5, 6, 10), Resolution(7, 8, 14)),
        *(Resolution(9, 10, 18), Resolution(11, 12, 22)),
    ]


def test_levels_of_piecewise_linear_averages():
    bent = PiecewiseLinear(0.0, 1.0, knots=(0.3,), bends=(-0.5,))
    averages = PiecewiseLinearAverages(bent, bent, biases=False)
    coarser, finer = averages.neighbours()
    assert (coarser.level, averages.level, finer.level) == (-1, 0, 1)
    assert averages.finer(2, 2).level == 1
    assert (averages.finer(2, 2).biases, averages.finer(2, 2).student) == (False, bent)
    assert finer.finer(2, 2) is None  # the finest
    line = PiecewiseLinear(0.2, 1.0)
    exact = PiecewiseLinearAverages(line, bent, biases=False)
    assert (exact.neighbours(), exact.finer(2, 2)) == (None, None)


def test_pieces_of_split_averages():
    nothing = places.Places((), (), (), (), (), ())
    averages = SplitQuadrature(nothing, 10)
    assert [one.order for one in averages.neighbours()] == [7, 14]  # 7.5 and 13.33
    assert averages.finer(1, 1).order == 20
    assert SplitQuadrature(nothing, 39).finer(1, 1).order == 78
    assert SplitQuadrature(nothing, 40).finer(1, 1) is None
    assert not averages.holds_at_singular
