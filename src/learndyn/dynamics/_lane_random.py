"""Random numbers of many runs, lane by lane, from counters.

Number i of block b of a run depends on that run's key, b and i alone: Threefry-2x32 with 20
rounds, JAX's own generator, written out so that it needs no pass over memory between rounds
and leaves the numbers where they are used.
Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC11.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from learndyn._random import cos_sin_turns, log

_TAG = 0x6C61_6E65
"""Keeps a run's numbers apart from others drawn from the same key."""

_REDRAWS = np.uint32(2**31)
"""Counters from here on belong to what the loop of `chi_square` draws."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


class LaneRandom:
    """Random numbers of one block: each call takes the next counters."""

    def __init__(
        self,
        seeds: UInt32[Array, "2 lanes"],
        block: Int[Array, ""] | UInt32[Array, ""],
        first: int | UInt32[Array, ""] = 0,
    ):
        self._seeds = seeds
        self._block = block.astype(jnp.uint32)
        self._next = first

    def starting_at(self, first: UInt32[Array, ""]) -> "LaneRandom":
        """The same block's numbers from another counter on."""
        return LaneRandom(self._seeds, self._block, first)

    @property
    def lanes(self) -> int:
        return self._seeds.shape[1]

    def uniform(self, count: int) -> Float[Array, "count lanes"]:
        """Uniform numbers in (0, 1): odd multiples of 2**-53."""
        return self._unit(count) + 2.0**-53

    def normal(self, count: int) -> Float[Array, "count lanes"]:
        """Independent N(0, 1) numbers, none beyond 8.6, where the probability is 1e-17.

        Source: Box & Muller (1958), Ann. Math. Statist. 29, 610.
        """
        pairs = (count + 1) // 2
        radius = jnp.sqrt(-2.0 * log(self.uniform(pairs)))
        cos, sin = cos_sin_turns(self._unit(pairs))
        return jnp.concatenate([radius * cos, radius * sin])[:count]

    def _unit(self, count: int) -> Float[Array, "count lanes"]:
        """Multiples of 2**-52 in [0, 1)."""
        counter = self._next + jnp.arange(count, dtype=jnp.uint32)
        self._next += count
        high, low = threefry(*self._seeds[:, None, :], counter[:, None], self._block)
        mantissa = (high.astype(jnp.uint64) << 20) | (low >> 12).astype(jnp.uint64)
        one = np.float64(1.0).view(np.uint64)
        return jax.lax.bitcast_convert_type(mantissa | one, jnp.float64) - 1.0


def lane_seeds(keys: Key[Array, " lanes"]) -> UInt32[Array, "2 lanes"]:
    """Two words for each key, of any of JAX's generators."""
    words = jax.vmap(lambda key: jax.random.bits(jax.random.fold_in(key, _TAG), (2,), jnp.uint32))
    return words(keys).T


def threefry(
    k0: UInt32[Array, "..."], k1: UInt32[Array, "..."], x0: Array, x1: Array
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two random words from a key and a counter of two words each."""
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation)))
        x0, x1 = x0 + keys[(i + 1) % 3], x1 + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1


def chi_square(
    random: LaneRandom, dof: Float[Array, "#columns #lanes"], steps: int
) -> Float[Array, "steps columns lanes"]:
    """Independent chi-square numbers; dof, which may be traced, is 0 (giving 0) or at least 1.

    A candidate for every number, then a loop that gives each column and lane one new candidate
    for the first of its numbers that has none yet: few are refused, so few rounds are needed.
    Error: rounding. Other dof, and NaN, give NaN.
    Source: Marsaglia & Tsang (2000), ACM Trans. Math. Softw. 26, 363; their proof needs a
    shape dof/2 > 1/3 only: 3 log(1 + y) - (1 + y)**3 + 1 + 9 y**2/2 has slope -3 y**3/(1 + y).
    """
    columns = dof.shape[0]
    shape = (columns, random.lanes)
    valid = (dof >= 1) | (dof == 0)
    d = jnp.where(dof >= 1, 0.5 * dof, 1.0) - 1 / 3
    values, accepted = _candidate(random, d, (steps, *shape))
    position = jnp.arange(steps)[:, None, None]

    def redraw(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values, accepted, round_ = carry
        fresh = random.starting_at(_REDRAWS + round_ * np.uint32(3 * columns))
        new, good = _candidate(fresh, d, (1, *shape))
        first = jnp.min(jnp.where(accepted, steps, position), axis=0)
        filled = (position == first) & good
        return jnp.where(filled, new, values), accepted | filled, round_ + np.uint32(1)

    done = lambda carry: ~jnp.all(carry[1])
    values, _, _ = jax.lax.while_loop(done, redraw, (values, accepted, jnp.uint32(0)))
    return jnp.where(valid, jnp.where(dof == 0, 0.0, values), jnp.nan)


def _candidate(
    random: LaneRandom, d: Float[Array, "#columns #lanes"], shape: tuple[int, int, int]
) -> tuple[Float[Array, "steps columns lanes"], Bool[Array, "steps columns lanes"]]:
    """2 d (1 + y)**3 with y = x / sqrt(9 d), and whether it is taken."""
    count = shape[0] * shape[1]
    x = random.normal(count).reshape(shape)
    u = random.uniform(count).reshape(shape)
    y = x / jnp.sqrt(9.0 * d)
    v = 1.0 + y
    positive = v > 0.0
    v = jnp.where(positive, v, 1.0)
    # x**2/2 + d - d v**3 + d log v**3, without the terms that cancel
    excess = 3.0 * d * (log(v) - y * (1.0 - y * (0.5 - y / 3)))
    return 2.0 * d * v**3, positive & (log(u) < excess)
