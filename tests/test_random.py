"""Normal numbers from random bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from learndyn._numerics.random import cos_sin_turns, in_pieces, log, normal, threefry

DTYPES = [jnp.dtype("float32"), jnp.dtype("float64")]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_standard_normal_and_independent(dtype, key):
    count = 2_000_000
    x = np.asarray(normal(key, (count,), dtype), np.float64)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(x.var() - 1) < 4.5 * (2 / count) ** 0.5
    assert abs(np.mean(x**4) - 3) < 4.5 * (96 / count) ** 0.5
    # The tails, where a poor logarithm would show, by a Poisson test.
    for limit in (3.0, 4.0):
        for tail in (x, -x):
            expected = count * stats.norm.sf(limit)
            assert stats.poisson.cdf((tail > limit).sum(), expected) > 1e-4
            assert stats.poisson.sf((tail > limit).sum() - 1, expected) > 1e-4
    # The two numbers of a pair: neither they nor their sizes know of each other.
    a, b = x[: count // 2], x[count // 2 :]
    for f in (np.asarray, np.square, np.abs):
        correlation = np.corrcoef(f(a), f(b))[0, 1]
        assert abs(correlation) < 4.5 / (count / 2) ** 0.5
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4.5 / count**0.5


@pytest.mark.parametrize(
    ("key_words", "counter", "answer"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1, 2**32 - 1), (2**32 - 1, 2**32 - 1), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers(key_words, counter, answer):
    """Salmon et al. (2011), their library's table for 20 rounds."""
    words = threefry(*(jnp.uint32(word) for word in (*key_words, *counter)))
    assert tuple(map(int, words)) == answer


@pytest.mark.parametrize("count", [0, 7, 8, 41])
def test_pieces_make_the_whole(count):
    def words(first, size):
        number = first + jnp.arange(size, dtype=jnp.uint32)
        return number, number + 100

    for found, offset in zip(in_pieces(words, count), (0, 100), strict=True):
        assert found.tolist() == list(range(offset, offset + count))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (7,), (2, 0)])
def test_shapes_and_types_are_those_asked_for(shape, dtype, key):
    x = normal(key, shape, dtype)
    assert x.shape == shape
    assert x.dtype == dtype
    assert np.isfinite(x).all()


def test_without_float64_the_numbers_are_single(key):
    with jax.enable_x64(False):
        x = np.asarray(normal(key, (20_000,), jnp.dtype("float32")))
    assert x.dtype == np.float32
    assert stats.kstest(x, "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithm_and_circle_are_exact_to_rounding(dtype, rng):
    eps = float(jnp.finfo(dtype).eps)
    smallest = 2.0 ** -(jnp.finfo(dtype).bits + 1)
    edges = [smallest, 0.5, 0.5**0.5, np.nextafter(0.5**0.5, 1), 1.0]
    u = np.concatenate([rng.uniform(size=5000), 2.0 ** -rng.uniform(0, 30, 5000), edges])
    u = u.astype(dtype)
    np.testing.assert_allclose(log(jnp.asarray(u)), np.log(u.astype(float)), rtol=4 * eps)
    cos, sin = cos_sin_turns(jnp.asarray(u))
    angle = 2 * np.pi * u.astype(np.longdouble)
    np.testing.assert_allclose(cos, np.cos(angle).astype(float), atol=8 * eps)
    np.testing.assert_allclose(sin, np.sin(angle).astype(float), atol=8 * eps)
    np.testing.assert_allclose(cos**2 + sin**2, 1.0, rtol=8 * eps)
