"""Averages over nodes where the fields are dependent: few directions, so nearly exact rules."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn.averages import AbstractAverages, NodeAverages, Trapezoid, field_root, needs_zeta_node
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps

_LATTICES = {1: 256, 2: 128, 3: 40}
"""Points of a lattice in each direction, by the number of directions: fewer where there are more,
so that a lattice has 64000 nodes at most. In more directions it would be too coarse."""


def averages_at(
    problem: Problem, rule: AbstractRule, state: Overlaps, averages: AbstractAverages
) -> AbstractAverages:
    """`averages`, or better ones at overlaps that are singular (student = teacher).

    There only the directions that exist need nodes; derivatives reach the missing ones through
    second derivatives of the sample (Price's theorem), so it must have no kinks.
    Raises: ValueError where C is singular and the problem has jumps or kinks.
    """
    if not is_singular(state):
        return averages
    if not (isinstance(averages, NodeAverages) and averages.smooth):
        raise ValueError(
            "derivatives at singular overlaps (student = teacher, or more units than "
            "directions) need a closed form or a problem without jumps and kinks; got "
            f"{problem}. Move the state off the singular point, or use ReLU with squared loss "
            "and no biases, which has a closed form."
        )
    return _few_directions(_directions(state), problem, rule, averages)


def is_singular(state: Overlaps) -> bool:
    """Whether fields are dependent at a concrete state; False where it is traced."""
    if not is_concrete(state):
        return False
    rank, d = _directions(state).shape
    return rank < d


def _directions(state: Overlaps) -> Float[np.ndarray, "rank d"]:
    """An orthonormal basis of the white numbers z that the fields S z depend on."""
    with jax.ensure_compile_time_eval():  # also where something else is traced
        root = field_root(state, student_first=True)
        projector = np.asarray(root.inverse() @ root.matrix())
    values, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    return vectors[:, values > 0.5].T  # they are 0 and 1


def _few_directions(
    directions: Float[np.ndarray, "rank d"],
    problem: Problem,
    rule: AbstractRule,
    averages: NodeAverages,
) -> NodeAverages:
    rank = len(directions)
    # The label noise zeta is one more direction where it takes nodes.
    dims = rank + needs_zeta_node(problem, rule)
    if dims not in _LATTICES:
        return averages
    few, weight = Trapezoid(_LATTICES[dims]).nodes(dims)
    z = np.concatenate([few[..., :rank] @ directions, few[..., rank:]], axis=-1)
    nodes: list[Array] = [jnp.asarray(z), jnp.asarray(weight)]
    return NodeAverages(*nodes, score=False, smooth=True)
