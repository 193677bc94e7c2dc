"""Products <F F> of smooth students of a piecewise linear teacher with kinks or jumps."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.averages._closed import rule_averages
from learndyn.averages._series import first_level, is_affordable, level_rtol, same_parity
from learndyn.averages._types import AbstractAverages
from learndyn.integrals import mixed
from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.integrals.smooth import LEVELS, Rules, Units, made, products, stacked
from learndyn.problems import Problem, derivative, piecewise_linear, regularity
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_WIDENED = 2e-4
"""Relative error, for each unit of widening, of products in which steps of the teacher are made
wider: levels agree on it by chance. The largest measured is 4e-5 of the products where a step is
wider by 1/2, for tanh and a staircase; what is told is twice this number."""

_CROSSING = 0.06
"""Relative error of products, for each squared spacing of the lattice, where jumps of two teacher
units meet on it: differences of levels are up to three times too small. For erf and a sign 7e-3 is
measured at a spacing of 0.4 and 4e-3 on a line at one of 0.2; what is told is twice this number."""

_MISSED, _BENT = 0.15, 0.008
"""Relative error of products for what a lattice misses of steps, of teachers that jump and bend,
whose steps are not made wider, and of bends: levels may agree on it. Measured for erf and tanh, two
students and one teacher unit at correlations of 0.66 to 1: a step leaves up to 0.1 of the products
at a spacing of 0.43, the bend of ReLU or |x| up to 0.003. What is told is twice these numbers."""


class SmoothStudentProducts(AbstractAverages):
    """Phi by conditioning on two fields of a lattice, G, h and f being 0: see `mixed.products`.

    teacher: the teacher's function. rules, level, even: as those of `SeriesAverages`.
    biases: whether there are any; if not, those of a state are taken for 0.
    """

    teacher: PiecewiseLinear = eqx.field(static=True)
    rules: Rules
    level: int = eqx.field(static=True)
    even: bool = eqx.field(static=True)
    biases: bool = eqx.field(static=True)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        c, k = state.covariance, state.k
        students = self._students(problem, state)

        def signal(state: Overlaps) -> FieldAverages:
            phi = mixed.error_products(students, c, state.output_weights, self.rules)
            return FieldAverages(jnp.zeros((k, len(c))), phi, jnp.zeros(k), jnp.zeros(k))

        return rule_averages(problem, rule, signal, state)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        # eg comes from the pairs of fields that stand beside these in `MixedAverages`.
        raise NotImplementedError("These averages are products alone.")

    def levels(self) -> "SmoothStudentProducts":
        at = [min(max(self.level + step, 0), len(LEVELS) - 1) for step in (-3, 0, 1)]
        rules = jax.tree.map(jnp.asarray, stacked([LEVELS[i] for i in at], self.even))
        return SmoothStudentProducts(self.teacher, rules, self.level, self.even, self.biases)

    @property
    def rtol(self) -> float:
        return level_rtol(self.level)

    def misfit(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        k = state.k
        b, c = state.b if self.biases else None, state.covariance
        found = products.misfit(_units(problem, k, b), c[:k, :k], self.rules)
        missed = lambda order: mixed.missed(c, k, self.rules, order)
        if any(self.teacher.bends):
            found = jnp.maximum(found, _BENT * missed(2))
        if self.teacher.is_continuous:
            return found
        found = jnp.maximum(found, _CROSSING * mixed.crossing(c, k, self.rules))
        if any(self.teacher.bends):
            return jnp.maximum(found, _MISSED * missed(1))
        return jnp.maximum(found, _WIDENED * mixed.widening(c, k, self.rules))

    def finer(self, k: int, m: int) -> "SmoothStudentProducts | None":
        """Two levels finer; None where that takes too long."""
        level = self.level + 2
        if level + 1 >= len(LEVELS) or not is_affordable(LEVELS[level], k, m, self.even):
            return None
        return _at_level(self.teacher, level, even=self.even, biases=self.biases)

    def _students(self, problem: Problem, state: Overlaps) -> mixed.SmoothStudents:
        b = None
        if self.biases and state.b is not None and state.b_teacher is not None:
            b = jnp.concatenate([state.b, state.b_teacher])
        units = _units(problem, state.k, b)
        return mixed.SmoothStudents(units, problem.noise**2, self.teacher)


def smooth_student_products(
    problem: Problem, k: int, m: int, *, biases: bool, reach: float | None
) -> SmoothStudentProducts | None:
    """Products for a smooth student of a piecewise linear teacher; None for other units.

    The problem is additive, with squared loss. reach: largest standard deviation of a field.
    """
    teacher = piecewise_linear(problem.teacher, jumps=True)
    if teacher is None or not regularity(problem.student).has_continuous_slope:
        return None
    even = not biases and same_parity(problem.student, problem.teacher)
    level = first_level((problem.student,), k, m, even=even, reach=reach)
    return _at_level(teacher, level, even=even, biases=biases)


def _at_level(
    teacher: PiecewiseLinear, level: int, *, even: bool, biases: bool
) -> SmoothStudentProducts:
    rules = jax.tree.map(jnp.asarray, made(LEVELS[level], even))
    return SmoothStudentProducts(teacher, rules, level, even, biases)


def _units(problem: Problem, k: int, b: Float[Array, " d"] | None) -> Units:
    """Units that all have the student's function."""
    slope = eqx.Partial(derivative, problem.student)
    return Units(problem.student, problem.student, slope, slope, k, True, False, b)
