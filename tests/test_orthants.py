"""Orthant probabilities against other routes to the same number."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr, owens_t
from scipy.stats import multivariate_normal

from learndyn.integrals.relu.orthants import P2, P3, P4

p4 = jax.jit(jax.vmap(P4))
p4_slopes = jax.jit(jax.grad(P4))


def correlation(x):
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    r = np.clip(x @ x.swapaxes(-1, -2), -1, 1)
    return np.where(np.eye(x.shape[-2], dtype=bool), 1.0, r)


def both_below(h, k, rho):
    """P(X < h, Y < k), by Owen (1956)."""
    rest = np.sqrt((1 - rho) * (1 + rho))
    parts = owens_t(h, (k - rho * h) / (h * rest)) + owens_t(k, (h - rho * k) / (k * rest))
    return 0.5 * (ndtr(h) + ndtr(k) - (h * k < 0)) - parts


def density(x):
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def nested_p3(r):
    """P3 by conditioning on the first field: one adaptive integral over Owen's function."""
    q = np.sqrt(1 - r[0, 1:] ** 2)
    rho = (r[1, 2] - r[0, 1] * r[0, 2]) / (q[0] * q[1])

    def integrand(x):
        return density(x) * both_below(r[0, 1] * x / q[0], r[0, 2] * x / q[1], rho)

    return quad(integrand, 0, np.inf, epsabs=1e-13, epsrel=1e-12)[0]


def nested_p4(r):
    """P4 by conditioning on the first two fields, two Gauss-Legendre rules in polar coordinates."""
    x, w = np.polynomial.legendre.leggauss(80)
    lower = np.linalg.cholesky(r)
    low, high = np.arctan2(lower[1, 1], lower[1, 0]) - np.pi / 2, np.pi / 2
    phi, w_phi = low + (high - low) * (1 + x) / 2, w * (high - low) / 2
    rho, w_rho = 5 * (1 + x), 5 * w
    z = rho * np.stack([np.cos(phi), np.sin(phi)])[:, :, None]
    weight = w_phi[:, None] * w_rho * rho * np.exp(-(rho**2) / 2) / (2 * np.pi)
    mean = np.tensordot(lower[2:, :2], z, axes=1)
    left = lower[2:, 2:] @ lower[2:, 2:].T
    s = np.sqrt(np.diag(left))
    return np.sum(weight * both_below(mean[0] / s[0], mean[1] / s[1], left[0, 1] / (s[0] * s[1])))


def test_pairs(rng):
    r = rng.uniform(-0.99, 0.99, 5)
    for value, one in zip(P2(jnp.array(r)), r, strict=True):
        q = np.sqrt(1 - one**2)
        exact = quad(lambda x, a=one / q: density(x) * ndtr(a * x), 0, np.inf, epsabs=1e-13)[0]
        assert float(value) == pytest.approx(exact, abs=1e-12)
    assert P2(jnp.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.25, 0.5]


def test_triples(rng):
    for r in correlation(rng.normal(size=(5, 3, 4))):
        value = P3(*(jnp.array(r[x, y]) for x, y in ((0, 1), (0, 2), (1, 2))))
        assert float(value) == pytest.approx(nested_p3(r), abs=1e-11)


def test_quadruples_against_scipy(rng):
    r = correlation(rng.normal(size=(4, 4, 5)))
    for value, one in zip(p4(r), r, strict=True):
        cdf = multivariate_normal(np.zeros(4), one, abseps=1e-7).cdf(np.zeros(4), rng=rng)
        assert float(value) == pytest.approx(cdf, abs=1e-5)


def test_quadruples_against_a_nested_integral(rng):
    r = correlation(rng.normal(size=(10, 4, 9)))
    np.testing.assert_allclose(p4(r), [nested_p4(one) for one in r], atol=1e-10)


def test_quadruples_with_known_values():
    independent, half, simplex = np.eye(4), 0.5 + 0.5 * np.eye(4), (4 * np.eye(4) - 1) / 3
    chain = np.eye(4)
    for x in range(3):
        chain[x, x + 1] = chain[x + 1, x] = -0.5
    known = {"1/16": independent, "1/5": half, "0": simplex, "1/120": chain}
    for exact, r in known.items():
        numerator, _, denominator = exact.partition("/")
        value = float(p4(r[None])[0])
        assert value == pytest.approx(int(numerator) / int(denominator or 1), abs=1e-10), exact


def hard_cases(rng, size):
    """Correlations that are singular but for `size`: parallel fields, few directions."""
    x = rng.normal(size=(6, 4, 4))
    small = size * rng.normal(size=x.shape)
    x[0, 2] = x[0, 0] + small[0, 2]
    x[1, 2:] = x[1, :2] + small[1, :2]
    x[2, 1:] = x[2, 0] + small[2, 1:]
    x[3, 2:] = [[1], [-1]] * x[3, 0] + small[3, :2]
    x[4, :, 2:] *= size
    x[5, :, 3:] *= size
    return x


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 1e-7, 0.0])
def test_quadruples_at_nearly_singular_correlations(rng, size):
    """Two identities that tie different paths of integration together.

    The order of the fields does not matter, and P(1, 2, 3, 4) + P(1, 2, 3, -4) = P3(1, 2, 3).
    At 1 - |r| = 1e-14 rounding of r itself moves the result by 1e-9.
    """
    x = hard_cases(rng, size)
    tolerance = 1e-10 if size > 1e-6 else 1e-8
    values = np.stack([p4(correlation(x[:, order])) for order in permutations(range(4))])
    assert np.ptp(values, axis=0).max() < tolerance
    for last in range(4):
        three = [other for other in range(4) if other != last]
        mirrored = x.copy()
        mirrored[:, last] *= -1
        r = correlation(x)[:, three][:, :, three]
        expected = P3(*(jnp.array(r[:, a, b]) for a, b in ((0, 1), (0, 2), (1, 2))))
        both = p4(correlation(x)) + p4(correlation(mirrored))
        np.testing.assert_allclose(both, expected, atol=tolerance)


def test_derivatives(rng):
    r = jnp.array(correlation(rng.normal(size=(4, 16))))
    slopes = p4_slopes(r)

    def value(r):
        return p4(r[None])[0]

    for x, y in zip(*np.triu_indices(4, 1), strict=True):
        e = np.zeros((4, 4))
        e[x, y] = e[y, x] = 1.0

        def central(h, e=e):
            return (value(r + h * e) - value(r - h * e)) / (2 * h)

        difference = (4 * central(1e-3) - central(2e-3)) / 3
        assert float(jnp.sum(slopes * e)) == pytest.approx(float(difference), abs=1e-9)
    gradient = jax.grad(P3, argnums=(0, 1, 2))(*jnp.array([0.1, -0.6, 0.3]))
    expected = 1 / (4 * np.pi * np.sqrt(1 - np.array([0.1, -0.6, 0.3]) ** 2))
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


def test_derivatives_are_bounded_where_the_true_ones_are_not(rng):
    x = rng.normal(size=(4, 4))
    x[2:] = x[:2]
    slopes = p4_slopes(jnp.array(correlation(x)))
    assert np.isfinite(slopes).all()
    assert np.abs(slopes).max() <= 1e7
    assert jax.vmap(jax.grad(P2))(jnp.array([-1.0, 1.0])).tolist() == [0.0, 0.0]
