"""Chains that start on or before the symmetric plateau, and when they leave it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import XlaOptions, ensemble, wide

import learndyn as ld

LANES, TIMES = wide(64, 1024), 201
"""Runs side by side in `chains`, and times kept: the same in every claim, so that programs are
shared."""

PROBLEM = ld.Problem()
"""Without label noise: finite N alone ends the plateau."""

RESAMPLES = 500
"""Samples of the bootstrap: they give standard errors to 3 %."""

SOURCE = "Saad & Solla, PRE 52, 4225 (1995), section IV; Biehl, Riegler & Wöhler (1996)"


@functools.cache
def _program(xla: XlaOptions | None) -> Callable:
    """The program of `chains`, the same for all claims that compile it alike."""
    return ensemble(_chains, xla)


def _chains(
    rule: ld.SGD, starts: ld.Overlaps, ts: jax.Array, n: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def run(start: ld.Overlaps, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = ld.simulate_chain(PROBLEM, rule, start, ts, n=n, key=key)
        return found.eg, found.R

    return jax.vmap(run)(starts, keys)


def chains(
    lr: float,
    starts: list[ld.Overlaps],
    end: float,
    n: int,
    key: jax.Array,
    runs: int,
    xla: XlaOptions | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, eg (runs, times) and R (runs, times, k, m); run i is from starts[i % len(starts)].

    runs: a multiple of `LANES`. xla: how to compile; None: as XLA does.
    Raises: ValueError where runs is no such multiple.
    """
    if runs % LANES:
        raise ValueError(
            f"there are whole blocks of {LANES} chains, got {runs} runs: ask for "
            "whole_blocks(runs, LANES)."
        )
    ts, found = jnp.linspace(0.0, end, TIMES), []
    stacked = jax.tree_util.tree_map(
        lambda *leaves: jnp.stack(leaves), *(starts * (LANES // len(starts)))
    )
    for block in jax.random.split(key, runs // LANES):
        keys = jax.random.split(block, LANES)
        found.append(_program(xla)(ld.SGD(lr=lr), stacked, ts, jnp.asarray(n, float), keys))
    return np.asarray(ts), *(np.concatenate(part) for part in zip(*found, strict=True))


def exit_times(ts: np.ndarray, eg: np.ndarray) -> np.ndarray:
    """When eg first falls to half of its start, (runs,), by linear interpolation.

    eg: (runs, times). Runs that have not left by the last time get that time.
    """
    level = 0.5 * eg[:, :1]
    below = eg < level
    i = np.maximum(below.argmax(axis=1), 1)
    rows = np.arange(len(eg))
    before, after = eg[rows, i - 1], eg[rows, i]
    part = (before - level[:, 0]) / np.where(before > after, before - after, 1.0)
    times = ts[i - 1] + part * (ts[1] - ts[0])
    return np.where(below.any(axis=1), times, ts[-1])


def median(times: np.ndarray) -> tuple[float, float]:
    """The median of times, and its standard error by resampling."""
    (value,), (error,) = quantiles(times, [0.5])
    return float(value), float(error)


def quantiles(times: np.ndarray, levels: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of times at these levels, and their standard errors by the bootstrap."""
    draws = np.random.default_rng(0).choice(times, (RESAMPLES, len(times)))
    return np.quantile(times, levels), np.quantile(draws, levels, axis=1).std(axis=1)
