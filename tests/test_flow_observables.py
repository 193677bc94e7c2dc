"""Observables of networks against their definitions and closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import flow

X = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.4], [0.7, 0.1, 0.9], [-0.5, 0.8, 0.2]])
Y = np.array([1.0, -0.4, 0.3, 0.8])
DATA = flow.Data(X, Y, reduce="sum")


def test_the_kernel_of_a_linear_neuron_is_x_m_x(rng):
    a, w = 0.7, rng.normal(size=3)
    m = 1.5 * a**2 * np.eye(3) + 0.4 * np.outer(w, w)
    kernel = flow.ntk(flow.LinearNeuron(a, w), X, lr=[0.4, 1.5])
    np.testing.assert_allclose(kernel, X @ m @ X.T, rtol=1e-12)
    # Under flow f' = -K dL/df.
    start = flow.LinearNeuron(a, w)
    f = lambda t: jax.vmap(flow.gradient_flow(start, DATA, [0.0, t], lr=[0.4, 1.5]).at(-1))(X)
    slope = (f(1e-4) - f(0.5e-4)) * 2e4
    np.testing.assert_allclose(slope, -kernel @ (a * X @ w - Y), rtol=1e-2)


def test_kernels_of_several_outputs_have_four_axes(rng):
    net = flow.LinearNetwork([rng.normal(size=(2, 3)), rng.normal(size=(2, 2))])
    kernel = flow.ntk(net, X)
    w, a = net.weights
    expected = np.einsum("np,mp,cd->ncmd", X @ w.T, X @ w.T, np.eye(2))
    expected += np.einsum("nm,cd->ncmd", X @ X.T, a @ a.T)
    np.testing.assert_allclose(kernel, expected, rtol=1e-12)
    flat = kernel.reshape(8, 8)
    np.testing.assert_allclose(flat, flat.T, rtol=1e-12)


class TwoHeads(eqx.Module):
    w: jax.Array

    def __call__(self, x):
        return {"sum": self.w @ x, "products": self.w * x}


def test_kernels_need_inputs_that_the_model_takes():
    for x in (X[0], X[:, :2]):
        with pytest.raises(ValueError, match="shape"):
            flow.ntk(flow.LinearNeuron(1.0, X[0]), x)
    with pytest.raises(ValueError, match="one array"):
        flow.ntk(TwoHeads(jnp.ones(3)), X)


def test_kernel_distance_keeps_its_digits():
    k0, turn = jnp.eye(2), jnp.array([[0.0, 1.0], [1.0, 0.0]])
    for small in (1e-1, 1e-9):
        exact = -np.expm1(-0.5 * np.log1p(small**2))
        np.testing.assert_allclose(
            flow.kernel_distance(k0, 3 * (k0 + small * turn)), exact, rtol=1e-6
        )
    np.testing.assert_allclose(flow.kernel_distance(k0, turn), 1.0)
    for scale in (1e-200, 1e200):
        np.testing.assert_allclose(flow.kernel_distance(scale * k0, k0 + turn), 1 - 0.5**0.5)
    assert np.isnan(flow.kernel_distance(k0, jnp.zeros((2, 2))))
    with pytest.raises(ValueError, match="same shape"):
        flow.kernel_distance(k0, jnp.eye(3))


def test_effective_ranks():
    values = np.array([3.0, 1.0, 0.0])
    p = values[:2] / 4
    expected = {"entropy": np.exp(-p @ np.log(p)), "participation": 100 / 82, "stable": 10 / 9}
    for kind, rank in expected.items():
        np.testing.assert_allclose(flow.effective_rank(np.diag(values), kind), rank, rtol=1e-12)
        np.testing.assert_allclose(flow.effective_rank(1e-200 * np.eye(3), kind), 3.0, rtol=1e-12)
        assert flow.effective_rank(np.zeros((2, 3)), kind) == 0
    net = flow.LinearNetwork([np.diag(values), np.eye(3)])
    np.testing.assert_allclose(flow.effective_rank(net), expected["entropy"], rtol=1e-12)
    with pytest.raises(ValueError, match="kind"):
        flow.effective_rank(np.eye(2), "nuclear")
    assert np.isnan(flow.effective_rank(np.full((2, 2), np.nan)))
    for shape in ((3,), (0, 3)):
        with pytest.raises(ValueError, match="2 axes"):
            flow.effective_rank(np.ones(shape))


W, V, B = jnp.asarray(X[:2]), jnp.array([2.0, -0.5]), jnp.array([0.3, 0.1])
RELU = ld.TwoLayer(W, V, B, ld.ReLU())


def test_neurons_their_masses_and_their_alignment():
    assert flow.neurons(RELU).shape == (2, 5)
    norms = np.linalg.norm(np.c_[W, B], axis=1)
    np.testing.assert_allclose(flow.neuron_masses(RELU), norms * np.abs(V), rtol=1e-12)
    linear = flow.LinearNetwork([W, V[None, :]])
    np.testing.assert_allclose(flow.neurons(linear), np.c_[W, V], rtol=1e-12)
    cosines = flow.alignment(linear, [W[0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(cosines[0, 0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(cosines[:, 1], W[:, 2] / np.linalg.norm(W, axis=1), rtol=1e-12)
    assert np.isnan(cosines[:, 2]).all()
    modular = flow.ModularAddition(np.eye(2), np.eye(2), 3 * np.eye(2))
    np.testing.assert_allclose(flow.neuron_masses(modular), [6.0, 6.0])
    np.testing.assert_allclose(flow.neuron_masses(flow.DiagonalNetwork([1, -2], [3, 4])), [3, 8])
    with pytest.raises(ValueError, match="same size"):
        flow.alignment(linear, [1.0, 2.0])
    with pytest.raises(ValueError, match="two layers"):
        flow.neurons(flow.LinearNetwork([W]))


def test_speeds_of_a_linear_neuron_are_those_of_theory(rng):
    """d|beta|/dt = -kappa bhat.g, and the angle turns at (kappa + delta)/(2 |beta|) |P g|."""
    a, w, (lr_a, lr_w) = 0.7, rng.normal(size=3), (0.4, 1.5)
    beta = a * w
    norm = np.linalg.norm(beta)
    g = X.T @ (X @ beta - Y)
    delta = lr_w * a**2 - lr_a * w @ w
    kappa = np.sqrt(delta**2 + 4 * lr_a * lr_w * norm**2)
    radial = beta @ g / norm
    found = flow.speeds(flow.LinearNeuron(a, w), DATA, lr=[lr_a, lr_w])
    np.testing.assert_allclose(found.radial, [-kappa * radial], rtol=1e-10)
    turning = np.linalg.norm(g - radial * beta / norm) * (kappa + delta) / (2 * norm)
    np.testing.assert_allclose(found.angular, [turning], rtol=1e-10)


@pytest.mark.nightly
def test_speeds_of_neurons_are_differences_along_a_run():
    run = flow.gradient_flow(RELU, DATA, [0.0, 1e-5, 2e-5])
    vectors = np.asarray(jax.vmap(flow.neurons)(run.model))
    norms = np.linalg.norm(vectors, axis=2)
    units = vectors / norms[:, :, None]
    found = flow.speeds(run.at(1), DATA)
    np.testing.assert_allclose(found.radial, (norms[2] - norms[0]) / 2e-5, rtol=1e-5)
    turned = np.linalg.norm(units[2] - units[0], axis=1) / 2e-5
    np.testing.assert_allclose(found.angular, turned, rtol=1e-5)
    still = flow.speeds(ld.TwoLayer(W.at[0].set(0), V.at[0].set(0), None, ld.ReLU()), DATA)
    assert np.isnan(still.angular[0])


@pytest.mark.nightly
def test_jumps_and_dwell_times_of_a_loss_curve():
    """A linear network with modes 2 and 1 rests at 2.5, 0.5 and 0."""
    data = flow.Moments(np.eye(2), np.diag([2.0, 1.0]))
    alpha, levels = 1e-6, [2.5, 0.5, 0.0]
    start = flow.LinearNetwork([alpha * np.eye(2), alpha * np.eye(2)])
    run = flow.gradient_flow(start, data, np.linspace(0.0, 20.0, 2001))
    s = np.array([2.0, 1.0])

    def at(k, loss):
        """When mode k, Saxe's sigmoid from alpha**2 with loss (s - u)**2/2, has this loss."""
        u = s[k] - np.sqrt(2 * loss)
        return np.log((s[k] / alpha**2 - 1) / (s[k] / u - 1)) / (2 * s[k])

    np.testing.assert_allclose(flow.jump_times(run, levels), [at(0, 1.0), at(1, 0.25)], atol=1e-3)
    half_learned = flow.linear_jump_times(*start.weights, data).times
    reached = flow.jump_times(run, levels, done=0.75)
    np.testing.assert_allclose(reached, half_learned, atol=1e-3)
    dwell = flow.dwell_times(run, levels)
    # 5 % of the smaller drop next to each level: of 2, 0.5 and 0.5.
    np.testing.assert_allclose(dwell[0], at(0, 2.0 - 0.05 * 2.0), atol=2e-3)
    np.testing.assert_allclose(dwell[1], at(1, 0.5 - 0.025) - at(0, 0.025), atol=2e-3)
    np.testing.assert_allclose(dwell[2], 20.0 - at(1, 0.025), atol=2e-3)
    assert np.isnan(flow.jump_times(run, [3.5, 3.0])[0])
    with pytest.raises(ValueError, match="decrease"):
        flow.jump_times(run, [0.5, 2.5])
    with pytest.raises(ValueError, match="done is a share"):
        flow.jump_times(run, levels, done=75)
    with pytest.raises(ValueError, match="jumps >= 1"):
        flow.dwell_times(run, [0.5])


def test_modular_data_adds_modulo_p():
    x = np.array([1.0, -2.0, 0.5, 0.3, 0.2])
    data = flow.modular_data(x)
    assert data.x.shape == (25, 10)
    for row, (a, b) in enumerate(np.ndindex(5, 5)):
        np.testing.assert_array_equal(data.x[row], np.r_[np.roll(x, a), np.roll(x, b)])
        np.testing.assert_array_equal(data.y[row], np.roll(x, a + b))
    # The loss of a network that says nothing is |x|^2/2.
    silent = flow.ModularAddition(np.ones((1, 5)), np.ones((1, 5)), np.zeros((1, 5)))
    np.testing.assert_allclose(flow.loss(silent, data), x @ x / 2, rtol=1e-12)


def test_modular_data_of_numbers_within_jit():
    x = np.array([1.0, -2.0, 0.5, 0.3, 0.2])
    within = jax.jit(lambda scale: scale * flow.modular_data(x).y)
    np.testing.assert_array_equal(within(2.0), 2 * flow.modular_data(x).y)


def test_six_neurons_of_one_frequency_add_exactly():
    """Phases k pi/3, k pi/3 and 2 k pi/3, and the same with two of them moved by pi."""
    p, k = 7, np.arange(3)
    a = 2 * np.pi * np.arange(p) / p
    phases = np.concatenate([np.c_[np.pi * k / 3, np.pi * k / 3, 2 * np.pi * k / 3]] * 2)
    phases[3:, 1:] += np.pi
    size = 1 / (3 * (p / 2) ** 2) ** (1 / 3)
    u, v, w = (size * np.cos(a + phase[:, None]) for phase in phases.T)
    net = flow.ModularAddition(u, v, w)
    data = flow.modular_data(np.cos(a))
    np.testing.assert_allclose(flow.loss(net, data), 0.0, atol=1e-25)
