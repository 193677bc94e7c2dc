"""Inverse sine and arctangent against 50 digits."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from learndyn._numerics import special as _special
from learndyn._numerics.special import arcsin, arctan2

mpmath.mp.dps = 50


def fitted(f, n, end):
    """Coefficients of the polynomial of n terms through f at the Chebyshev points of [0, end]."""
    angles = [mpmath.pi * (2 * j + 1) / (2 * n) for j in range(n)]
    points = [mpmath.mpf(end) / 2 * (1 + mpmath.cos(angle)) for angle in angles]
    vandermonde = mpmath.matrix([[x**k for k in range(n)] for x in points])
    return [float(c) for c in mpmath.lu_solve(vandermonde, mpmath.matrix([f(x) for x in points]))]


def arcsin_remainder(z):
    s = mpmath.sqrt(z)
    return (mpmath.asin(s) / s - 1) / z


def arctan_remainder(z):
    s = mpmath.sqrt(z)
    return (mpmath.atan(s) / s - 1) / z


def units_in_last_place(value, exact):
    exact = np.array([float(e) for e in exact])
    return np.abs(np.asarray(value) - exact) / np.spacing(np.abs(exact))


def test_the_coefficients_are_those_of_their_recipe():
    assert _special._ARCSIN == pytest.approx(fitted(arcsin_remainder, 13, 0.25), rel=1e-15)
    end = mpmath.tan(mpmath.pi / 8) ** 2
    assert _special._ARCTAN == pytest.approx(fitted(arctan_remainder, 12, end), rel=1e-15)


def test_arcsin_to_two_units_in_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            rng.uniform(-1, 1, 1000),
            1 - 10.0 ** rng.uniform(-16, 0, 500),
            10.0 ** rng.uniform(-20, 0, 300),
            np.linspace(0.499, 0.501, 201),
            [1.0, -1.0],
        ]
    )
    exact = [mpmath.asin(mpmath.mpf(float(e))) for e in x]
    assert units_in_last_place(jax.jit(arcsin)(x), exact).max() <= 2


def test_arctan2_to_three_units_in_the_last_place():
    rng = np.random.default_rng(1)
    x = np.abs(rng.normal(size=2000))
    y = rng.normal(size=2000) * 10.0 ** rng.uniform(-10, 10, 2000)
    y[:1000] = x[:1000] * rng.uniform(0, 3, 1000)
    exact = [
        mpmath.atan2(mpmath.mpf(float(b)), mpmath.mpf(float(a))) for a, b in zip(x, y, strict=True)
    ]
    assert units_in_last_place(jax.jit(arctan2)(y, x), exact).max() <= 3


def test_ends_of_the_ranges():
    assert arcsin(jnp.array([1.0, -1.0, 0.0])).tolist() == [np.pi / 2, -np.pi / 2, 0.0]
    assert bool(jnp.isnan(arcsin(jnp.array(1.0 + 1e-15))))
    y, x = jnp.array([0.0, 1.0, -1.0, 0.0]), jnp.array([0.0, 0.0, 0.0, 1.0])
    assert arctan2(y, x).tolist() == [0.0, np.pi / 2, -np.pi / 2, 0.0]


def test_derivatives():
    x = jnp.array([0.3, -0.8, 0.5])
    np.testing.assert_allclose(jax.vmap(jax.grad(arcsin))(x), 1 / np.sqrt(1 - x**2), rtol=1e-15)
    assert float(jax.grad(arcsin)(jnp.array(1.0))) == pytest.approx(2.0**26)
    dy, dx = jax.grad(arctan2, argnums=(0, 1))(jnp.array(0.3), jnp.array(0.4))
    assert (float(dy), float(dx)) == pytest.approx((0.4 / 0.25, -0.3 / 0.25))
