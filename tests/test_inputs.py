"""Distributions of inputs, and finite training sets."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import learndyn as ld
from learndyn.dynamics.sgd._stream import make_stream

F64 = jnp.dtype("float64")
N = 6
OMEGA = np.cov(np.random.default_rng(0).normal(size=(N, 20)))
LINEAR = ld.Problem(ld.Linear(), ld.Linear())


@eqx.filter_jit
def sample(inputs, key, count, n=N):
    return inputs.sample(key, count, n, F64)


def make_weights(n=N, k=2, m=2):
    return ld.init_weights(jax.random.key(5), n, k, m)


def assert_covariance(x, omega):
    """Second moments of Gaussian rows x, to 4.5 standard errors each."""
    count = len(x)
    error = np.sqrt((omega**2 + np.outer(np.diag(omega), np.diag(omega))) / count)
    assert np.abs((x.T @ x / count - omega) / error).max() < 4.5
    assert np.abs(x.mean(axis=0) / np.sqrt(np.diag(omega) / count)).max() < 4.5


ROOT = np.linalg.cholesky(OMEGA)
SAME = {
    "covariance": ld.Structured(OMEGA),
    "factor": ld.Structured(factor=ROOT),
    "wide factor": ld.Structured(factor=np.concatenate([ROOT, ROOT], axis=1) / 2**0.5),
}


@pytest.mark.parametrize("name", SAME)
def test_structured_inputs_have_their_covariance(name, key):
    x = np.asarray(sample(SAME[name], key, 20_000))
    assert_covariance(x, OMEGA)
    fields = ld.field_overlaps(make_weights(), SAME[name])
    both = np.concatenate([make_weights().w, make_weights().w_teacher])
    np.testing.assert_allclose(fields.covariance, both @ OMEGA @ both.T / N, rtol=1e-12)


def test_a_diagonal_covariance_is_given_by_its_diagonal(key):
    variances = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.0])
    short, full = ld.Structured(variances), ld.Structured(np.diag(variances))
    x = np.asarray(sample(short, key, 20_000))
    assert_covariance(x[:, :5], np.diag(variances[:5]))
    np.testing.assert_array_equal(x[:, 5], 0.0)
    weights = make_weights()
    one, two = ld.field_overlaps(weights, short), ld.field_overlaps(weights, full)
    np.testing.assert_allclose(one.covariance, two.covariance, rtol=1e-12)


def test_a_traced_matrix_that_is_no_covariance_gives_nan_and_a_code(key):
    def run(value):
        inputs = ld.Structured(jnp.diag(jnp.ones(N).at[0].set(value)))
        ts = jnp.array([0.0, 1.0])
        return ld.simulate_sgd(LINEAR, ld.SGD(0.1), make_weights(), ts, key=key, inputs=inputs)

    runs = jax.vmap(run)(jnp.array([0.5, -0.5]))
    assert list(runs.result) == [ld.Result.SUCCESS, ld.Result.INVALID_INPUT]
    assert np.isfinite(runs.Q[0]).all()
    assert np.isnan(runs.Q[1]).all()


def test_eg_of_structured_inputs_is_that_of_their_fields(key):
    """Closed form at the fields' covariance, against an average over many inputs."""
    inputs, weights = ld.Structured(OMEGA), make_weights()
    problem, ts = ld.Problem(), jnp.array([0.0, 3.0])
    run = ld.simulate_sgd(problem, ld.SGD(0.5), weights, ts, key=key, inputs=inputs)
    start = ld.field_overlaps(weights, inputs)
    np.testing.assert_allclose(run.Q_field[0], start.Q, rtol=1e-12)
    np.testing.assert_allclose(run.R_field[0], start.R, rtol=1e-12)
    np.testing.assert_allclose(run.T_field, start.T, rtol=1e-12)
    assert run.eg[0] == pytest.approx(float(ld.generalisation_error(problem, start)), rel=1e-12)
    x = sample(inputs, key, 40_000)
    student, teacher = ld.student(problem, weights), ld.teacher(problem, weights)
    loss = 0.5 * (jax.vmap(student)(x) - jax.vmap(teacher)(x)) ** 2
    assert run.eg[0] == pytest.approx(float(loss.mean()), abs=4.5 * float(loss.std()) / 200)
    assert not np.allclose(run.Q_field[1], run.Q[1], rtol=0.01)


def test_white_inputs_have_no_field_overlaps_of_their_own(key):
    weights, ts = make_weights(), jnp.array([0.0, 1.0])
    run = ld.simulate_sgd(ld.Problem(), ld.SGD(0.5), weights, ts, key=key)
    assert run.Q_field is None
    white, plain = ld.field_overlaps(weights, ld.Gaussian()), ld.overlaps(weights)
    np.testing.assert_allclose(white.covariance, plain.covariance, rtol=1e-13)


def test_images_are_drawn_uniformly_with_replacement(key):
    x = np.arange(12.0).reshape(4, 3)
    drawn = np.asarray(ld.Images(x).sample(key, 8000, 3, F64))
    rows, counts = np.unique(drawn, axis=0, return_counts=True)
    np.testing.assert_array_equal(rows, x)
    assert np.abs(counts - 2000).max() < 4.5 * (8000 * 3 / 16) ** 0.5


def test_images_of_any_shape_are_flattened():
    images = ld.Images(np.arange(24).reshape(2, 3, 4))
    assert images.n == 12
    np.testing.assert_array_equal(images.test_inputs(12)[1], np.arange(12, 24))


def test_standardised_digits_leave_out_the_constant_pixels():
    x = ld.inputs.digits().x
    assert x.shape == (1797, 61)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1.0, rtol=1e-12)
    kept = np.delete(load_digits().data, [0, 32, 39], axis=1)
    correlation = np.corrcoef(kept[:, 30], x[:, 30])[0, 1]
    assert correlation == pytest.approx(1.0, abs=1e-12)


def test_whitened_digits_have_unit_covariance():
    images = ld.inputs.digits(whiten=True)
    x = images.x
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(61), atol=1e-10)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-10)
    # They span what the standardised ones span.
    raw = np.asarray(ld.inputs.digits().x)
    back = x @ np.linalg.lstsq(x, raw, rcond=None)[0]
    np.testing.assert_allclose(back, raw, atol=1e-8)
    weights = make_weights(n=61)
    fields, plain = ld.field_overlaps(weights, images), ld.overlaps(weights)
    np.testing.assert_allclose(fields.covariance, plain.covariance, atol=1e-10)


def test_whitening_leaves_out_directions_without_variance(rng):
    x = rng.normal(size=(50, 3))
    x = np.concatenate([x, x[:, :1] - x[:, 1:2], np.ones((50, 1))], axis=1)
    assert ld.inputs.pca_whiten(x).shape == (50, 3)
    assert ld.inputs.standardise(x).shape == (50, 4)


class Signs(ld.inputs.AbstractInputs):
    """Inputs of a user's own, with nothing but a sampler: x_i = +-1."""

    def sample(self, key, count, n, dtype):
        return jax.random.rademacher(key, (count, n), dtype)


def test_inputs_of_ones_own_need_a_sampler_alone(key):
    weights, ts = make_weights(n=40), jnp.array([0.0, 20.0])
    run = ld.simulate_sgd(LINEAR, ld.SGD(0.5), weights, ts, key=key, inputs=Signs())
    # White inputs: the overlaps of 10 000 test inputs are those of the weights to 1 %, and
    # the error of a linear network is a quadratic form in them.
    np.testing.assert_allclose(run.Q_field, run.Q, atol=0.1)
    expected = ld.generalisation_error(LINEAR, ld.overlaps(weights))
    assert run.eg[0] == pytest.approx(float(expected), rel=0.1)
    assert run.eg[1] < 1e-3 * run.eg[0]


# Training sets.


@eqx.filter_jit
def compiled_block(stream, index):
    return stream.block(index)


def block_of(stream, index):
    return compiled_block(stream, jnp.asarray(index))


def stored(p, batch_size, replace=False, noise=0.5, base=None):
    inputs = ld.TrainingSet(ld.Gaussian() if base is None else base, p, replace=replace)
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
    return make_stream(problem, make_weights(), inputs, jax.random.key(1), batch_size, F64)


@pytest.mark.parametrize(("p", "batch_size"), [(10, 3), (150, 1), (200, 128)])
def test_an_epoch_visits_every_sample_once(p, batch_size):
    stream = stored(p, batch_size)
    rows = np.concatenate([block_of(stream, i).reshape(-1) for i in range(6)])
    epochs = rows[: len(rows) // p * p].reshape(-1, p)
    assert len(epochs) >= 6
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(p), (len(epochs), 1)))
    assert len(np.unique(epochs, axis=0)) == len(epochs)


def test_drawing_with_replacement_is_uniform():
    stream = stored(5, 2, replace=True)
    rows = np.concatenate([block_of(stream, i).reshape(-1) for i in range(20)])
    counts = np.bincount(rows, minlength=5)
    assert np.abs(counts - len(rows) / 5).max() < 4.5 * (len(rows) * 0.16) ** 0.5
    assert (np.sort(rows[:5]) != np.arange(5)).any()


def test_label_noise_is_drawn_once_per_stored_sample():
    """Labels carry noise, and every visit of a sample sees the same label."""
    stream, clean = stored(400, 1), stored(400, 1, noise=0.0)
    np.testing.assert_array_equal(stream.x, clean.x)
    noise = np.asarray(stream.y - clean.y)
    assert noise.std() == pytest.approx(0.5, rel=0.2)
    for index in range(2):
        block = block_of(stream, index)
        x, y = stream.batch(block, jnp.asarray(3))
        row = int(np.flatnonzero((np.asarray(stream.x) == np.asarray(x)).all(axis=1))[0])
        assert y[0] == stream.y[row]


def test_few_samples_are_fitted_with_their_noise(key):
    """p < n: the training error vanishes, noise and all, which fresh noise would forbid."""
    weights, ts = make_weights(n=20, k=1, m=1), jnp.array([0.0, 200.0])
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=1.0)
    inputs = ld.TrainingSet(ld.Gaussian(), p=5)
    run = ld.simulate_sgd(problem, ld.SGD(0.5), weights, ts, key=key, inputs=inputs)
    assert run.stats["train_error"][0] > 0.1
    assert run.stats["train_error"][1] < 1e-10
    assert run.eg[1] > 0.1
    # eg is that of fresh inputs.
    error = ld.generalisation_error(problem, run.at(-1))
    assert run.eg[1] == pytest.approx(float(error), rel=1e-12)


@pytest.mark.parametrize("batch_size", [9, 3])
def test_batches_are_gradient_descent_on_the_stored_samples(batch_size, key):
    """Each step written out; p = 9, so that a batch of 9 is full-batch descent."""
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=1.0)
    weights, inputs, ts = make_weights(k=1, m=1), ld.TrainingSet(p=9), jnp.array([0.0, 8.0])
    rule = ld.SGD(0.4, batch_size=batch_size)
    run = ld.simulate_sgd(problem, rule, weights, ts, key=key, inputs=inputs)
    stream = make_stream(problem, weights, inputs, key, batch_size, F64)
    x, y, w = np.asarray(stream.x), np.asarray(stream.y), np.asarray(weights.w[0])
    steps = 8 * N
    blocks = range(-(-steps // stream.steps_per_block))
    rows = np.concatenate([block_of(stream, number) for number in blocks])
    for step in range(steps):
        row = np.arange(9) if batch_size == 9 else rows[step]
        gradient = x[row].T @ (x[row] @ w / N**0.5 - y[row]) / N**0.5 / batch_size
        w = w - 0.4 * gradient
    assert run.Q[1, 0, 0] == pytest.approx(w @ w / N, rel=1e-10)
    loss = 0.5 * np.mean((x @ w / N**0.5 - y) ** 2)
    assert run.stats["train_error"][1] == pytest.approx(loss, rel=1e-10)


def test_a_training_set_of_images_takes_different_ones():
    base = ld.Images(np.arange(30.0).reshape(10, 3))
    draw = ld.TrainingSet(base, 10).draw(jax.random.key(0), 10, 3, F64)
    assert len(np.unique(draw, axis=0)) == 10
    some = ld.TrainingSet(base, 4).draw(jax.random.key(1), 4, 3, F64)
    assert len(np.unique(some, axis=0)) == 4


def test_field_overlaps_of_a_training_set_are_those_of_its_base():
    weights, base = make_weights(), ld.Structured(OMEGA)
    one, two = ld.field_overlaps(weights, ld.TrainingSet(base, 9)), ld.field_overlaps(weights, base)
    np.testing.assert_array_equal(one.covariance, two.covariance)


BAD = [
    (lambda: ld.Structured(), "neither"),
    (lambda: ld.Structured(np.eye(2), factor=np.eye(2)), "both"),
    (lambda: ld.Structured(np.ones((2, 3))), "shape"),
    (lambda: ld.Structured(np.array([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
    (lambda: ld.Structured(np.diag([1.0, -1.0])), "positive semi-definite"),
    (lambda: ld.Structured(np.array([1.0, -1.0])), "positive semi-definite"),
    (lambda: ld.Structured(np.diag([1.0, np.nan])), "finite"),
    (lambda: ld.Structured(factor=np.ones(3)), "shape"),
    (lambda: ld.Structured(factor=np.full((2, 2), np.inf)), "finite"),
    (lambda: ld.Images(np.ones(3)), "one input per row"),
    (lambda: ld.Images(np.full((2, 2), np.nan)), "finite"),
    (lambda: ld.inputs.standardise(np.ones((4, 2))), "changes"),
    (lambda: ld.TrainingSet(ld.Gaussian(), 0), "integer >= 1"),
    (lambda: ld.TrainingSet(ld.Images(np.eye(3)), 4), "number of images"),
    (lambda: ld.field_overlaps(make_weights(), ld.Images(np.eye(3))), "same dimension"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_says_what_must_hold(make, message):
    with pytest.raises(ValueError, match=message):
        make()
