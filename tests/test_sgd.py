"""SGD on weights: each step, its bookkeeping, and the physics that must come out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

import learndyn as ld
from learndyn.dynamics.sgd._stream import make_stream

N, K, M = 12, 3, 2
TS = jnp.array([0.0, 0.7, 1.9, 4.0, 25.0])  # 300 steps: ten blocks
FEW_NODES = ld.averages.QuasiMonteCarlo(points=64, replicates=2)


def make_weights(n=N, k=K, m=M, biases=False, seed=0):
    b = {"b": "gaussian", "b_teacher": "gaussian"} if biases else {}
    return ld.init_weights(jax.random.key(seed), n, k, m, v="gaussian", v_teacher="gaussian", **b)


# Every feature of the rule against a transcription into NumPy.

ERF = (lambda x: erf(x / 2**0.5), lambda x: (2 / np.pi) ** 0.5 * np.exp(-x * x / 2))
RELU = (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0)
TANH = (np.tanh, lambda x: 1 / np.cosh(x) ** 2)
SLOPES = {
    ld.Squared: lambda phi, y: phi - y,
    ld.Logistic: lambda phi, y: -y / (1 + np.exp(y * phi)),
    ld.Hinge: lambda phi, y: -y * (y * phi < 1),
}


@eqx.filter_jit
def compiled_block(stream, index):
    return stream.block(index)


def block_of(stream, index):
    return compiled_block(stream, jnp.asarray(index))


def transcription(problem, student, slope, rule, weights, inputs, ts, key):
    """(w, v, b) at ts, as the papers write it: w <- w - lr/sqrt(n) c x - lr kappa/n w, ..."""
    g, dg = student
    n = weights.n
    stream = make_stream(problem, weights, inputs, key, rule.batch_size, jnp.dtype("float64"))
    w, v = np.array(weights.w), np.array(weights.v)
    b = np.zeros(K) if weights.b is None else np.array(weights.b)
    u_w, u_v, u_b = 0 * w, 0 * v, 0 * b
    rows = []
    for step in range(round(float(ts[-1]) * n) + 1):
        if step in np.round(np.asarray(ts) * n):
            rows.append((w, v, b))
        position = step % stream.steps_per_block
        if position == 0:
            xs, ys = map(np.asarray, block_of(stream, step // stream.steps_per_block))
        x, y = xs[position], ys[position]
        g_w, g_v, g_b = 0 * w, 0 * v, 0 * b
        for x_one, y_one in zip(x, y, strict=True):
            field = w @ x_one / np.sqrt(n) + b
            s = slope(v @ g(field), y_one)
            c = v * dg(field) * s
            g_w = g_w + np.outer(c, x_one) / np.sqrt(n) / len(x)
            g_v = g_v + g(field) * s / n / len(x)
            g_b = g_b + c / n / len(x)
        g_w = g_w + float(rule.weight_decay) / n * w
        lr, lr_v, lr_b = (0.0 if r is None else float(r) for r in rule.rates(step / n))
        beta = 0.0
        if isinstance(rule.momentum, ld.SlowMomentum):
            slow = float(rule.momentum.gamma) / n
            beta, lr, lr_v, lr_b = 1 - slow, lr * slow, lr_v * slow, lr_b * slow
        elif rule.momentum is not None:
            beta = float(rule.momentum)
        u_w, u_v, u_b = beta * u_w + g_w, beta * u_v + g_v, beta * u_b + g_b
        w, v, b = w - lr * u_w, v - lr_v * u_v, b - lr_b * u_b
    return [np.array(row) for row in zip(*rows, strict=True)]


CASES = {
    "online": (ld.Problem(noise=0.3), ERF, ld.SGD(0.7), False),
    "batch, decay, both layers, schedule": (
        ld.Problem(ld.ReLU(), ld.Tanh(), noise=0.3),
        RELU,
        ld.SGD(lambda a: 0.5 / (1 + a), lr_second=0.3, weight_decay=0.2, batch_size=3),
        False,
    ),
    "momentum and biases": (
        ld.Problem(ld.Tanh(), ld.Sign(), ld.Logistic(), noise=0.3),
        TANH,
        ld.SGD(0.7, lr_second=0.3, lr_bias=0.4, weight_decay=0.1, momentum=0.6),
        True,
    ),
    "slow momentum": (
        ld.Problem(ld.Erf(), ld.Linear(), ld.Hinge()),
        ERF,
        ld.SGD(0.7, lr_second=0.3, momentum=ld.SlowMomentum(2.5), batch_size=2),
        False,
    ),
    "multi-index teacher, biases of the student": (
        ld.Problem(ld.Tanh(), ld.MultiIndex(lambda rho, zeta: rho[0] * rho[1] + 0.1 * zeta)),
        TANH,
        ld.SGD(0.7, lr_bias=0.4),
        "student",
    ),
}


@pytest.mark.nightly(
    by_day=[case for case in CASES if case not in ("online", "momentum and biases")]
)
@pytest.mark.parametrize("case", CASES)
def test_run_is_the_steps_written_out(case, key):
    problem, student, rule, biases = CASES[case]
    weights = make_weights(biases=biases is True)
    if biases == "student":
        weights = ld.Weights(weights.w, weights.w_teacher, weights.v, b=[0.1, -0.2, 0.3])
    run = ld.simulate_sgd(problem, rule, weights, TS, key=key, averages=FEW_NODES)
    slope = SLOPES[type(problem.loss)]
    w, v, b = transcription(problem, student, slope, rule, weights, ld.Gaussian(), TS, key)
    assert run.result == ld.Result.SUCCESS
    np.testing.assert_allclose(run.alpha, np.round(TS * N) / N)
    np.testing.assert_allclose(run.Q, w @ w.mT / N, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(run.R, w @ weights.w_teacher.T / N, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(run.v, v, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(run.T, ld.overlaps(weights).T)
    if biases:
        np.testing.assert_allclose(run.b, b, rtol=1e-8, atol=1e-10)
    else:
        assert run.b is None
    assert not np.allclose(run.Q[0], run.Q[-1], rtol=1e-3)


@pytest.mark.nightly(by_day=["loss1"])
@pytest.mark.parametrize("loss", [ld.Squared(), ld.Logistic()])
def test_run_on_images_measures_on_all_of_them(loss, key):
    """Training, field overlaps and eg on a table of inputs that are far from Gaussian."""
    x = jax.random.exponential(key, (40, N)) - 0.5
    problem, rule, weights = ld.Problem(loss=loss, noise=0.3), ld.SGD(0.7, 0.3), make_weights()
    inputs = ld.Images(x)
    run = ld.simulate_sgd(problem, rule, weights, TS, key=key, inputs=inputs, averages=FEW_NODES)
    w, v, _ = transcription(problem, ERF, SLOPES[type(loss)], rule, weights, inputs, TS, key)
    np.testing.assert_allclose(run.Q, w @ w.mT / N, rtol=1e-8, atol=1e-10)
    lam, rho = x @ w.mT / N**0.5, x @ weights.w_teacher.T / N**0.5
    np.testing.assert_allclose(run.Q_field, lam.mT @ lam / 40, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(run.R_field, lam.mT @ rho / 40, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(run.T_field, rho.T @ rho / 40, rtol=1e-8)
    phi = np.einsum("tpk,tk->tp", ERF[0](lam), v)
    phi_teacher = ERF[0](rho) @ weights.v_teacher
    squared = 0.5 * np.mean((phi - phi_teacher) ** 2, axis=1)
    wrong = np.mean(np.asarray(phi * phi_teacher) < 0, axis=1)
    eg = wrong if problem.is_classification else squared
    np.testing.assert_allclose(run.eg, eg, rtol=1e-8)
    start = ld.field_overlaps(weights, inputs)
    np.testing.assert_allclose(run.Q_field[0], start.Q, rtol=1e-8)
    np.testing.assert_allclose(run.R_field[0], start.R, rtol=1e-8, atol=1e-10)


# Bookkeeping: saved times, keys, batches, compilation.

PROBLEM, RULE = ld.Problem(noise=0.2), ld.SGD(lr=0.5, lr_second=0.1, weight_decay=0.05)


def test_saved_times_change_no_bit(key):
    few = ld.simulate_sgd(PROBLEM, RULE, make_weights(), jnp.array([0.0, 12.5, 30.0]), key=key)
    often = ld.simulate_sgd(PROBLEM, RULE, make_weights(), jnp.linspace(0, 30.0, 121), key=key)
    for name in ("Q", "R", "v"):
        more = np.asarray(getattr(often, name))[[0, 50, 120]]
        np.testing.assert_array_equal(getattr(few, name), more, err_msg=name)
    # eg is taken at all times at once, in vectors that round the last bit in another way.
    np.testing.assert_allclose(few.eg, often.eg[jnp.array([0, 50, 120])], rtol=1e-15)


def test_samples_belong_to_steps_wherever_a_run_starts(key):
    """A run that waits until alpha = 15 takes the steps of one that starts there."""
    waiting = ld.SGD(lambda alpha: jnp.where(alpha < 15, 0.0, 0.5))
    late = ld.SGD(lambda alpha: 0.5 + 0 * alpha)
    one = ld.simulate_sgd(PROBLEM, waiting, make_weights(), jnp.array([0.0, 15, 20]), key=key)
    two = ld.simulate_sgd(PROBLEM, late, make_weights(), jnp.array([15.0, 20.0]), key=key)
    np.testing.assert_array_equal(one.Q[1:], two.Q)
    assert not np.array_equal(two.Q[0], two.Q[1])


def test_times_are_rounded_to_steps(key):
    ts = jnp.array([0.0, 0.01, 0.02, 0.06, 1.0])  # steps 0, 0, 0, 1, 12
    run = ld.simulate_sgd(PROBLEM, RULE, make_weights(), ts, key=key)
    np.testing.assert_allclose(run.alpha, np.array([0, 0, 0, 1, 12]) / N)
    np.testing.assert_array_equal(run.Q[0], run.Q[2])
    assert not np.array_equal(run.Q[2], run.Q[3])
    alone = ld.simulate_sgd(PROBLEM, RULE, make_weights(), ts[:1], key=key)
    np.testing.assert_allclose(alone.Q, ld.overlaps(make_weights()).Q[None])


def test_other_times_and_floats_do_not_recompile(key):
    traces = []

    def schedule(alpha):
        traces.append(1)
        return 0.1 + 0 * alpha

    def run(ts, noise, decay, seed):
        rule = ld.SGD(schedule, weight_decay=decay)
        weights = make_weights(seed=seed)
        ld.simulate_sgd(ld.Problem(noise=noise), rule, weights, ts, key=jax.random.key(seed))

    run(jnp.linspace(0, 1, 5), 0.1, 0.0, 0)
    count = len(traces)
    run(jnp.linspace(2, 40, 5), 0.3, 0.2, 1)
    assert len(traces) == count


def test_a_run_does_not_depend_on_the_batch_it_is_vmapped_in(getkey):
    ts, keys = jnp.linspace(0, 15.0, 4), jnp.stack([getkey() for _ in range(3)])
    starts = [make_weights(seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    lrs, noises, decays = jnp.array([[0.2, 0.5, 0.9], [0.0, 0.1, 0.3], [0.0, 0.1, 0.3]])

    def run(key, weights, lr, noise, decay):
        rule = ld.SGD(lr, lr_second=0.3 * lr, weight_decay=decay)
        return ld.simulate_sgd(ld.Problem(noise=noise), rule, weights, ts, key=key)

    together = jax.vmap(run)(keys, stacked, lrs, noises, decays)
    same_key = jax.vmap(run, (None, None, 0, None, None))(keys[0], starts[0], lrs, 0.1, 0.2)
    for i in range(3):
        alone = run(keys[i], starts[i], lrs[i], noises[i], decays[i])
        for name in ("alpha", "Q", "R", "v", "eg"):
            batched = getattr(together, name)[i]
            np.testing.assert_allclose(batched, getattr(alone, name), rtol=1e-9, atol=1e-11)
        alone = run(keys[0], starts[0], lrs[i], 0.1, 0.2)
        np.testing.assert_allclose(same_key.Q[i], alone.Q, rtol=1e-9, atol=1e-11)


def test_keys_decide_the_samples(getkey):
    def run(key):
        return ld.simulate_sgd(PROBLEM, RULE, make_weights(), TS, key=key)

    one, two, again = run(getkey()), run(getkey()), run(jax.random.PRNGKey(3))
    assert not np.allclose(one.Q[1], two.Q[1])
    np.testing.assert_array_equal(again.Q, run(jax.random.key(3)).Q)


def test_float32_draws_are_used_in_float64(key):
    single = ld.simulate_sgd(PROBLEM, RULE, make_weights(), TS, key=key, input_dtype="float32")
    double = ld.simulate_sgd(PROBLEM, RULE, make_weights(), TS, key=key)
    assert single.Q.dtype == jnp.float64
    assert not np.allclose(single.Q[-1], double.Q[-1])
    stream = make_stream(PROBLEM, make_weights(), ld.Gaussian(), key, 2, jnp.dtype("float32"))
    x, _ = block_of(stream, 0)
    np.testing.assert_array_equal(x, np.asarray(x, np.float32))


# What goes wrong.

LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.1)


def test_divergence_is_nan_after_its_time_and_spoils_no_other_run(key):
    ts = jnp.linspace(0.0, 60.0, 31)

    def run(lr):
        return ld.simulate_sgd(LINEAR, ld.SGD(lr), make_weights(k=1, m=1), ts, key=key)

    runs = jax.vmap(run)(jnp.array([0.5, 8.0]))
    assert list(runs.result) == [ld.Result.SUCCESS, ld.Result.DIVERGED]
    assert np.isfinite(runs.Q[0]).all()
    bad = np.isnan(runs.Q[1, :, 0, 0])
    assert not bad[0]
    assert bad[-1]
    assert (np.diff(bad.astype(int)) >= 0).all()
    for name in ("R", "v", "eg"):
        values = getattr(runs, name)[1].reshape(len(ts), -1)
        np.testing.assert_array_equal(np.isnan(values).any(axis=1), bad, err_msg=name)
    assert np.isfinite(runs.T).all()
    assert np.isfinite(runs.alpha).all()


def test_traced_bad_values_give_nan_and_a_code(key):
    """One good run and one for each value that cannot be, side by side."""
    good = {"noise": 0.1, "lr": 0.2, "decay": 0.0, "ts": 1.0, "weights": 1.0, "gamma": 1.0}
    bad = dict.fromkeys(good, -0.1) | {"ts": -1.0, "weights": np.nan, "gamma": N + 1.0}
    lanes = {
        name: jnp.full(7, value).at[i].set(bad[name])
        for i, (name, value) in enumerate(good.items())
    }

    def run(x):
        weights = make_weights()
        weights = ld.Weights(weights.w * x["weights"], weights.w_teacher)
        rule = ld.SGD(x["lr"], weight_decay=x["decay"], momentum=ld.SlowMomentum(x["gamma"]))
        ts = jnp.array([0.0, 1.0]) * x["ts"]
        return ld.simulate_sgd(ld.Problem(noise=x["noise"]), rule, weights, ts, key=key)

    runs = jax.vmap(run)(lanes)
    assert list(runs.result) == [ld.Result.INVALID_INPUT] * 6 + [ld.Result.SUCCESS]
    assert np.isfinite(runs.Q[6]).all()
    assert np.isfinite(runs.eg[6]).all()
    assert np.isnan(runs.Q[:6]).all()
    assert np.isnan(runs.eg[:6]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": [1.0, 0.5]}, "strictly increasing"),
        ({"ts": [0.0, 1e15]}, "fewer than"),
        ({"weights": jax.tree.map(lambda x: x[None], make_weights())}, "vmap"),
        ({"weights": jax.tree.map(lambda x: x * np.nan, make_weights())}, "finite"),
        ({"rule": ld.SGD([0.1] * 7)}, r"shape \(.,\); got shape \(7,\)"),
        ({"rule": ld.SGD(0.1, lr_bias=0.1)}, "biases"),
        ({"rule": ld.SGD(0.1, momentum=ld.SlowMomentum(100.0))}, "at most 12"),
        ({"rule": ld.SGD(0.1, batch_size=9), "inputs": ld.TrainingSet(p=8)}, "at most p"),
        ({"inputs": "gaussian"}, "distribution of inputs"),
        ({"inputs": ld.Images(np.eye(5))}, "same dimension"),
        ({"inputs": ld.TrainingSet(ld.Structured(np.ones(5)), p=8)}, "same dimension"),
        ({"input_dtype": "float16"}, "input_dtype"),
        ({"input_dtype": "large"}, "input_dtype"),
        ({"averages": "exact"}, "averages"),
    ],
)
def test_bad_input_says_what_must_hold(change, message, key):
    arguments = {"problem": PROBLEM, "rule": RULE, "weights": make_weights(), "ts": TS, "key": key}
    with pytest.raises(ValueError, match=message):
        ld.simulate_sgd(**arguments | change)


# Symmetries.


class Rotated(ld.inputs.AbstractInputs):
    """The same inputs in another basis: a distribution of the user's own."""

    rotation: jax.Array
    gaussian_fields = True
    white = True

    def sample(self, key, count, n, dtype):
        return ld.Gaussian().sample(key, count, n, dtype) @ self.rotation.T


@settings(max_examples=8)
@given(seed=st.integers(0, 2**20))
def test_rotating_the_inputs_changes_nothing(seed):
    key = jax.random.key(seed)
    rotation = jnp.linalg.qr(jax.random.normal(key, (N, N)))[0]
    weights = make_weights(seed=seed)
    turned = ld.Weights(
        weights.w @ rotation.T, weights.w_teacher @ rotation.T, weights.v, weights.v_teacher
    )
    one = ld.simulate_sgd(PROBLEM, RULE, weights, TS, key=key)
    two = ld.simulate_sgd(PROBLEM, RULE, turned, TS, key=key, inputs=Rotated(rotation))
    for name in ("Q", "R", "v", "eg"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-8, atol=1e-10)


@pytest.mark.nightly
@settings(max_examples=8)
@given(student=st.permutations(range(K)), teacher=st.permutations(range(M)), seed=st.integers(0, 9))
def test_permuting_hidden_units_permutes_the_order_parameters(student, teacher, seed):
    key, weights = jax.random.key(seed), make_weights(seed=seed)
    i, n = jnp.array(student), jnp.array(teacher)
    other = ld.Weights(weights.w[i], weights.w_teacher[n], weights.v[i], weights.v_teacher[n])
    one = ld.simulate_sgd(PROBLEM, RULE, weights, TS, key=key)
    two = ld.simulate_sgd(PROBLEM, RULE, other, TS, key=key)
    tolerance = {"rtol": 1e-8, "atol": 1e-10}
    np.testing.assert_allclose(two.Q, one.Q[:, i][:, :, i], **tolerance)
    np.testing.assert_allclose(two.R, one.R[:, i][:, :, n], **tolerance)
    np.testing.assert_allclose(two.T, one.T[n][:, n], **tolerance)
    np.testing.assert_allclose(two.v, one.v[:, i], **tolerance)
    np.testing.assert_allclose(two.eg, one.eg, **tolerance)


# Physics.


@pytest.mark.parametrize("batch_size", [1, 2])
def test_mean_error_of_a_linear_network_is_exact_in_three_dimensions(batch_size, key):
    """e' = e (1 - 2h + h^2 (n + B + 1)/B) + h^2 n sigma^2/(2 B), h = lr/n, at every step."""
    n, lr, runs = 3, 0.6, 6000
    ts, rule = jnp.arange(10) / n, ld.SGD(lr, batch_size=batch_size)
    weights = make_weights(n=n, k=1, m=1)
    weights = ld.Weights(weights.w, weights.w_teacher)
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=0.4)
    eg = jax.vmap(lambda key: ld.simulate_sgd(problem, rule, weights, ts, key=key).eg)(
        jax.random.split(key, runs)
    )
    h, expected = lr / n, [float(eg[0, 0])]
    for _ in range(9):
        change = 1 - 2 * h + h**2 * (n + batch_size + 1) / batch_size
        expected.append(expected[-1] * change + h**2 * n * 0.4**2 / (2 * batch_size))
    error = eg[:, 1:].std(axis=0) / runs**0.5
    assert np.abs((eg[:, 1:].mean(axis=0) - np.array(expected[1:])) / error).max() < 4.5


def ensemble(rule, start, ts, keys, n):
    def run(key):
        to_start, to_run = jax.random.split(key)
        weights = ld.weights_from_overlaps(to_start, start, n)
        return ld.simulate_sgd(NOISY, rule, weights, ts, key=to_run, input_dtype="float32")

    return jax.vmap(run)(keys)


NOISY = ld.Problem(noise=0.1)
START = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], jnp.eye(2))


def coordinates(run):
    """Q, R, v and eg side by side along the last axis."""
    flat = [x.reshape(*run.eg.shape, -1) for x in (run.Q, run.R, run.v, run.eg)]
    return np.concatenate(flat, axis=-1)


@pytest.mark.nightly
@pytest.mark.parametrize("momentum", [None, 0.8])
def test_ensemble_agrees_with_the_ode(momentum, key):
    """To four standard errors and 2/n; momentum at a fifth of the rate is the same limit."""
    n, seeds, ts = 500, 24, jnp.linspace(0.0, 8.0, 5)
    rate = 0.5 if momentum is None else 0.1
    rule = ld.SGD(rate, lr_second=rate / 2, momentum=momentum)
    runs = coordinates(ensemble(rule, START, ts, jax.random.split(key, seeds), n))
    ode = coordinates(ld.solve_ode(NOISY, ld.SGD(0.5, lr_second=0.25), START, ts))
    error = runs.std(axis=0, ddof=1) / seeds**0.5
    # Momentum carries a memory of 1/(1 - beta) steps, which is 5/n in alpha.
    bias = 2 / n if momentum is None else 5 / n
    excess = np.abs(runs.mean(axis=0) - ode) - bias
    assert (excess < 4 * error + 1e-12).all()
    assert error.max() < 0.02
    assert np.abs(ode[-1] - ode[0]).max() > 0.3
