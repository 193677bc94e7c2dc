"""Ensembles through the overlap chain, and their distance from the ODE."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import ensemble
from validation.measure.sharing import LANES, filled, whole_blocks

import learndyn as ld

FIELDS = ("Q", "R", "v", "b", "eg")


@functools.partial(ensemble, static_argnames="averages")
def _runs(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
    averages: Any = None,
) -> ld.Trajectory:
    def run(key: jax.Array) -> ld.Trajectory:
        return ld.simulate_chain(problem, rule, start, ts, n=n, key=key, averages=averages)

    return jax.vmap(run)(keys)


def chain_ensemble(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: Any,
    *,
    n: int,
    key: jax.Array,
    runs: int,
    averages: Any = None,
    costly: bool = False,
) -> dict[str, np.ndarray]:
    """Q, R, v, b, eg of shape (runs, times, ...) and alpha (times,), at input dimension n.

    runs: at least so many; there are `whole_blocks` of them. Problems, rules and starts of the
    same structure share a program, and lists of times do, unless averages are `costly`: by nodes,
    so that eg at one more time costs more than compiling.
    """
    times = len(ts)
    ts, n = filled(ts, times if costly else None), jnp.asarray(n, float)
    found = []
    for one in jax.random.split(key, whole_blocks(runs) // LANES):
        keys = jax.random.split(one, LANES)
        found.append(_runs(problem, rule, start, ts, n, keys, averages=averages))
    present = [name for name in FIELDS if getattr(found[0], name) is not None]
    runs_of = {
        name: np.concatenate([np.asarray(getattr(block, name))[:, :times] for block in found])
        for name in present
    }
    return runs_of | {"alpha": np.asarray(found[0].alpha[0])[:times]}


def distances(ensemble: dict[str, np.ndarray], theory: ld.Trajectory) -> np.ndarray:
    """|m - m_ode| of shape (runs, times): Frobenius over full matrices Q and R, and v and b.

    theory: at the times of the ensemble.
    """
    total = 0.0
    for name in FIELDS[:-1]:
        if name in ensemble:
            gap = ensemble[name] - np.asarray(getattr(theory, name))
            total = total + (gap.reshape(*gap.shape[:2], -1) ** 2).sum(axis=-1)
    return np.sqrt(total)


@ensemble
def runs_from(
    problem: ld.Problem,
    rule: ld.SGD,
    starts: ld.Overlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """eg of one chain from each of many starts, (starts, times)."""

    def run(start: ld.Overlaps, key: jax.Array) -> jax.Array:
        return ld.simulate_chain(problem, rule, start, ts, n=n, key=key).eg

    return jax.vmap(run)(starts, keys)
