"""Closed forms behind one face, wherever activations, loss and rule declare them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.averages._types import AbstractAverages, half_square
from learndyn.integrals import erf
from learndyn.integrals.rescaled import Rescaled
from learndyn.problems import Problem, are_same, declared, error_function, squared_scale
from learndyn.rules import AbstractRule, ErrorSignal, FieldAverages, Seen
from learndyn.states import Overlaps


class ClosedForm(AbstractAverages):
    """Closed-form averages; see `has_closed_form` for where they exist.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> round(float(averages.ClosedForm().generalisation_error(ld.Problem(), start)), 6)
        0.178845
    """

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        c, k = state.covariance, state.k
        integrals = _integrals(problem, k)

        def signal(state: Overlaps) -> FieldAverages:
            u = state.output_weights
            g, phi = integrals.first_layer(c, u, k, problem.noise**2)
            return FieldAverages(g, phi, integrals.pair(c)[:k] @ u, jnp.full((k,), jnp.nan))

        return rule_averages(problem, rule, signal, state)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        u = state.output_weights
        return half_square(u, _integrals(problem, state.k).pair(state.covariance))


def has_closed_form(problem: Problem, rule: AbstractRule | None = None, *, biases: bool) -> bool:
    """Whether eg, and the averages of `rule` where one is given, have a closed form.

    That takes the same activation in student and teacher, with declared integrals, or the error
    function in both, whoever wrote it and however scaled; squared loss, no biases, and a rule that
    declares its closed form. A subclass of Problem with its own `gradient` or `label` has none.

    Args:
        problem: the teacher-student problem.
        rule: None: for the generalisation error alone.
        biases: whether there are biases.

    Example:
        >>> averages.has_closed_form(ld.Problem(), ld.SGD(lr=0.5), biases=False)
        True
        >>> tanh = ld.Problem(ld.Tanh(), ld.Tanh())
        >>> averages.has_closed_form(tanh, ld.SGD(lr=0.5), biases=False)
        False
    """
    return takes_error_signal(problem, rule) and _integrals(problem, 1) is not None and not biases


def takes_error_signal(problem: Problem, rule: AbstractRule | None) -> bool:
    """Whether eg, and the averages of `rule` where one is given, follow from those of the error
    signal g'(f_i) (phi - y) of an additive network with squared loss."""
    return (
        squared_scale(problem.loss) is not None
        and not problem.has_multi_index_teacher
        and not problem.overrides("student_output", "teacher_output", "label")
        and (rule is None or rule.follows(problem))
    )


def rule_averages(
    problem: Problem,
    rule: AbstractRule,
    signal: Callable[[Overlaps], FieldAverages],
    state: Overlaps,
) -> FieldAverages:
    """The rule's averages from those of the error signal, a function of the state.

    Raises: ValueError for a rule whose `closed_form` returns nothing.
    """
    scale = squared_scale(problem.loss)

    def at(v: Float[Array, " k"]) -> FieldAverages:
        found = signal(eqx.tree_at(lambda s: s.v, state, v))
        if scale in (None, 1.0):
            return found
        G, Phi, h, f, _ = found
        return FieldAverages(scale * G, scale**2 * Phi, scale * h, scale * f)

    averages = rule.closed_form_of(ErrorSignal(at, state.layers, Seen(state.Q, state.R)))
    if averages is None:
        raise ValueError(
            f"{type(rule).__name__}.closed_form must return averages; got None. Remove it, and "
            "averages are taken over nodes."
        )
    return averages


def closed_form(problem: Problem, rule: AbstractRule | None = None, *, biases: bool) -> ClosedForm:
    """The closed form for `problem` and `rule`. Raises: ValueError where there is none."""
    if not has_closed_form(problem, rule, biases=biases):
        learns = "" if rule is None else f", rule={type(rule).__name__}"
        raise ValueError(
            "closed-form averages exist for activations that declare integrals, such as Erf, the "
            "same in student and teacher, with Squared loss, no biases, and a rule that "
            "declares its closed form (SGD, for one); got "
            f"{type(problem).__name__} with student={type(problem.student).__name__}, "
            f"teacher={type(problem.teacher).__name__}, loss={type(problem.loss).__name__}, "
            f"biases={'yes' if biases else 'no'}{learns}. Leave averages=None, or choose "
            "GaussHermite or QuasiMonteCarlo."
        )
    return ClosedForm()


def _integrals(problem: Problem, k: int) -> Any:
    """The integrals of both units; None where they differ, or declare none.

    k: number of student units, the first fields.
    """
    if are_same(problem.student, problem.teacher):
        declares = declared(problem.student, "integrals")
        if declares is not None:
            return declares
    student, teacher = error_function(problem.student), error_function(problem.teacher)
    if student is None or teacher is None:
        return None
    return Rescaled(erf, student, teacher, k)
