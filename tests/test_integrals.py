"""The averages of Saad & Solla (1995) one at a time: against nodes, and in the dynamics' sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf as scipy_erf

from learndyn.integrals import erf, linear

MODULES = {
    "erf": (
        erf,
        lambda x: scipy_erf(x / 2**0.5),
        lambda x: (2 / np.pi) ** 0.5 * np.exp(-(x**2) / 2),
    ),
    "linear": (linear, lambda x: x, np.ones_like),
}
ORDER = 24
"""Gauss-Hermite nodes in each of four directions: enough for 1e-10 at variances below 1."""


@pytest.fixture(scope="module")
def covariance():
    factor = np.random.default_rng(0).normal(size=(4, 4)) / 4
    return factor @ factor.T + 0.1 * np.eye(4)


@pytest.fixture(scope="module")
def nodes(covariance):
    """Values of the four fields (4, nodes), and the weight of each node."""
    x, weight = np.polynomial.hermite_e.hermegauss(ORDER)
    grid = np.stack(np.meshgrid(x, x, x, x)).reshape(4, -1)
    weights = np.prod(np.stack(np.meshgrid(*[weight / weight.sum()] * 4)).reshape(4, -1), axis=0)
    return np.linalg.cholesky(covariance) @ grid, weights


def arguments(c, *fields):
    """The overlaps of these fields, the upper triangle row by row; in the order of I2, J2, I4."""
    return [c[fields[a], fields[b]] for a in range(len(fields)) for b in range(a, len(fields))]


def i4_arguments(c, i, k, a, b):
    pairs = ((i, i), (i, k), (k, k), (i, a), (i, b), (k, a), (k, b), (a, a), (a, b), (b, b))
    return [c[pair] for pair in pairs]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("fields", [(0, 1, 2, 3), (2, 0, 0, 1), (1, 1, 3, 3), (3, 2, 3, 2)])
def test_each_is_the_average_over_nodes(name, fields, covariance, nodes):
    (module, g, slope), (f, weights) = MODULES[name], nodes
    c = jnp.asarray(covariance)
    i, k, a, b = fields
    found = {
        "I2": (module.I2(*arguments(c, a, b)), g(f[a]) * g(f[b])),
        "J2": (module.J2(*arguments(c, i, k)), slope(f[i]) * slope(f[k])),
        "I3": (
            module.I3(c[i, i], c[i, a], c[i, b], c[a, b], c[b, b]),
            slope(f[i]) * f[a] * g(f[b]),
        ),
        "I4": (module.I4(*i4_arguments(c, *fields)), slope(f[i]) * slope(f[k]) * g(f[a]) * g(f[b])),
    }
    for which, (closed, sample) in found.items():
        assert float(closed) == pytest.approx(weights @ sample, rel=1e-9, abs=1e-12), which


@pytest.mark.parametrize("name", MODULES)
def test_what_the_dynamics_use_is_their_sum(name, covariance):
    module, u = MODULES[name][0], jnp.array([0.7, -0.3, 1.1, -0.9])

    @jax.jit
    def both_ways(c):
        noise_variance = jnp.array(0.2)
        field_gradient, product = module.first_layer(c, u, 2, noise_variance)
        i, k, a, b = np.meshgrid(range(2), range(2), range(4), range(4), indexing="ij")
        j2 = module.J2(*arguments(c, i, k))[..., 0, 0]
        sums = jnp.einsum("ikab,a,b->ik", module.I4(*i4_arguments(c, i, k, a, b)), u, u)
        i, p, b = np.meshgrid(range(2), range(4), range(4), indexing="ij")
        i3 = module.I3(c[i, i], c[i, p], c[i, b], c[p, b], c[b, b])
        a, b = np.meshgrid(range(4), range(4), indexing="ij")
        found = product, field_gradient @ c, module.pair(c)
        return found, (sums + noise_variance * j2, i3 @ u, module.I2(*arguments(c, a, b)))

    found, right = both_ways(jnp.asarray(covariance))
    for value, expected, rtol in zip(found, right, (1e-13, 1e-13, 1e-14), strict=True):
        np.testing.assert_allclose(value, expected, rtol=rtol)
