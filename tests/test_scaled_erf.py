"""erf(x/sqrt 2) and its derivatives against 60 digits, over all that float64 can hold."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from learndyn._numerics import special as module
from learndyn._numerics.special import scaled_erf

mpmath.mp.dps = 60

TINY = [0.0, 5e-324, 1e-310, 2.3e-308, 1e-200, 1e-30, 1e-9]
NEAR_TWO = [np.nextafter(2.0, 0.0), 2.0, np.nextafter(2.0, 3.0)]
LARGE = [8.3, np.nextafter(8.5, 0.0), 8.5, np.nextafter(8.5, 9.0), 8.6, 40.0, 1e10, 1e308]


def exact(x):
    return float(mpmath.erf(mpmath.mpf(float(x)) / mpmath.sqrt(2)))


def exact_derivative(x):
    return float(mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-(mpmath.mpf(float(x)) ** 2) / 2))


@pytest.fixture(scope="module")
def points():
    """Both pieces densely, where they meet, subnormal numbers, and where 1 is reached."""
    rng = np.random.default_rng(0)
    spread = np.concatenate([rng.uniform(0, 2, 2000), rng.uniform(2, 9, 1500)])
    x = np.concatenate([spread, 10.0 ** rng.uniform(-300, 0, 200), TINY, NEAR_TWO, LARGE])
    return np.concatenate([x, -x])


@pytest.fixture(scope="module")
def reference(points):
    return np.array([exact(x) for x in points])


def test_the_coefficients_themselves():
    """The rational functions, in 60 digits, miss erf by what their comment says."""

    def polynomial(coefficients, x):
        return functools.reduce(lambda value, c: value * x + mpmath.mpf(c), coefficients[::-1])

    for x in mpmath.linspace("0.002", 8.5, 600):
        true = mpmath.erf(x / mpmath.sqrt(2))
        if x <= 2:
            t = x**2 / 2 - 1
            ratio = polynomial(module._NEAR_TOP, t) / polynomial(module._NEAR_BOTTOM, t)
            assert abs(x * ratio / true - 1) < 1.4e-16
        else:
            t = (x - module._MIDDLE) / module._HALF_RANGE
            ratio = polynomial(module._FAR_TOP, t) / polynomial(module._FAR_BOTTOM, t)
            assert abs(1 - mpmath.exp(-(x**2) / 2) * ratio - true) < 7e-17


def test_within_three_units_in_the_last_place(points, reference):
    got = np.asarray(jax.jit(scaled_erf)(points))
    # XLA flushes subnormal numbers to zero on some devices.
    off = np.abs(got - reference) / np.maximum(np.spacing(np.abs(reference)), 2.3e-308)
    assert off.max() <= 3
    assert np.abs(got).max() == 1.0


def test_odd_and_no_step_where_the_pieces_meet():
    x = jnp.array([*NEAR_TWO, *TINY, *LARGE])
    np.testing.assert_array_equal(scaled_erf(-x), -scaled_erf(x))
    steps = np.diff(scaled_erf(jnp.array(NEAR_TWO)))
    assert np.abs(steps).max() <= 2 * np.spacing(1.0)


def test_infinite_and_not_a_number():
    got = np.asarray(scaled_erf(jnp.array([np.inf, -np.inf, np.nan, -0.0])))
    np.testing.assert_array_equal(got[:2], [1.0, -1.0])
    assert np.isnan(got[2])
    assert got[3] == 0.0
    assert np.signbit(got[3])


def test_first_and_second_derivative(points):
    x = points[np.abs(points) < 1e150]  # beyond, x**2 overflows and the second is 0 times inf
    first = jax.vmap(jax.grad(scaled_erf))(x)
    second = jax.vmap(jax.grad(jax.grad(scaled_erf)))(x)
    expected = np.array([exact_derivative(one) for one in x])
    # exp(-x**2/2) magnifies the rounding of x**2.
    allowed = 1e-15 * (1 + x**2) * expected + 1e-307
    assert np.all(np.abs(first - expected) <= allowed)
    assert np.all(np.abs(second + x * expected) <= (1 + np.abs(x)) * allowed)


def test_forward_and_reverse_derivatives_agree():
    x = jnp.array([-9.0, -2.0, -0.3, 0.0, 0.3, 2.0, 9.0])
    forward = jax.vmap(jax.jacfwd(scaled_erf))(x)
    np.testing.assert_array_equal(forward, jax.vmap(jax.jacrev(scaled_erf))(x))


def test_float32_stays_float32(points, reference):
    single = np.abs(points) < 1e38
    got = scaled_erf(jnp.asarray(points[single], jnp.float32))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, reference[single], rtol=1e-6, atol=1e-37)
