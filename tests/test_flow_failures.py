"""What bad input to gradient flow does: clear errors, or result codes that spoil no batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import flow

X = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0], [2.0, 2.0, 1.0], [1.0, -1.0, 0.5]])
Y = np.array([1.0, -1.0, 2.0, 0.5])
DATA = flow.Data(X, Y)
NEURON = flow.LinearNeuron(0.3, [0.2, -0.5, 0.1])
TIMES = [0.0, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flow.Data(X[0], Y), "samples, d"),
        (lambda: flow.Data(X, Y[:3]), "4 samples"),
        (lambda: flow.Data(X, Y[:, None, None]), "samples, c"),
        (lambda: flow.Data(X + 1j, Y), "must be real"),
        (lambda: flow.Data(X * np.nan, Y), "finite"),
        (lambda: flow.Data(X, Y, reduce="median"), "reduce"),
        (lambda: flow.Data(np.zeros((0, 3)), np.zeros(0)), "at least one"),
        (lambda: flow.Moments(X, Y), "d, d"),
        (lambda: flow.Moments(np.eye(3), np.ones(2)), "d = 3"),
        (lambda: flow.Moments(np.diag([1.0, 1.0, -1.0]), np.ones(3)), "semi-definite"),
        (lambda: flow.Moments(np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones(2)), "symmetric"),
        (lambda: flow.Moments(np.diag([1.0, 0.0]), np.ones(2)), "range of sxx"),
        (lambda: flow.Moments(np.eye(2), np.ones(2), syy=np.eye(2)), "syy"),
        (lambda: flow.LinearNetwork([]), "list of weight"),
        (lambda: flow.LinearNeuron(1j, [1.0]), "a must be real"),
        (lambda: flow.modular_data(np.arange(5.0)), "mean zero"),
        (lambda: flow.modular_data([1.0]), "p >= 2"),
    ],
)
def test_bad_data_and_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (NEURON, flow.Data(X, Y[:, None]), "shape of one label"),
        (flow.LinearNetwork([np.ones((2, 3)), np.ones((1, 2))]), DATA, "shape of one label"),
        (flow.LinearNeuron(0.3, [0.2, -0.5]), DATA, "one input of shape"),
        (flow.LinearNetwork([np.ones((2, 3)), np.ones((1, 4))]), DATA, "can be multiplied"),
        (flow.LinearNetwork([np.ones(3)]), DATA, "matrices"),
        (flow.DiagonalNetwork(np.ones(3), np.ones(2)), DATA, "same shape"),
        (flow.LinearNeuron([1.0, 2.0], [0.2, -0.5, 0.1]), DATA, r"a \(\) and w"),
        (flow.ModularAddition(np.ones((2, 3)), np.ones((2, 3)), np.ones((1, 3))), DATA,
         "hidden, p"),
        (NEURON, flow.Moments(np.eye(3), np.ones((2, 3))), "end-to-end"),
        (ld.TwoLayer(jnp.ones((2, 3)), jnp.ones(2), None, ld.Erf()), flow.Moments(np.eye(3), Y[:3]),
         "go with models"),
        (lambda x: x[0], DATA, "Equinox module"),
        (eqx.nn.Identity(), DATA, "no parameters"),
        (flow.LinearNeuron(np.nan, [0.2, -0.5, 0.1]), DATA, "finite"),
        (NEURON, (X, Y), "flow.Data"),
        (flow.LinearNeuron(0.0, np.zeros(3)), DATA, "critical point"),
        (ld.TwoLayer(jnp.array([[-1.0, 0, 0]]), jnp.ones(1), None, ld.ReLU()),
         flow.Data(np.abs(X), Y), "critical point"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("run", [flow.gradient_flow, flow.gradient_descent])
def test_models_that_do_not_fit_are_refused(run, model, data, message):
    with pytest.raises(ValueError, match=message):
        run(model, data, [0, 1], lr=0.1)


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (-1.0, "lr must be finite and >= 0"),
        (np.nan, "lr must be finite"),
        (1j, "must be real"),
        ({"a": 1.0}, "every trained field"),
        ({"a": 1.0, "b": 1.0}, "every trained field"),
        ([1.0, 1.0, 1.0], "2 layers"),
        ([1.0, [1.0, 2.0, 3.0]], r"lr\[1\] must be a number"),
        (flow.DiagonalNetwork(1.0, 1.0), "LinearNeuron"),
        (flow.LinearNeuron(1.0, -1.0), r"lr\.w"),
        ("fast", "real number"),
    ],
)
def test_bad_rates_are_refused(lr, message):
    with pytest.raises(ValueError, match=message):
        flow.gradient_flow(NEURON, DATA, TIMES, lr=lr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ts": [1.0, 0.5]}, "strictly increasing"),
        ({"rtol": 0.0}, "rtol"),
        ({"atol": -1.0}, "atol"),
        ({"max_steps": 0}, "max_steps"),
        ({"solver": "Euler"}, "adaptive"),
        ({"mass": 0.0}, "mass"),
        ({"until": 0.1}, "until must be a function"),
        ({"decay": -1.0}, "decay"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flow.gradient_flow(NEURON, DATA, **({"ts": TIMES} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "whole number"),
        ({"steps": 1.5}, "whole number"),
        ({"steps": [1, 2]}, "0 first"),
        ({"steps": [0, 2, 2]}, "increasing"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"decay": -0.1}, "decay"),
    ],
)
def test_bad_options_of_descent_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flow.gradient_descent(NEURON, DATA, **({"steps": 3, "lr": 0.1} | options))


@pytest.mark.parametrize(
    "lr",
    [0.5, [0.5, 0.5], {"a": 0.5, "w": 0.5}, flow.LinearNeuron(0.5, 0.5), np.array([0.5, 0.5])],
)
def test_rates_have_many_forms(lr):
    run = flow.gradient_flow(NEURON, DATA, TIMES, lr=lr)
    reference = flow.gradient_flow(NEURON, DATA, [0.0, 0.5])
    np.testing.assert_allclose(run.model.w[-1], reference.model.w[-1], rtol=1e-9)


def test_rates_by_layer_of_deep_networks():
    start = flow.LinearNetwork([np.eye(3), np.eye(3), np.ones((1, 3))])
    for lr in ([0.0, 1.0, 1.0], {"weights": [0.0, 1.0, 1.0]}, flow.LinearNetwork([0.0, 1.0, 1.0])):
        end = flow.gradient_flow(start, flow.Data(X, Y[:, None]), TIMES, lr=lr).at(-1)
        np.testing.assert_array_equal(end.weights[0], np.eye(3))
        assert not np.allclose(end.weights[1], np.eye(3))


def test_integers_count_as_floats():
    data = flow.Data(X.astype(int), [1, 0, 1, 0])
    run = flow.gradient_flow(flow.LinearNeuron(1, [1, 0, 0]), data, [0, 1])
    assert run.model.w.dtype == float
    net = ld.TwoLayer(jnp.eye(3), jnp.ones(3), None, ld.ReLU())
    whole = eqx.tree_at(lambda net: net.w, net, np.eye(3, dtype=int))
    moved, reference = (flow.gradient_flow(start, DATA, [0, 1]) for start in (whole, net))
    np.testing.assert_array_equal(moved.model.w, reference.model.w)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_of_few_bits_are_refused(dtype):
    net = eqx.nn.Linear(3, "scalar", dtype=dtype, key=jax.random.key(0))
    for run in (flow.gradient_flow, flow.gradient_descent):
        with pytest.raises(ValueError, match=f"made in {dtype}"):
            run(net, DATA, [0, 1], lr=0.1)


def test_a_singular_data_matrix_is_no_obstacle():
    """Repeated inputs: the flow ends at the interpolator that its start selects."""
    x = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    start = flow.LinearNeuron(1.0, [0.0, 0.0, 0.0])
    end = flow.gradient_flow(start, flow.Data(x, [1.0, 1.0]), [0.0, 60.0]).at(-1)
    np.testing.assert_allclose(end.end_to_end()[0], [0.5, 0.5, 0.0], atol=1e-9)
    moments = flow.Moments(x.T @ x / 2, np.ones(2) @ x / 2)
    again = flow.gradient_flow(start, moments, [0.0, 60.0]).at(-1)
    np.testing.assert_allclose(again.w, end.w, atol=1e-9)


def test_failed_runs_leave_the_rest_of_a_batch_alone():
    """A traced start that is NaN, one that never moves, a bad rate and a stiff one, among sound."""
    starts = jnp.array([0.3, jnp.nan, 0.0, 0.3, 0.5, 0.3])
    rates = jnp.array([1.0, 1.0, 1.0, -1.0, 1.0, 1e6])
    times = jnp.array([0.0, 0.5, 1.0])

    def one(a, lr):
        start = flow.LinearNeuron(a, jnp.full(3, a))
        return flow.gradient_flow(start, DATA, times, lr=lr, max_steps=200)

    batch = jax.vmap(one)(starts, rates)
    expected = [ld.Result.SUCCESS, ld.Result.INVALID_INPUT, ld.Result.STALLED]
    expected += [ld.Result.INVALID_INPUT, ld.Result.SUCCESS, ld.Result.MAX_STEPS]
    assert batch.result.tolist() == expected
    assert np.isnan(batch.loss[jnp.array([1, 3])]).all()
    for stopped in (2, 5):
        np.testing.assert_array_equal(np.isnan(batch.loss[stopped]), [False, True, True])
        assert np.isnan(batch.model.w[stopped, 1:]).all()
    assert 0.0 < batch.end[5] < 0.5
    sound = jax.vmap(one)(jnp.array([0.3, 0.3, 0.3, 0.3, 0.5, 0.3]), jnp.ones(6))
    assert sound.ok.all()
    for i in (0, 4):
        np.testing.assert_array_equal(batch.loss[i], sound.loss[i])
        np.testing.assert_array_equal(batch.model.w[i], sound.model.w[i])
    with pytest.raises(RuntimeError, match="4 of 6 runs failed; number 1"):
        batch.raise_if_failed()


def test_a_run_that_needs_too_many_steps_keeps_what_it_reached():
    with pytest.warns(RuntimeWarning, match="MAX_STEPS"):
        run = flow.gradient_flow(NEURON, DATA, [0.0, 0.1, 100.0], max_steps=8)
    assert run.result == ld.Result.MAX_STEPS
    assert np.isfinite(run.loss[:2]).all()
    assert np.isnan(run.loss[2])
    assert np.isnan(run.model.w[2]).all()
    assert 0.1 <= float(run.end) < 100.0
    with pytest.raises(ValueError, match="no model at saved time number -1"):
        run.at(-1)
    with pytest.raises(RuntimeError, match="MAX_STEPS"):
        run.raise_if_failed()


def test_trial_steps_that_overflow_are_tried_again_shorter():
    # Before they jump these flows take steps that grow tenfold, and of some of them one ends at
    # infinity, where an error relative to it would be ∞/∞.
    data = flow.Data([[1.0, 2.0, -1.0]], [2.0])

    def run(digits):
        start = flow.DiagonalNetwork(jnp.full(3, 10.0**-digits), jnp.zeros(3))
        return flow.gradient_flow(start, data, jnp.array([0.0, 2.0]) * digits, max_steps=1000)

    runs = jax.vmap(run)(jnp.arange(40.0, 72.0))
    assert (runs.result == 0).all()
    betas = jax.vmap(lambda model: model.end_to_end()[0])(
        jax.tree.map(lambda x: x[:, -1], runs.model)
    )
    assert jnp.allclose(betas, jnp.array([0.0, 1.0, 0.0]), atol=1e-9)


def test_descent_beyond_the_stability_limit_diverges_with_a_code():
    with pytest.warns(RuntimeWarning, match="DIVERGED"):
        run = flow.gradient_descent(NEURON, DATA, [0, 1, 200], lr=10.0)
    assert run.result == ld.Result.DIVERGED
    assert np.isfinite(run.loss[:2]).all()
    assert np.isnan(run.loss[2])
    assert float(run.end) == 1.0


def test_frozen_networks_and_perfect_starts_stay_where_they_are():
    frozen = flow.gradient_flow(NEURON, DATA, TIMES, lr=0.0)
    assert frozen.ok
    np.testing.assert_array_equal(frozen.model.w[0], frozen.model.w[1])
    perfect = flow.gradient_flow(NEURON, flow.Data(X, 0.3 * X @ NEURON.w), TIMES)
    np.testing.assert_allclose(perfect.model.w[1], NEURON.w, rtol=1e-14)


def test_a_start_that_never_moves_is_refused_within_jit_as_well():
    with pytest.raises(ValueError, match="critical point"):
        jax.jit(lambda t: flow.gradient_flow(flow.LinearNeuron(0.0, np.zeros(3)), DATA, t).loss)(
            jnp.array([0.0, 1.0])
        )


def test_one_time_is_the_start():
    run = flow.gradient_flow(NEURON, DATA, [2.0])
    np.testing.assert_array_equal(run.model.w, NEURON.w[None])


def test_runs_are_indexed_with_care():
    run = flow.gradient_flow(NEURON, DATA, TIMES)
    with pytest.raises(ValueError, match="single run"):
        run[0]
    with pytest.raises(IndexError, match="2 saved times"):
        run.at(2)
    with pytest.raises(ValueError, match="traced"):
        eqx.filter_jit(lambda run: run.raise_if_failed())(run)
    assert repr(run).startswith("Run(flow, model LinearNeuron, 2 times, t 0 … 1, loss ")
    assert "<table>" in run._repr_html_()
