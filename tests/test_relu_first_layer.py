"""What the ODE of ReLU networks needs: sums of averages in which large terms cancel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from relu_oracle import I3_PATTERNS, PATTERNS, all_pairs, covariance, every, layer, legendre
from scipy.optimize import root


def find(patterns, *equivalent):
    """Fields, in order of appearance, and number of the pattern that one of these indices has."""
    for indices in equivalent:
        fields = list(dict.fromkeys(indices))
        pattern = tuple(fields.index(x) for x in indices)
        if pattern in patterns:
            return fields, patterns.index(pattern)
    raise AssertionError(f"no pattern for {equivalent}")


def first_four(c, fields):
    """The covariance of these fields and, up to four, of others."""
    order = [*fields, *(x for x in range(len(c)) if x not in fields)][:4]
    return c[np.ix_(order, order)]


def direct_sums(c, u, k, noise_variance):
    """first_layer's results with c as its own probe, from the averages one at a time."""
    d = range(len(u))
    c = np.pad(c, (0, max(0, 4 - len(u))))  # fields that vanish fill up to four

    def one_I3(i, p, b):
        fields, number = find(I3_PATTERNS, (i, p, b))
        return every(first_four(c, fields))["I3"][number]

    def one_I4(i, j, a, b):
        fields, number = find(PATTERNS, (i, j, a, b), (i, j, b, a), (j, i, a, b), (j, i, b, a))
        return every(first_four(c, fields))["I4"][number]

    def one_J2(i, j):
        return every(first_four(c, list(dict.fromkeys((i, j)))))["J2"][int(i == j)]

    def product(i, j):
        errors = sum(u[a] * u[b] * one_I4(i, j, a, b) for a in d for b in d)
        return u[i] * u[j] * (errors + noise_variance * one_J2(i, j))

    gradient = [[u[i] * sum(u[b] * one_I3(i, p, b) for b in d) for p in d] for i in range(k)]
    return np.array(gradient), np.array([[product(i, j) for j in range(k)] for i in range(k)])


@pytest.mark.nightly(by_day=["2-2"])
@pytest.mark.parametrize(("k", "m"), [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_first_layer_is_the_sum_of_its_averages(rng, k, m):
    x, u = rng.normal(size=(k + m, k + m)), rng.normal(size=k + m)
    c = covariance(x)
    gradient, product = layer(c, u, k, 0.3)
    expected = direct_sums(c, u, k, 0.3)
    np.testing.assert_allclose(gradient @ c, expected[0], atol=1e-12)
    np.testing.assert_allclose(product, expected[1], atol=1e-10)


def test_first_layer_against_monte_carlo(rng):
    """9 + 24 comparisons, three of the probes outside the network, at 5 standard errors."""
    k, m, p, samples = 3, 2, 3, 200_000
    x, u = rng.normal(size=(k + m + p, 6)) / 2, rng.normal(size=k + m)
    fields = rng.normal(size=(samples, 6)) @ x.T
    f, probe = fields[:, : k + m], fields[:, k + m :]
    errors = np.maximum(f, 0) @ u - 0.5 * rng.normal(size=samples)
    c_i = u[:k] * (f[:, :k] > 0) * errors[:, None]
    c = covariance(x)
    gradient, product = layer(c[: k + m, : k + m], u, k, 0.25)
    for value, other in ((product, c_i), (gradient @ c[: k + m], np.hstack([f, probe]))):
        each = c_i[:, :, None] * other[:, None, :]
        z = (each.mean(axis=0) - value) / (each.std(axis=0) / np.sqrt(samples))
        assert np.abs(z).max() < 5


@pytest.mark.nightly
def test_first_layer_of_one_unit_ends_at_the_known_error():
    """k = m = 1 with label noise: eg -> lr sigma**2 / 4 (2 - lr) for every lr, up to a
    correction that is linear in sigma (Goldt et al. 2020 have it quadratic for erf)."""
    lr = 0.7
    u = np.array([1.0, -1.0])

    def drift(state, sigma):
        q, r = 1 + sigma**2 * state[0], 1 + sigma**2 * state[1]
        c = jnp.array([[q, r], [r, 1.0]])
        gradient, product = layer(c, u, 1, sigma**2)
        c_lambda, c_rho = (gradient @ c)[0]
        return np.array([-2 * c_lambda + lr * product[0, 0], -c_rho]) / sigma**2

    def excess(sigma):
        q, r = 1 + sigma**2 * root(drift, [0.5, 0.1], args=(sigma,), tol=1e-12).x
        averages = all_pairs(jnp.array([[q, r], [r, 1.0]]))
        eg = 0.5 * (averages[0, 0] - 2 * averages[0, 1] + averages[1, 1])
        return float(eg) / (lr * sigma**2 / (4 * (2 - lr))) - 1

    assert abs(excess(1e-3)) < 1e-4
    assert excess(1e-2) / excess(1e-3) == pytest.approx(10, rel=0.01)


def products_in_a_plane(angle, length, u, k):
    """<c_i c_k> of fields with these polar coordinates: the integral over the angle of x, with
    Gauss-Legendre between kinks, in which nothing cancels."""
    zeros = np.sort((angle[:, None] + [-np.pi / 2, np.pi / 2]).ravel() % (2 * np.pi))
    phi, weight = legendre(np.append(zeros, zeros[0] + 2 * np.pi))
    fields = length[:, None] * np.cos(phi - angle[:, None])
    c = u[:k, None] * (fields[:k] > 0) * (u @ np.maximum(fields, 0))
    return c * weight / np.pi @ c.T  # <|x|**2> = 2


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_first_layer_close_to_zero_error(rng, size):
    """Three units on each of two teacher units, up to `size`: the products are of order size**2,
    sums of hundreds of averages of order 1."""
    near = size * rng.normal(size=(2, 6))
    angle = np.append([0.3, 1.9] + near[0].reshape(3, 2), [[0.3, 1.9]], axis=0).ravel()
    length = np.append(1 + near[1], [1, 1])
    u = np.append(np.full(6, 1 / 3), [-1, -1])
    x = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    exact = products_in_a_plane(angle, length, u, 6)
    error = layer(covariance(x), u, 6, 0.0)[1] - exact
    assert np.abs(error).max() < 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize(("m", "z"), [(2, 2), (2, 3), (3, 2)])
def test_first_layer_vanishes_at_zero_error(m, z):
    x, u = np.tile(np.eye(m), (z + 1, 1)), np.append(np.full(m * z, 1 / z), np.full(m, -1.0))
    gradient, product = layer(covariance(x), u, m * z, 0.0)
    assert np.abs(gradient @ covariance(x)).max() < 1e-15
    assert np.abs(product).max() < 1e-15


def test_first_layer_of_a_matrix_that_is_not_quite_positive():
    """What an ODE solver may hand over: units parallel, and then an error of 1e-9."""
    c = np.tile(np.eye(2), (3, 3))
    c[0, 2] = c[2, 0] = 1 + 1e-9
    gradient, product = layer(c, np.array([0.5, 0.5, 0.5, 0.5, -1.0, -1.0]), 4, 0.0)
    assert np.abs(gradient @ c).max() < 1e-8
    assert np.abs(product).max() < 1e-8
    assert np.linalg.eigvalsh(product).min() > -1e-15


def test_first_layer_under_jit_and_vmap(rng):
    x = rng.normal(size=(3, 4, 4))
    c, u = jnp.array(x @ x.swapaxes(1, 2)), jnp.array(rng.normal(size=4))
    batched = jax.jit(jax.vmap(lambda c: layer(c, u, 2, 0.1)))(c)
    for n in range(3):
        single = layer(c[n], u, 2, 0.1)
        for one, many in zip(single, batched, strict=True):
            np.testing.assert_allclose(many[n], one, atol=1e-12)
