"""Averages of networks whose activations are piecewise linear, whoever wrote them."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.averages._closed import rule_averages, takes_error_signal
from learndyn.averages._types import AbstractAverages, half_square
from learndyn.integrals.piecewise_linear import (
    PiecewiseLinear,
    Resolution,
    first_layer,
    has_exact_products,
    second_moments,
)
from learndyn.problems import Problem, piecewise_linear
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_FINEST = 1
"""The finest level that is taken unasked: an evaluation takes five times as long at each."""

_FALLS = 10.0
"""By how much an error falls at least from a level to the next where the teacher jumps. By two more
nodes on each piece it falls by 25. Differences that are smaller by chance are not believed."""


class PiecewiseLinearAverages(AbstractAverages):
    """Averages of a network with squared loss and piecewise linear student and teacher.

    G, h, f and eg are exact to rounding, with any knots and biases, and of teachers that jump. So
    is Phi where the student is linear, or all knots are at 0 and there are no biases and no jumps;
    elsewhere it is an integral over two fields, and its nodes grow with the level. At level 0 the
    error measured is 4e-6 of the largest entry at generic states, and up to 7e-4 where student and
    teacher differ by some percent. Of teachers that jump it is 1e-6, and at most 8e-5 at any
    distance of student and teacher, and of a teacher from the plane of two students.

    biases: whether there are any; if not, those of a state are taken for 0.
    """

    student: PiecewiseLinear = eqx.field(static=True)
    teacher: PiecewiseLinear = eqx.field(static=True)
    biases: bool = eqx.field(static=True)
    level: int = eqx.field(static=True, default=0)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        def signal(state: Overlaps) -> FieldAverages:
            found = first_layer(
                self.student,
                self.teacher,
                *_fields(state, self.biases),
                state.k,
                problem.noise**2,
                _resolution(self.level, jumps=not self.teacher.is_continuous),
            )
            return FieldAverages(*found)

        return rule_averages(problem, rule, signal, state)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        c, b, u = _fields(state, self.biases)
        return half_square(u, second_moments(self.student, self.teacher, c, b, state.k))

    def neighbours(self) -> tuple[AbstractAverages, AbstractAverages] | None:
        if has_exact_products(self.student, self.teacher, biases=self.biases):
            return None
        at = lambda level: PiecewiseLinearAverages(self.student, self.teacher, self.biases, level)
        return at(self.level - 1), at(self.level + 1)

    @property
    def falls(self) -> float:
        return math.inf if self.teacher.is_continuous else _FALLS

    def finer(self, k: int, m: int) -> "PiecewiseLinearAverages | None":
        if self.neighbours() is None or self.level >= _FINEST:
            return None
        return PiecewiseLinearAverages(self.student, self.teacher, self.biases, self.level + 1)


def piecewise_linear_averages(
    problem: Problem, k: int, m: int, *, rule: AbstractRule | None = None, biases: bool
) -> PiecewiseLinearAverages | None:
    """Averages for `problem` and `rule` where both activations are piecewise linear, one of them
    bent or the teacher's with jumps, and the loss is squared; None for any other problem, or a rule
    without closed form.

    rule: None: for the generalisation error alone.
    """
    if not takes_error_signal(problem, rule):
        return None
    student = piecewise_linear(problem.student)
    teacher = None if student is None else piecewise_linear(problem.teacher, jumps=True)
    if student is None or teacher is None or not (student.knots or teacher.knots):
        return None
    return PiecewiseLinearAverages(student, teacher, biases)


def _resolution(level: int, *, jumps: bool) -> Resolution:
    """Nodes at each level: 14, 36 and 6 at level 0; of teachers that jump, whose pieces are more
    and shorter, 7, 8 and 14.

    They grow so that the three errors stay of one size, and by so much that differences between
    levels fall by 3 or more also close to the teacher: measured for ReLU with K = M = 2 and 4.
    """
    if jumps:
        return Resolution(7 + 2 * level, 8 + 2 * level, 14 + 4 * level)
    plane, line, correlation = 14 * (5 / 3) ** level, 36 * 2.0**level, 6 * 1.5**level
    return Resolution(round(plane), round(line), round(correlation))


def _fields(
    state: Overlaps, biases: bool
) -> tuple[Float[Array, "d d"], Float[Array, " d"] | None, Float[Array, " d"]]:
    """Covariance, biases (None where they do not count) and output weights of all fields."""
    if not biases or state.b is None or state.b_teacher is None:
        return state.covariance, None, state.output_weights
    b = jnp.concatenate([state.b, state.b_teacher])
    return state.covariance, b, state.output_weights
