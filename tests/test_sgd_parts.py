"""Parts of SGD on weights: gradients of rules that draw or read more than a sample, and runs in
parts for a progress bar."""

import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld
from learndyn.dynamics.sgd import _simulate
from learndyn.dynamics.sgd._checks import _most_steps
from learndyn.dynamics.sgd._step import Parameters, batch_gradient
from learndyn.dynamics.sgd._stream import make_stream, with_draws

RNG = np.random.default_rng(0)
W, TEACHER, X, Y = (RNG.normal(size=shape) for shape in ((2, 5), (1, 5), (3, 5), 3))
V, DECAY, N = np.array([0.8, -0.6]), 0.4, 5
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
LAM = X @ W.T / N**0.5
C = np.outer(LAM @ V - Y, V)
"""Gradients of three samples with respect to two fields of linear units."""


def gradient_of(rule, *draws, problem=LINEAR):
    samples = tuple(jnp.asarray(x) for x in (X, Y, *draws))
    teacher, parameters = jnp.asarray(TEACHER), Parameters(jnp.asarray(W), jnp.asarray(V), None)
    gradient = jax.jit(lambda samples: batch_gradient(problem, rule, parameters, samples, teacher))
    return gradient(samples)


def test_a_forward_gradient_is_the_component_along_random_directions():
    rule = ld.rules.WeightPerturbation(1.0, lr_second=0.5, weight_decay=DECAY, batch_size=3)
    psi = RNG.normal(size=(2, 5))
    along = np.sum(psi * (C.T @ X)) / 3 / N**0.5
    found = gradient_of(rule, psi)
    np.testing.assert_allclose(found.w, along * psi + DECAY / N * W, rtol=1e-12)
    np.testing.assert_allclose(found.v, (LAM.T @ (LAM @ V - Y)) / 3 / N, rtol=1e-12)


def test_a_gradient_that_moves_weights_along_weights():
    """sum_j W_ij w_j / n, with the rule's own W at the overlaps that it reads."""
    rule = ld.rules.NaturalGradient(0.1, lr=1.0, weight_decay=DECAY, batch_size=3)
    problem = ld.Problem()
    seen = ld.rules.Seen(jnp.asarray(W @ W.T / N), jnp.asarray(W @ TEACHER.T / N))
    layers = ld.Overlaps(seen.Q, seen.R, TEACHER @ TEACHER.T / N, V).layers.of_student
    made = jax.jit(
        jax.vmap(
            lambda lam, y: rule.modulation(problem, ld.rules.Sample(lam, y, overlaps=seen), layers)
        )
    )(LAM, Y)
    c, dw = np.asarray(made.c), np.asarray(made.dw)
    wanted = c.T @ X / 3 / N**0.5 + dw.mean(axis=0) @ W / N + DECAY / N * W
    np.testing.assert_allclose(gradient_of(rule, problem=problem).w, wanted, rtol=1e-11)


def test_a_rule_reads_the_overlaps_before_the_step():
    def reads(problem, sample, layers):
        q, r = sample.overlaps
        return ld.Modulation(q @ sample.lam + 2.0 * r[:, 0] + sample.size, jnp.zeros(2))

    rule = ld.LocalRule(reads, lr=0.3, needs_overlaps=True, batch_size=3)
    size = np.sum(X**2, axis=1)[:, None] / N
    c = LAM @ (W @ W.T / N) + 2 * (W @ TEACHER.T / N)[:, 0] + size
    np.testing.assert_allclose(gradient_of(rule).w, c.T @ X / 3 / N**0.5, rtol=1e-12)


def test_a_perturbation_is_new_at_each_step_and_that_of_the_step():
    weights, rule = ld.Weights(W, TEACHER), ld.rules.WeightPerturbation(1.0, batch_size=3)
    key = jax.random.key(3)
    samples = make_stream(LINEAR, weights, ld.Gaussian(), key, 3, jnp.dtype(float))
    stream = with_draws(samples, rule, key, 2, N)
    steps = jnp.arange(8)
    both = jax.jit(lambda index: jax.vmap(lambda i: stream.batch(stream.block(index), i))(steps))
    x, y, psi = both(jnp.asarray(1))
    assert (x.shape, y.shape) == ((8, 3, N), (8, 3))
    assert psi.shape == (8, 2, N)
    many = np.concatenate([psi, both(jnp.asarray(2))[2]])
    assert len(np.unique(many)) == many.size
    allowed = 4 / np.sqrt(many.size)  # four standard errors
    assert abs(many.mean()) < allowed
    assert abs(many.var() - 1) < 2**0.5 * allowed


def test_a_run_in_parts_tells_how_far_it_is(monkeypatch):
    """Where the second layer is 0 nothing is learned: w <- (1 - lr kappa / n) w at each step."""
    stops, told = [], []
    real = _simulate._continue
    monkeypatch.setattr(_simulate, "_continue", lambda *x: stops.append(int(x[2])) or real(*x))
    weights, ts = ld.Weights(W, TEACHER, [0.0, 0.0], [1.5]), np.array([2.0, 10.0, 30.0])
    rule, key = ld.SGD(0.5, weight_decay=DECAY), jax.random.key(0)
    run = _simulate.simulate_sgd_in_parts(LINEAR, rule, weights, ts, told.append, parts=4, key=key)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert stops == [45, 80, 115, np.iinfo(int).max]  # from step 10 to 150
    q = np.multiply.outer((1 - 0.5 * DECAY / N) ** (2 * (N * ts - 10)), W @ W.T / N)
    np.testing.assert_allclose(run.Q, q, rtol=1e-11)
    np.testing.assert_allclose(run.alpha, ts)
    np.testing.assert_allclose(run.eg, np.full(3, 1.5**2 * np.sum(TEACHER**2) / N / 2), rtol=1e-12)
    np.testing.assert_allclose(run.weights.w, (1 - 0.5 * DECAY / N) ** 140 * W, rtol=1e-11)


def test_steps_are_counted_as_far_as_numbers_are_exact():
    assert _most_steps(3) == 2.0**52 / 3
    with jax.enable_x64(False):
        assert _most_steps(3) == 2.0**24
        assert _most_steps(1000) == 2.0**31 / 1000


def test_gradients_of_biases_and_of_the_second_layer():
    """Linear units with biases, of a batch of three."""
    b, problem = np.array([0.3, -0.1]), ld.Problem(ld.Linear(), ld.Linear())
    given = (
        Parameters(jnp.asarray(W), jnp.asarray(V), jnp.asarray(b)),
        (jnp.asarray(X), jnp.asarray(Y)),
    )
    error = (LAM + b) @ V - Y
    rule = ld.SGD(0.5, 0.2, 0.3, batch_size=3)
    gradient = jax.jit(lambda given: batch_gradient(problem, rule, *given, jnp.asarray(TEACHER)))
    found = gradient(given)
    np.testing.assert_allclose(found.b, error.mean() * V / N, rtol=1e-12)
    np.testing.assert_allclose(found.v, (LAM + b).T @ error / 3 / N, rtol=1e-12)
    np.testing.assert_allclose(found.w, np.outer(V, error @ X) / 3 / N**0.5, rtol=1e-12)
