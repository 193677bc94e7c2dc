"""Leaky ReLU: its averages come from those of ReLU, and its file alone makes it an activation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import RULE, averages_of, chosen
from averages_reference import STATE as START
from relu_oracle import legendre

import learndyn as ld
from learndyn.averages import ClosedForm, QuasiMonteCarlo, choose_averages, has_closed_form
from learndyn.integrals import linear, relu
from learndyn.integrals.leaky_relu import LeakyReLUIntegrals
from learndyn.problems import derivative, regularity
from learndyn.testing import z_limit

SLOPES = [0.3, -1.0, 2.0]
NOISE = 0.3
"""Variance of the label noise."""


def leaky(slope, noise=0.0):
    return ld.Problem(ld.LeakyReLU(slope), ld.LeakyReLU(slope), noise=noise)


def averages(integrals, c, u):
    """<g g>, G and <s_i s_k> of two students and other fields."""
    return integrals.pair(c), *integrals.first_layer(c, u, 2, jnp.array(NOISE))


@jax.jit
def of_leaky(slope, c, u):
    return averages(LeakyReLUIntegrals(slope), c, u)


def at(slope, x, u):
    """The averages of fields of which x (fields, dims) are vectors; one program for all slopes."""
    return of_leaky(slope, jnp.asarray(x @ x.T), jnp.asarray(u))


def in_a_plane(slope, angle, length, u):
    """The averages of fields with these polar coordinates, with <s_i f_p> in place of G.

    They are integrals over the angle of x; Gauss-Legendre panels end at every kink.
    """
    zeros = np.unique(np.add.outer(angle, [-np.pi / 2, np.pi / 2]) % (2 * np.pi))
    phi, weight = legendre(np.append(zeros, zeros[0] + 2 * np.pi))
    f = length[:, None] * np.cos(phi - angle[:, None])
    g, weight = np.where(f > 0, f, slope * f), weight / (2 * np.pi)
    steps = np.where(f[:2] > 0, 1.0, slope)
    signal = steps * (u @ g)
    # <|x|**2> = 2 multiplies what is quadratic in x; the noise is not.
    product = 2 * signal * weight @ signal.T + NOISE * steps * weight @ steps.T
    return 2 * g * weight @ g.T, 2 * signal * weight @ f.T, product


PLANES = {
    "four different fields": ([0.3, 1.9, -0.8, 2.6], [0.7, 1.2, 1.0, 0.9]),
    "student equals teacher": ([0.3, 1.9, 0.3, 1.9], [1.0, 1.2, 1.0, 1.2]),
    "student opposes teacher": ([0.3, 1.9, 0.3 + np.pi, 1.9], [1.0, 1.2, 1.0, 1.2]),
    "equal students": ([0.3, 0.3, -0.8, 2.6], [0.7, 0.7, 1.0, 0.9]),
}


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
@pytest.mark.parametrize("slope", SLOPES)
def test_averages_of_fields_in_a_plane(slope, plane):
    """Four fields of two directions: C is singular. The error measured is 7e-16."""
    (angle, length), u = map(np.array, plane), np.array([0.7, -1.3, -1.1, -0.4])
    x = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    pair, gradient, product = at(slope, x, u)
    found = pair, gradient @ (x @ x.T), product
    for value, right in zip(found, in_a_plane(slope, angle, length, u), strict=True):
        np.testing.assert_allclose(value, right, rtol=0, atol=1e-14 * np.abs(right).max())


@pytest.mark.parametrize(("slope", "other"), [(0.0, relu), (1.0, linear)], ids=["relu", "linear"])
def test_slopes_0_and_1_are_relu_and_linear(slope, other, rng):
    """The error measured is 5e-16 of the largest entry."""
    x, u = rng.normal(size=(4, 4)), jnp.asarray(rng.normal(size=4))
    expected = jax.jit(averages, static_argnums=0)(other, jnp.asarray(x @ x.T), u)
    for value, right in zip(at(slope, x, u), expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=0, atol=1e-14 * np.abs(right).max())


@pytest.mark.nightly
def test_field_gradient_is_that_of_a_relu_and_a_linear_unit(rng):
    """g = (1 - slope) relu + slope x: the mixed terms of G vanish or are slope u."""
    x, u = rng.normal(size=(4, 4)), jnp.asarray(rng.normal(size=4))
    of_relu, _ = relu.first_layer(jnp.asarray(x @ x.T), u, 2, jnp.asarray(NOISE))
    np.testing.assert_allclose(at(0.3, x, u)[1], 0.7**2 * of_relu + 0.3 * u, atol=1e-14)


@pytest.mark.parametrize("slope", SLOPES)
def test_squared_slope(slope):
    x, weight = legendre(np.array([-9.0, -0.5, 9.0]), count=100)
    density = weight * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    expected = np.where(x > -0.5, 1.0, slope) ** 2 @ density  # sqrt(norm) x + b > 0
    found = LeakyReLUIntegrals(slope).squared_slope(jnp.array([4.0]), jnp.array([1.0]))
    np.testing.assert_allclose(found, [expected], rtol=1e-14)


@pytest.mark.nightly
def test_derivatives_are_finite_where_student_equals_teacher():
    x, u = np.tile(np.eye(2), (2, 1)), jnp.array([1.0, 1.0, -1.0, -1.0])
    slopes = jax.jacfwd(of_leaky, 1)(0.3, jnp.asarray(x @ x.T), u)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert np.abs(slopes[1]).max() > 0


def test_a_unit_without_weights_does_not_learn():
    """Its field is always 0, where g' is 0: the closed form and a sample agree."""
    x, u = (
        np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
        np.array([0.7, -1.3, -1.1, -0.4]),
    )
    _, gradient, product = at(0.3, x, u)
    assert (gradient[0] == 0).all()
    assert (product[0] == product[:, 0]).all()
    assert (product[0] == 0).all()
    assert product[1, 1] > 0
    assert derivative(ld.LeakyReLU(), jnp.array(0.0)) == 0


def test_closed_form_against_nodes():
    """Four directions, with a plain function; the error measured, 3.2e-4, is that of the nodes."""
    plain = ld.Problem(*[lambda x: jnp.where(x > 0, x, 0.3 * x)] * 2, noise=0.4)
    closed, nodes = chosen(leaky(0.3, 0.4), START), chosen(plain, START, QuasiMonteCarlo(65536))
    assert isinstance(closed, ClosedForm)
    exact, eg = averages_of(closed, leaky(0.3, 0.4), START)
    found, eg_of_nodes = averages_of(nodes, plain, START)
    np.testing.assert_allclose(
        found.with_fields(START.covariance), exact.G @ START.covariance, atol=6e-4
    )
    np.testing.assert_allclose(found.Phi, exact.Phi, atol=6e-4)
    np.testing.assert_allclose(found.h, exact.h, atol=6e-4)
    np.testing.assert_allclose(eg_of_nodes, eg, atol=6e-4)


def test_closed_forms_need_the_same_slope():
    problem = ld.Problem(ld.LeakyReLU(0.1), ld.LeakyReLU(0.2))
    assert has_closed_form(leaky(0.1), RULE, biases=False)
    assert not has_closed_form(problem, RULE, biases=False)
    chosen = choose_averages(problem, 2, 2, rule=RULE, biases=False)
    assert not isinstance(chosen, ClosedForm)


@pytest.mark.nightly
def test_chain_and_ode():
    """The chain draws samples of g itself. At n = 10 000 terms of order 1/n are far below the
    scatter of 64 runs; the ODE with slope 0.35 is 5 standard errors away."""
    problem, rule, ts = leaky(0.3, 0.2), ld.SGD(lr=0.5, lr_second=0.2), jnp.array([0.0, 0.5])
    one = lambda key: ld.simulate_chain(problem, rule, START, ts, n=10_000, key=key).eg[-1]
    chains = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 64)))
    theory = ld.solve_ode(problem, rule, START, ts).eg[-1]
    z = (chains.mean() - theory) / (chains.std(ddof=1) / np.sqrt(len(chains)))
    assert abs(z) < z_limit(1, 1e-5)


def test_what_is_declared_is_what_is_measured():
    plain = lambda x: jnp.where(x > 0, x, 0.3 * x)
    measured = regularity(ld.Problem(plain).student)
    declared = regularity(ld.LeakyReLU(0.3))
    assert declared.is_continuous is measured.is_continuous is True
    np.testing.assert_allclose(measured.kinks, declared.kinks, atol=1e-12)


@pytest.mark.parametrize("slope", [True, np.nan, np.inf, "0.1", None, np.ones(1), 1j], ids=repr)
def test_bad_slopes_are_refused(slope):
    with pytest.raises(ValueError, match="slope must be a finite Python number"):
        ld.LeakyReLU(slope)


def test_values_and_slopes():
    g, x = ld.LeakyReLU(), jnp.array([-2.0, -0.5, 0.0, 3.0])
    np.testing.assert_allclose(g(x), [-0.02, -0.005, 0.0, 3.0], rtol=1e-15)
    np.testing.assert_allclose(derivative(g, x), [0.01, 0.01, 0.0, 1.0], rtol=1e-15)
    assert ld.LeakyReLU(2).slope == 2.0
