"""Following a fixed point as the learning rate changes, to where it loses stability."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Array, Float

from learndyn._numerics.pseudo_inverse import NEUTRAL
from learndyn.asymptotics.fixed_points._fixed_point import Search, root
from learndyn.asymptotics.fixed_points._flow import with_rates
from learndyn.dynamics import OverlapFlow

_SMALLEST_STEP = 1e-9
"""Relative step in lr below which a branch counts as ended; an end is as exact as that."""

_AGREEMENT = 1e-10
"""The extrapolated end of stability is returned when two of its estimates agree to this, relative
to lr: the error that `critical_lr` states."""

_RANGE = 1e6
"""The branch is followed up to this factor from the given rate, up or down; see `critical_lr`."""

_JUMP = 0.3
"""Relative change of the state in one step beyond which the search counts as having slipped to
another branch: a step changes lr by 20 % at most, and less where the state changes fast."""

_HUGE, _LARGE = 2e3, 1e2
"""Sizes of a state relative to the first one. Beyond the first it is followed no further, since its
rounding grows like the square of its size and enters the polynomial that extrapolates to infinity.
From the second on, a branch that is lost may have run off to infinity."""

_STEEP = 10.0
"""A state that grows faster than this power of lr runs off to infinity at a finite rate: growth
without end but at no finite rate has small powers, such as 2/3 with weight decay."""

_ORDER, _APART = 6, 2.0
"""Order of the polynomial that extrapolates to infinity, and the state's growth between its points:
the closer they are, the more of their rounding arrives at infinity."""

_FIRST, _LONGEST, _DOWN = 0.1, 0.2, 1.1
"""Relative steps in lr, the first and the longest one upwards, and the factor of a step downwards:
short enough for Newton's method to reach the next point from the tangent at this one."""

_ACCURACY = 1e-10
"""A point is found where a relative change of the state by this would explain what is left of f:
the relative error that `critical_lr` states."""

_LOST_DIGITS = 1e-14
"""Rounding of f / lr at a large state, over the square of its size. lr <F_i F_i'> is a difference
of products of overlaps, in which digits are lost in proportion to the size. Along the branch of an
erf unit with weight decay, up to lr = 2e6 and the size 2e4, at most 2.5e-15 was left of f / lr."""

_SEARCH = 1e-15, 60, 1e-6
"""Tolerance, most steps and first damping of a search. The tolerance is below rounding, so that it
goes on until no step helps; the damping is small, since the tangent predicts well."""

_UNCOUNTED = -1
"""The number of neutral directions while it is still to be counted."""


class _Point(NamedTuple):
    """The fixed point at a rate; growth: its largest one over the largest singular value of J."""

    lr: float
    y: Float[Array, " p"]
    dy: Float[Array, " p"]  # along the branch, per unit lr
    found: bool
    growth: float
    neutral: int


def follow(flow: OverlapFlow, y: Float[Array, " p"]) -> float:
    """The rate at which the branch of fixed points through y changes its stability.

    Upwards from the flow's rate where it is stable there, else downwards. Where the branch
    ends (in a fold, at infinity, or in another branch), that rate. inf or 0 where nothing
    happens within a factor of 1e6.
    """
    lr = float(flow.rule.lr)
    point = _fixed_point_at(flow, lr, _Point(lr, y, jnp.zeros_like(y), True, 0.0, _UNCOUNTED))
    if not point.found:
        raise ValueError(
            "critical_lr could not settle on a fixed point near the given state; refine it with "
            "fixed_point first."
        )
    return _upwards(flow, point) if point.growth <= 0 else _downwards(flow, point)


def _upwards(flow: OverlapFlow, point: _Point) -> float:
    """Follow the branch to larger rates.

    Steps never pass the extrapolated end of stability, beyond which the search would slip to
    another branch.
    """
    past, apart, step, estimate = [point], [point], _FIRST, np.inf
    limit, unit = point.lr * _RANGE, 1 + _size(point)
    while point.lr < limit:
        target = min(point.lr * (1 + step), 0.5 * (point.lr + estimate))
        # Continuation: predict along the branch, correct by the search, shorten a step that fails.
        new = _fixed_point_at(flow, target, point)
        if not new.found or _has_jumped(point.y, new.y):
            step = 0.25 * (target / point.lr - 1)
            if step < _SMALLEST_STEP:
                return _end_of_branch(past, apart, large=_size(point) > _LARGE * unit)
            continue
        if new.growth > 0:
            return _bisected(flow, point, new)
        point, step, past = new, min(2 * step, _LONGEST), [*past[-2:], new]
        apart = [*apart[-_ORDER:], new] if _size(new) > _APART * _size(apart[-1]) else apart
        old, estimate = estimate, _where_growth_vanishes(past)
        if abs(estimate - old) < _AGREEMENT * point.lr:
            return estimate
        if _size(point) > _HUGE * unit and _runs_off(past):
            return _at_infinity(apart)
    return np.inf


def _end_of_branch(past: list[_Point], apart: list[_Point], *, large: bool) -> float:
    """The rate at which a branch ends that cannot be followed any further."""
    point = past[-1]
    if not large:
        return point.lr
    if not _runs_off(past):
        raise ValueError(
            f"critical_lr lost its fixed point at lr = {point.lr:.3g}, where overlaps are as large "
            f"as {_size(point):.3g} and still growing like a power of lr. It is stable up to there."
        )
    return _at_infinity(apart)


def _runs_off(past: list[_Point]) -> bool:
    """Whether the state grows faster than any moderate power of lr: to infinity at a finite one."""
    if len(past) < 2:
        return False
    old, new = past[-2:]
    return bool(np.log(_size(new) / _size(old)) > _STEEP * np.log(new.lr / old.lr))


def _at_infinity(points: list[_Point]) -> float:
    """lr where the state has run off to infinity: a polynomial in 1 / sqrt(size), at 0."""
    # Polynomial extrapolation to infinite size
    inverse = [_size(p) ** -0.5 for p in points]
    return float(np.polyfit(inverse, [p.lr for p in points], len(points) - 1)[-1])


def _size(point: _Point) -> float:
    return float(jnp.max(jnp.abs(point.y)))


def _downwards(flow: OverlapFlow, point: _Point) -> float:
    lowest = point.lr / _RANGE
    while point.lr > lowest:
        new = _fixed_point_at(flow, point.lr / _DOWN, point)
        if not new.found:
            return 0.0
        if new.growth <= 0:
            return _bisected(flow, new, point)
        point = new
    return 0.0


def _where_growth_vanishes(points: list[_Point]) -> float:
    """The rate at which growth, as a power of the distance to it, reaches 0; inf where it does not.

    The power is 1 at an ordinary crossing, 1/2 at a fold, any where the state runs to infinity.
    """
    if len(points) < 3:
        return np.inf
    (a, b, c), (g_a, g_b, g_c) = zip(*((p.lr, -p.growth) for p in points), strict=True)
    if not g_a > g_b > g_c > 0:
        return np.inf
    wanted = np.log(g_a / g_b) / np.log(g_b / g_c)

    def excess(distance: float) -> float:
        # With g ~ distance**power at three rates, two ratios fix the distance without the power.
        to_a, to_b = (b - a) / (distance + c - b), (c - b) / distance
        return np.log1p(to_a) / np.log1p(to_b) - wanted

    # From rounding of c to far beyond any use: what lies outside is no crossing.
    near, far = 1e-13 * c, 1e3 * c
    if not excess(near) < 0 < excess(far):
        return np.inf
    # Brent's method
    return c + scipy.optimize.brentq(excess, near, far, xtol=1e-15 * c)


def _bisected(flow: OverlapFlow, stable: _Point, unstable: _Point) -> float:
    """Bisection between a stable and an unstable rate, and a secant at the end."""
    # Forty halvings leave 1e-12 of the interval.
    for _ in range(40):
        new = _fixed_point_at(flow, 0.5 * (stable.lr + unstable.lr), stable)
        if not new.found:
            break
        stable, unstable = (new, unstable) if new.growth <= 0 else (stable, new)
    # Secant: bisection has left growths of opposite sign, nearly linear between.
    change = unstable.growth - stable.growth
    return stable.lr - stable.growth * (unstable.lr - stable.lr) / change


def _has_jumped(old: Array, new: Array) -> bool:
    """Whether the search has jumped to another branch."""
    return bool(jnp.max(jnp.abs(new - old)) > _JUMP * (1 + jnp.max(jnp.abs(old))))


def _fixed_point_at(flow: OverlapFlow, lr: float, near: _Point) -> _Point:
    # Continuation: the tangent of the branch predicts, the search corrects.
    guess = near.y + near.dy * (lr - near.lr)
    y, dy, found, matrix = _evaluate(flow, jnp.asarray(lr, float), guess)
    matrix = np.asarray(matrix)
    if not (found and np.isfinite(matrix).all()):
        return _Point(lr, y, dy, False, np.nan, near.neutral)
    # Momentum brings entries of very different size.
    matrix = scipy.linalg.matrix_balance(matrix, permute=False)[0]
    values, rows = np.linalg.svd(matrix)[1:]
    neutral = near.neutral
    if neutral == _UNCOUNTED:
        neutral = int((values <= NEUTRAL * values[0]).sum())
    # As many directions as were neutral at first are divided out everywhere.
    kept = rows[: len(rows) - neutral]
    eigenvalues = np.linalg.eigvals(kept @ matrix @ kept.T).real
    growth = eigenvalues.max() / values[0] if len(eigenvalues) else -1.0
    return _Point(lr, y, dy, True, growth, neutral)


@eqx.filter_jit
def _evaluate(
    flow: OverlapFlow, lr: Float[Array, ""], guess: Float[Array, " p"]
) -> tuple[Float[Array, " p"], Float[Array, " p"], Array, Float[Array, "p p"]]:
    """The fixed point at lr, its derivative with respect to lr, whether found, and J / lr."""

    def solve(lr: Array) -> tuple[Array, Search]:
        moved = eqx.tree_at(lambda f: f.rule, flow, with_rates(flow.rule, lr))
        tolerance, max_steps, damping = _SEARCH
        limits = jnp.asarray(tolerance), jnp.asarray(NEUTRAL)
        return root(moved, guess, *limits, max_steps, damping)

    # The branch's tangent, by the implicit function theorem (see `root`)
    y, dy, search = jax.jvp(solve, (lr,), (jnp.ones_like(lr),), has_aux=True)
    size = jnp.max(jnp.abs(y))
    accuracy = _ACCURACY * (1 + jnp.max(jnp.abs(search.matrix) @ jnp.abs(y)))
    found = search.size <= accuracy + _LOST_DIGITS * size**2
    return y, dy, found, search.matrix
