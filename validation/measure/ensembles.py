"""Ensembles through the overlap chain, and their distance from the ODE.

Nothing here saves compilations by itself. fill_times: fill up the list of times, so that it shares
a program with others. xla: how to compile; None: as XLA does.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import XlaOptions, ensemble
from validation.measure.sharing import LANES, filled

import learndyn as ld
from learndyn.rules import AbstractRule

FIELDS = ("Q", "R", "v", "b", "eg")


def chain_ensemble(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: Any,
    *,
    n: int,
    key: jax.Array,
    runs: int,
    averages: Any = None,
    fill_times: bool = False,
    xla: XlaOptions | None = None,
) -> dict[str, np.ndarray]:
    """Q, R, v, b, eg of shape (runs, times, ...) and alpha (times,), at input dimension n.

    Problems, rules and starts of the same structure share a program. Where averages are by nodes,
    eg at one more time costs more than compiling: leave fill_times out there.
    runs: a multiple of `LANES`, as `whole_blocks` gives. Raises: ValueError where it is not.
    """
    if runs % LANES:
        raise ValueError(
            f"an ensemble of chains has whole blocks of {LANES} runs, got {runs} runs: ask for "
            "whole_blocks(runs)."
        )
    times = len(ts)
    ts, n = (filled(ts) if fill_times else jnp.asarray(ts, float)), jnp.asarray(n, float)
    run, found = _program(xla), []
    for one in jax.random.split(key, runs // LANES):
        keys = jax.random.split(one, LANES)
        found.append(run(problem, rule, start, ts, n, keys, averages=averages))
    present = [name for name in FIELDS if getattr(found[0], name) is not None]
    runs_of = {
        name: np.concatenate([np.asarray(getattr(block, name))[:, :times] for block in found])
        for name in present
    }
    return runs_of | {"alpha": np.asarray(found[0].alpha[0])[:times]}


@functools.cache
def _program(xla: XlaOptions | None) -> Callable:
    """The program of `chain_ensemble`, the same for all claims that compile it alike."""
    return ensemble(_runs, xla, static_argnames="averages")


def _runs(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
    averages: Any = None,
) -> ld.Trajectory:
    def run(key: jax.Array) -> ld.Trajectory:
        return ld.simulate_chain(problem, rule, start, ts, n=n, key=key, averages=averages)

    return jax.vmap(run)(keys)


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


def runs_from(
    problem: ld.Problem,
    rule: AbstractRule,
    starts: ld.Overlaps,
    ts: Any,
    *,
    n: int,
    keys: jax.Array,
    xla: XlaOptions | None = None,
) -> jax.Array:
    """eg of one chain from each of many starts, (starts, times)."""
    run = _program_from(xla)
    return run(problem, rule, starts, jnp.asarray(ts), jnp.asarray(n, float), keys)


@functools.cache
def _program_from(xla: XlaOptions | None) -> Callable:
    """The program of `runs_from`."""
    return ensemble(_from, xla)


def _from(
    problem: ld.Problem,
    rule: AbstractRule,
    starts: ld.Overlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    def run(start: ld.Overlaps, key: jax.Array) -> jax.Array:
        return ld.simulate_chain(problem, rule, start, ts, n=n, key=key).eg

    return jax.vmap(run)(starts, keys)
