"""Which averages to take: closed forms where they exist, else the cheapest rule that is right."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.averages._closed import closed_form, has_closed_form
from learndyn.averages._nodes import NodeAverages, needs_zeta_node
from learndyn.averages._quadrature import AbstractNodes, QuasiMonteCarlo, Trapezoid
from learndyn.averages._types import AbstractAverages, FieldAverages
from learndyn.problems import Problem, gradient_jumps, is_resolved, is_smooth
from learndyn.states import Overlaps

_LATTICES = {2: 128, 3: 40}
"""Points a direction for at most three dimensions: beyond, product rules cost too much."""


def choose_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    biases: bool,
    averages: AbstractNodes | AbstractAverages | str | Any = None,
) -> AbstractAverages:
    """Averages ready for `problem` with k student and m teacher units.

    averages: None chooses (closed form; a lattice for smooth problems of at most three
    dimensions; quasi-Monte Carlo); "closed" insists on a closed form; `Trapezoid`,
    `GaussHermite`, `QuasiMonteCarlo` and `MonteCarlo` objects are used as given.

    Raises: ValueError for an unknown option, or "closed" where there is no closed form.
    """
    if isinstance(averages, AbstractAverages):
        return averages
    if averages == "closed" or (averages is None and has_closed_form(problem, biases=biases)):
        return closed_form(problem, biases=biases)
    dims = k + m + needs_zeta_node(problem)
    if averages is None:
        averages = _lattice(problem, m, dims) or QuasiMonteCarlo()
    if not isinstance(averages, AbstractNodes):
        raise ValueError(
            'averages must be None, "closed", Trapezoid(...), GaussHermite(...), '
            f"QuasiMonteCarlo(...) or MonteCarlo(...); got {averages!r}."
        )
    z, weight = _as_arrays(averages.nodes(dims))
    coarser = averages.coarser()
    coarse = None if coarser is None else _as_arrays(coarser.nodes(dims))
    jumps = gradient_jumps(problem, m)
    smooth = not jumps and is_smooth(problem, m)
    return NodeAverages(z, weight, score=jumps, smooth=smooth, coarse=coarse)


def _lattice(problem: Problem, m: int, dims: int) -> Trapezoid | None:
    """A lattice, where a problem has few dimensions, no kinks, and nothing too steep for it."""
    if dims not in _LATTICES or not is_smooth(problem, m):
        return None
    rule = Trapezoid(_LATTICES[dims])
    few, many = (nodes.nodes(1) for nodes in (rule, Trapezoid(2 * rule.points)))
    one = [(z[0, :, 0], weight) for z, weight in (few, many)]
    return rule if is_resolved(problem, *one) else None


@eqx.filter_jit
def averages_error(
    problem: Problem, state: Overlaps, averages: AbstractAverages
) -> Float[Array, ""]:
    """Error of the averages at `state`: the largest over all their entries.

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
        pair = (a.field_averages(problem, state) for a in (averages, fewer))
        differences = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), *pair)
        return jnp.max(jnp.stack(differences))
    if replicates < 2:
        return jnp.full((), jnp.nan)

    def one(index: Array) -> FieldAverages:
        return averages.replicate(index).field_averages(problem, state)

    scattered = jax.lax.map(one, jnp.arange(replicates))
    errors = [jnp.std(x, axis=0, ddof=1) / np.sqrt(replicates) for x in scattered]
    return jnp.max(jnp.stack([jnp.max(error) for error in errors]))


def _as_arrays(nodes: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
    z, weight = nodes
    return jnp.asarray(z), jnp.asarray(weight)
