"""Alternating gradient flows: the general algorithm against its exact special cases."""

import itertools
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from learndyn import flow
from learndyn.flow.jumps import _alternating, _phases

DIAGONAL = [
    (46, 4, 6, 2),
    (29, 5, 7, 3),
    (110, 5, 5, 2),
]  # seed, samples, d, coordinates that fall asleep


def coordinate(theta, x, i):
    return theta[0] * theta[1] * x[i]


def linear(theta, x):
    return theta[3:] * (theta[:3] @ x)


def quadratic(theta, x):
    p = x.shape[0] // 2
    return (theta[: 2 * p] @ x) ** 2 * theta[2 * p :]


def relu(theta, x):
    return theta[-1] * jnp.maximum(theta[:-1] @ x, 0)


def problem(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def diagonal(x, y, alpha, **options):
    d = x.shape[1]
    start = np.tile([alpha, 0.0], (d, 1))
    return flow.alternating(coordinate, 2, (x, y), start, np.arange(d), **options)


@pytest.mark.nightly(by_day=["46-4-6-2"])
@pytest.mark.parametrize(("seed", "n", "d", "falls"), DIAGONAL)
def test_diagonal_networks_exactly(seed, n, d, falls):
    (x, y), alpha = problem(seed, n, d), 1e-3
    found, expected = diagonal(x, y, alpha), flow.diagonal_jumps(x, y)
    assert (found.active[:-1] & ~found.active[1:]).sum() == falls
    # The norm is alpha √cosh(2 s), which makes this the unit of time at every alpha.
    unit = np.arccosh(alpha**-2.0) / 2 / np.log(1 / alpha)
    np.testing.assert_allclose(found.times / unit, expected.times, rtol=1e-9)
    np.testing.assert_allclose(found.parameters.prod(-1), expected.beta, atol=1e-9)
    np.testing.assert_allclose(found.loss, expected.loss, atol=1e-12)
    np.testing.assert_allclose(found.alpha, alpha)
    np.testing.assert_array_equal(found.active, expected.active)


def test_without_falling_asleep_jumps_are_missed(monkeypatch):
    x, y = problem(*DIAGONAL[0][:3])
    real = _alternating.minimise_cost
    never = lambda net, theta, floor, scale: real(net, theta, 1e-12 * floor, scale)
    monkeypatch.setattr(_alternating, "minimise_cost", never)
    found, expected = diagonal(x, y, 1e-3), flow.diagonal_jumps(x, y)
    assert len(found.times) < len(expected.times)


def norm_squared(t, c, d, s, stops):
    """|theta|² of a hidden unit at time t; mode k is fed until stops[k]."""
    seen = np.minimum(t, stops)
    return np.sum((c * np.exp(s * seen)) ** 2 + (d * np.exp(-s * seen)) ** 2)


@pytest.mark.nightly
def test_linear_networks_in_rotated_units():
    s, lam = np.array([3.0, 2.0, 1.0]), np.array([1.2, 0.8, 0.5])
    rng, alpha = np.random.default_rng(0), 1e-6
    w1, w2 = alpha * rng.standard_normal((3, 3)), alpha * rng.standard_normal((3, 3))
    t1, t2 = flow.rotated_start(w1, w2, np.diag(lam), np.diag(s))
    x = np.sqrt(3) * np.diag(np.sqrt(lam))
    data = SimpleNamespace(x=x, y=x @ np.diag(s / lam), reduce="mean")
    found = flow.alternating(linear, 2, data, np.hstack([t1, t2.T]))
    expected = flow.linear_jumps(np.diag(lam), np.diag(s))
    np.testing.assert_allclose(found.loss, expected.loss, atol=1e-10)
    # With frozen residuals the norms grow as sums of exponentials of the modes' strengths.
    times = found.times * np.log(1 / found.alpha)
    stops = np.full(3, np.inf)
    for k in range(3):
        c, d = (t1[k] + t2[:, k]) / np.sqrt(2), (t1[k] - t2[:, k]) / np.sqrt(2)
        grown = lambda t, c=c, d=d: np.log(norm_squared(t, c, d, s, stops))
        stops[k] = brentq(grown, 0, 60, xtol=1e-13)
    np.testing.assert_allclose(times, stops, rtol=1e-8)
    # To leading order these are linear_jumps' times, the start's own size aside.
    np.testing.assert_allclose(found.times, expected.times, rtol=0.2)


def test_modular_addition():
    p, alpha = 5, 1e-3
    x = np.cos(2 * np.pi * np.arange(p) / p + 0.4)
    pairs = list(itertools.product(range(p), repeat=2))
    inputs = np.array([np.append(np.roll(x, a), np.roll(x, b)) for a, b in pairs])
    labels = np.array([np.roll(x, a + b) for a, b in pairs])
    six = np.hstack(flow.modular_neurons(x, 1))
    start = alpha * six / np.linalg.norm(six, axis=1, keepdims=True)
    found = flow.alternating(quadratic, 3, (inputs, labels), start)
    expected = flow.modular_jumps(x)
    np.testing.assert_allclose(found.loss, expected.loss, atol=1e-12)
    # Aligned neurons reach norm 1 at (1/alpha - 1) / (3 U).
    np.testing.assert_allclose(found.times, (1 - alpha) * expected.times, rtol=1e-9)
    assert found.active[1].all()
    one = flow.alternating(quadratic, 3, (inputs, labels), start[:1])
    np.testing.assert_allclose(one.loss, expected.loss[0] * np.array([1, 8 / 9]), rtol=1e-9)


def test_relu_neuron_turns_to_where_its_utility_is_largest():
    x, y = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]]), np.array([1.0, 2.0, -0.5])
    start = np.array([[3e-4, 1e-4, np.sqrt(1e-7)]])
    found = flow.alternating(relu, 2, (x, y), start, max_jumps=1)
    # Its own sector of activation: maximum at the mean of y x over the samples that it sees
    pull = (y[0] * x[0] + y[1] * x[1]) / 3
    assert found.stopped == "max_jumps reached"
    # It fits the first two samples, and the third is left.
    np.testing.assert_allclose(found.loss[1], 0.5**2 / 6, rtol=1e-9)
    # The norm grows at the rate |pull| once the neuron points there.
    growth = np.log(1 / np.linalg.norm(start[0])) / np.linalg.norm(pull)
    waited = found.times[0] * np.log(1 / found.alpha)
    assert growth < waited < 1.1 * growth


def test_equal_neurons_jump_as_a_cluster():
    x, y = problem(0, 6, 2)
    start = np.array([[1e-3, 0.0], [1.1e-3, 0.0], [0.9e-3, 0.0]])
    found = flow.alternating(coordinate, 2, (x, y), start, np.array([0, 0, 1]))
    alone = flow.diagonal_jumps(x, y)
    assert found.clustered
    np.testing.assert_array_equal(found.active[-1], [True, True, True])
    np.testing.assert_allclose(found.loss, alone.loss, atol=1e-10)


def test_nothing_to_gain():
    found = flow.alternating(
        coordinate, 2, ([[1.0], [0.0]], [0.0, 1.0]), [[1e-3, 0.0]], np.array([0])
    )
    assert found.times.shape == (0,)
    assert found.stopped == "no positive utility"
    np.testing.assert_allclose(found.loss, [0.25])
    # Squares cannot give what is negative: utilities rise to zero and stay.
    square = lambda theta, x: (theta @ x) ** 2
    below = flow.alternating(square, 2, (np.eye(2), [-1.0, -2.0]), [[1e-3, 2e-3]])
    assert (below.stopped, len(below.times)) == ("no positive utility", 0)
    none = diagonal(*problem(1, 3, 3), 1e-2, max_jumps=0)
    assert (none.stopped, len(none.times)) == ("max_jumps reached", 0)


def test_a_kink_that_draws_neurons_ends_the_sequence(monkeypatch):
    """Its sample wants the opposite sign, so the neuron slides along w.x = 0 and never stops."""
    monkeypatch.setattr(_phases, "_MAX_EVALUATIONS", 2000)
    x, y = np.array([[1.0, 0.0], [-0.5, 0.1]]), np.array([-1.0, -1.0])
    found = flow.alternating(relu, 2, (x, y), [[1e-3, 2e-3, 1e-3]])
    assert found.stopped == "a phase stalled, for example at a kink"
    assert found.times.shape == (0,)
    np.testing.assert_allclose(found.loss, [0.5])


def test_plateaus_below_the_norm_of_falling_asleep_ask_for_another_threshold(monkeypatch):
    """A coefficient of 1e-4 has a norm of 0.014, below √0.001."""
    monkeypatch.setattr(_alternating, "_ROUNDS", 2)
    task = (np.eye(2), [1e-4, 0.0])
    with pytest.raises(ValueError, match="a threshold that is no larger"):
        flow.alternating(coordinate, 2, task, ZERO_V, np.arange(2))
    found = flow.alternating(coordinate, 2, task, ZERO_V, np.arange(2), threshold=0.01)
    np.testing.assert_allclose(found.loss, [2.5e-9, 0.0], atol=1e-18)


def test_a_plateau_at_infinity_ends_the_sequence():
    """theta_0 theta_1 x = y at x = 1e-26: both weights are 1e13."""
    found = diagonal(np.array([[1e-26], [0.0]]), np.array([1.0, 0.3]), 1e-3)
    np.testing.assert_allclose(found.parameters[-1], [[1e13, 1e13]], rtol=1e-6)
    assert found.stopped == "the plateau lies at infinity"


def test_ties_are_one_jump():
    found = flow.alternating(coordinate, 2, (np.eye(2), [1.0, -1.0]), ZERO_V, np.arange(2))
    np.testing.assert_array_equal(found.ties, [True])
    np.testing.assert_allclose(found.loss, [0.5, 0.0], atol=1e-12)


ZERO_V = [[1e-3, 0.0], [1e-3, 0.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neuron": 3}, "function of theta"),
        ({"neuron": lambda theta, x, i: theta @ jnp.ones(7)}, "must take theta"),
        ({"threshold": -1.0}, "threshold must be a norm"),
        ({"threshold": "large"}, "threshold must be real"),
        ({"degree": 1}, "degree"),
        ({"degree": 3}, "homogeneous"),
        ({"neuron": lambda theta, x, i: jnp.tanh(theta[0]) * theta[1] * x[i]}, "homogeneous"),
        ({"start": [[1e-3, 0.0], [0.0, 0.0]]}, "between 0 and threshold"),
        ({"start": [[2.0, 0.0], [1.0, 0.0]]}, "between 0 and threshold"),
        ({"start": [1e-3, 0.0]}, r"\(neurons, p\)"),
        ({"aux": np.arange(3)}, "one entry per neuron"),
        ({"data": SimpleNamespace(sxx=np.eye(2), syx=np.ones((1, 2)))}, "Moments"),
        ({"data": (np.eye(2), np.eye(2))}, "outputs"),
        ({"start": 1j * np.ones((2, 2))}, "real"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"neuron": coordinate, "degree": 2, "data": (np.eye(2), np.ones(2))}
    good |= {"start": ZERO_V, "aux": np.arange(2)}
    with pytest.raises(ValueError, match=message):
        flow.alternating(**(good | change))
