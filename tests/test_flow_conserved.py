"""Conserved quantities: identities at random points, drift along flows, and exact broken laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import flow


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


X, Y = np.asarray(draw(0, 6, 4)), np.asarray(draw(1, 6))
DATA = flow.Data(X, Y)
WIDE = flow.Data(X, np.asarray(draw(2, 6, 2)))
RATES = (0.7, 1.6)

LINEAR = flow.LinearNetwork([draw(3, 3, 4), draw(4, 2, 3)])
RELU = ld.TwoLayer(draw(5, 3, 4), draw(6, 3), draw(7, 3), ld.ReLU())
KNOWN = {
    "neuron": (flow.LinearNeuron(0.4, draw(8, 4)), DATA, RATES),
    "linear": (LINEAR, WIDE, RATES),
    "diagonal": (flow.DiagonalNetwork(draw(9, 4), draw(10, 4)), DATA, RATES),
    "modular": (
        flow.ModularAddition(draw(11, 2, 2), draw(12, 2, 2), draw(13, 2, 2)),
        WIDE,
        (0.7, 1.6, 0.4),
    ),
    "relu": (RELU, DATA, (0.7, 1.6, 0.4)),
    "quadratic": (ld.TwoLayer(RELU.w, RELU.v, None, ld.Quadratic()), DATA, RATES),
}


class Normalised(eqx.Module):
    """x -> v.x/|v| + c: its loss does not depend on the size of v."""

    v: jax.Array
    c: jax.Array

    def __call__(self, x):
        return self.v @ x / jnp.linalg.norm(self.v) + self.c


class Differences(eqx.Module):
    """A function of differences of z, as a softmax is: a shift of all of them changes nothing."""

    z: jax.Array

    def __call__(self, x):
        return jnp.diff(self.z) @ x[:2]


S = np.array([[0.3, 0.2, 0.0], [0.2, -0.5, 0.1], [0.0, 0.1, 0.9]])
first, second = (lambda model: model.weights[0]), (lambda model: model.weights[1])
SYMMETRIES = {
    "translation": (
        Differences(draw(14, 3)),
        flow.Translation(lambda model: model.z),
        (0.7,),
        1,
    ),
    "scale": (Normalised(draw(15, 4), jnp.asarray(0.2)), flow.Scale(lambda m: m.v), RATES, 2),
    "rescale": (
        flow.LinearNeuron(0.4, draw(8, 4)),
        flow.Rescale(lambda model: model.a, lambda model: model.w),
        RATES,
        2,
    ),
    "general linear": (LINEAR, flow.GeneralLinear(first, second, S), RATES, 2),
}


def data_of(model):
    return WIDE if isinstance(model, flow.LinearNetwork) else DATA


def along_gradient(h, model, data, lr):
    """dh/dt under flow, and the size of its terms."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    gradient = jax.grad(lambda p: flow.loss(eqx.combine(p, rest), data))(params)
    rates = jax.tree.unflatten(jax.tree.structure(params), lr)
    move = jax.tree.map(lambda lr, g: -lr * g, rates, gradient)
    return jax.jvp(lambda p: h(eqx.combine(p, rest)), (params,), (move,))[1]


@pytest.mark.parametrize("name", KNOWN)
def test_known_quantities_do_not_change_along_the_gradient(name):
    model, data, lr = KNOWN[name]
    change = along_gradient(lambda m: flow.conserved(m, lr=lr), model, data, lr)
    for leaf in jax.tree.leaves(change):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-12)
    # With the rates exchanged nothing is conserved: the identity is no accident.
    wrong = along_gradient(lambda m: flow.conserved(m, lr=lr[::-1]), model, data, lr)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wrong)) > 1e-3


@pytest.mark.parametrize("name", ["linear", "modular"])
def test_known_quantities_drift_less_than_the_tolerance_along_a_flow(name):
    model, data, lr = KNOWN[name]
    run = flow.gradient_flow(model, data, [0.0, 1.0, 4.0], lr=lr, rtol=1e-9)
    values = jax.vmap(lambda m: flow.conserved(m, lr=lr))(run.model)
    for leaf in jax.tree.leaves(values):
        np.testing.assert_allclose(leaf, jnp.broadcast_to(leaf[0], leaf.shape), atol=1e-7)


def test_quantities_of_one_neuron_are_those_of_the_papers():
    neuron, _, (lr_a, lr_w) = KNOWN["neuron"]
    delta = lr_w * neuron.a**2 - lr_a * jnp.sum(neuron.w**2)
    np.testing.assert_allclose(flow.conserved(neuron, lr=RATES) * lr_a * lr_w, delta, rtol=1e-13)
    by_symmetry = flow.conserved(neuron, SYMMETRIES["rescale"][1], lr=RATES)
    np.testing.assert_allclose(2 * lr_a * lr_w * by_symmetry, delta, rtol=1e-13)
    np.testing.assert_allclose(
        flow.conserved(LINEAR)[0],
        LINEAR.weights[1].T @ LINEAR.weights[1] - LINEAR.weights[0] @ LINEAR.weights[0].T,
    )


def test_a_general_linear_symmetry_measures_the_balance_in_its_direction():
    h = flow.conserved(LINEAR, flow.GeneralLinear(first, second, S), lr=RATES)
    balance = flow.conserved(LINEAR, lr=RATES)[0]
    np.testing.assert_allclose(h, -0.5 * jnp.trace(S @ balance), rtol=1e-12)


@pytest.mark.nightly(by_day=["rescale"])
@pytest.mark.parametrize("name", SYMMETRIES)
def test_symmetries_conserve_under_flow_and_shrink_under_decay(name):
    model, symmetry, lr, degree = SYMMETRIES[name]
    data = data_of(model)
    h = lambda m: flow.conserved(m, symmetry, lr)
    start = flow.conserved(model, symmetry, lr, data=data)
    ends = [
        flow.gradient_flow(model, data, [0.0, 3.0], lr=lr, decay=decay).at(-1)
        for decay in (0.0, 0.1)
    ]
    np.testing.assert_allclose(h(ends[0]), start, rtol=1e-8)
    assert abs(float(h(ends[1]) - start)) > 1e-2 * abs(float(start))
    expected = flow.under_decay(start, 3.0, 0.1, degree)
    np.testing.assert_allclose(h(ends[1]), expected, rtol=1e-8)


@pytest.mark.nightly(by_day=["rescale"])
@pytest.mark.parametrize("name", SYMMETRIES)
def test_finite_steps_break_conservation_by_exactly_the_predicted_terms(name):
    model, symmetry, lr, degree = SYMMETRIES[name]
    data = data_of(model)
    lr = tuple(0.1 * rate for rate in lr)
    options = {"momentum": 0.8, "decay": 0.02}
    run = flow.gradient_descent(model, data, 3, lr=lr, **options)
    at = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)
    for i in range(3):
        predicted = flow.after_step(
            run.at(i), data, symmetry, lr, velocity=at(run.velocity, i), **options
        )
        measured = flow.conserved(run.at(i + 1), symmetry, lr)
        np.testing.assert_allclose(measured, predicted, rtol=1e-12)
    # The breaking term of a quadratic law is not small.
    kept = 0.98**degree * flow.conserved(run.at(0), symmetry, lr)
    gap = abs(float(flow.conserved(run.at(1), symmetry, lr) - kept))
    assert gap < 1e-13 if degree == 1 else gap > 1e-6


@pytest.mark.parametrize("name", KNOWN)
def test_finite_steps_of_known_networks(name):
    model, data, lr = KNOWN[name]
    lr = tuple(0.02 * rate for rate in lr)
    run = flow.gradient_descent(model, data, 1, lr=lr, decay=0.02)
    predicted = flow.after_step(model, data, lr=lr, decay=0.02)
    measured = flow.conserved(run.at(1), lr=lr)
    for one, other in zip(jax.tree.leaves(predicted), jax.tree.leaves(measured), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * float(jnp.abs(one).max()))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["translation", "scale"])
def test_a_heavy_ball_conserves_its_own_charge(name):
    model, symmetry, lr, _ = SYMMETRIES[name]
    data = data_of(model)
    spacings = []
    for count in (41, 81):
        run = flow.gradient_flow(
            model, data, np.linspace(0.0, 4.0, count), lr=lr, mass=0.8, rtol=1e-12
        )
        charge = flow.inertial_charge(run, data, 0.8, symmetry, lr)
        spacings.append(float(jnp.abs(charge - charge[0]).max()))
    plain = jax.vmap(lambda m: flow.conserved(m, symmetry, lr))(run.model)
    assert spacings[1] < 1e-6
    if name == "scale":
        # The plain quantity moves, and the integral's error falls as the spacing's fourth power.
        assert float(jnp.abs(plain - plain[0]).max()) > 1e-3
        assert spacings[0] / spacings[1] == pytest.approx(16, rel=0.2)


def test_symmetries_without_conserved_quantity_are_refused():
    turn = flow.GeneralLinear(first, second, [[0, 1, 0], [-1, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="without conserved quantity"):
        flow.conserved(LINEAR, turn)
    # Whatever the units of the data, in which the gradient is small or large
    for unit in (1.0, 1e-6):
        with pytest.raises(ValueError, match="unchanged"):
            flow.conserved(LINEAR, flow.Scale(first), data=flow.Data(unit * X, unit * WIDE.y))
    with pytest.raises(ValueError, match="tangent"):
        flow.conserved(LINEAR, first)
    with pytest.raises(ValueError, match="must be a function"):
        flow.conserved(LINEAR, "rotation")
    with pytest.raises(ValueError, match="degrees"):
        flow.Rescale(first, second, degrees=(1.0, 0.0))


def test_networks_without_known_quantity_say_so():
    erf = ld.TwoLayer(RELU.w, RELU.v, None, ld.Erf())
    with pytest.raises(ValueError, match="homogeneous"):
        flow.conserved(erf)
    with pytest.raises(ValueError, match="pass its symmetry"):
        flow.conserved(Differences(jnp.ones(3)))
    with pytest.raises(ValueError, match="frozen layer"):
        flow.conserved(LINEAR, lr=[0.0, 1.0])
    # Moving along |v|**2 v is a symmetry with a conserved quantity, |v|**4/4, but no linear one.
    model, symmetry, _, _ = SYMMETRIES["scale"]
    curved = lambda model: jax.tree.map(lambda xi: xi * (model.v @ model.v), symmetry(model))
    np.testing.assert_allclose(flow.conserved(model, curved), (model.v @ model.v) ** 2 / 4)
    with pytest.raises(ValueError, match="constant or linear"):
        flow.after_step(model, DATA, curved, 0.1)
    with pytest.raises(ValueError, match="mass"):
        flow.inertial_charge(flow.gradient_flow(LINEAR, WIDE, [0.0]), WIDE, 1.0)


def test_degree_of_a_function_with_its_own_derivative_rule_under_vmap():
    w, v = jnp.stack([RELU.w, 2 * RELU.w]), jnp.stack([RELU.v, RELU.v])
    balances = lambda w, v: flow.conserved(ld.TwoLayer(w, v, None, jax.nn.relu))
    expected = v**2 - jnp.sum(w**2, axis=-1)
    np.testing.assert_allclose(jax.vmap(balances)(w, v), expected, rtol=1e-13)
