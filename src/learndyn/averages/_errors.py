"""How far averages are from exact: from finer and coarser ones, or from replicates."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn.averages._types import AbstractAverages
from learndyn.problems import Problem
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_SAFETY = 2.0
"""Times the difference from the next finer averages: those are not exact either."""

_SHRINKS = 1 / 3
"""Where the difference from finer averages is not smaller by this than that from coarser ones,
neither has begun to converge."""

_SHRINKS_AT_FIRST = 1 / 2
"""Likewise for the two differences before, of coarser averages, whose errors fall more slowly. Of
2250 random states and product rules for tanh(x), tanh(3x) and tanh(6x) none is then told a smaller
error than it has, where 17 in 2348 were, and the median is 5.8 times the true one."""

_NEGLIGIBLE = 5e-5
"""Differences below this share of a quantity need not shrink: their signs change from level to
level, and twice the larger one was never below the true error."""

_COARSE = 0.02
"""Where the largest difference is above this share of the largest quantity, that it has become
smaller is chance."""

_UNRESOLVED = 3e-3
"""A misfit beyond which differences between levels are chance. Of 1000 random states of tanh and
swish with overlaps of 1e-3 to 1e3 none below it has a larger error than is told, and at most two in
a hundred with overlaps below 5 is above it."""

_STANDARD_ERRORS = 6.0
"""Times the standard error of four replicates: three degrees of freedom have long tails. Of 2400
averages at 600 random states with overlaps of 1e-3 to 1e3 eight have a larger error than is told,
1.7 times at most, and the median is told eight times its error."""

_COMMON = 0.75
"""Share of the mean relative error of all quantities that each of those from nodes has at least.
Errors are taken relative to the terms that a quantity is made of: where those cancel, as the drift
does on a plateau, its relative error says nothing of others."""

_ROUNDING = 1e-13
"""Relative: sums over 1e4 nodes lose two or three digits."""

_CANCELLATION = 1e-15
"""Over the squared sum of the output weights: where student and teacher agree, eg is a difference
of numbers of that size."""

Quantities = Callable[[AbstractAverages], list[Array]]
"""What is computed from averages: a list of arrays."""

Sizes = Callable[[list[Array]], list[Array | float]]
"""Sizes of the terms of each quantity, from their values; infinite where they are not known."""


Misfit = Array | float | list[Array | float]
"""Relative error that is known, of all quantities or of each."""


class Estimate(NamedTuple):
    """Quantities, the largest error of each, and whether the errors have begun to converge."""

    values: list[Array]
    errors: list[Float[Array, ""]]
    resolved: Bool[Array, ""]


def estimated(
    averages: AbstractAverages,
    of: Quantities,
    size: Array | float = 1.0,
    misfit: Misfit = 0.0,
    terms: Sizes | None = None,
) -> Estimate:
    """`of(averages)` with its errors: of each array the largest over its entries.

    size: of the largest terms that may cancel in a quantity. misfit: `averages.misfit(...)`, of all
    quantities or of each, see `misfits`. terms: None: no quantity is smaller than its terms.

    Levels: twice the difference from the next finer one, and rounding; of nodes twice what the
    differences before it let expect, where that is more. Where two successive differences do not
    shrink by 3, twice the larger of them; the rule is then unresolved, unless
    both are negligible.
    Replicates: six times their standard error. Exact averages: 0.
    """
    levels, neighbours = averages.levels(), averages.neighbours()
    if levels is not None:
        each = jax.lax.map(of, levels)
        found = [[x[i] for x in each] for i in range(3)]
        return _from_levels(found, size, misfit, averages.falls)
    if neighbours is not None:
        found = [of(a) for a in (neighbours[0], averages, neighbours[1])]
        further = averages.coarsest()
        coarsest = None if further is None else of(further)
        return _from_levels(found, size, misfit, averages.falls, coarsest)
    values = of(averages)
    if averages.replicates:
        return Estimate(values, _scatter(averages, of, values, terms), jnp.asarray(True))
    return Estimate(values, [jnp.zeros(()) for _ in values], jnp.asarray(True))


def is_exact(averages: AbstractAverages) -> bool:
    """Whether averages are exact to rounding, at every state."""
    has_levels = averages.levels() is not None or averages.neighbours() is not None
    return not (has_levels or averages.replicates)


def _from_levels(
    levels: list[list[Array]],
    size: Array | float,
    misfit: Misfit,
    falls: float,
    coarsest: list[Array] | None = None,
) -> Estimate:
    coarser, values, finer = levels
    further = coarser if coarsest is None else coarsest
    known = misfit if isinstance(misfit, list) else [misfit] * len(values)
    resolved = jnp.all(jnp.stack([jnp.asarray(one) for one in known]) < _UNRESOLVED)
    errors, seen, largest = [], jnp.zeros(()), jnp.zeros(())
    each = zip(further, coarser, values, finer, known, strict=True)
    for furthest, rough, value, fine, missed in each:
        scale = jnp.max(jnp.abs(value))
        rounding = _ROUNDING * scale + _CANCELLATION * size
        before, after = jnp.max(jnp.abs(rough - value)), jnp.max(jnp.abs(value - fine))
        converges = after <= jnp.maximum(_SHRINKS * before, rounding)
        after = jnp.maximum(after, before / falls)
        if coarsest is not None:
            # A geometric series of differences, unless the last one is larger: the error of a
            # lattice changes its sign with the spacing, so that two spacings may agree by chance.
            first = jnp.max(jnp.abs(furthest - rough))
            ratio = before / jnp.where(first > 0, first, jnp.inf)
            converges &= (ratio <= _SHRINKS_AT_FIRST) | (before <= rounding)
            after = jnp.maximum(after, before * jnp.minimum(ratio, 1.0))
        told = _SAFETY * jnp.where(converges, after, jnp.maximum(before, after))
        # What levels agree on may still be known to be wrong.
        wrong = jnp.where(after > rounding, _SAFETY * missed * scale, 0.0)
        errors.append(jnp.maximum(told, wrong) + rounding)
        resolved &= converges | (told <= _NEGLIGIBLE * scale)
        seen, largest = jnp.maximum(seen, after - rounding), jnp.maximum(largest, scale)
    return Estimate(values, errors, resolved & (seen <= _COARSE * largest))


def _scatter(
    averages: AbstractAverages, of: Quantities, values: list[Array], terms: Sizes | None
) -> list[Float[Array, ""]]:
    """A bound from the standard errors over independent replicates of the nodes, and by how much
    their mean differs from the averages where replicates are coarser in other ways; NaN where there
    is but one."""
    replicates = averages.replicates
    if replicates < 2:
        return [jnp.full((), jnp.nan) for _ in values]
    each = jax.lax.map(lambda i: of(averages.replicate(i)), jnp.arange(replicates))
    sizes = jnp.stack([jnp.max(jnp.abs(value)) for value in values])
    standard = jnp.stack([jnp.max(jnp.std(x, axis=0, ddof=1)) for x in each]) / np.sqrt(replicates)
    # A few replicates may agree by chance, but quantities come from the same nodes.
    whole = sizes
    if terms is not None:
        whole = jnp.maximum(sizes, jnp.stack([jnp.asarray(size, float) for size in terms(values)]))
    counted = jnp.isfinite(whole) & (whole > 0)
    relative = jnp.where(counted, standard / jnp.where(counted, whole, 1.0), 0.0)
    common = jnp.sum(relative) / jnp.maximum(jnp.sum(counted), 1)
    # What does not depend on the nodes has no share in it: closed forms beside products from nodes
    from_nodes = standard > _ROUNDING * sizes
    standard = jnp.where(from_nodes, jnp.maximum(standard, _COMMON * common * sizes), standard)
    off = [
        jnp.max(jnp.abs(jnp.mean(x, axis=0) - value)) for x, value in zip(each, values, strict=True)
    ]
    return list(_STANDARD_ERRORS * standard + jnp.stack(off))


def sampled(averages: FieldAverages, state: Overlaps) -> list[Array]:
    """What a theory uses of averages: <F f>, Phi, h, and f where there are biases."""
    used = [averages.with_fields(state.covariance), averages.Phi, averages.h]
    return used if state.b is None else [*used, averages.f]


def misfits(misfit: Array | float, state: Overlaps) -> list[Array | float]:
    """Those of what `sampled` returns: lattices are there for products alone, the others are
    averages over pairs of fields."""
    return [0.0, misfit, 0.0] if state.b is None else [0.0, misfit, 0.0, 0.0]


def term_sizes(values: list[Array], state: Overlaps) -> list[Array | float]:
    """Sizes of the terms of what `sampled` returns.

    <F_i f_p>**2 is at most <F_i**2> <f_p**2>, and <F_i>**2 at most <F_i**2>, by Cauchy and Schwarz'
    inequality; H has no such bound, since <H**2> is not among the averages.
    """
    largest = jnp.sqrt(jnp.max(jnp.diagonal(values[1])))
    widest = jnp.sqrt(jnp.max(jnp.diagonal(state.covariance)))
    return [largest * widest, largest**2, jnp.inf, largest][: len(values)]


def cancelling(state: Overlaps) -> Float[Array, ""]:
    """The size of what may cancel in averages at `state`, where outputs are of order 1 or of the
    order of their fields."""
    scales = jnp.sqrt(jnp.maximum(jnp.diagonal(state.covariance), 1.0))
    return (jnp.abs(state.output_weights) @ scales) ** 2


@eqx.filter_jit
def averages_error(
    problem: Problem, rule: AbstractRule, state: Overlaps, averages: AbstractAverages
) -> Float[Array, ""]:
    """Error of the averages at `state`: the largest over all entries of <F f>, Phi, h and f.

    See `estimated` for where it comes from; 0 for closed forms.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        state: the overlaps, dimensionless.
        averages: those whose error is asked for; None chooses, as `solve_ode` does.

    Example:
        >>> problem, rule = ld.Problem(), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> ready = averages.choose_averages(problem, 1, 1, rule=rule, biases=False)
        >>> float(averages.averages_error(problem, rule, start, ready))
        0.0
    """
    of = lambda a: sampled(a.field_averages(problem, rule, state), state)
    misfit = misfits(averages.misfit(problem, state), state)
    terms = lambda values: term_sizes(values, state)
    return jnp.max(jnp.stack(estimated(averages, of, cancelling(state), misfit, terms).errors))
