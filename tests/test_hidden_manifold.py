"""Inputs on a hidden manifold: their Gaussian equivalent, and a teacher of latent variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.inputs import second_moments

NOISELESS = ld.Problem()


def drawn(n, d):
    """The matrix, the teacher and the student of an independent program, from its own numbers."""
    rng = np.random.default_rng(11)
    latent, w_latent, w = (rng.normal(size=size) for size in ((n, d), (2, d), (2, n)))
    return ld.HiddenManifold(jnp.sign, latent), 0.5 * w, w_latent


@pytest.mark.parametrize(
    ("f", "mean", "b", "c"),
    [
        (jnp.sign, 0.0, (2 / np.pi) ** 0.5, 1.0),
        (jax.nn.relu, (2 * np.pi) ** -0.5, 0.5, 0.5 - 0.5 / np.pi),
        (ld.Erf(), 0.0, np.pi**-0.5, 1 / 3),
        (lambda u: jnp.where(u > 0.3, 1.0, 0.0), 0.38208857781, 0.38138781546, 0.23609689651),
    ],
    ids=["sign", "relu", "erf", "a jump elsewhere"],
)
def test_moments(f, mean, b, c):
    inputs = ld.HiddenManifold(f, [[1.0]])
    np.testing.assert_allclose([inputs.mean, inputs.b, inputs.c], [mean, b, c], atol=1e-9)


def test_what_is_unseen_is_that_of_an_independent_program():
    inputs, w, w_latent = drawn(500, 250)
    weights = inputs.weights(w, w_latent)
    right = [[0.28003901318921076, 0.01081389723026667], [0.01081389723026667, 0.33162852049657543]]
    np.testing.assert_allclose(inputs.T_unseen(weights), right, rtol=1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("d", "unseen", "right"),
    [
        (250, 0.28003901318921, [0.4910232143, 0.2899551656, 0.1551522275, 0.1342165998]),
        (25, 0.022877139391911, [0.5922159750, 0.0586547442, 0.0380858461, 0.0148519519]),
        (1000, 0.75591311846925, [0.4524757780, 0.3930115408, 0.3236866314, 0.3085932804]),
    ],
    ids=["250", "25", "1000"],
)
def test_the_theory_is_that_of_an_independent_program(d, unseen, right):
    inputs, w, w_latent = drawn(500, d)
    weights = inputs.weights(w, w_latent)
    start = ld.overlaps(weights, inputs)
    assert float(start.T_unseen[0, 0]) == pytest.approx(unseen, rel=1e-10)
    np.testing.assert_allclose(start.fields.T, w_latent @ w_latent.T / d, rtol=1e-10)
    seen = ld.field_overlaps(weights, inputs)
    np.testing.assert_allclose(seen.covariance, start.fields.covariance, rtol=1e-10, atol=1e-12)
    run = ld.solve_ode(NOISELESS, ld.SGD(0.3), start, [0.0, 1.0, 5.0, 20.0])
    np.testing.assert_allclose(run.eg, right, atol=1e-7)


@pytest.mark.nightly
@pytest.mark.parametrize("d", [250, 1000])
def test_sgd_on_weights_follows_the_theory_and_not_that_of_white_inputs(d):
    inputs, w, w_latent = drawn(500, d)
    weights, ts = inputs.weights(w, w_latent), jnp.array([0.0, 1.0, 5.0, 20.0])
    start, rule = ld.overlaps(weights, inputs), ld.SGD(0.3)
    run = lambda key: ld.simulate_sgd(
        NOISELESS, rule, weights, ts, key=key, inputs=inputs, input_dtype=jnp.float32
    )
    runs = jax.vmap(run)(jax.random.split(jax.random.key(0), 8))
    theory = ld.solve_ode(NOISELESS, rule, start, ts)
    gap = np.abs(np.log(runs.eg.mean(0) / theory.eg))
    assert gap.max() < 0.05
    np.testing.assert_allclose(runs.Q.mean(0), theory.Q, atol=0.02)
    np.testing.assert_allclose(runs.R.mean(0), theory.R, atol=0.02)
    white = ld.solve_ode(NOISELESS, rule, start.fields, ts)
    assert np.abs(np.log(runs.eg.mean(0) / white.eg))[2:].min() > 0.8


@pytest.mark.nightly
def test_samples_have_the_covariances_that_the_theory_uses():
    key, d = jax.random.key(3), 40
    inputs = ld.HiddenManifold(jax.nn.relu, jax.random.normal(key, (20, d)))
    weights = inputs.weights(jnp.ones((1, 20)), jax.random.normal(jax.random.key(4), (2, d)))
    x, rho = inputs.sample_fields(jax.random.key(5), 40_000, weights, jnp.dtype(float))
    np.testing.assert_allclose(x.mean(0), 0.0, atol=0.015)
    np.testing.assert_allclose(rho.T @ x / len(x), inputs.psi(weights.latent_teacher), atol=0.025)
    np.testing.assert_allclose(second_moments(x), inputs.covariance(20), atol=0.05)
    # The effective teacher leaves nothing that the inputs could still predict.
    left = rho - x @ weights.w_teacher.T / 20**0.5
    np.testing.assert_allclose(left.T @ x / len(x), 0.0, atol=0.06)
    np.testing.assert_allclose(second_moments(left), inputs.T_unseen(weights), atol=0.06)
    tested, fields = inputs.test_fields(weights)
    np.testing.assert_allclose(tested, inputs.test_inputs(20))
    right = jax.vmap(lambda z: z @ weights.latent_teacher.T / d**0.5)
    z = inputs._variables(jax.random.key(0), len(tested), tested.dtype)
    np.testing.assert_allclose(fields, right(z), rtol=1e-10)


@pytest.mark.nightly
def test_a_linear_function_hides_nothing():
    latent = np.random.default_rng(0).normal(size=(12, 5))
    inputs = ld.HiddenManifold(ld.Linear(), latent)
    weights = inputs.weights(jnp.ones((1, 12)), [[1.0, -1.0, 0.5, 2.0, 0.0]])
    start = ld.overlaps(weights, inputs)
    np.testing.assert_allclose(start.T_unseen, 0.0, atol=1e-12)
    assert (np.asarray(start.spectrum.eigenvalues) > 1e-9).sum() == 5
    z = jnp.eye(5)
    x = z @ inputs.latent.T / 5**0.5
    right = z @ weights.latent_teacher.T / 5**0.5
    np.testing.assert_allclose(x @ weights.w_teacher.T / 12**0.5, right, atol=1e-12)
    net = ld.teacher(ld.Problem(ld.Linear(), ld.Linear()), weights)
    np.testing.assert_allclose(jax.vmap(net)(z), right[:, 0], atol=1e-12)


def test_a_teacher_on_the_inputs_sees_no_more_than_they_show():
    inputs = ld.HiddenManifold(jnp.sign, np.random.default_rng(0).normal(size=(12, 5)))
    weights = ld.init_weights(jax.random.key(0), n=12, k=1, m=1)
    assert inputs.T_unseen(weights) is None
    x, rho = inputs.sample_fields(jax.random.key(1), 4, weights, jnp.dtype(float))
    np.testing.assert_allclose(np.abs(x), 1.0, atol=1e-12)
    np.testing.assert_allclose(rho, x @ weights.w_teacher.T / 12**0.5, rtol=1e-12)


LATENT = np.random.default_rng(0).normal(size=(12, 5))


def other_inputs():
    weights = ld.HiddenManifold(jnp.sign, LATENT).weights(jnp.ones((1, 12)), jnp.ones((1, 5)))
    return weights, ld.HiddenManifold(jnp.sign, LATENT + 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ld.HiddenManifold(3.0, LATENT), "f must be callable"),
        (lambda: ld.HiddenManifold(jnp.zeros_like, LATENT), "finite and positive variance.*got 0"),
        (lambda: ld.HiddenManifold(jnp.sum, LATENT), "from a number to a number"),
        (lambda: ld.HiddenManifold(jnp.sign, 5), "latent must be the matrix F.*got the number 5"),
        (lambda: ld.HiddenManifold(jnp.sign, [1.0]), r"latent must have shape \(n, d\)"),
        (lambda: ld.HiddenManifold(jnp.sign, [[1.0], [0.0]]), "got 1 rows of zeros"),
        (lambda: ld.HiddenManifold(jnp.sign, [[np.nan]]), "latent must be finite"),
        (lambda: other_inputs()[1].weights(np.ones((1, 12)), np.ones((1, 4))), r"shape \(m, 5\)"),
        (lambda: other_inputs()[1].weights(np.ones((1, 11)), np.ones((1, 5))), "same dimension"),
        (lambda: ld.overlaps(*other_inputs()), "must be those of these inputs"),
        (lambda: ld.overlaps(other_inputs()[0], ld.Structured(np.eye(12))), "that made them"),
        (
            lambda: ld.Weights([[1.0]], [[1.0]], latent_teacher=[[1.0], [2.0]]),
            r"latent_teacher must have shape \(1, d\)",
        ),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_latent_variables_need_their_inputs_to_learn():
    weights, _ = other_inputs()
    with pytest.raises(ValueError, match="got Gaussian inputs"):
        ld.simulate_sgd(NOISELESS, ld.SGD(0.1), weights, [0.0, 1.0], key=jax.random.key(0))
