"""The overlap chain has the law of SGD at every finite n: against exact means and weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

RUNS = 4000


def ensemble(problem, rule, start, ts, n, seed=0):
    keys = jax.random.split(jax.random.key(seed), RUNS)
    run = jax.vmap(lambda key: ld.simulate_chain(problem, rule, start, ts, n=n, key=key))
    return jax.jit(run)(keys)


@pytest.mark.nightly(by_day=["100-1"])
@pytest.mark.parametrize(("n", "batch_size"), [(3, 1), (10, 4), (100, 1)])
def test_linear_mean_is_exact_at_every_n(n, batch_size):
    """e' = e (1 - 2h/n + h^2 (n + B + 1)/(B n^2)) + h^2 sigma^2 / (2 n B), h = lr sum v^2."""
    noise, lr = 0.3, 0.2
    start = ld.Overlaps([[0.5, 0.1], [0.1, 0.4]], [[0.2], [0.1]], [[1.0]])
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
    ts = jnp.array([0.0, 1.0, 3.0])
    runs = ensemble(problem, ld.SGD(lr=lr, batch_size=batch_size), start, ts, n)
    h, b = 2 * lr, batch_size
    factor = 1 - 2 * h / n + h**2 * (n + b + 1) / (b * n**2)
    fixed = h**2 * noise**2 / (2 * n * b) / (1 - factor)
    eg = np.asarray(runs.eg)
    steps = np.round(np.asarray(runs.alpha[0]) * n)
    expected = fixed + (eg[0, 0] - fixed) * factor**steps
    z = (eg.mean(0) - expected)[1:] / (eg.std(0)[1:] / np.sqrt(RUNS))
    assert np.abs(z).max() < 4.5  # two comparisons in each of three cases


@pytest.mark.nightly
def test_erf_moments_are_those_of_weights():
    """Mean and spread of Q, R, v after a few steps at n = 10, both layers trained."""
    n, ts = 10, jnp.array([0.0, 2.0])
    start = ld.Overlaps(
        [[0.5, 0.1], [0.1, 0.4]], [[0.2, 0.0], [0.1, 0.3]], jnp.eye(2), v=[0.8, 0.6]
    )
    problem, rule = ld.Problem(noise=0.2), ld.SGD(lr=1.0, lr_second=0.5)
    chain = ensemble(problem, rule, start, ts, n)

    def experiment(key):
        a, b = jax.random.split(key)
        weights = ld.weights_from_overlaps(a, start, n=n)
        return ld.simulate_sgd(problem, rule, weights, ts, key=b)

    sgd = jax.jit(jax.vmap(experiment))(jax.random.split(jax.random.key(9), RUNS))
    for name in ("Q", "R", "v"):
        x, y = (np.asarray(getattr(run, name))[:, -1].reshape(RUNS, -1) for run in (chain, sgd))
        error = np.sqrt((x.var(0) + y.var(0)) / RUNS)
        assert np.abs((x.mean(0) - y.mean(0)) / error).max() < 4.5
        # The logarithm of a ratio of variances; fourth moments widen its error.
        kurtosis = ((x - x.mean(0)) ** 4).mean(0) / x.var(0) ** 2
        spread = np.sqrt(2 * (kurtosis - 1) / RUNS)
        assert np.abs(np.log(x.var(0) / y.var(0)) / spread).max() < 4.5


def test_student_equal_to_teacher_stays_there_at_the_smallest_n():
    start = ld.Overlaps(jnp.eye(2), jnp.eye(2), jnp.eye(2))
    run = ld.simulate_chain(
        ld.Problem(), ld.SGD(lr=0.5), start, jnp.array([0.0, 5.0]), n=4, key=jax.random.key(0)
    )
    assert run.result == ld.Result.SUCCESS
    np.testing.assert_allclose(run.Q[-1], jnp.eye(2), atol=1e-12)
    np.testing.assert_allclose(run.eg[-1], 0.0, atol=1e-12)


def test_save_times_change_no_bit():
    start = ld.Overlaps(0.5 * jnp.eye(2), 0.1 * jnp.eye(2), jnp.eye(2))

    def last(ts):
        problem, key = ld.Problem(noise=0.1), jax.random.key(3)
        return ld.simulate_chain(problem, ld.SGD(lr=0.5), start, ts, n=50, key=key)

    few, many = last(jnp.array([0.0, 7.0])), last(jnp.array([0.0, 0.5, 3.3, 7.0]))
    np.testing.assert_array_equal(few.Q[-1], many.Q[-1])


def test_too_few_dimensions_are_refused():
    start = ld.Overlaps(jnp.eye(2), jnp.zeros((2, 2)), jnp.eye(2))
    with pytest.raises(ValueError, match="n"):
        ld.simulate_chain(
            ld.Problem(), ld.SGD(lr=0.5), start, [0.0, 1.0], n=3, key=jax.random.key(0)
        )
