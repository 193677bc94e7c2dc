"""Ensembles of runs from one macroscopic state, at any input dimension."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from learndyn._results import Result
from learndyn.dynamics import LEVELS, Trajectory, simulate_chain, simulate_sgd
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import GroupedOverlaps, Overlaps, weights_from_overlaps

_LANES = 256
"""Chains that one call runs together: the fastest number on a CPU core, whose cache they fill."""

_ROUNDING = 1e-12
"""Scatter below this fraction of the mean is rounding: thousands of steps add up to less."""


def ensemble(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    ts: np.ndarray,
    *,
    n: int,
    runs: int,
    key: jax.Array,
    level: str,
    averages: Any,
) -> Trajectory:
    """`runs` independent runs as one `Trajectory` of NumPy arrays with a leading axis.

    Raises: ValueError where a run does not end well, for its NaN would end in every mean; where all
    end alike, for a difference from theory then has no unit; and for weights in groups.
    """
    exact = [one.name for one in LEVELS.values() if one.exact]
    if level not in exact:
        raise ValueError(f"level must be one of {exact}, whose law is exact; got {level!r}.")
    if LEVELS[level].weights and isinstance(start, GroupedOverlaps):
        raise ValueError(
            "weights are made from overlaps for white inputs alone; got a start with "
            f"{start.groups} groups of directions. Use level='chain', whose law is the same."
        )
    # One key for each run, whatever the block it is computed in
    keys = jax.random.split(key, runs)
    times = jnp.asarray(ts, float)
    if not LEVELS[level].weights:
        _require_dimension(n, rule, start)
        size = jnp.asarray(n, float)  # data: one program for every n
        parts = [keys[i : i + _LANES] for i in range(0, runs, _LANES)]
        blocks = [_chains(problem, rule, start, times, size, part, averages) for part in parts]
    else:
        blocks = [_sgd(problem, rule, start, times, n, keys[i], averages) for i in range(runs)]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
    _require_success(joined, n)
    _require_scatter(joined, n)
    return joined


def _require_dimension(n: int, rule: AbstractRule, start: Overlaps | GroupedOverlaps) -> None:
    """Refuse an n that is too small. Below it is data, so that a bad one would give a result code
    without a reason."""
    least = start.m + start.k * (1 if rule.momentum is None else 2)
    if n < least:
        of = "k + m" if rule.momentum is None else "2 k + m, units and velocities"
        raise ValueError(
            f"n must be at least {of}, here {least}, the weight vectors whose overlaps the chain "
            f"follows; got n = {n}."
        )


def _require_success(runs: Trajectory, n: int) -> None:
    codes = np.asarray(runs.result)
    failed = codes[codes != Result.SUCCESS]
    if failed.size:
        why = "; ".join(Result(code).meaning for code in np.unique(failed))
        raise ValueError(
            f"{failed.size} of {codes.size} runs at n = {n} did not end well: {why}. A run that "
            "diverges needs a lower learning rate or earlier times."
        )


def _require_scatter(runs: Trajectory, n: int) -> None:
    eg = np.asarray(runs.eg)[:, 1:]
    still = eg.std(axis=0) <= _ROUNDING * eg.mean(axis=0)
    if still.any():
        alpha = np.asarray(runs.alpha)[0, 1:][still][0]
        raise ValueError(
            f"at alpha = {alpha:.4g} all runs at n = {n} have the same error: nothing moves, and "
            "without scatter nothing can be tested. Is a learning rate 0, or a time less than "
            "one step, 1/n, from the start?"
        )


@eqx.filter_jit
def _chains(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
    averages: Any,
) -> Trajectory:
    run = functools.partial(simulate_chain, problem, rule, start, ts, n=n, averages=averages)
    return jax.vmap(lambda key: run(key=key))(keys)


@eqx.filter_jit
def _sgd(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    ts: jax.Array,
    n: int,
    key: jax.Array,
    averages: Any,
) -> Trajectory:
    weights_key, run_key = jax.random.split(key)
    weights = weights_from_overlaps(weights_key, start, n=n)
    run = simulate_sgd(problem, rule, weights, ts, key=run_key, averages=averages)
    return jax.tree.map(lambda x: x[None], run)
