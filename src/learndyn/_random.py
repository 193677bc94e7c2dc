"""Standard normal numbers, fast: they are most of the cost of simulating in n dimensions.

Box and Muller's transform of JAX's random bits: exact, two uniform numbers in, two normal
numbers out. `jax.random.normal` inverts the error function, which on a CPU costs two to
three times as much: XLA's logarithm and cosine are slow there, the series below are not.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt

_SERIES_TERMS = {32: 6, 64: 11}
"""Terms after which the series below are exact to rounding, by bits of the float type."""


def normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Independent N(0, 1) numbers of a float type, from the random bits of `key`.

    Error: rounding of the float type. None lies beyond 9.4 (float64) or 6.7 (float32), where
    the probabilities are 5e-21 and 2e-11.
    Source: Box & Muller (1958), Ann. Math. Statist. 29, 610.
    """
    total = math.prod(shape)
    pairs = (total + 1) // 2
    bits = jnp.finfo(dtype).bits
    for_radius, for_angle = _random_words(key, pairs, bits)
    # A half is added so that the logarithm never sees 0.
    u = (for_radius.astype(dtype) + 0.5) * 2.0**-bits
    radius = jnp.sqrt(-2 * log(u))
    cos, sin = cos_sin_turns(for_angle.astype(dtype) * 2.0**-bits)
    return jnp.stack([radius * cos, radius * sin]).reshape(-1)[:total].reshape(shape)


def log(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log u for normal numbers u > 0, by log u = e log 2 + 2 atanh((m - 1)/(m + 1)).

    u = 2**e m with m between sqrt(1/2) and sqrt 2, taken from the bits of u.
    """
    info = jnp.finfo(u.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    bits = jax.lax.bitcast_convert_type(u, integer)
    root_half = np.asarray(0.5**0.5, u.dtype).view(integer)
    e = (bits - root_half) >> info.nmant
    m = jax.lax.bitcast_convert_type(bits - (e << info.nmant), u.dtype)
    s = (m - 1) / (m + 1)
    atanh = [1 / (2 * k + 1) for k in range(_SERIES_TERMS[info.bits])]
    return e.astype(u.dtype) * math.log(2) + 2 * s * _polynomial(s * s, atanh)


def cos_sin_turns(
    turns: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """cos and sin of 2 pi `turns`, by their series within an eighth of a turn of an axis."""
    quarter = jnp.round(4 * turns)
    t = 4 * turns - quarter
    terms = range(_SERIES_TERMS[jnp.finfo(turns.dtype).bits])
    half_pi = [(0.5 * math.pi) ** k / math.factorial(k) for k in range(2 * len(terms))]
    cos = _polynomial(t * t, [(-1) ** k * half_pi[2 * k] for k in terms])
    sin = _polynomial(t * t, [(-1) ** k * half_pi[2 * k + 1] for k in terms]) * t
    which = quarter.astype(jnp.int32) & 3
    odd = (which & 1) == 1
    cos, sin = jnp.where(odd, sin, cos), jnp.where(odd, cos, sin)
    return (
        jnp.where((which == 1) | (which == 2), -cos, cos),
        jnp.where(which >= 2, -sin, sin),
    )


def _random_words(
    key: PRNGKeyArray, count: int, bits: int
) -> tuple[UInt[Array, " count"], UInt[Array, " count"]]:
    """Two arrays of random words."""
    if bits == 64 or jnp.result_type(float) != jnp.float64:
        words = jax.random.bits(key, (2, count), jnp.dtype(f"uint{bits}"))
        return words[0], words[1]
    # JAX makes 32-bit words from 64-bit ones and throws half of them away.
    words = jax.random.bits(key, (count,), jnp.uint64)
    return (words >> 32).astype(jnp.uint32), words.astype(jnp.uint32)


def _polynomial(x: Float[Array, "*shape"], coefficients: list[float]) -> Float[Array, "*shape"]:
    """sum_k coefficients[k] x**k, by Horner's rule."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value
