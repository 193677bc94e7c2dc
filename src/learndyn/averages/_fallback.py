"""Averages for whatever has no better ones: which nodes, and how they are differentiated."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learndyn._checks import is_concrete
from learndyn.averages._nodes import NodeAverages, Nodes
from learndyn.averages._quadrature import AbstractNodes, BodyCentred, QuasiMonteCarlo, Trapezoid
from learndyn.averages._samples import at_rest, has_zeta_node, is_linear_in_error
from learndyn.averages._symmetry import Closed, symmetry_of, warn_unless_closed
from learndyn.problems import (
    Layers,
    Problem,
    gradient_jumps_given_label,
    is_resolved,
    is_smooth,
    is_smooth_given_label,
    jumps_on_lines,
    label_jumps,
    remembered,
)
from learndyn.rules import AbstractRule, Sample, Seen
from learndyn.states import Overlaps

_LATTICES = {
    2: Trapezoid(128),
    3: Trapezoid(40),
    4: BodyCentred(0.8, 5.0),
    5: BodyCentred(1.1, 5.0),
}
"""Lattices of about 16000 nodes, by the number of dimensions: beyond, they are no better than
quasi-Monte Carlo. For tanh in four and five dimensions, overlaps of 1, averages are right to 1e-4
and 4e-3 of the largest."""

_USUAL, _JUMPING = 4096, 8192
"""Sobol nodes in each of four replicates, and for indices that jump: derivatives are then right to
2 % for an event of probability 0.1 in six fields."""

_LOOKS = 8
"""Samples of a rule's own numbers with which it is asked whether it jumps: a mask that is off with
probability 1/2 hides a unit from all of them with probability 1/256."""

_RESOLVED = 0.1
"""Relative error of <g'**4> on a line of a lattice of four or five dimensions above which
quasi-Monte Carlo is better, as measured for tanh, tanh(3x), sine and swish."""


def node_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None,
    biases: bool,
    nodes: AbstractNodes | None = None,
    exact_error: bool = False,
    reach: float | None = None,
    more: int = 0,
) -> NodeAverages:
    """Averages over nodes that keep the problem's symmetries; over `nodes` where given, with a
    `SymmetryWarning` where those do not.

    reach: largest standard deviation of a field; None: 1. more: dimensions after all others.
    """
    if rule is not None and rule.moves_along_weights:
        raise ValueError(
            f"{type(rule).__name__} has no averages over nodes, since it moves weights along "
            "weights: its ODE needs erf units in student and teacher, squared loss, no biases and "
            f"averages=None; got {type(problem).__name__} with student={problem.student}, "
            f"teacher={problem.teacher}, loss={problem.loss}. Use simulate_sgd."
        )
    draws = more if rule is None else more + rule.draws_of(k)
    copies = int(rule.batch_size) if rule is not None and rule.is_episode else 1
    dims = copies * (k + m + has_zeta_node(problem, rule, m) + draws)
    smooth = is_smooth_with(problem, rule, m)
    symmetry = symmetry_of(problem, k, m, biases=biases)._replace(draws=draws, copies=copies)
    if nodes is None:
        nodes = _lattice(problem, m, dims, reach) if smooth else None
        nodes = _default_nodes(problem, m) if nodes is None else nodes
    if isinstance(nodes, QuasiMonteCarlo) and nodes.symmetric:
        nodes = Closed(nodes, symmetry)
    else:
        warn_unless_closed(nodes, dims, symmetry)
    coarsest, coarse, fine = _neighbours(nodes, dims)
    return NodeAverages(
        *_as_arrays(nodes, dims),
        score=jumps_given_label(problem, rule, k, m),
        smooth=smooth,
        coarsest_nodes=coarsest,
        coarse=coarse,
        exact_error=exact_error,
        fine=fine,
        # What a user's function of several fields does somewhere is never known for sure.
        still_labels=problem.has_multi_index_teacher or label_jumps(problem, m),
        smooth_student=_is_alone(rule)
        and is_linear_in_error(problem, rule)
        and is_smooth_given_label(problem),
        draws=draws,
        copies=copies,
    )


def is_smooth_with(problem: Problem, rule: AbstractRule | None, m: int) -> bool:
    """Whether a sample's modulation is known to be smooth in its fields."""
    return _is_alone(rule) and is_linear_in_error(problem, rule) and is_smooth(problem, m)


def _is_alone(rule: AbstractRule | None) -> bool:
    """Whether a rule sees one sample at a time: Price's derivatives are those of its fields."""
    return rule is None or not rule.is_episode


def _default_nodes(problem: Problem, m: int) -> QuasiMonteCarlo:
    jumps = problem.has_multi_index_teacher and label_jumps(problem, m)
    return QuasiMonteCarlo(_JUMPING if jumps else _USUAL, symmetric=True)


def reach_of(state: Overlaps) -> float | None:
    """The largest standard deviation of a field at `state`; None where it is traced."""
    if not is_concrete(state):
        return None
    variances = [np.diagonal(np.asarray(x)).max() for x in (state.Q, state.T)]
    return float(np.sqrt(max(variances)))


def jumps_given_label(problem: Problem, rule: AbstractRule | None, k: int, m: int) -> bool:
    """Whether the modulation is a discontinuous function of the student's fields or the label.

    For rules that propagate the error this is known; else it is measured on lines.
    """
    if is_linear_in_error(problem, rule):
        return gradient_jumps_given_label(problem)
    assert rule is not None, "eg alone is linear in the error"
    return remembered(_jumps_somewhere, *at_rest(problem, rule), k, m)


def _jumps_somewhere(problem: Problem, rule: AbstractRule, k: int, m: int) -> bool:
    """Whether a rule's modulation jumps: bisection on lines through (lambda, y) looks for it, of
    all samples of an episode, with second layers 1, no biases, and some of the rule's own numbers.
    """
    layers = Layers(jnp.ones(k), jnp.ones(0), None, None)
    count = int(rule.batch_size) if rule.is_episode else 1
    draws = rule.draws_of(k)
    looks = _LOOKS if draws else 1
    own = jnp.asarray(np.random.default_rng(0).normal(size=(looks, count, draws)))
    seen = Seen(jnp.eye(k), jnp.full((k, m), 0.1)) if rule.needs_overlaps else None

    def summed(x: Array) -> Array:
        x = x.reshape(count, k + 1)

        def at(draws: Array) -> Array:
            samples = Sample(x[:, :k], x[:, k], draws, jnp.ones(count), seen)
            found = rule.modulations(problem, samples, layers)
            return jnp.concatenate([found.c, found.dv], axis=1).ravel()

        values = jax.vmap(at)(own).ravel()
        # Generic weights, so that jumps of two units do not cancel.
        return jnp.cos(jnp.arange(len(values)) + 1.0) @ values

    return jumps_on_lines(summed, count * (k + 1), (problem, rule))


def _lattice(problem: Problem, m: int, dims: int, reach: float | None) -> AbstractNodes | None:
    """A lattice for a smooth problem of few dimensions, and nothing too steep for it."""
    lattice = _LATTICES.get(dims)
    if lattice is None:
        return None
    if isinstance(lattice, Trapezoid):
        few, how = lattice, {}
    else:
        # The shortest waves that the lattice does not tell from a constant have this length.
        few = Trapezoid(math.ceil(1 + 17.0 * math.sqrt(2) / lattice.spacing))
        how = {"scale": max(1.0, reach or 1.0), "tolerance": _RESOLVED}
    one = [nodes.nodes(1) for nodes in (few, Trapezoid(8 * few.points))]
    rough, fine = ((z[0, :, 0], weight) for z, weight in one)
    return lattice if is_resolved(problem, rough, fine, m, **how) else None


def _neighbours(nodes: AbstractNodes, dims: int) -> tuple[Nodes | None, ...]:
    """The two coarser nodes, the coarsest first, and the next finer ones; where these are too many,
    the three coarser ones."""
    coarser, finer = nodes.coarser(), nodes.finer()
    if coarser is None or finer is None:
        return None, None, None
    rules = [_coarser(coarser), coarser, finer]
    try:
        return tuple(_as_arrays(rule, dims) for rule in rules)
    except ValueError:
        rules = [_coarser(rules[0]), *rules[:2]]
        return tuple(_as_arrays(rule, dims) for rule in rules)


def _coarser(nodes: AbstractNodes) -> AbstractNodes:
    """The next coarser of nodes that were made by coarsening others."""
    coarser = nodes.coarser()
    assert coarser is not None
    return coarser


def _as_arrays(nodes: AbstractNodes, dims: int) -> Nodes:
    z, weight = nodes.nodes(dims)
    return jnp.asarray(z), jnp.asarray(weight)
