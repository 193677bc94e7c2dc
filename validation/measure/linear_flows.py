"""Two-layer linear networks under gradient flow, many side by side in one program."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import XlaOptions, compiled

from learndyn import flow

HIDDEN, D = 6, 3
"""Units, and inputs and outputs, of all networks here: others are rotated or filled up to it."""

LANES, TIMES = 64, 1025
"""Runs in one call, and times that are saved."""


class LinearFlows(NamedTuple):
    """maps (runs, times, c, d), loss and speed (runs, times), of networks at ts; distance: (runs,)
    of all weights, from the first to the last time."""

    ts: np.ndarray
    maps: np.ndarray
    loss: np.ndarray
    speed: np.ndarray
    distance: np.ndarray


def linear_flows(
    w1: np.ndarray,
    w2: np.ndarray,
    sxx: np.ndarray,
    syx: np.ndarray,
    last: float,
    lr: tuple = (1, 1),
    xla: XlaOptions | None = None,
) -> LinearFlows:
    """f = w2 w1 x from w1 (runs, 6, 3), w2 (runs, 3, 6), up to t = `last`.

    sxx, syx: for all runs, or one each, (runs, 3, 3). lr: of w1 and w2. xla: how the
    flow is compiled.
    """
    runs, ts = len(w1), np.linspace(0.0, last, TIMES)
    given = w1, w2, *(np.broadcast_to(m, (runs, D, D)) for m in (sxx, syx))
    run, rates, found = _program(xla), jnp.asarray(lr, float), []
    for first in range(0, runs, LANES):
        # The last block is filled up by runs that are there already.
        lanes = np.resize(np.arange(first, min(first + LANES, runs)), LANES)
        block = run(*(jnp.asarray(one[lanes]) for one in given), rates, jnp.asarray(ts))
        found.append(jax.device_get(block))
    columns = [np.concatenate(column)[:runs] for column in zip(*found, strict=True)]
    return LinearFlows(ts, *columns)


@functools.cache
def _program(xla: XlaOptions | None) -> Callable:
    def run(
        w1: jax.Array, w2: jax.Array, sxx: jax.Array, syx: jax.Array, lr: jax.Array, ts: jax.Array
    ) -> tuple[jax.Array, ...]:
        model, data = flow.LinearNetwork([w1, w2]), flow.Moments(sxx, syx)
        run = flow.gradient_flow(model, data, ts, lr=[lr[0], lr[1]])
        moved = [w[-1] - w[0] for w in run.model.weights]
        distance = jnp.sqrt(sum(jnp.sum(w**2) for w in moved))
        return jax.vmap(lambda m: m.end_to_end())(run.model), run.loss, run.speed, distance

    return compiled(jax.vmap(run, (0, 0, 0, 0, None, None)), xla)


def crossings(ts: np.ndarray, loss: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """When one run's loss (times,) falls through the means of neighbouring levels."""
    return np.array([_first(ts, -loss, -middle) for middle in (levels[1:] + levels[:-1]) / 2])


def half_times(ts: np.ndarray, modes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """When modes (runs, times, modes) reach half of their ends (modes,); NaN where they do not.

    Modes are sigmoids, whose logit is a straight line in time.
    """
    share = np.clip(modes / ends, 1e-300, 1 - 1e-15)
    logit = np.log(share) - np.log1p(-share)
    return np.array([[_first(ts, row, 0.0) for row in run.T] for run in logit])


def _first(ts: np.ndarray, rising: np.ndarray, level: float) -> float:
    above = rising >= level
    if not above.any() or above[0]:
        return np.nan
    i = int(above.argmax())
    return float(np.interp(level, rising[i - 1 : i + 1], ts[i - 1 : i + 1]))
