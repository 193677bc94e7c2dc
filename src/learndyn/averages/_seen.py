"""Averages of rules whose student sees noisy inputs."""

import equinox as eqx
import jax.numpy as jnp

from learndyn.averages._types import AbstractAverages
from learndyn.problems import Problem
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps


def seen_state(rule: AbstractRule, state: Overlaps) -> Overlaps:
    """The overlaps of the fields that a sample gives: those of a noisy student have the covariance
    (1 + s**2) Q."""
    if rule.input_noise is None:
        return state
    return eqx.tree_at(lambda s: s.Q, state, (1.0 + rule.input_noise**2) * state.Q)


def seen_averages(
    averages: AbstractAverages, problem: Problem, rule: AbstractRule, state: Overlaps
) -> FieldAverages:
    """The averages of `rule` at `state`, whatever noise there is on the student's inputs.

    With x' = x + s n the update moves w along x', so a field u.x' is met in place of u.x. Its
    covariances with the student's fields w.x' are (1 + s**2) times those of u.x with w.x, and with
    the teacher's fields they are the same: the first k columns of G and, by |x'|**2, all of Phi
    have a factor 1 + s**2.
    """
    found = averages.field_averages(problem, rule, seen_state(rule, state))
    if rule.input_noise is None:
        return found
    factor = 1.0 + rule.input_noise**2
    columns = jnp.where(jnp.arange(state.k + state.m) < state.k, factor, 1.0)
    return found._replace(G=found.G * columns, Phi=factor * found.Phi, fields=None)
