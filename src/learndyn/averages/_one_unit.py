"""One student unit and one teacher field: averages that keep their digits as they align.

The overlaps Q and R lose the angle between student and teacher when it is small, since R**2 -> Q T
cancels in Q - R**2/T. These averages therefore can be given that number, `outside` = S, the part of
Q outside the teacher's span, by whoever knows it better than Q and R do.
"""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn._numerics.special import scaled_erf
from learndyn._types import Scalar
from learndyn.averages._types import AbstractAverages
from learndyn.integrals import half_planes
from learndyn.problems import Linear, MultiIndex, Problem, Sign, changes_sign_at_zero, declared
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps


class AbstractOneUnit(AbstractAverages):
    """Averages for k = m = 1 that may be told S = Q - R**2/T, for which Q and R may be too coarse.

    A subclass also has `field_averages` and `generalisation_error` by `outside_of`.
    """

    @abc.abstractmethod
    def averages_at(
        self, problem: Problem, rule: AbstractRule, state: Overlaps, outside: Scalar
    ) -> FieldAverages:
        """`field_averages`, with `outside` known."""

    @abc.abstractmethod
    def error_at(self, problem: Problem, state: Overlaps, outside: Scalar) -> Scalar:
        """`generalisation_error`, with `outside` known."""


class HalfPlanes(AbstractOneUnit):
    """Closed forms for a linear unit that learns the sign of one field; see `learns_half_plane`.

    Label flips, label noise, any v, v*, T and rule with a closed form. Source:
    `learndyn.integrals.half_planes`.
    """

    def averages_at(
        self, problem: Problem, rule: AbstractRule, state: Overlaps, outside: Scalar
    ) -> FieldAverages:
        v, q, (s, r, t, k) = state.v[0], state.Q[0, 0], _wedge(problem, state, outside)
        of_slope = rule.wedge_averages(problem)
        assert of_slope is not None, "`learns_half_plane` has asked for them"
        found = of_slope(s, r, t, k)
        # From phi = v lambda and rho sign v* to the fields themselves.
        student, teacher = v * found.student, jnp.sign(state.v_teacher[0]) * found.teacher
        overlap = state.R[0, 0]
        with_student = student * q + teacher * overlap
        with_teacher = student * overlap + teacher * state.T[0, 0]
        signal = FieldAverages(
            G=jnp.stack([student, teacher])[None],
            Phi=found.square[None, None],
            h=with_student[None],
            f=jnp.zeros(1, q.dtype),
            fields=jnp.stack([with_student, with_teacher])[None],
        )
        averages = rule.closed_form(signal, state.layers)
        assert averages is not None, "a rule with averages of its slope has a closed form"
        return averages

    def error_at(self, problem: Problem, state: Overlaps, outside: Scalar) -> Scalar:
        v, sign = state.v[0], jnp.sign(state.v_teacher[0])
        r = sign * v * state.R[0, 0]
        return half_planes.disagreement(v**2 * outside, r, state.T[0, 0])

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        return self.averages_at(problem, rule, state, outside_of(state))

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        return self.error_at(problem, state, outside_of(state))


def learns_half_plane(problem: Problem, rule: AbstractRule | None, *, biases: bool) -> bool:
    """Whether a linear unit without bias learns the sign of one field by a slope at the output with
    closed forms: that of the loss Hebb, Perceptron or AdaTron, or a rule's own."""
    return (
        isinstance(problem.student, Linear)
        and problem.is_classification
        and _slope_averages(problem, rule) is not None
        and not biases
        and _labels_a_half_plane(problem)
        and not problem.overrides("student_output", "teacher_output", "label")
    )


def _slope_averages(problem: Problem, rule: AbstractRule | None) -> Any:
    """Closed-form averages of the slope that `rule` follows; None where there are none."""
    if rule is None:
        return declared(problem.loss, "wedge_averages")
    return rule.wedge_averages(problem)


def outside_of(state: Overlaps) -> Float[Array, ""]:
    """S = Q - R**2/T of one unit and one teacher field, as well as Q and R know it."""
    r, t = state.R[0, 0], state.T[0, 0]
    return jnp.maximum(state.Q[0, 0] - r**2 / jnp.where(t > 0, t, 1.0), 0.0)


def _labels_a_half_plane(problem: Problem) -> bool:
    """Whether noiseless labels are the sign of the field, and noise has a closed form."""
    if isinstance(problem.teacher, Sign | Linear):
        return True
    noiseless = is_concrete(problem.noise) and not np.any(np.asarray(problem.noise) > 0)
    if isinstance(problem.teacher, MultiIndex) or not noiseless:
        return False
    return changes_sign_at_zero(problem.teacher)


def _wedge(problem: Problem, state: Overlaps, outside: Scalar) -> tuple[Any, Any, Any, Any]:
    """(s, r, t, k) of the student's output and of the field whose sign is the label, which is
    turned with probability (1 - k) / 2."""
    v, r, t = state.v[0], state.R[0, 0], state.T[0, 0]
    scale = jnp.abs(state.v_teacher[0])
    noisy = problem.noise > 0
    noise = jnp.where(noisy, problem.noise, 1.0)
    k, s = 1.0 - 2.0 * problem.flip, outside
    if isinstance(problem.teacher, Linear):
        # The noise is one more part of the teacher's field that the student does not see.
        more = jnp.where(noisy, (noise / scale) ** 2, 0.0)
        s, t = s + r**2 / t * (more / (t + more)), t + more
    else:
        # sign(|v*| sign rho + noise zeta) is sign rho, turned where zeta < -|v*| / noise.
        k = k * jnp.where(noisy, scaled_erf(scale / noise), 1.0)
    return v**2 * s, v * jnp.sign(state.v_teacher[0]) * r, t, jnp.asarray(k, s.dtype)
