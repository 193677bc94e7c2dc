"""Teachers that jump, in regression: squared loss, additive networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import STATE, averages_of, chosen
from jumps_reference import (
    JUMPING,
    STUDENTS,
    right_averages,
    sampled,
)
from scipy.stats import multivariate_normal

import learndyn as ld
from learndyn.averages import MixedAverages, averages_error, choose_averages
from learndyn.averages._piecewise_linear import PiecewiseLinearAverages
from learndyn.integrals.piecewise_linear import PiecewiseLinear, Resolution, network
from learndyn.integrals.piecewise_linear.conditioned import conditioned_products
from learndyn.integrals.piecewise_linear.jumping import _Fixed, jumping_products
from learndyn.problems import as_module, kinked_part, piecewise_linear

# What is recognised


@pytest.mark.nightly(by_day=["sign", "a jump at a kink"])
@pytest.mark.parametrize(("g", "right"), JUMPING.values(), ids=JUMPING)
def test_jumps_are_recognised_to_rounding(g, right):
    g = as_module(g, "g")
    assert piecewise_linear(g) is None
    found = piecewise_linear(g, jumps=True)
    for value, expected in zip(found, right, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-14, atol=1e-15)


OTHERS = {
    "as many jumps as there are integers": jnp.round,
    "a steep place": lambda x: jnp.tanh(1e10 * (x - 0.1)),
    "curved next to a jump": lambda x: jnp.where(x > 0, jnp.exp(-x), 0.0),
}


@pytest.mark.nightly
@pytest.mark.parametrize("g", OTHERS.values(), ids=OTHERS)
def test_other_functions_that_jump_are_not_taken(g):
    assert piecewise_linear(as_module(g, "g"), jumps=True) is None


@pytest.mark.nightly
def test_the_part_that_jumps_of_a_curved_function():
    g = lambda x: jnp.where(x > 0.25, jnp.exp(-x), 0.0)
    found = kinked_part(as_module(g, "g"), jumps=True)
    assert found.knots == (0.25,)
    # Left of the jump nothing; right of it exp(-x), whose slope is -exp(-x).
    np.testing.assert_allclose(found.jumps, np.exp(-0.25), rtol=1e-12)
    np.testing.assert_allclose(found.bends, -np.exp(-0.25), rtol=1e-9)
    assert kinked_part(as_module(g, "g")) is None


# Averages, against quadrature over the students' fields

BIASED = eqx.tree_at(
    lambda s: (s.b, s.b_teacher),
    STATE,
    (jnp.array([0.2, -0.1]), jnp.array([0.3, 0.1])),
    is_leaf=lambda x: x is None,
)
CASES = {
    # student, teacher, state, label noise, error of Phi
    "relu of sign": ("relu", "sign", STATE, 0.0, 2e-6),
    "relu of a staircase with biases": ("relu", "staircase", BIASED, 0.4, 2e-6),
    "linear of sign with biases": ("linear", "sign", BIASED, 0.4, 1e-11),
    "erf of heaviside with biases": ("erf", "heaviside", BIASED, 0.4, 2e-6),
    "tanh of sign": ("tanh", "sign", STATE, 0.0, 2e-6),
}


@pytest.mark.nightly(by_day=["linear of sign with biases"])
@pytest.mark.parametrize("name", CASES)
def test_averages_are_those_of_quadrature(name):
    student, teacher, state, noise, phi_error = CASES[name]
    g, in_numpy = STUDENTS[student]
    g_teacher, known = JUMPING[teacher]
    problem = ld.Problem(g, g_teacher, noise=noise)
    averages = chosen(problem, state)
    kind = MixedAverages if student in ("erf", "tanh") else PiecewiseLinearAverages
    assert isinstance(averages, kind)
    found, eg = averages_of(averages, problem, state)
    right = right_averages(in_numpy, known, state, noise)
    values = [found.with_fields(state.covariance), found.Phi, found.h, found.f, eg]
    for n, (value, expected) in enumerate(zip(values, right, strict=True)):
        np.testing.assert_allclose(value, expected, rtol=0, atol=phi_error if n == 1 else 1e-10)
    wrong = np.abs(found.Phi - right[1]).max()
    told = averages_error(problem, ld.SGD(lr=1.0), state, averages)
    assert wrong <= told + 1e-11
    assert told < 2e-5


@pytest.mark.nightly
def test_products_are_those_of_nodes_that_know_no_layers():
    """Three students, two of them bent at two places, of a teacher that jumps and bends, with
    biases: at a generic state fine nodes in the fields agree to rounding."""
    student = PiecewiseLinear(-1.0, 0.1, (-1.0, 1.0), (1.0, -0.6), (0.0, 0.0), (0.0, 0.0))
    teacher = PiecewiseLinear(0.2, 0.3, (-0.4, 0.5), (0.5, -1.2), (-0.6, 0.7), (0.0, 0.0))
    net = network(student, teacher, 3, 2)
    rng = np.random.default_rng(5)
    w = rng.normal(size=(5, 12)) / 3.5
    b, u = jnp.array(0.3 * rng.normal(size=5)), jnp.array(rng.normal(size=5))
    rest, c = (b, u, 3, jnp.array(0.09)), jnp.array(w @ w.T)
    fine, finer = Resolution(12, 12, 24), Resolution(40, 90, 16)
    found = jax.jit(lambda c: jumping_products(net, student, c, *rest, fine))(c)
    right = jax.jit(lambda c: conditioned_products(net, student, c, *rest, finer))(c)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-11)


@pytest.mark.nightly
@pytest.mark.parametrize("student", ["relu", "erf"])
def test_symmetric_in_the_units_and_continuous_where_fields_coincide(student):
    """Both orders of students and teachers, with the sign of one teacher turned; and a student that
    gets the teacher's direction."""
    problem = ld.Problem(STUDENTS[student][0], ld.Sign())
    averages = chosen(problem, STATE)
    here = sampled(averages, problem, STATE)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    swap = lambda x: x[::-1]
    other = ld.Overlaps(
        STATE.Q[::-1, ::-1],
        swap(STATE.R @ turn.T),
        turn @ STATE.T @ turn.T,
        swap(STATE.v),
        turn @ STATE.v_teacher,
    )
    there = sampled(averages, problem, other)
    fields = np.concatenate([here[0][::-1, 1::-1], here[0][::-1, 2:] @ turn.T], axis=1)
    right = [fields, here[1][::-1, ::-1], swap(here[2]), swap(here[3]), here[4]]
    for value, expected in zip(there, right, strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=3e-15)

    def at(angle):
        overlap = 0.9 * np.cos(angle) * np.eye(2)
        state = ld.Overlaps(0.81 * np.eye(2), overlap, np.eye(2), STATE.v, STATE.v_teacher)
        return sampled(averages, problem, state)

    for near, limit in zip(at(1e-5), at(0.0), strict=True):
        np.testing.assert_allclose(near, limit, rtol=0, atol=2e-5)


def test_error_and_its_gradient_by_hand():
    """<sign(a) sign(c)> = 2 arcsin(r) / pi; erf(x / sqrt 2) is a sign blurred by one more field, so
    <erf sign> = 2 arcsin(R / sqrt((1 + Q) T)) / pi."""
    problem, q, t, v = ld.Problem(ld.Erf(), ld.Sign()), 0.9, 1.3, 1.4
    averages = choose_averages(problem, 1, 2, biases=False)
    assert isinstance(averages, MixedAverages)

    def error(overlap):
        state = ld.Overlaps([[q]], [[overlap, 0.3]], t * jnp.eye(2), [v], [0.8, 0.0])
        return averages.generalisation_error(problem, state)

    r = 0.6
    eg, slope = jax.jit(lambda r: jax.jvp(error, (r,), (1.0,)))(r)
    sine = r / np.sqrt((1 + q) * t)
    own = v**2 * 2 / np.pi * np.arcsin(q / (1 + q)) + 0.8**2
    np.testing.assert_allclose(eg, 0.5 * own - v * 0.8 * 2 / np.pi * np.arcsin(sine), rtol=1e-12)
    right = -v * 0.8 * 2 / np.pi / np.sqrt((1 + q) * t - r**2)
    np.testing.assert_allclose(slope, right, rtol=1e-10)


def test_fields_given_those_of_two_steps():
    """Density, means and covariances of jointly Gaussian fields, by conditioning in NumPy."""
    rng = np.random.default_rng(2)
    w = rng.normal(size=(4, 6))
    w /= np.linalg.norm(w, axis=1)[:, None]
    r, a, b, at = w @ w.T, 2, 3, np.array([0.4, -0.7])
    for c in (r[2, 3], 0.35):  # the correlation of a and b may be another
        two = np.array([[1.0, c], [c, 1.0]])
        known = np.linalg.solve(two, r[[a, b]])
        fixed = _Fixed(*map(jnp.asarray, (r, a, b, *at, c)))
        density = multivariate_normal([0.0, 0.0], two).pdf(at)
        np.testing.assert_allclose(fixed.density(), density, rtol=1e-12)
        mean = [fixed.mean(jnp.asarray(i)) for i in (0, 1)]
        np.testing.assert_allclose(mean, (at @ known)[:2], rtol=1e-12)
        left = r - r[:, [a, b]] @ known
        for i, j in ((0, 0), (0, 1), (1, 1)):
            found = fixed.covariance(jnp.asarray(i), jnp.asarray(j))
            np.testing.assert_allclose(found, left[i, j], rtol=1e-11)
