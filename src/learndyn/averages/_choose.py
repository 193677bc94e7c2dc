"""Which averages to take: closed forms where they exist, else the cheapest rule that is right."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._problem import Problem
from learndyn._smoothness import gradient_jumps, is_smooth
from learndyn._states import Overlaps
from learndyn.averages._closed import closed_form, has_closed_form
from learndyn.averages._nodes import NodeAverages, needs_zeta_node
from learndyn.averages._rules import AbstractNodes, GaussHermite, QuasiMonteCarlo
from learndyn.averages._types import AbstractAverages, FieldAverages

_HERMITE_ORDERS = {2: 64, 3: 30}
"""Gauss-Hermite for at most three dimensions: beyond, product rules cost too much."""


def choose_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    biases: bool,
    averages: AbstractNodes | AbstractAverages | str | Any = None,
) -> AbstractAverages:
    """Averages ready for `problem` with k student and m teacher units.

    averages: None chooses (closed form; Gauss-Hermite for smooth problems of at most three
    dimensions; quasi-Monte Carlo); "closed" insists on a closed form; `GaussHermite`,
    `QuasiMonteCarlo` and `MonteCarlo` objects are used as given.

    Raises: ValueError for an unknown option, or "closed" where there is no closed form.
    """
    if isinstance(averages, AbstractAverages):
        return averages
    if averages == "closed" or (averages is None and has_closed_form(problem, biases=biases)):
        return closed_form(problem, biases=biases)
    dims = k + m + needs_zeta_node(problem)
    if averages is None:
        smooth = dims in _HERMITE_ORDERS and is_smooth(problem, m)
        averages = GaussHermite(_HERMITE_ORDERS[dims]) if smooth else QuasiMonteCarlo()
    if not isinstance(averages, AbstractNodes):
        raise ValueError(
            'averages must be None, "closed", GaussHermite(...), QuasiMonteCarlo(...) or '
            f"MonteCarlo(...); got {averages!r}."
        )
    z, weight = averages.nodes(dims)
    return NodeAverages(jnp.asarray(z), jnp.asarray(weight), gradient_jumps(problem, m))


@eqx.filter_jit
def averages_error(
    problem: Problem, state: Overlaps, averages: AbstractAverages
) -> Float[Array, ""]:
    """Standard error of the averages at `state`: the largest over all their entries.

    From the scatter of independent replicates of the nodes; 0 for closed forms, NaN where
    there is only one replicate (Gauss-Hermite: compare two orders instead).
    """
    if not isinstance(averages, NodeAverages):
        return jnp.zeros(())
    replicates = averages.z.shape[0]
    if replicates < 2:
        return jnp.full((), jnp.nan)

    def one(index: Array) -> FieldAverages:
        return averages.replicate(index).field_averages(problem, state)

    scattered = jax.lax.map(one, jnp.arange(replicates))
    errors = [jnp.std(x, axis=0, ddof=1) / np.sqrt(replicates) for x in scattered]
    return jnp.max(jnp.stack([jnp.max(error) for error in errors]))
