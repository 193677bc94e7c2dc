"""Addition modulo p: utilities, phases, loss levels, six neurons."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from learndyn import flow


def encoding(p, waves):
    """waves: frequency -> (amplitude of the transform, phase)."""
    sites = np.arange(p)
    parts = [2 * r / p * np.cos(2 * np.pi * k * sites / p + s) for k, (r, s) in waves.items()]
    return np.sum(parts, axis=0)


X7 = encoding(7, {1: (6.0, 0.3), 2: (4.0, -1.0), 3: (2.5, 2.0)})
X11 = encoding(11, {1: (5.0, 0.3), 2: (3.0, -1.0)})


def pairs(x):
    """Inputs (p², 2p) and labels (p², p)."""
    both = list(itertools.product(range(len(x)), repeat=2))
    inputs = [np.append(np.roll(x, a), np.roll(x, b)) for a, b in both]
    return np.array(inputs), np.array([np.roll(x, a + b) for a, b in both])


def loss(x, u, v, w):
    inputs, labels = pairs(x)
    outputs = (inputs @ np.hstack([u, v]).T) ** 2 @ w
    return np.mean(np.sum((labels - outputs) ** 2, axis=1)) / 2


def minus_utility(theta, inputs, labels):
    """Minus the utility of the unit vector along theta, and the derivative."""
    size = np.linalg.norm(theta)
    u_v, w = np.split(theta / size, [inputs.shape[1]])
    h, label = inputs @ u_v, labels @ w
    value = np.mean(h**2 * label)
    slope = np.append(2 * (h * label) @ inputs, h**2 @ labels) / len(h)
    return -value, -(slope - 3 * value * theta / size) / size


@pytest.mark.parametrize("p", [5, 7, 11])
def test_no_neuron_has_more_utility(p):
    rng = np.random.default_rng(p)
    half = (p - 1) // 2
    sizes, phases = rng.uniform(1, 3, half) * np.sqrt(p), rng.uniform(0, 6, half)
    x = encoding(p, {k + 1: (sizes[k], phases[k]) for k in range(half)})
    found = flow.modular_utility(x)
    np.testing.assert_allclose(found.amplitudes, np.sort(sizes)[::-1], rtol=1e-12)
    ends, data = [], pairs(x)
    for _ in range(12):
        start = rng.standard_normal(3 * p)
        run = minimize(minus_utility, start, data, jac=True, options={"gtol": 1e-9})
        ends.append(-run.fun)
        # Phases of the maximiser, from the transforms of its parts
        which = int(np.argmin(np.abs(found.maxima - ends[-1])))
        k = found.frequencies[which]
        u, v, w = np.angle(np.fft.fft(run.x.reshape(3, p), axis=1)[:, k])
        turn = np.exp(1j * (u + v - w - found.phases[which]))
        np.testing.assert_allclose(turn, 1, atol=1e-4)
        np.testing.assert_allclose(ends[-1], found.maxima[which], rtol=1e-8)
    assert max(ends) <= found.maxima[0] * (1 + 1e-12)


def test_published_levels():
    found = flow.modular_jumps(X7)
    np.testing.assert_allclose(found.loss[[1, 2]], [3.178571, 0.892857], atol=5e-7)
    np.testing.assert_allclose(found.loss[0], X7 @ X7 / 2)
    np.testing.assert_allclose(found.loss[-1], 0, atol=1e-14)
    np.testing.assert_array_equal(found.frequencies, [1, 2, 3])
    np.testing.assert_allclose(found.times, 1 / (3 * np.sqrt(2 / 27 / 343) * found_cubes(X7)))
    np.testing.assert_allclose(found.at(1e-3), 1e3 * found.times)


def found_cubes(x):
    return np.sort(np.abs(np.fft.fft(x))[1 : (len(x) + 1) // 2])[::-1] ** 3


def test_six_neurons_remove_a_frequency():
    found = flow.modular_jumps(X11)
    first, second = (flow.modular_neurons(X11, k) for k in (1, 2))
    np.testing.assert_allclose(loss(X11, *first), found.loss[1], rtol=1e-12)
    both = [np.vstack(layer) for layer in zip(first, second, strict=True)]
    np.testing.assert_allclose(loss(X11, *both), 0, atol=1e-14)
    np.testing.assert_allclose([np.sum(u**2) for u in first], np.sum(first[0] ** 2), rtol=1e-12)
    # Five of the six leave something, however scaled.
    rest = [loss(X11, *(c * layer[:5] for layer in first)) for c in np.linspace(0.8, 1.2, 9)]
    assert min(rest) > found.loss[1] + 0.01


def test_frequencies_that_mix():
    assert flow.modular_utility(X11).pure.all()
    np.testing.assert_array_equal(flow.modular_utility(X7).pure, [False, False, False])
    x = encoding(13, {1: (5.0, 0.0), 3: (3.0, 0.0)})
    np.testing.assert_array_equal(flow.modular_utility(x).pure, [False, True])


def test_equal_amplitudes_are_ties():
    found = flow.modular_jumps(encoding(11, {2: (3.0, 0.1), 5: (3.0, 1.0), 1: (1.0, 0.0)}))
    np.testing.assert_array_equal(found.ties, [False, True, False])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([1.0, -1.0, 1.0, -1.0]), "p odd"),
        (np.array([1.0, 0.0, 0.0]), "mean 0"),
        (np.zeros(5), "mean 0"),
        (1j * X7, "real"),
    ],
)
def test_bad_input_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        flow.modular_jumps(x)


def test_a_frequency_that_is_absent_is_refused():
    with pytest.raises(ValueError, match="frequency must be one of"):
        flow.modular_neurons(X11, 3)


def finite_network(hidden, horizon, solver=None):
    """What two networks of so many neurons leave of the only frequency, over the loss of zero."""
    start = np.random.default_rng(0).standard_normal((2, 3, hidden, 7))
    start *= 0.3 / np.linalg.norm(start, axis=(1, 3), keepdims=True)
    x = np.cos(2 * np.pi * np.arange(7) / 7 + 0.4)
    data, options = flow.modular_data(x), {"rtol": 1e-7, "solver": solver}
    one = lambda z: flow.gradient_flow(flow.ModularAddition(*z), data, [0.0, horizon], **options)
    run = jax.vmap(one)(jnp.asarray(start)).raise_if_failed()
    return run.loss[:, -1] / flow.modular_jumps(x).loss[0]


@pytest.mark.nightly
def test_one_neuron_leaves_eight_ninths_of_its_frequency():
    np.testing.assert_allclose(finite_network(1, 200.0), 8 / 9, atol=1e-5)


@pytest.mark.nightly
def test_two_neurons_leave_five_ninths_and_six_leave_nothing():
    """Two creep towards a value that they never reach, which only an implicit solver can follow."""
    two = finite_network(2, 3000.0, diffrax.Kvaerno5())
    np.testing.assert_allclose(two, 5 / 9, atol=1e-4)
    assert (two > 5 / 9).all()
    np.testing.assert_allclose(finite_network(6, 300.0), 0.0, atol=1e-8)
