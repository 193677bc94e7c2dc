"""Units with kinks where student and teacher are not both piecewise linear."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_legendre

import learndyn as ld
from learndyn.averages import (
    MixedAverages,
    averages_error,
    cancelling,
    choose_averages,
    estimated,
    is_exact,
    sampled,
)
from learndyn.integrals.smooth import series
from learndyn.problems import kinked_part

RULE = ld.SGD(lr=0.5)


def cubic(x):
    return x**3 - 3 * x


def elu2(x):
    return jax.nn.elu(x, 2.0)


@eqx.filter_jit
def everything(averages, problem, state, rule=RULE):
    found = averages.field_averages(problem, rule, state)
    eg = averages.generalisation_error(problem, state)
    return found, found.with_fields(state.covariance), eg


@eqx.filter_jit
def error(averages, problem, state):
    return averages.generalisation_error(problem, state)


# What is known by hand


@pytest.mark.parametrize(
    ("k", "m", "expected"),
    [
        (1, 1, 0.25 + 3.0),
        # <relu> = 1/sqrt(2 pi), so two independent students have the cross term 1/(2 pi).
        (2, 1, 0.5 + 0.5 / np.pi + 3.0),
        (2, 2, 0.5 + 0.5 / np.pi + 6.0),
    ],
)
def test_relu_student_of_a_cubic_teacher(k, m, expected):
    """<(x**3 - 3x)**2> = 6 and <relu**2> = 1/2 at Q = 1, and R = 0."""
    state = ld.Overlaps(np.eye(k), np.zeros((k, m)), np.eye(m))
    problem = ld.Problem(jax.nn.relu, cubic)
    averages = choose_averages(problem, k, m, biases=False)
    assert averages.products is None  # eg alone needs none
    np.testing.assert_allclose(error(averages, problem, state), expected, rtol=1e-10)


@pytest.mark.nightly
def test_relu_student_of_a_cubic_teacher_in_a_run():
    start = ld.Overlaps(np.eye(1), np.zeros((1, 1)), np.eye(1))
    run = ld.solve_ode(ld.Problem(jax.nn.relu, cubic), RULE, start, [0.0, 0.1])
    np.testing.assert_allclose(run.eg[0], 3.25, rtol=1e-10)
    assert run.stats["averages_error_eg"][0] < 1e-8
    assert run.stats["averages_resolved"]


# Two fields, by quadrature that is split at the kinks


def logistic(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    # in JAX, in NumPy, its derivative, its kinks
    "relu": (jax.nn.relu, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0), [0]),
    "tanh": (jnp.tanh, np.tanh, lambda x: np.cosh(x) ** -2, []),
    "hard_swish": (
        jax.nn.hard_swish,
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(np.abs(x) < 3, (2 * x + 3) / 6, np.where(x > 0, 1.0, 0.0)),
        [-3, 3],
    ),
    "elu": (
        elu2,
        lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1.0, 2 * np.exp(np.minimum(x, 0))),
        [0],
    ),
    "softplus and relu": (
        lambda x: jax.nn.softplus(x) + jax.nn.relu(x - 0.5),
        lambda x: np.logaddexp(0, x) + np.maximum(x - 0.5, 0),
        lambda x: logistic(x) + (x > 0.5),
        [0.5],
    ),
}

NODE, WEIGHT = roots_legendre(60)


def split(breaks):
    """Nodes and weights of N(0, 1), in pieces between `breaks` (..., j)."""
    edges = np.sort(np.clip(breaks, -9.5, 9.5), axis=-1)
    low, high = edges[..., :-1, None], edges[..., 1:, None]
    z = 0.5 * (low + high) + 0.5 * (high - low) * NODE
    weight = 0.5 * (high - low) * WEIGHT * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return (x.reshape(*x.shape[:-2], -1) for x in (z, weight))


def two_fields(c, b, kinks):
    """f_1, f_2 (p,) and weights: an integral over f_1, and inside it over f_2 given f_1."""
    scale, slope = np.sqrt(c[0, 0]), c[1, 0] / np.sqrt(c[0, 0])
    width = np.sqrt(c[1, 1] - slope**2)
    own, other = ((np.array(kinks[i]) - b[i]) for i in (0, 1))
    # Averages over f_2 change within layers of this width.
    layers = (other[:, None] + width * np.array([-8, -4, -2, 0, 2, 4, 8])).ravel() / slope
    x, w = split(np.concatenate([own / scale, layers, np.linspace(-9.5, 9.5, 9)]))
    inner = (other - slope * x[:, None]) / width
    ends = np.full((len(x), 1), 9.5)
    xi, w_xi = split(np.concatenate([-ends, inner, 0 * ends, ends], axis=1))
    f = scale * x[:, None] + 0 * xi, slope * x[:, None] + width * xi
    return f[0].ravel(), f[1].ravel(), (w[:, None] * w_xi).ravel()


CASES = {
    # student, teacher, Q, R, T, biases, relative error of averages with slopes, and of eg
    "relu of tanh": ("relu", "tanh", 4.0, 0.5, 1.0, (0.3, -0.2), 1e-8, 1e-8),
    "tanh of relu": ("tanh", "relu", 4.0, 0.7, 1.0, (0.2, 0.1), 1e-8, 1e-8),
    "hard_swish": ("hard_swish", "hard_swish", 9.0, 4.0, 4.0, (0.1, 0.0), 5e-6, 1e-8),
    "elu, alpha = 2": ("elu", "elu", 1.0, 0.9, 1.0, (0.0, 0.1), 1e-6, 1e-8),
    "softplus and relu": ("softplus and relu", "tanh", 1.0, 0.5, 1.0, (0.2, 0.1), 1e-8, 1e-8),
}


@pytest.mark.nightly(by_day=["relu of tanh"])
@pytest.mark.parametrize("name", CASES)
def test_averages_are_those_of_quadrature(name):
    student, teacher, q, r, t, b, of_slopes, of_error = CASES[name]
    (g, g_np, slope, kinks), (g_t, teacher_np, _, teacher_kinks) = (
        FUNCTIONS[student],
        FUNCTIONS[teacher],
    )
    v = 0.8
    f_1, f_2, w = two_fields(np.array([[q, r], [r, t]]), b, (kinks, teacher_kinks))
    off = v * g_np(f_1 + b[0]) - teacher_np(f_2 + b[1])
    signal = v * slope(f_1 + b[0]) * off

    problem = ld.Problem(g, g_t)
    state = ld.Overlaps([[q]], [[r]], [[t]], [v], [1.0], b=[b[0]], b_teacher=[b[1]])
    averages = choose_averages(problem, 1, 1, rule=RULE, biases=True)
    assert isinstance(averages, MixedAverages)
    found, fields, eg = everything(averages, problem, state)
    size = np.sqrt(w @ signal**2)
    exact = [w @ (signal * f_1), w @ (signal * f_2), w @ signal]
    values = [fields[0, 0], fields[0, 1], found.f[0]]
    np.testing.assert_allclose(values, exact, atol=of_slopes * size, rtol=0)
    np.testing.assert_allclose(found.h[0], w @ (g_np(f_1 + b[0]) * off), rtol=of_slopes)
    np.testing.assert_allclose(eg, 0.5 * w @ off**2, rtol=of_error)
    np.testing.assert_allclose(found.Phi[0, 0], size**2, rtol=1e-5)
    if name == "hard_swish":  # the least exact one
        wrong = np.abs(np.array(values) - exact).max()
        assert wrong < averages_error(problem, RULE, state, averages) < 30 * wrong


# Several units, and the rule


def generic():
    a = np.random.default_rng(3).normal(size=(4, 6))
    c = a @ a.T / 6
    return ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], [1.0, 0.7], [1.0, -0.9])


@pytest.mark.nightly
def test_gradients_of_eg_are_averages():
    """d eg/dR_in = v_i G_in, where G has v_i in it, and d eg/dv_i = <g_i D>."""
    problem, state = ld.Problem(jax.nn.hard_swish, jnp.tanh), generic()
    averages = choose_averages(problem, 2, 2, rule=RULE, biases=False)
    found, _, _ = everything(averages, problem, state)
    slope = eqx.filter_jit(eqx.filter_grad(lambda s: averages.generalisation_error(problem, s)))
    gradient = slope(state)
    np.testing.assert_allclose(gradient.R, found.G[:, 2:], rtol=1e-5)
    np.testing.assert_allclose(gradient.v, found.h, rtol=1e-7)
    # Products are from nodes, whose scatter tells their error.
    assert averages.replicates == 4
    assert not is_exact(averages)
    assert 1e-5 < averages_error(problem, RULE, state, averages) < 1e-2 * found.Phi.max()


@pytest.mark.nightly
def test_other_rules_and_losses_that_follow():
    """Feedback alignment puts its feedback in place of v; a loss three times as steep."""
    state, feedback = generic(), np.array([0.4, -2.0])
    steep = ld.Problem(jax.nn.relu, jnp.tanh, loss=lambda phi, y: 1.5 * (phi - y) ** 2)
    problem = ld.Problem(jax.nn.relu, jnp.tanh)
    own = ld.rules.FeedbackAlignment(feedback, lr=0.5)
    averages = choose_averages(steep, 2, 2, rule=own, biases=False)
    assert isinstance(averages, MixedAverages)
    found, _, _ = everything(averages, steep, state, own)
    plain, _, _ = everything(averages, problem, state)
    ratio = 3 * feedback / state.v
    np.testing.assert_allclose(found.G, ratio[:, None] * plain.G, rtol=1e-12)
    np.testing.assert_allclose(found.Phi, np.outer(ratio, ratio) * plain.Phi, rtol=1e-9)
    np.testing.assert_allclose(found.h, 3 * plain.h, rtol=1e-12)


@pytest.mark.nightly
def test_student_that_is_the_teacher():
    state = ld.Overlaps(np.eye(2), np.eye(2), np.eye(2))
    problem = ld.Problem(elu2, elu2)
    averages = choose_averages(problem, 2, 2, rule=RULE, biases=False)
    found, fields, eg = everything(averages, problem, state)
    np.testing.assert_allclose([eg, abs(fields).max(), abs(found.h).max()], 0.0, atol=1e-14)
    np.testing.assert_allclose(found.Phi, 0.0, atol=1e-14)
    # The derivatives of products over nodes are not there.
    with pytest.raises(ValueError, match="singular overlaps"):
        ld.asymptotics.linearise(problem, RULE, state)


@pytest.mark.nightly
def test_exchanged_units_have_exchanged_averages():
    problem = ld.Problem(jax.nn.relu, jnp.tanh)
    state = ld.Overlaps([[0.5, 0.1], [0.1, 0.5]], np.full((2, 2), 0.2), np.eye(2))
    averages = choose_averages(problem, 2, 2, rule=RULE, biases=False)
    found, _, _ = everything(averages, problem, state)
    np.testing.assert_allclose(found.G[0], found.G[1, [1, 0, 2, 3]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.Phi[0, 0], found.Phi[1, 1], rtol=1e-13)


# What counts as a kink


def test_kinks_are_found_with_their_bends():
    found = kinked_part(jax.nn.hard_swish)
    assert found.knots == (-3.0, 3.0)
    np.testing.assert_allclose(found.bends, [-0.5, -0.5], rtol=1e-9)
    found = kinked_part(elu2)
    assert found.knots == (0.0,)
    np.testing.assert_allclose(found.bends, [-1.0], rtol=1e-9)
    assert kinked_part(jnp.tanh).knots == ()
    assert kinked_part(lambda x: jnp.clip(x, -1, 1)).slopes.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "g",
    [
        lambda x: jnp.sqrt(jnp.abs(x)),
        lambda x: jnp.abs(x) ** 1.1,
        lambda x: jnp.where(x > 0.3, x, -1.0),
    ],
    ids=["root", "power", "jump"],
)
def test_slopes_without_limits_are_no_kinks(g):
    assert kinked_part(g) is None
    assert not isinstance(
        choose_averages(ld.Problem(g, jnp.tanh), 1, 1, rule=RULE, biases=False), MixedAverages
    )


@pytest.mark.nightly
def test_an_eg_that_is_exact_has_no_error_of_nodes():
    """|x| learns tanh: products of two students come from nodes, all else from exact pairs."""
    state = ld.Overlaps([[1.0, 0.3], [0.3, 0.8]], [[0.4], [-0.1]], [[1.0]], [1.0, 0.7], [1.2])
    problem = ld.Problem(jnp.abs, jnp.tanh)
    averages = choose_averages(problem, 2, 1, rule=RULE, biases=False)

    @eqx.filter_jit
    def told(state):
        def of(a):
            found = a.field_averages(problem, RULE, state)
            return [a.generalisation_error(problem, state), found.G, found.Phi]

        return estimated(averages, of).errors

    eg, slopes, products = told(state)
    assert products > 1e-4  # six standard errors of 16 384 nodes
    assert max(eg, slopes) < 1e-9


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("units", "count"),
    [
        ((jax.nn.selu, jnp.tanh), 10),
        pytest.param((jax.nn.hard_swish, jax.nn.hard_swish), 40, marks=pytest.mark.nightly),
        pytest.param((jnp.tanh, jax.nn.relu), 40, marks=pytest.mark.nightly),
    ],
)
def test_reported_errors_bound_the_true_ones(units, count):
    """One unit each, overlaps of 1e-3 to 1e3, against series of four times the nodes."""
    problem, rng = ld.Problem(*units), np.random.default_rng(count)
    averages = choose_averages(problem, 1, 1, rule=RULE, biases=False)
    finest = jax.tree.map(jnp.asarray, series(1024, 8000))
    products = dataclasses.replace(averages.products, order=64)
    exact = dataclasses.replace(averages, series=finest, products=products)

    @eqx.filter_jit
    def both(state):
        of = lambda a: [*sampled(a.field_averages(problem, RULE, state), state)]
        return of(exact), estimated(averages, of, cancelling(state))

    ratios, unresolved = [], 0
    for _ in range(count):
        q, t = 10 ** rng.uniform(-3, 3, 2)
        r = rng.uniform(-1, 1) * np.sqrt(q * t)
        values, estimate = both(ld.Overlaps([[q]], [[r]], [[t]], [0.8], [1.0]))
        pairs = zip(values, estimate.values, strict=True)
        true = max(float(np.abs(x - y).max()) for x, y in pairs)
        told = float(np.max(estimate.errors))
        if estimate.resolved:
            assert true <= told
            ratios.append(told / max(true, 1e-300))
        unresolved += not bool(estimate.resolved) and max(q, t) < 5
    assert np.median(ratios) < 10
    assert unresolved == 0
