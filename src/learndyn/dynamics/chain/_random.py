"""Random numbers of many runs, lane by lane, from counters.

Number i of block b of a run depends on that run's key, b and i alone. Arrays of Threefry's words
have the lanes last.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from learndyn._numerics.random import Words, box_muller, in_pieces, log, threefry
from learndyn.dynamics.chain._lanes import apart

_TAG = 0x6C61_6E65
"""Keeps a run's numbers apart from others drawn from the same key."""

_REDRAWS = np.uint32(2**31)
"""Counters from here on belong to what the loop of `chi_square` draws."""


class LaneRandom:
    """Random numbers of one block: each call takes the next counters."""

    def __init__(
        self,
        seeds: UInt32[Array, "2 lanes"],
        block: Int[Array, ""],
        first: int | UInt32[Array, ""] = 0,
    ):
        self.lanes = seeds.shape[1]
        self.opaque_true = block >= 0
        self._seeds, self._block, self._next = seeds, block, first

    def starting_at(self, first: UInt32[Array, ""]) -> "LaneRandom":
        """The same block's numbers from another counter on."""
        return LaneRandom(self._seeds, self._block, first)

    def uniform(self, count: int) -> Float[Array, "count lanes"]:
        """Uniform numbers in (0, 1): odd multiples of 2**-53."""
        return _unit(*self._words(count)) + 2.0**-53

    def normal(self, count: int) -> Float[Array, "count lanes"]:
        """Independent N(0, 1) numbers, none beyond 8.6, where the probability is 1e-17."""
        pairs = (count + 1) // 2

        def transformed(high: Array, low: Array) -> Array:
            unit = _unit(high, low)
            return jnp.concatenate(box_muller(unit[:pairs] + 2.0**-53, unit[pairs:]))[:count]

        return apart(self.opaque_true, transformed, *self._words(2 * pairs))

    def _words(self, count: int) -> Words:
        start = self._next
        self._next = start + count

        def words(first: Array, size: int) -> Words:
            counter = start + first + jnp.arange(size, dtype=jnp.uint32)
            block = self._block.astype(jnp.uint32)
            low, high = self._seeds[:, None, :]
            return threefry(low, high, counter[:, None], block)

        return in_pieces(words, count)


def lane_seeds(keys: Key[Array, " lanes"]) -> UInt32[Array, "2 lanes"]:
    """Two words for each key, of any of JAX's generators."""
    words = jax.vmap(lambda key: jax.random.bits(jax.random.fold_in(key, _TAG), (2,), jnp.uint32))
    return words(keys).T


def chi_square(
    random: LaneRandom, dof: Float[Array, "#columns #lanes"], x: Float[Array, "steps columns lanes"]
) -> Float[Array, "steps columns lanes"]:
    """Independent chi-square numbers; dof, which may be traced, is 0 (giving 0) or at least 1.

    A candidate for every number, then a loop that gives each column and lane one new candidate
    for the first of its numbers that has none yet: few are refused, so few rounds are needed.
    x: normal numbers for the first candidates. Error: rounding. Other dof, and NaN, give NaN.
    One call per block.
    Source: Marsaglia & Tsang (2000), ACM Trans. Math. Softw. 26, 363; their proof needs a
    shape dof/2 > 1/3 only: 3 log(1 + y) - (1 + y)**3 + 1 + 9 y**2/2 has slope -3 y**3/(1 + y).
    """
    steps, columns, _ = x.shape
    valid = (dof >= 1) | (dof == 0)
    # Marsaglia and Tsang's d, the shape dof/2 less 1/3; any value serves a dof without numbers.
    d = jnp.where(dof >= 1, 0.5 * dof, 1.0) - 1 / 3
    values, accepted = _candidates(d, x, random.uniform(steps * columns).reshape(x.shape))
    position = jnp.arange(steps)[:, None, None]

    def redraw(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values, accepted, round_ = carry

        def fresh(round_: Array) -> tuple[Array, Array]:
            counters = random.starting_at(_REDRAWS + round_ * np.uint32(3 * columns))
            x, u = counters.normal(columns), counters.uniform(columns)
            return _candidates(d, x[None], u[None])

        new, good = apart(random.opaque_true, fresh, round_)
        # The first number of each column and lane that is still missing
        first = jnp.min(jnp.where(accepted, steps, position), axis=0)
        filled = (position == first) & good
        return jnp.where(filled, new, values), accepted | filled, round_ + np.uint32(1)

    unfinished = lambda carry: ~jnp.all(carry[1])
    values, _, _ = jax.lax.while_loop(unfinished, redraw, (values, accepted, jnp.uint32(0)))
    return jnp.where(valid, jnp.where(dof == 0, 0.0, values), jnp.nan)


def _candidates(
    d: Float[Array, "#columns #lanes"],
    x: Float[Array, "steps columns lanes"],
    u: Float[Array, "steps columns lanes"],
) -> tuple[Float[Array, "steps columns lanes"], Bool[Array, "steps columns lanes"]]:
    """2 d (1 + y)**3 with y = x / sqrt(9 d), x normal, and whether each is taken, u uniform."""
    # Marsaglia and Tsang: the cube of a normal number is nearly a gamma number.
    y = x / jnp.sqrt(9.0 * d)
    positive = y > -1.0
    v = jnp.where(positive, 1.0 + y, 1.0)
    # x**2/2 + d - d v**3 + d log v**3, without the terms that cancel
    excess = 3.0 * d * (log(v) - y * (1.0 - y * (0.5 - y / 3)))
    return 2.0 * d * v**3, positive & (log(u) < excess)


def _unit(high: UInt32[Array, "*shape"], low: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Multiples of 2**-52 in [0, 1)."""
    mantissa = (high.astype(jnp.uint64) << 20) | (low >> 12).astype(jnp.uint64)
    # 52 random bits as the mantissa of a number in [1, 2)
    one = np.float64(1.0).view(np.uint64)
    return jax.lax.bitcast_convert_type(mantissa | one, jnp.float64) - 1.0
