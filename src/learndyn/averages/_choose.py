"""Which averages to take: closed forms where they exist, else the cheapest rule that is right."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learndyn._checks import is_concrete
from learndyn.averages._closed import closed_form, has_closed_form
from learndyn.averages._nodes import NodeAverages
from learndyn.averages._quadrature import AbstractNodes, QuasiMonteCarlo, Trapezoid
from learndyn.averages._samples import at_rest, is_linear_in_error, needs_zeta_node
from learndyn.averages._series import series_averages
from learndyn.averages._split import one_unit_averages
from learndyn.averages._types import AbstractAverages
from learndyn.problems import (
    Layers,
    Problem,
    gradient_jumps,
    is_resolved,
    is_smooth,
    jumps_on_lines,
    label_jumps,
    remembered,
)
from learndyn.rules import AbstractRule, Sample
from learndyn.states import Overlaps, Weights

_LATTICES = {2: 128, 3: 40}
"""Points a direction for at most three dimensions: beyond, product rules cost too much."""


def choose_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None = None,
    biases: bool,
    averages: AbstractNodes | AbstractAverages | str | Any = None,
) -> AbstractAverages:
    """Averages ready for `problem` and `rule` with k student and m teacher units.

    rule: None: for the generalisation error alone.
    averages: None chooses (closed form; series for smooth units with squared loss; nodes);
    "closed" insists on a closed form; `Trapezoid`, `GaussHermite`, `QuasiMonteCarlo` and
    `MonteCarlo` objects are used as given.

    Raises: ValueError for an unknown option, or "closed" where there is no closed form.
    """
    if isinstance(averages, AbstractAverages):
        return averages
    if averages == "closed" or (averages is None and has_closed_form(problem, rule, biases=biases)):
        return closed_form(problem, rule, biases=biases)
    found = None
    if averages is None:
        sizes = {"k": k, "m": m, "rule": rule, "biases": biases}
        found = one_unit_averages(problem, **sizes) or series_averages(problem, **sizes)
    if found is not None:
        return found
    return choose_nodes(problem, k, m, rule=rule, biases=biases, nodes=averages)


def choose_nodes(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None = None,
    biases: bool,
    nodes: AbstractNodes | str | Any = None,
) -> NodeAverages:
    """Averages over nodes, which are there for every problem.

    nodes: None: a lattice for smooth problems of at most three dimensions, else quasi-Monte Carlo.
    Raises: ValueError for anything else than nodes.
    """
    averages = nodes
    dims = k + m + needs_zeta_node(problem, rule)
    jumps = modulation_jumps(problem, rule, k, m)
    smooth = not jumps and _is_smooth(problem, rule, m)
    exact_error = averages is None and has_closed_form(problem, biases=biases)
    if averages is None:
        averages = (_lattice(problem, dims) if smooth else None) or QuasiMonteCarlo()
    if not isinstance(averages, AbstractNodes):
        raise ValueError(
            'averages must be None, "closed", Trapezoid(...), GaussHermite(...), '
            f"QuasiMonteCarlo(...) or MonteCarlo(...); got {averages!r}."
        )
    z, weight = _as_arrays(averages.nodes(dims))
    coarser = averages.coarser()
    coarse = None if coarser is None else _as_arrays(coarser.nodes(dims))
    return NodeAverages(z, weight, jumps, smooth, coarse, exact_error)


def has_biases(state: Overlaps | Weights, rule: AbstractRule | None = None) -> bool:
    """Whether biases matter: not where all are known to be 0 and `rule` does not train them."""
    given = [b for b in (state.b, state.b_teacher) if b is not None]
    trained = rule is not None and rule.trains_biases
    known_zero = is_concrete(given) and not any(np.any(np.asarray(b)) for b in given)
    return bool(given) and (trained or not known_zero)


def modulation_jumps(problem: Problem, rule: AbstractRule | None, k: int, m: int) -> bool:
    """Whether the rule's modulation is a discontinuous function of the fields.

    For rules that propagate the error this is known; else it is measured on random lines.
    """
    if is_linear_in_error(problem, rule):
        return gradient_jumps(problem, m)
    assert rule is not None, "eg alone is linear in the error"
    return label_jumps(problem, m) or remembered(_jumps_somewhere, *at_rest(problem, rule), k)


def _jumps_somewhere(problem: Problem, rule: AbstractRule, k: int) -> bool:
    """By bisection on lines through (lambda, y), with second layers 1 and no biases."""
    layers = Layers(jnp.ones(k), jnp.ones(0), None, None)

    def summed(x: Array) -> Array:
        found = rule.modulation(problem, Sample(x[:k], x[k]), layers)
        # Generic weights, so that jumps of two units do not cancel.
        weights = jnp.cos(jnp.arange(2 * k) + 1.0)
        return weights @ jnp.concatenate([found.c, found.dv])

    return jumps_on_lines(summed, k + 1, (problem, rule))


def _is_smooth(problem: Problem, rule: AbstractRule | None, m: int) -> bool:
    """Whether it is known that neither the modulation nor its first derivatives jump."""
    return is_linear_in_error(problem, rule) and is_smooth(problem, m)


def _lattice(problem: Problem, dims: int) -> Trapezoid | None:
    """A lattice for a smooth problem of few dimensions, and nothing too steep for it."""
    if dims not in _LATTICES:
        return None
    rule = Trapezoid(_LATTICES[dims])
    few, many = (nodes.nodes(1) for nodes in (rule, Trapezoid(2 * rule.points)))
    one = [(z[0, :, 0], weight) for z, weight in (few, many)]
    return rule if is_resolved(problem, *one) else None


def _as_arrays(nodes: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
    z, weight = nodes
    return jnp.asarray(z), jnp.asarray(weight)
