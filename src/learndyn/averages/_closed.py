"""Closed forms behind one face, wherever activations, loss and rule declare them."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn.averages._types import AbstractAverages
from learndyn.problems import Problem, declared, is_squared
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps


class ClosedForm(AbstractAverages):
    """Closed-form averages; see `has_closed_form` for where they exist."""

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        c, k, u = state.covariance, state.k, _output_weights(state)
        integrals = _integrals(problem)
        g, phi = integrals.first_layer(c, u, k, problem.noise**2)
        h = integrals.pair(c)[:k] @ u
        signal = FieldAverages(g, phi, h, jnp.full((k,), jnp.nan))
        averages = rule.closed_form(signal, state.layers)
        if averages is None:
            raise ValueError(
                f"{type(rule).__name__}.closed_form must return averages; got None. Remove it, and "
                "averages are taken over nodes."
            )
        return averages

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        u = _output_weights(state)
        return 0.5 * u @ _integrals(problem).pair(state.covariance) @ u


def has_closed_form(problem: Problem, rule: AbstractRule | None = None, *, biases: bool) -> bool:
    """Whether eg, and the averages of `rule` where one is given, have a closed form.

    That takes the same activation in student and teacher, with declared integrals, squared loss,
    no biases, and a rule that declares its closed form. A subclass of Problem with its own
    `gradient` or `label` has none.
    """
    return (
        _integrals(problem) is not None
        and is_squared(problem.loss)
        and not biases
        and not problem.overrides("student_output", "teacher_output", "label")
        and (rule is None or _follows(problem, rule))
    )


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


def _follows(problem: Problem, rule: AbstractRule) -> bool:
    return rule.has_closed_form and not problem.overrides(*rule.reads)


def _integrals(problem: Problem) -> Any:
    """The integrals that student and teacher share; None where they do not, or declare none."""
    same = eqx.tree_equal(problem.student, problem.teacher)
    if not (is_concrete(same) and same):
        return None
    return declared(problem.student, "integrals")


def _output_weights(state: Overlaps) -> Float[Array, " d"]:
    """(v, -v*), with which student minus teacher is one network."""
    return jnp.concatenate([state.v, -state.v_teacher])
