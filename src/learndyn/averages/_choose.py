"""Which averages to take: closed forms where they exist, else the cheapest rule that is right."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.averages._closed import closed_form, has_closed_form
from learndyn.averages._nodes import NodeAverages
from learndyn.averages._piecewise_linear import piecewise_linear_averages
from learndyn.averages._quadrature import AbstractNodes, QuasiMonteCarlo, Trapezoid
from learndyn.averages._samples import is_linear_in_error, needs_zeta_node
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
from learndyn.rules import AbstractRule, FieldAverages, Sample
from learndyn.states import Overlaps

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
    averages: None chooses (closed form; what piecewise linear functions have; a lattice for smooth
    problems of at most three dimensions; quasi-Monte Carlo); "closed" insists on a closed form;
    `Trapezoid`, `GaussHermite`, `QuasiMonteCarlo` and `MonteCarlo` objects are used as given.

    Raises: ValueError for an unknown option, or "closed" where there is no closed form.
    """
    if isinstance(averages, AbstractAverages):
        return averages
    if averages == "closed" or (averages is None and has_closed_form(problem, rule, biases=biases)):
        return closed_form(problem, rule, biases=biases)
    if averages is None:
        bent = piecewise_linear_averages(problem, k, m, rule=rule, biases=biases)
        if bent is not None:
            return bent
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


def modulation_jumps(problem: Problem, rule: AbstractRule | None, k: int, m: int) -> bool:
    """Whether the rule's modulation is a discontinuous function of the fields.

    For rules that propagate the error this is known; else it is measured on random lines.
    """
    if is_linear_in_error(problem, rule):
        return gradient_jumps(problem, m)
    assert rule is not None, "eg alone is linear in the error"
    return label_jumps(problem, m) or remembered(_jumps_somewhere, *_at_rest(problem, rule), k)


def _at_rest(problem: Problem, rule: AbstractRule) -> tuple[Problem, AbstractRule]:
    """Both without the numbers that no modulation depends on, which may be traced."""
    names = ("lr", "lr_second", "lr_bias", "weight_decay", "momentum")
    rates = lambda rule: [getattr(rule, name) for name in names]
    still = eqx.tree_at(rates, rule, [None] * len(names), is_leaf=lambda x: x is None)
    return eqx.tree_at(lambda p: p.noise, problem, 0.0), still


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


@eqx.filter_jit
def averages_error(
    problem: Problem, rule: AbstractRule, state: Overlaps, averages: AbstractAverages
) -> Float[Array, ""]:
    """Error of the averages at `state`: the largest over all entries of <F f>, Phi, h and f.

    The standard error from the scatter of independent replicates of the nodes; for `Trapezoid`
    and `GaussHermite` the difference from a coarser set, more than the error itself; 0 for
    closed forms.
    """
    if not isinstance(averages, NodeAverages):
        return jnp.zeros(())
    replicates = averages.z.shape[0]
    if averages.coarse is not None:
        z, weight = averages.coarse
        fewer = NodeAverages(z, weight, averages.score)
        pair = (sampled(a.field_averages(problem, rule, state)) for a in (averages, fewer))
        differences = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), *pair)
        return jnp.max(jnp.stack(differences))
    if replicates < 2:
        return jnp.full((), jnp.nan)

    def one(index: Array) -> list[Array]:
        return sampled(averages.replicate(index).field_averages(problem, rule, state))

    scattered = jax.lax.map(one, jnp.arange(replicates))
    errors = [jnp.std(x, axis=0, ddof=1) / np.sqrt(replicates) for x in scattered]
    return jnp.max(jnp.stack([jnp.max(error) for error in errors]))


def sampled(averages: FieldAverages) -> list[Array]:
    """What nodes sum up: <F f>, Phi, h and f, but not G, which they derive from the first."""
    assert averages.fields is not None, "closed forms have no sampling error"
    return [averages.fields, averages.Phi, averages.h, averages.f]


def _as_arrays(nodes: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
    z, weight = nodes
    return jnp.asarray(z), jnp.asarray(weight)
