"""Derivatives of ReLU averages, and fields that are parallel, vanish or are NaN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from relu_oracle import (
    all_pairs,
    covariance,
    every,
    layer,
    legendre,
)

from learndyn.integrals.relu.committee import J2
from learndyn.integrals.relu.correlations import angles_from
from learndyn.integrals.relu.forms import step_step_relu


def symmetric_directions(d):
    directions = []
    for a, b in zip(*np.triu_indices(d), strict=True):
        e = np.zeros((d, d))
        e[a, b] = e[b, a] = 1.0
        directions.append(e)
    return jnp.array(directions)


def differences(f, c, direction, step=2e-3):
    """Central difference with two steps of Richardson's extrapolation."""

    def central(h):
        return (f(c + h * direction) - f(c - h * direction)) / (2 * h)

    first, second, third = central(step), central(step / 2), central(step / 4)
    return (16 * (4 * third - second) - (4 * second - first)) / 45


def flat_first_layer(c, u, k):
    return jnp.concatenate([part.ravel() for part in layer(c, u, k, 0.3)])


def well_conditioned(rng, d):
    """A covariance whose correlations and eigenvalues stay away from their limits."""
    x = rng.normal(size=(d, 4 * d))
    return jnp.array(x @ x.T / (4 * d))


@pytest.mark.nightly(by_day=["pair"])
@pytest.mark.parametrize("name", ["every", "pair", "first_layer"])
def test_derivatives_against_differences(rng, name):
    d = 4
    u = jnp.array(rng.normal(size=d))
    f = {
        "every": jax.jit(lambda c: jnp.concatenate(list(every(c).values()))),
        "pair": all_pairs,
        "first_layer": jax.jit(lambda c: flat_first_layer(c, u, 3)),
    }[name]
    c = well_conditioned(rng, d)
    forward = jax.jit(jax.jacfwd(f))(c)
    if name == "first_layer":
        np.testing.assert_allclose(jax.jit(jax.jacrev(f))(c), forward, atol=1e-13)
    for direction in symmetric_directions(d):
        exact = jnp.sum(forward * direction, axis=(-2, -1))
        np.testing.assert_allclose(exact, differences(f, c, direction), atol=1e-9)


@pytest.mark.parametrize(
    ("order", "bound"),
    [([0, 1, 0, 1], 20), ([0, 1, 2, 2], 20), ([0, 0, 1, 2], 1e8), ([0, 0, 0, 0], 1e8)],
    ids=["student = teacher", "parallel teachers", "parallel students", "all parallel"],
)
def test_finite_with_bounded_derivatives_at_singular_covariances(rng, order, bound):
    """Four fields, two students; the true slopes of parallel students are infinite."""
    x = rng.normal(size=(3, 3))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True))[order]
    value, slopes = value_and_slopes(covariance(x), jnp.array([1.0, 0.7, -1.2, -0.4]))
    assert np.isfinite(value).all()
    assert np.abs(slopes).max() < bound


def test_fields_that_vanish(rng):
    """step(0) = 0: a student at zero does not move, a teacher at zero changes nothing."""
    x = rng.normal(size=(4, 4))
    u = jnp.array([1.0, 0.7, -1.2, -0.4])
    for zero in (0, 3):
        y = x.copy()
        y[zero] = 0.0
        value, slopes = value_and_slopes(covariance(y), u)
        gradient, product = value[:8].reshape(2, 4), value[8:].reshape(2, 2)
        assert np.isfinite(value).all()
        assert np.isfinite(slopes).all()
        if zero == 0:
            assert not gradient[0].any()
            assert not product[0].any()
            assert product[1, 1] > 0
        else:
            rest = covariance(y)[:3, :3]
            expected = layer(rest, u[:3], 2, 0.3)
            np.testing.assert_allclose(gradient[:, :3], expected[0], atol=1e-12)
            np.testing.assert_allclose(product, expected[1], atol=1e-10)


def test_nan_stays_nan():
    c = jnp.eye(4).at[1, 2].set(jnp.nan).at[2, 1].set(jnp.nan)
    for bad in (c, jnp.full((4, 4), jnp.nan)):
        gradient, product = layer(bad, np.ones(4), 2, 0.1)
        assert jnp.isnan(gradient[1, 2])
        assert jnp.isnan(product[1]).all()


@jax.jit
def value_and_slopes(c, u):
    f = partial(flat_first_layer, u=u, k=2)
    return f(c), jax.jacfwd(f)(c)


def test_derivatives_close_to_parallel_units(rng):
    """dJ2/dr = 1 / (2 pi q), q = sqrt(1 - r**2), but for rounding of r, down to q = 1e-7; then
    bounded."""
    slope = jax.jit(jax.grad(lambda r: J2(jnp.array([[1.0, r], [r, 1.0]]), 0, 1)))
    for q in (1e-1, 1e-3, 1e-5):
        r = np.sqrt((1 - q) * (1 + q))
        exact_q = np.sqrt((1 - r) * (1 + r))
        assert float(slope(r)) == pytest.approx(1 / (2 * np.pi * exact_q), rel=1e-9 + 1e-15 / q**2)
    assert float(slope(1.0)) == 0.0
    assert abs(float(slope(1.0 - 1e-16))) <= 1e7


@pytest.mark.parametrize("r", [(0.3, 0.5, -0.4), (-0.6, 0.2, 0.5)], ids=str)
def test_derivatives_of_two_steps_and_a_relu(r):
    """<theta_i theta_j a_+>, by Price's theorem: with respect to r_ij <delta_i delta_j a_+>,
    to r_ia <delta_i theta_j theta_a>, to r_ja <theta_i delta_j theta_a>, over the density."""
    c = np.eye(3)
    c[[0, 0, 1], [1, 2, 2]] = c[[1, 2, 2], [0, 0, 1]] = r
    x, weight = legendre(np.linspace(0.0, 9.0, 4), count=40)

    def over_density(i, j, a, w):
        f = np.stack(np.broadcast_arrays(i, j, a))
        far = np.einsum("i...,ij,j...->...", f, np.linalg.inv(c), f)
        return np.sum(w * np.exp(-0.5 * far)) / np.sqrt((2 * np.pi) ** 3 * np.linalg.det(c))

    both = np.outer(weight, weight)
    right = [
        over_density(0.0, 0.0, x, weight * x),
        over_density(0.0, x[:, None], x, both),
        over_density(x[:, None], 0.0, x, both),
    ]

    def average(r):
        angles = angles_from(r)
        return step_step_relu(angles[0], angles[1], angles[2])

    np.testing.assert_allclose(jax.jit(jax.grad(average))(jnp.array(r)), right, rtol=1e-12)
