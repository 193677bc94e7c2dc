"""Closed forms behind one face: erf, linear and ReLU committees with squared loss."""

from types import ModuleType

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.averages._types import AbstractAverages, FieldAverages
from learndyn.integrals import erf, linear, relu
from learndyn.problems import Erf, Linear, Problem, ReLU, Squared
from learndyn.states import Overlaps

_FORMS: dict[type, ModuleType] = {Erf: erf, Linear: linear, ReLU: relu}


class ClosedForm(AbstractAverages):
    """Closed-form averages; see `has_closed_form` for where they exist."""

    activation: type = eqx.field(static=True)

    def field_averages(
        self, problem: Problem, state: Overlaps, cross: Float[Array, "p d"] | None = None
    ) -> FieldAverages:
        c, k = state.covariance, state.k
        u = jnp.concatenate([state.v, -state.v_teacher])
        form = _FORMS[self.activation]
        gradient, c_c = form.first_layer(c, u, k, problem.noise**2)
        c_probe = gradient @ (c if cross is None else cross.T)
        dv = form.pair(c)[:k] @ u
        return FieldAverages(c_probe, c_c, dv, jnp.full((k,), jnp.nan))

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        u = jnp.concatenate([state.v, -state.v_teacher])
        return 0.5 * u @ _FORMS[self.activation].pair(state.covariance) @ u


def has_closed_form(problem: Problem, *, biases: bool) -> bool:
    """Same activation (Erf, ReLU or Linear) in student and teacher, squared loss, no biases."""
    kind = type(problem.student)
    return (
        kind in _FORMS
        and type(problem.teacher) is kind
        and type(problem.loss) is Squared
        and not biases
    )


def closed_form(problem: Problem, *, biases: bool) -> ClosedForm:
    """The closed form for `problem`. Raises: ValueError where there is none."""
    if not has_closed_form(problem, biases=biases):
        raise ValueError(
            "closed-form averages exist for Erf, ReLU and Linear, the same in student and "
            "teacher, with Squared loss and no biases; got "
            f"student={type(problem.student).__name__}, teacher={type(problem.teacher).__name__}, "
            f"loss={type(problem.loss).__name__}, biases={'yes' if biases else 'no'}. Leave "
            "averages=None, or choose GaussHermite or QuasiMonteCarlo."
        )
    return ClosedForm(type(problem.student))
