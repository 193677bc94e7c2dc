"""Averages of additive networks with squared loss and any smooth units, without fixed nodes."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn.averages._closed import rule_averages, takes_error_signal
from learndyn.averages._types import AbstractAverages, half_square
from learndyn.integrals.smooth import (
    LEVELS,
    Exact,
    Lattices,
    Rules,
    Units,
    made,
    pairs,
    products,
    stacked,
)
from learndyn.problems import (
    Problem,
    are_same,
    derivative,
    evaluate,
    parity,
    polynomial_degree,
    regularity,
    remembered,
)
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_DEFAULT = 4
"""The level to start from: <F F> is right to 2e-5 for tanh and swish at overlaps of 1."""

_RESOLVES = 2e-2
"""Relative error of one-dimensional averages above which a lattice is too coarse for a unit. Given
other fields a field varies less, and <F F> is then right to about a tenth of this."""

_FINE_GRID = np.linspace(-12.0, 12.0, 8001)
"""Standard deviations at which units are looked at for that: spacing 0.003."""

_OFF_CENTRE = 0.37
"""Steps by which a lattice is moved off the centre: neither a symmetric place nor half way."""

_RTOL, _ERROR = 1e-7, 2.0
"""A hundredth of the relative error of the default level, finer than which a solver only follows
the averages' error; and the factor by which that falls from level to level, at least."""

_DEAREST = 3e6
"""Values of units in one evaluation, 10 ms or so on one core: no finer levels are tried."""


_FALLS = 4.0
"""By how much an error falls at most over three levels where the second derivative of a unit
jumps between two nodes: those of coefficients do so like 1/nodes**3. For relu(x)**2 two levels then
differ by 0.4 of an error, and it would be told 0.8 of itself."""

_BOTH_BEND = 1.5
"""Times the misfit where units bend: it is that of one field, and products have two. At 16 states
of relu(x)**2, Q of 0.01 to 3, products were told 0.9 of their error without it, once."""


class SeriesAverages(AbstractAverages):
    """Averages from Mehler's series over pairs of fields, and <F F> by conditioning.

    Exact in every symmetry of the problem: permutations of units, and signs of odd ones. So a
    symmetric state stays symmetric. Right at singular covariances, derivatives included.

    Attributes:
        rules: those of one level, or of several with a leading axis.
        level: which, a position in `learndyn.integrals.smooth.LEVELS`; None: `Exact` rules of
            polynomial units.
        even: whether all units are odd, or all even, without biases, so that half of the nodes do.
        curved: whether the second derivative of the student's unit is continuous.
        bends: whether that of any unit jumps.

    Example:
        >>> tanh = ld.Problem(ld.Tanh(), ld.Tanh())
        >>> series = averages.choose_averages(tanh, 1, 1, rule=ld.SGD(lr=0.5), biases=False)
        >>> isinstance(series, averages.SeriesAverages), series.even
        (True, True)
    """

    rules: Rules
    level: int | None = eqx.field(static=True)
    even: bool = eqx.field(static=True)
    curved: bool = eqx.field(static=True)
    bends: bool = eqx.field(static=True, default=False)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        units, c = self._units(problem, state), state.covariance

        def signal(state: Overlaps) -> FieldAverages:
            u = state.output_weights
            found = pairs.error_averages(units, c, u, self.rules)
            phi = products.error_products(units, c, u, self.rules)
            phi = phi + problem.noise**2 * found.slopes
            return FieldAverages(found.G, phi, found.h, found.f)

        return rule_averages(problem, rule, signal, state)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        u = state.output_weights
        units = self._units(problem, state)
        return half_square(u, pairs.second_moments(units, state.covariance, self.rules))

    def levels(self) -> "SeriesAverages | None":
        if self.level is None:
            return None
        at = [min(max(self.level + step, 0), len(LEVELS) - 1) for step in (-3, 0, 1)]
        rules = jax.tree.map(jnp.asarray, stacked([LEVELS[i] for i in at], self.even))
        return SeriesAverages(rules, self.level, self.even, self.curved, self.bends)

    def misfit(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        if self.level is None:
            return jnp.zeros(())
        found = products.misfit(self._units(problem, state), state.covariance, self.rules)
        return _BOTH_BEND * found if self.bends else found

    def finer(self, k: int, m: int) -> "SeriesAverages | None":
        """Two levels finer: the error of <F F> falls by 10 to 50."""
        if self.level is None or self.level + 3 >= len(LEVELS):
            return None
        if not is_affordable(LEVELS[self.level + 2], k, m, self.even):
            return None
        return at_level(self.level + 2, even=self.even, curved=self.curved, bends=self.bends)

    @property
    def rtol(self) -> float:
        return 0.0 if self.level is None else level_rtol(self.level)

    @property
    def falls(self) -> float:
        return _FALLS if self.bends else math.inf

    def _units(self, problem: Problem, state: Overlaps) -> Units:
        b = None
        if state.b is not None and state.b_teacher is not None:
            b = jnp.concatenate([state.b, state.b_teacher])
        return Units(
            student=problem.student,
            teacher=problem.teacher,
            student_slope=eqx.Partial(derivative, problem.student),
            teacher_slope=eqx.Partial(derivative, problem.teacher),
            k=state.k,
            are_alike=are_same(problem.student, problem.teacher),
            is_curved=self.curved,
            b=b,
        )


def at_level(
    level: int | Exact, *, even: bool, curved: bool = True, bends: bool = False
) -> SeriesAverages:
    """Averages of a given level, a position in LEVELS, or exact ones."""
    exact = isinstance(level, Exact)
    rules = made(level if exact else LEVELS[level], even)
    rules = jax.tree.map(jnp.asarray, rules)
    return SeriesAverages(rules, None if exact else level, even, curved, bends)


def series_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None,
    biases: bool,
    reach: float | None = None,
) -> SeriesAverages | None:
    """Averages by series; None where units jump or bend, or the loss or rule is of another kind.

    reach: the largest standard deviation of a field; None: 1.
    """
    if not takes_error_signal(problem, rule):
        return None
    units = problem.student, problem.teacher
    smooth = [regularity(g) for g in units]
    if not all(one.has_continuous_slope for one in smooth):
        return None
    even = not biases and same_parity(*units)
    curved = not smooth[0].bends
    own, other = (polynomial_degree(g) for g in units)
    if own is not None and other is not None:
        return at_level(Exact(max(1, own, other)), even=even, curved=curved)
    level = _DEFAULT if rule is None else first_level(units, k, m, even=even, reach=reach)
    bends = any(one.bends for one in smooth)
    return at_level(level, even=even, curved=curved, bends=bends)


def first_level(
    units: tuple[Any, ...], k: int, m: int, *, even: bool, reach: float | None = None
) -> int:
    """The level to start from: the first affordable one that resolves these units."""
    levels = [
        level
        for level in range(_DEFAULT, len(LEVELS) - 1)
        if level == _DEFAULT or is_affordable(LEVELS[level], k, m, even)
    ]
    return _resolving(units, levels, 1.0 if reach is None else reach)


def is_affordable(level: Lattices, k: int, m: int, even: bool) -> bool:
    """Whether an evaluation of k student and m teacher units takes no more than 10 ms or so."""
    return _work(level, k, m, even) <= _DEAREST


def level_rtol(level: int) -> float:
    """A relative tolerance finer than which a solver would follow the error of a level."""
    return _RTOL * _ERROR ** -(level - _DEFAULT)


def _resolving(units: tuple[Any, ...], levels: list[int], reach: float) -> int:
    """The first of `levels` whose lattices resolve units of fields of that standard deviation, or
    the one that comes nearest."""
    tables = [remembered(_values_and_slopes, g, reach) for g in units if is_concrete(g)]
    errors = []
    for level in levels:
        errors.append(max([_lattice_error(LEVELS[level], table) for table in tables], default=0.0))
        if errors[-1] < _RESOLVES:
            return level
    return levels[int(np.argmin(errors))]


def _values_and_slopes(g: Any, reach: float) -> np.ndarray:
    """g and g' (2, points) of a field of standard deviation `reach`, on a fine grid."""
    both = jax.jit(lambda x: jnp.stack([g(x), derivative(g, x)]))
    return evaluate(both, reach * _FINE_GRID)


def _lattice_error(level: Lattices, table: np.ndarray) -> float:
    """Largest relative error of a level's lattices on <g> and <g'**2>, off their centres."""
    exact_weight = _density(_FINE_GRID)
    rules = made(level, half=False)
    errors = []
    for xi in (rules.given_plane.xi, rules.given_line.xi, rules.line[0]):
        x, weight = xi + _OFF_CENTRE * (xi[1] - xi[0]), _density(xi)
        for values in (table[0], table[1] ** 2):
            rough = np.interp(x, _FINE_GRID, values) @ weight
            # The same average of the function moved by as much, on the fine grid.
            moved = np.interp(_FINE_GRID + (x[0] - xi[0]), _FINE_GRID, values)
            size = np.sqrt(moved**2 @ exact_weight)
            # A function that is zero has no error: 1e-300 only prevents 0 / 0.
            errors.append(abs(rough - moved @ exact_weight) / max(size, 1e-300))
    return float(max(errors))


def _density(x: np.ndarray) -> np.ndarray:
    weight = np.exp(-0.5 * x * x)
    return weight / weight.sum()


def same_parity(*units: Any) -> bool:
    """Whether student and teacher are both odd, or both even."""
    of_student, of_teacher = (parity(g) for g in units)
    return of_student is not None and of_student == of_teacher


def _work(level: Lattices, k: int, m: int, even: bool) -> float:
    """Values of units that one evaluation takes."""
    on_plane, on_line = level.counts(even)
    return k * (k - 1) / 2 * (k + m - 2) * on_plane + k * (k + m - 1) * on_line
