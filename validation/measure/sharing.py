"""What lets claims share compiled programs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import wide

import learndyn as ld

LENGTHS = (16, 128, 512)
"""Of the times of a program: shorter lists are filled up, so that programs are shared."""

LANES = wide(256, 4096)
"""Runs side by side in one call: fastest on a CPU core, and one program for every ensemble. On an
accelerator more of them take the same time, so ensembles are larger there."""


def filled(ts: Any, length: int | None = None) -> jax.Array:
    """`ts`, followed by times a hair after the last one until they are as many as in `LENGTHS`.

    They belong to the same step, and cost next to nothing. length: another number of times.
    """
    ts = np.asarray(ts, float)
    if length is None:
        length = min((one for one in LENGTHS if one >= len(ts)), default=len(ts))
    missing = length - len(ts)
    return jnp.asarray(np.append(ts, ts[-1] * (1 + 1e-12 * np.arange(1, missing + 1))))


def with_silent_units(start: ld.Overlaps, k: int) -> ld.Overlaps:
    """The same network with units of no weights and v = 0 added, k in all: they stay that way.

    So networks of different sizes share a program. For units that are silent at zero, as erf.
    """
    more = k - start.k
    q = jnp.pad(start.Q, ((0, more), (0, more)))
    r = jnp.pad(start.R, ((0, more), (0, 0)))
    return ld.Overlaps(q, r, start.T, jnp.pad(start.v, (0, more)), start.v_teacher)


def cut(found: Any, times: int) -> Any:
    """The first rows of every array that has one for each time."""
    length = len(found.alpha)
    return jax.tree.map(lambda x: x[:times] if x.shape[:1] == (length,) else x, found)


def whole_blocks(runs: int, lanes: int = LANES) -> int:
    """The number of runs that an ensemble of at least so many has."""
    return -(-runs // lanes) * lanes
