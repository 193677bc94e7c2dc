"""Ensembles of runs from one macroscopic state, at any input dimension."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from learndyn._initial import weights_from_overlaps
from learndyn._problem import Problem
from learndyn._rules import SGD
from learndyn._states import Overlaps
from learndyn.dynamics import Trajectory, simulate_chain, simulate_sgd

_LANES = 256
"""Chains side by side in one call: fastest on a CPU core."""


def ensemble(
    problem: Problem,
    rule: SGD,
    start: Overlaps,
    ts: np.ndarray,
    *,
    n: int,
    runs: int,
    key: jax.Array,
    level: str,
    averages: Any,
) -> Trajectory:
    """`runs` independent runs as one `Trajectory` of NumPy arrays with a leading axis.

    Raises: ValueError where a run does not end well: its NaN would end in every mean.
    """
    if level not in ("chain", "sgd"):
        raise ValueError(f"level must be 'chain' or 'sgd'; got {level!r}.")
    keys = jax.random.split(key, runs)
    times = jnp.asarray(ts, float)
    if level == "chain":
        size = jnp.asarray(n, float)  # data: one program for every n
        parts = [keys[i : i + _LANES] for i in range(0, runs, _LANES)]
        blocks = [_chains(problem, rule, start, times, size, part, averages) for part in parts]
    else:
        blocks = [_sgd(problem, rule, start, times, n, keys[i], averages) for i in range(runs)]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
    failed = int((np.asarray(joined.result) != 0).sum())
    if failed:
        raise ValueError(
            f"{failed} of {runs} runs at n = {n} did not end well (result codes "
            f"{sorted(set(np.asarray(joined.result).tolist()))}; learndyn.Result says why). "
            "Lower the learning rate or the times."
        )
    return joined


@eqx.filter_jit
def _chains(
    problem: Problem,
    rule: SGD,
    start: Overlaps,
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
    rule: SGD,
    start: Overlaps,
    ts: jax.Array,
    n: int,
    key: jax.Array,
    averages: Any,
) -> Trajectory:
    weights_key, run_key = jax.random.split(key)
    weights = weights_from_overlaps(weights_key, start, n=n)
    run = simulate_sgd(problem, rule, weights, ts, key=run_key, averages=averages)
    return jax.tree.map(lambda x: x[None], run)
