"""Averages of an additive student with squared loss that learns a label which jumps.

A constant label leaves averages over the student's own fields, which are exact. Nodes are needed
for what the label does beyond that, and have no error where it does nothing: so what a rare event
does to a large student is seen, also in derivatives.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn.averages._nodes import NodeAverages
from learndyn.averages._piecewise_linear import piecewise_linear_averages
from learndyn.averages._rare import Teacher, label_nodes
from learndyn.averages._samples import has_zeta_node, is_linear_in_error
from learndyn.averages._series import SeriesAverages, at_level, series_averages
from learndyn.averages._symmetry import symmetry_of
from learndyn.averages._types import AbstractAverages, not_negative
from learndyn.problems import MultiIndex, Problem, declared, label_jumps, squared_scale
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps


class _Constant(eqx.Module):
    """An output that depends on nothing."""

    value: float = eqx.field(static=True)

    def __call__(self, x: Array, *noise: Array) -> Array:
        return jnp.full_like(noise[0] if noise else x, self.value)


class BeyondConstant(AbstractAverages):
    """Exact averages for a constant label, and nodes for how the label differs from it.

    own: averages for the student and one teacher unit whose output is `constant`. coarser: those of
    the next coarser level, for their error.
    """

    nodes: NodeAverages
    own: AbstractAverages
    coarser: AbstractAverages
    constant: float = eqx.field(static=True)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        own = self.own.field_averages(_with_unit(problem, self.constant), rule, _alone(state))
        label = _with_index(problem, self.constant)
        rest = self.nodes.averages_beyond(problem, rule, state, label)
        students, k = own.G[:, : state.k], state.k
        # Stein's lemma: what depends on the student's fields alone has no slope in the teacher's.
        fields = students @ state.covariance[:k]
        none = jnp.zeros((k, state.m), students.dtype)
        return FieldAverages(
            G=rest.G + jnp.concatenate([students, none], axis=1),
            Phi=rest.Phi + own.Phi,
            h=rest.h + own.h,
            f=rest.f + own.f,
            fields=rest.with_fields(state.covariance) + fields,
        )

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        own = self.own.generalisation_error(_with_unit(problem, self.constant), _alone(state))
        label = _with_index(problem, self.constant)
        # The difference comes from nodes, whose error may exceed an eg that is nearly 0.
        return not_negative(own + self.nodes.error_beyond(problem, state, label), jnp.inf)

    @property
    def replicates(self) -> int:
        return self.nodes.replicates

    def replicate(self, index: Array) -> "BeyondConstant":
        return BeyondConstant(
            self.nodes.replicate(index), self.coarser, self.coarser, self.constant
        )

    @property
    def holds_at_singular(self) -> bool:
        return self.nodes.holds_at_singular

    @property
    def is_stepwise(self) -> bool:
        return self.nodes.is_stepwise

    @property
    def has_stepwise_slopes(self) -> bool:
        return self.nodes.has_stepwise_slopes


def beyond_constant(
    problem: Problem,
    k: int,
    m: int,
    nodes: NodeAverages,
    *,
    rule: AbstractRule | None,
    biases: bool,
    teacher: Teacher | None,
) -> BeyondConstant | None:
    """Averages for `problem` and `rule` where a `MultiIndex` jumps; None where the student's own
    averages are not known better than by nodes.

    nodes: those taken where no event is rare. teacher: see `label_nodes`.
    """
    if not _has_own_averages(problem, rule) or not label_jumps(problem, m):
        return None
    dims = k + m + has_zeta_node(problem, rule, m)
    symmetry = symmetry_of(problem, k, m, biases=biases)
    found = label_nodes(problem.teacher, dims, symmetry, teacher)
    sizes = {"rule": rule, "biases": biases}
    alone = _with_unit(problem, found.usual)
    own = piecewise_linear_averages(alone, k, 1, **sizes) or series_averages(alone, k, 1, **sizes)
    if own is None:
        return None
    z, weight = (nodes.z, nodes.weight) if found.nodes is None else map(jnp.asarray, found.nodes)
    if declared(problem.student, "degree") == 1:
        # Given the teacher's fields, what is left is linear in the student's: their means do.
        z = z.at[..., :k].set(0.0)
    nodes = dataclasses.replace(nodes, z=z, weight=weight, for_label=True)
    return BeyondConstant(nodes, own, _one_coarser(own), found.usual)


def _has_own_averages(problem: Problem, rule: AbstractRule | None) -> bool:
    return (
        isinstance(problem.teacher, MultiIndex)
        and is_concrete(problem.teacher)
        and squared_scale(problem.loss) is not None
        and is_linear_in_error(problem, rule)
        and not problem.overrides("label", "teacher_output", "student_output")
        and (rule is None or rule.has_closed_form)
        and (rule is None or not (rule.draws or rule.is_episode))
    )


def _one_coarser(own: AbstractAverages) -> AbstractAverages:
    if not isinstance(own, SeriesAverages) or own.level is None:
        return own
    return at_level(own.level - 1, even=own.even, curved=own.curved)


def _with_unit(problem: Problem, constant: float) -> Problem:
    """The same student with one teacher unit of constant output."""
    quiet = _Constant(constant), jnp.zeros(())
    return eqx.tree_at(lambda p: (p.teacher, p.noise), problem, quiet)


def _with_index(problem: Problem, constant: float) -> Problem:
    """The same problem with a constant label."""
    return eqx.tree_at(lambda p: p.teacher, problem, MultiIndex(_Constant(constant)))


def _alone(state: Overlaps) -> Overlaps:
    """The student with one teacher unit that it has no overlap with."""
    k, one = state.k, jnp.ones(1)
    b = None if state.b is None else jnp.zeros(1)
    return Overlaps(state.Q, jnp.zeros((k, 1)), jnp.ones((1, 1)), state.v, one, state.b, b)
