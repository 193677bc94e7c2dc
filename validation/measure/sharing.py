"""What lets claims share compiled programs: each claim asks for it by name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import XlaOptions, wide

import learndyn as ld
from learndyn.dynamics._trajectory import Given

LENGTHS = (16, 128, 512)
"""The numbers of times that programs have: shorter lists are filled up to the next of these. The
fewer they are, the more claims share a program; times filled up need no steps between them."""

AFTER = 1e-12
"""The relative distance of filled-up times: 512 of them stay far below half a step of the largest
networks, and each still differs from the one before in float64."""

LANES = wide(256, 4096)
"""The number of runs side by side in one call. 256 are the fastest on a CPU core; on an accelerator
4096 take the same time, so ensembles are larger there."""


def filled(ts: Any, length: int | None = None) -> jax.Array:
    """`ts`, followed by times just after the last one until they are as many as in `LENGTHS`.

    These belong to the same step as the last one, and cost next to nothing.
    length: another number of times. Shapes: (times,) to (length,).
    """
    ts = np.asarray(ts, float)
    if length is None:
        length = min((one for one in LENGTHS if one >= len(ts)), default=len(ts))
    missing = length - len(ts)
    return jnp.asarray(np.append(ts, ts[-1] * (1 + AFTER * np.arange(1, missing + 1))))


def with_silent_units(start: ld.Overlaps, k: int) -> ld.Overlaps:
    """The same network with units added that have no weights and v = 0, k units in all.

    They stay that way where an activation is 0 at 0, as erf is: networks of different sizes can
    then share a program.
    Raises: ValueError where the network has more than k units, or biases.
    """
    if k < start.k or start.b is not None:
        biases = "no" if start.b is None else "its own"
        raise ValueError(
            f"silent units are added to a network of at most k = {k} units without biases; got one "
            f"of {start.k} units with {biases} biases. Give it a larger k, or leave it as it is."
        )
    more = k - start.k
    q = jnp.pad(start.Q, ((0, more), (0, more)))
    r = jnp.pad(start.R, ((0, more), (0, 0)))
    return ld.Overlaps(q, r, start.T, jnp.pad(start.v, (0, more)), start.v_teacher)


def cut(found: Any, times: int) -> Any:
    """Results at the first `times` times: the first rows of every array with a row per time."""
    length = len(found.alpha)
    is_given = lambda x: isinstance(x, Given)  # a schedule may have as many knots
    cut_one = lambda x: x if is_given(x) or x.shape[:1] != (length,) else x[:times]
    return jax.tree.map(cut_one, found, is_leaf=is_given)


def whole_blocks(runs: int, lanes: int = LANES) -> int:
    """The number of runs of the smallest ensemble of whole blocks, `lanes` each, with so many."""
    return -(-runs // lanes) * lanes


@dataclasses.dataclass(frozen=True)
class Savings:
    """What a learning curve does to share programs and to compile them faster; by default nothing.

    fill_times: fill up the times of the ensemble. fill_grid: fill up those of the theories.
    xla_runs, xla_theory: how the ensemble and the theories are compiled; None: as XLA does.
    """

    fill_times: bool = False
    fill_grid: bool = False
    xla_runs: XlaOptions | None = None
    xla_theory: XlaOptions | None = None


NOTHING_SAVED = Savings()
