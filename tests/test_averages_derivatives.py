"""Derivatives of averages against finite differences of quadrature, also where nodes jump."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import (
    NOWHERE,
    ONE,
    ORIGIN,
    RELU,
    RULE,
    STATE,
    TANH,
    chosen,
    erf,
    hinge,
    logistic,
    perceptron,
    piecewise_averages,
    sampled,
    sign,
    squared,
)
from scipy.stats import multivariate_normal, norm

import learndyn as ld
from learndyn.averages import NodeAverages, QuasiMonteCarlo, Trapezoid, choose_averages

LINEAR = (lambda x: x, np.ones_like)

# problem; its averages in NumPy; error of the derivatives; whether derivatives through the
# nodes are wrong (for one relu unit they happen to be right: scaling moves no sign)
DERIVATIVES = {
    "tanh": (
        ld.Problem(ld.Tanh(), ld.Tanh()),
        (TANH, squared, np.tanh, (NOWHERE, NOWHERE)),
        1e-6,
    ),
    "tanh student of a relu teacher": (
        ld.Problem(ld.Tanh(), ld.ReLU()),
        (TANH, squared, RELU[0], (NOWHERE, ORIGIN)),
        2e-3,
    ),
    "relu": (
        ld.Problem(lambda x: jnp.maximum(x, 0), ld.ReLU()),
        (RELU, squared, RELU[0], (ORIGIN, ORIGIN)),
        6e-3,
    ),
    "sign teacher": (
        ld.Problem(ld.Tanh(), ld.Sign()),
        (TANH, squared, sign, (NOWHERE, ORIGIN)),
        4e-3,
    ),
    "logistic": (
        ld.Problem(ld.Tanh(), ld.Sign(), ld.Logistic()),
        (TANH, logistic, sign, (NOWHERE, ORIGIN)),
        3e-3,
    ),
    "hinge": (
        ld.Problem(ld.Linear(), ld.Tanh(), ld.Hinge()),
        (LINEAR, hinge, sign, (np.array([-1, 1]) / 0.9, ORIGIN)),
        3e-3,
    ),
    "perceptron": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ld.Perceptron()),
        (TANH, perceptron, sign, (ORIGIN, ORIGIN)),
        3e-3,
    ),
}


@eqx.filter_jit
def jacobian(averages, problem, p):
    def vector(p):
        q, r, t, b = p[:, None]
        state = ld.Overlaps(q[:, None], r[:, None], t[:, None], [0.9], None, b)
        found = averages.field_averages(problem, RULE, state)
        return jnp.concatenate([x.ravel() for x in sampled(found, state)])

    return jax.jacfwd(vector)(p)


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_derivatives_against_finite_differences(name, bias):
    problem, recipe, error = DERIVATIVES[name]
    p, step = np.array([0.8, 0.35, 1.1, bias]), 1e-4
    expected = np.stack(
        [
            (piecewise_averages(p + d, *recipe) - piecewise_averages(p - d, *recipe)) / (2 * step)
            for d in step * np.eye(4)
        ],
        axis=1,
    )
    averages = choose_averages(problem, 1, 1, rule=RULE, biases=True)
    np.testing.assert_allclose(jacobian(averages, problem, jnp.asarray(p)), expected, atol=error)


@pytest.mark.parametrize("name", ["hinge", "perceptron"])
def test_derivatives_through_the_nodes_would_be_wrong_at_jumps(name):
    """The negative control: by the score these agree to 0.003."""
    problem, recipe, error = DERIVATIVES[name]
    p, step = np.array([0.8, 0.35, 1.1, 0.0]), np.array([0, 1e-4, 0, 0])
    after, before = piecewise_averages(p + step, *recipe), piecewise_averages(p - step, *recipe)
    nodes = QuasiMonteCarlo()
    averages = choose_averages(problem, 1, 1, rule=RULE, biases=True, averages=nodes)
    assert averages.score
    through = NodeAverages(averages.z, averages.weight, score=False)
    found = jacobian(through, problem, jnp.asarray(p))[:, 1]
    assert np.abs(found - (after - before) / 2e-4).max() > 0.1 > 20 * error


@pytest.mark.parametrize("name", ["sign teacher", "logistic"])
def test_derivatives_with_labels_that_move_would_be_wrong_at_their_jumps(name):
    """The negative control: with labels at rest these agree to 0.004."""
    problem, recipe, error = DERIVATIVES[name]
    p, step = np.array([0.8, 0.35, 1.1, 0.0]), np.array([0, 1e-4, 0, 0])
    after, before = piecewise_averages(p + step, *recipe), piecewise_averages(p - step, *recipe)
    nodes = QuasiMonteCarlo()
    averages = choose_averages(problem, 1, 1, rule=RULE, biases=True, averages=nodes)
    assert averages.still_labels
    assert not averages.score
    through = NodeAverages(averages.z, averages.weight, score=False)
    found = jacobian(through, problem, jnp.asarray(p))[:, 1]
    assert np.abs(found - (after - before) / 2e-4).max() > 0.1 > 20 * error


def test_derivatives_of_relu_committees_use_the_score():
    """Two relu units: through the nodes the jump of one unit's step is lost."""
    exact = ld.Problem(ld.ReLU(), ld.ReLU())
    plain = ld.Problem(lambda x: jnp.maximum(x, 0), lambda x: jnp.maximum(x, 0))

    def phi(problem, averages):
        def at(q01):
            q = STATE.Q.at[0, 1].set(q01).at[1, 0].set(q01)
            state = eqx.tree_at(lambda s: s.Q, STATE, q)
            return averages.field_averages(problem, RULE, state).Phi

        return jax.jit(jax.jacfwd(at))(STATE.Q[0, 1])

    expected = phi(exact, chosen(exact, STATE))
    # Off by 0.04 at 4096 points, 0.01 at 16384, 0.005 here.
    nodes = chosen(plain, STATE, QuasiMonteCarlo(65536))
    assert nodes.score
    np.testing.assert_allclose(phi(plain, nodes), expected, atol=0.02)
    through = NodeAverages(nodes.z, nodes.weight, score=False)
    assert np.abs(phi(plain, through) - expected).max() > 0.1


TEACHER = np.array([[1.0, 0.3], [0.3, 0.8]])
NEAR = np.array([[1.0, 0.3], [0.3, 0.8 + 1e-9]])


def drift_jacobian(problem, state, averages=None):
    rule = ld.SGD(lr=0.4, lr_second=0.3)
    flow = ld.ode_term(problem, rule, state, averages=averages).vector_field
    return forward(flow, flow.pack(state))


@eqx.filter_jit
def forward(flow, y):
    return jax.jacfwd(lambda y: flow(0.0, y, None))(y)


@pytest.mark.parametrize(
    "state",
    [
        ld.Overlaps(TEACHER, TEACHER, TEACHER),
        ld.Overlaps(NEAR, TEACHER, TEACHER),
        ld.Overlaps(np.zeros((2, 2)), np.zeros((2, 2)), TEACHER),
        ld.Overlaps(np.ones((2, 2)), np.ones((2, 1)), [[1.0]]),
    ],
    ids=["student = teacher", "nearly", "student at rest", "parallel units"],
)
def test_derivatives_of_smooth_problems_at_singular_covariances(state):
    """There nodes lack directions: derivatives through them miss a third of the Jacobian."""
    expected = drift_jacobian(ld.Problem(noise=0.3), state)
    found = drift_jacobian(ld.Problem(erf, erf, noise=0.3), state, QuasiMonteCarlo())
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_derivatives_with_jumps_are_finite_at_singular_covariances():
    same = ld.Overlaps(TEACHER, TEACHER, TEACHER)
    for student in (lambda x: jnp.maximum(x, 0), jax.nn.elu):
        problem = ld.Problem(student, ld.Tanh())
        assert np.isfinite(drift_jacobian(problem, same, QuasiMonteCarlo(256))).all()


def test_reverse_and_second_derivatives_of_smooth_averages():
    problem = ld.Problem(erf, erf, noise=0.3)

    def eg(q, problem, averages):
        state = ld.Overlaps(q[None, None], ONE.R, ONE.T, [0.9])
        return chosen(problem, state, averages).generalisation_error(problem, state)

    for derivative in (jax.grad, lambda f: jax.grad(jax.grad(f))):
        found = jax.jit(derivative(lambda q: eg(q, problem, Trapezoid(64))))(0.8)
        expected = jax.jit(derivative(lambda q: eg(q, ld.Problem(), None)))(0.8)
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


# Labels that jump in several fields, against Gaussian tails


class AllAbove(eqx.Module):
    """1 where all fields are above a threshold, in one program for all thresholds."""

    threshold: jax.Array

    def __call__(self, rho, zeta):
        return 1.0 * jnp.all(rho > self.threshold)


def all_above(threshold):
    return ld.MultiIndex(AllAbove(jnp.asarray(threshold)))


def error_slopes(problem, state):
    """d eg/dR."""
    eg = lambda r: ld.generalisation_error(problem, eqx.tree_at(lambda s: s.R, state, r))
    return np.asarray(jax.grad(eg)(state.R))


@pytest.mark.parametrize(
    ("m", "threshold", "error"), [(4, 0.0, 0.05), (6, -0.5, 0.05), (6, 0.0, 0.15), (4, 0.5, 0.15)]
)
@pytest.mark.parametrize("student", [ld.Linear(), ld.Erf()], ids=["linear", "erf"])
def test_slopes_of_labels_that_jump_in_many_fields(student, m, threshold, error):
    """Events of probability 0.06, 0.11; 0.016 and 0.009. No random line may meet them."""
    r, t = 0.2, threshold
    state = ld.Overlaps([[1.0]], np.full((1, m), r), np.eye(m))
    if isinstance(student, ld.Linear):
        expected = -norm.pdf(t) * norm.sf(t) ** (m - 1)
    else:
        # <g(lambda) y>, with g(x) = P(xi < x) - P(xi > x), is a probability of m + 1 numbers.
        c = np.eye(m + 1) + r * np.pad(np.ones((1, m)), ((0, m), (1, 0)))
        c = np.triu(c) + np.triu(c, 1).T + np.diag([1.0] + [0.0] * m)
        first, mixing = c[:2, :2], c[2:, :2]
        mean = mixing @ np.linalg.solve(first, [0.0, t])
        rest = c[2:, 2:] - mixing @ np.linalg.solve(first, mixing.T)
        others = multivariate_normal(-mean, rest).cdf(np.full(m - 1, -t))
        expected = -2 * multivariate_normal([0, 0], first).pdf([0.0, t]) * others
    found = error_slopes(ld.Problem(student, all_above(t)), state)
    np.testing.assert_allclose(found, np.full((1, m), expected), rtol=error)


def test_slopes_of_a_jump_far_from_the_origin():
    """A threshold of 1.5 standard deviations, at 9."""
    problem = ld.Problem(ld.Linear(), ld.MultiIndex(lambda rho, zeta: 1.0 * (rho[0] > 9)))
    found = error_slopes(problem, ld.Overlaps([[36.0]], [[10.0]], [[36.0]]))
    np.testing.assert_allclose(found, -norm.pdf(1.5) / 6, rtol=0.01)


def test_linear_stability_with_a_label_that_jumps():
    """d(dQ/dalpha)/dR = 2 eta (1 - eta) <rho y> for a linear student, all of it from the label."""
    m, lr = 4, 0.4
    problem = ld.Problem(ld.Linear(), all_above(0.0))
    state = ld.Overlaps([[1.0]], np.full((1, m), 0.2), np.eye(m))
    flow = ld.ode_term(problem, ld.SGD(lr=lr), state).vector_field
    found = flow.jacobian(jnp.zeros(()), flow.pack(state))
    expected = 2 * lr * (1 - lr) * norm.pdf(0) * norm.sf(0) ** (m - 1)
    np.testing.assert_allclose(found[0, 1:], expected, rtol=0.05)


def test_derivatives_at_the_teacher_of_a_label_that_jumps():
    """lambda = rho_1 there: Q - R T^-1 R^T = 0, and derivatives with respect to it are right."""
    state = ld.Overlaps([[1.0]], [[1.0, 0.0]], np.eye(2))
    problem = ld.Problem(ld.Erf(), ld.MultiIndex(lambda rho, zeta: jnp.sign(rho[1]) + 0.0 * zeta))
    eg = lambda q: ld.generalisation_error(problem, eqx.tree_at(lambda s: s.Q, state, q))
    found = float(jax.grad(eg)(state.Q)[0, 0])
    # <erf(lambda/sqrt 2)^2> = (2/pi) arcsin(Q / (1 + Q))
    assert found == pytest.approx(1 / (np.pi * 2 * np.sqrt(3)), rel=2e-3)
