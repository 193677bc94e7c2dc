"""Averages over nodes where the fields are dependent: few directions, so nearly exact rules."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn._checks import is_concrete
from learndyn._numerics.linear_algebra import psd_cholesky
from learndyn.averages import NodeAverages, Trapezoid, needs_zeta_node
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps

_LATTICES = {1: 256, 2: 128, 3: 40}
"""Points of a lattice in each direction, by the number of directions: fewer where there are more,
so that a lattice has 64000 nodes at most. In more directions it would be too coarse."""


def averages_at(
    problem: Problem, rule: AbstractRule, state: Overlaps, averages: NodeAverages
) -> NodeAverages:
    """`averages`, or better ones at overlaps that are singular (student = teacher).

    There only the directions that exist need nodes; derivatives reach the missing ones through
    second derivatives of the sample (Price's theorem), so it must have no kinks.
    Raises: ValueError where C is singular and the problem has jumps or kinks.
    """
    if not is_singular(state):
        return averages
    if not averages.smooth:
        raise ValueError(
            "derivatives at singular overlaps (student = teacher, or more units than "
            "directions) need a closed form or a problem without jumps and kinks; got "
            f"{problem}. Move the state off the singular point, or use ReLU with squared loss "
            "and no biases, which has a closed form."
        )
    return _few_directions(np.asarray(_pivots(state)) > 0, problem, rule, averages)


def is_singular(state: Overlaps) -> bool:
    """Whether fields are dependent at a concrete state; False where it is traced."""
    pivots = _pivots(state)
    return is_concrete(pivots) and not bool((pivots > 0).all())


def _pivots(state: Overlaps) -> Float[Array, " d"]:
    return jnp.diagonal(psd_cholesky(state.covariance))


def _few_directions(
    present: Bool[np.ndarray, " d"],
    problem: Problem,
    rule: AbstractRule,
    averages: NodeAverages,
) -> NodeAverages:
    # The label noise zeta is one more direction where it takes nodes.
    used = np.append(present, True) if needs_zeta_node(problem, rule) else present
    dims = int(used.sum())
    if dims not in _LATTICES:
        return averages
    few, weight = Trapezoid(_LATTICES[dims]).nodes(dims)
    z = np.zeros((*few.shape[:2], len(used)))
    z[..., used] = few
    nodes: list[Array] = [jnp.asarray(z), jnp.asarray(weight)]
    return NodeAverages(*nodes, score=False, smooth=True)
