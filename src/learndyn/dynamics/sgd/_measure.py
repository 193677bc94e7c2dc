"""What SGD on weights measures at a saved time."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._types import Scalar
from learndyn.averages import clean_teacher_output
from learndyn.dynamics.sgd._directions import Directions
from learndyn.dynamics.sgd._step import LearningState, Parameters
from learndyn.dynamics.sgd._stream import AbstractStream, StoredStream
from learndyn.inputs import AbstractInputs, second_moments
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule
from learndyn.states import Weights


class Row(NamedTuple):
    """One saved time (or, stacked, all of them). None: not there, or not measured so.

    overlaps, fields: (d, d) covariances of all k + m weight vectors, and of their fields. groups:
    the overlaps in each group of directions.
    """

    overlaps: Float[Array, "*times d d"]
    fields: Float[Array, "*times d d"] | None
    v: Float[Array, "*times k"]
    b: Float[Array, "*times k"] | None
    eg: Float[Array, "*times"] | None
    train_error: Float[Array, "*times"] | None
    groups: Float[Array, "*times groups d d"] | None = None


class TestSet(NamedTuple):
    """Inputs that are not Gaussian, with the teacher's fields and noiseless outputs."""

    x: Float[Array, "samples n"]
    rho: Float[Array, "samples m"]
    phi_teacher: Float[Array, " samples"]


class Measurement(eqx.Module):
    """Turns a state into a row."""

    problem: Problem
    rule: AbstractRule
    weights: Weights
    inputs: AbstractInputs
    stream: AbstractStream
    test: TestSet | None
    directions: Directions | None

    def __init__(
        self,
        problem: Problem,
        rule: AbstractRule,
        weights: Weights,
        inputs: AbstractInputs,
        stream: AbstractStream,
        directions: Directions | None = None,
    ):
        self.directions = directions
        self.problem, self.rule, self.weights = problem, rule, weights
        self.inputs, self.stream = inputs, stream
        self.test = None if inputs.gaussian_fields else _test_set(problem, weights, inputs)

    def __call__(self, state: LearningState) -> Row:
        w, v, b = state.parameters
        both = jnp.concatenate([w, self.weights.w_teacher])
        # Q, R and T in one matrix product
        overlaps = both @ both.T / both.shape[1]
        fields, eg = self._fields_and_error(state.parameters, both)
        groups = None if self.directions is None else self.directions.overlaps(both)
        return Row(overlaps, fields, v, b, eg, self._train_error(state.parameters), groups)

    def _fields_and_error(
        self, parameters: Parameters, both: Float[Array, "d n"]
    ) -> tuple[Float[Array, "d d"] | None, Scalar | None]:
        if self.test is None:
            return (None if self.inputs.white else self.inputs.field_covariance(both)), None
        lam = _student_fields(parameters, self.test.x)
        fields = second_moments(jnp.concatenate([lam, self.test.rho], axis=1))
        phi = _outputs(self.problem, _tested(self.rule, parameters), lam)
        # Error probability: outputs of opposite signs, where 0 counts as positive as in labels
        if self.problem.is_classification:
            wrong = (phi >= 0) != (self.test.phi_teacher >= 0)
            return fields, jnp.mean(wrong, dtype=phi.dtype)
        return fields, 0.5 * jnp.mean((phi - self.test.phi_teacher) ** 2)

    def _train_error(self, parameters: Parameters) -> Scalar | None:
        if not isinstance(self.stream, StoredStream):
            return None
        lam = _student_fields(parameters, self.stream.x)
        phi = _outputs(self.problem, _tested(self.rule, parameters), lam)
        return jnp.mean(jax.vmap(self.problem.loss)(phi, self.stream.y))


def _tested(rule: AbstractRule, parameters: Parameters) -> Parameters:
    return parameters._replace(v=rule.tested_layer(parameters.v))


def _test_set(problem: Problem, weights: Weights, inputs: AbstractInputs) -> TestSet:
    x, rho = inputs.test_fields(weights)
    return TestSet(x, rho, clean_teacher_output(problem, rho, weights.layers))


def _student_fields(
    parameters: Parameters, x: Float[Array, "samples n"]
) -> Float[Array, "samples k"]:
    return x @ parameters.w.T / x.shape[1] ** 0.5


def _outputs(
    problem: Problem, parameters: Parameters, lam: Float[Array, "samples k"]
) -> Float[Array, " samples"]:
    layers = Layers(parameters.v, parameters.v[:0], parameters.b, None)
    return jax.vmap(problem.student_output, (0, None))(lam, layers)
