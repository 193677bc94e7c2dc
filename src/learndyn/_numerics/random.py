"""Standard normal numbers, fast: they are most of the cost of simulating in n dimensions.

Box and Muller's transform of random bits: exact, two uniform numbers in, two normal numbers
out. `jax.random.normal` inverts the error function, which on a CPU costs two to three times as
much: XLA's logarithm and cosine are slow there, the series below are not. The bits are those of
Threefry-2x32 with 20 rounds, JAX's own generator, written out: on a CPU JAX rolls its rounds up.
Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC11.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt

from learndyn._numerics.special import polynomial

_SERIES_TERMS = {32: 6, 64: 11}
"""Terms after which the series below are exact to rounding, by bits of the float type."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Bits by which the rounds of Threefry-2x32 turn a word, four at a time (Salmon et al. 2011)."""

_PARITY = np.uint32(0x1BD11BDA)
"""Threefry's own constants (Salmon et al. 2011): other values would give other numbers than JAX."""

_PIECES = 4
"""How many pieces `in_pieces` makes: few enough to cost nothing, enough to compile a loop."""

Words = tuple[UInt[Array, "..."], UInt[Array, "..."]]


@functools.partial(jax.jit, static_argnames=("shape", "dtype"), inline=True)
def normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Independent N(0, 1) numbers of a float type, from the random bits of `key`.

    Error: rounding of the float type. None lies beyond 9.4 (float64) or 6.7 (float32), where
    the probabilities are 5e-21 and 2e-11.
    """
    total = math.prod(shape)
    pairs = (total + 1) // 2
    bits = jnp.finfo(dtype).bits
    for_radius, for_angle = _random_words(key, pairs, bits)
    # A half is added so that the logarithm never sees 0.
    # Box and Muller's two uniform numbers
    u = (for_radius.astype(dtype) + 0.5) * 2.0**-bits
    numbers = box_muller(u, for_angle.astype(dtype) * 2.0**-bits)
    return jnp.stack(numbers).reshape(-1)[:total].reshape(shape)


def box_muller(
    u: Float[Array, "*shape"], turns: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Two arrays of independent N(0, 1) numbers, from two of independent uniform ones.

    u: in (0, 1), 0 excluded; turns: in [0, 1).
    Source: Box & Muller (1958), Ann. Math. Statist. 29, 610.
    """
    # Box and Muller: a radius whose square is exponential, and a uniform angle.
    radius = jnp.sqrt(-2 * log(u))
    cos, sin = cos_sin_turns(turns)
    return radius * cos, radius * sin


def log(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log u for normal numbers u > 0, by log u = e log 2 + 2 atanh((m - 1)/(m + 1)).

    u = 2**e m with m between sqrt(1/2) and sqrt 2, taken from the bits of u.
    """
    info = jnp.finfo(u.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    # Range reduction on the bits: exponent e, and mantissa m around 1
    bits = jax.lax.bitcast_convert_type(u, integer)
    root_half = np.asarray(0.5**0.5, u.dtype).view(integer)
    e = (bits - root_half) >> info.nmant
    m = jax.lax.bitcast_convert_type(bits - (e << info.nmant), u.dtype)
    s = (m - 1) / (m + 1)
    # Series of atanh, in odd powers of s
    atanh = [1 / (2 * k + 1) for k in range(_SERIES_TERMS[info.bits])]
    return e.astype(u.dtype) * math.log(2) + 2 * s * polynomial(atanh, s * s)


def cos_sin_turns(
    turns: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """cos and sin of 2 pi `turns`, by their series within an eighth of a turn of an axis."""
    # Range reduction to an eighth of a turn on either side of an axis
    quarter = jnp.round(4 * turns)
    t = 4 * turns - quarter
    terms = range(_SERIES_TERMS[jnp.finfo(turns.dtype).bits])
    # Taylor series of cosine and sine
    half_pi = [(0.5 * math.pi) ** k / math.factorial(k) for k in range(2 * len(terms))]
    cos = polynomial([(-1) ** k * half_pi[2 * k] for k in terms], t * t)
    sin = polynomial([(-1) ** k * half_pi[2 * k + 1] for k in terms], t * t) * t
    # Back to the quadrant that was taken off
    which = quarter.astype(jnp.int32) & 3
    odd = (which & 1) == 1
    cos, sin = jnp.where(odd, sin, cos), jnp.where(odd, cos, sin)
    return (
        jnp.where((which == 1) | (which == 2), -cos, cos),
        jnp.where(which >= 2, -sin, sin),
    )


def threefry(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Two random 32-bit words from a key and a counter of two words each."""
    # Threefry's key schedule: the two words of the key, and their parity word
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(5):
        # Four rounds of Threefry's mix: add, rotate, exclusive or
        for rotation in _ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation)))
        # Threefry's key injection after every fourth round
        x0, x1 = x0 + keys[(i + 1) % 3], x1 + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1


def in_pieces(words: Callable[[Array, int], Words], count: int) -> Words:
    """words(0, count), where words(first, size) makes `size` of them from number `first` on.

    The loop keeps them out of the arithmetic that follows, whose fusion would compute them again
    and again, and in float64 with half as many numbers to a vector.
    """
    if count < 2 * _PIECES:
        return words(jnp.uint32(0), count)
    size = -(-count // _PIECES)

    def piece(i: Array, out: Words) -> Words:
        new = words(i.astype(jnp.uint32) * np.uint32(size), size)
        put = lambda all_, some: jax.lax.dynamic_update_slice_in_dim(all_, some, i * size, 0)
        return put(out[0], new[0]), put(out[1], new[1])

    whole = jax.eval_shape(lambda: words(jnp.uint32(0), _PIECES * size))
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), whole)
    high, low = jax.lax.fori_loop(0, _PIECES, piece, empty)
    return high[:count], low[:count]


def _random_words(
    key: PRNGKeyArray, count: int, bits: int
) -> tuple[UInt[Array, " count"], UInt[Array, " count"]]:
    """Two arrays of random words of so many bits, from a key of any of JAX's generators.

    The counters have 32 bits: no more than 2**32 numbers are different.
    """
    # Two words from the key's own generator become the key of Threefry.
    k0, k1 = jax.random.bits(key, (2,), jnp.uint32)

    def words(first: Array, size: int) -> Words:
        return threefry(k0, k1, first + jnp.arange(size, dtype=jnp.uint32), jnp.uint32(0))

    if bits == 32:
        return in_pieces(words, count)
    high, low = in_pieces(words, 2 * count)
    # Two words of 32 bits make one of 64.
    wide = (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return wide[:count], wide[count:]
