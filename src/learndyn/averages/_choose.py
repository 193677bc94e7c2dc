"""Which averages to take: closed forms where they exist, else the cheapest rule that is right."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.averages._closed import closed_form, has_closed_form
from learndyn.averages._fallback import node_averages
from learndyn.averages._nodes import NodeAverages
from learndyn.averages._quadrature import AbstractNodes
from learndyn.averages._types import AbstractAverages
from learndyn.problems import Problem
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps


def choose_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None = None,
    biases: bool,
    averages: AbstractNodes | AbstractAverages | str | Any = None,
    reach: float | None = None,
) -> AbstractAverages:
    """Averages ready for `problem` and `rule` with k student and m teacher units.

    rule: None: for the generalisation error alone.
    averages: None chooses (closed form; a lattice for smooth problems of at most five
    dimensions; quasi-Monte Carlo closed under exchanges of units); "closed" insists on a closed
    form; objects such as `Trapezoid`, `GaussHermite`, `QuasiMonteCarlo` and `MonteCarlo` are
    used as given, with a `SymmetryWarning` where they do not keep the problem's symmetries.
    reach: largest standard deviation of a field to expect (see `reach_of`); None: 1.

    Raises: ValueError for an unknown option, or "closed" where there is no closed form.
    """
    if isinstance(averages, AbstractAverages):
        return averages
    if averages == "closed" or (averages is None and has_closed_form(problem, rule, biases=biases)):
        return closed_form(problem, rule, biases=biases)
    if averages is not None and not isinstance(averages, AbstractNodes):
        raise ValueError(
            'averages must be None, "closed", Trapezoid(...), GaussHermite(...), '
            f"QuasiMonteCarlo(...) or MonteCarlo(...); got {averages!r}."
        )
    exact_error = averages is None and has_closed_form(problem, biases=biases)
    keywords = {"biases": biases, "exact_error": exact_error, "reach": reach}
    return node_averages(problem, k, m, rule=rule, nodes=averages, **keywords)


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
    neighbours = averages.neighbours()
    if neighbours is not None:
        fewer, _ = neighbours
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
