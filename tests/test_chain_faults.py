"""What the chain refuses, what it reports, and the edge cases that are valid."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

EYE = jnp.eye(2)
START = ld.Overlaps(0.5 * EYE, 0.1 * EYE, EYE)
CONVERGED = ld.Overlaps(EYE, EYE, EYE)
TS = jnp.array([0.0, 1.0, 4.0])


def run(start=START, ts=TS, n=50, seed=0, noise=0.0, **rule):
    problem, rule = ld.Problem(noise=noise), ld.SGD(**({"lr": 0.5} | rule))
    return ld.simulate_chain(problem, rule, start, ts, n=n, key=jax.random.key(seed))


@pytest.mark.parametrize(
    ("n", "rule"),
    [(3, {}), (5, {"momentum": 0.5}), (10.5, {}), (float("nan"), {}), (float("inf"), {})],
)
def test_dimensions_it_refuses(n, rule):
    with pytest.raises(ValueError, match=r"n must be a whole number >= .* = [46]"):
        run(n=n, **rule)


def test_the_message_names_the_vectors():
    with pytest.raises(ValueError, match=r"2 k \+ m, .* = 6 .*simulate_sgd.*got n=5"):
        run(n=5, momentum=0.5)


def test_overlaps_of_no_vectors_are_refused():
    with pytest.raises(ValueError, match="semi-definite"):
        run(ld.Overlaps(0.5 * EYE, 0.9 * EYE, EYE))


def test_slow_momentum_needs_gamma_up_to_n():
    with pytest.raises(ValueError, match=r"gamma must be .*at most 50 .*gamma=51"):
        run(momentum=ld.SlowMomentum(51.0))


def test_more_steps_than_can_be_counted_are_refused():
    with pytest.raises(ValueError, match="steps"):
        run(ts=jnp.array([0.0, 1e10]), n=1000)


def test_a_diverging_run_says_so_and_the_others_go_on():
    """Linear networks blow up at rates above 2/k; rows before the end stay."""
    problem = ld.Problem(ld.Linear(), ld.Linear())
    ts = jnp.array([0.0, 0.04, 40.0])

    def one(lr):
        return ld.simulate_chain(problem, ld.SGD(lr=lr), START, ts, n=50, key=jax.random.key(0))

    runs = jax.jit(jax.vmap(one))(jnp.array([0.2, 30.0]))  # with one key for both
    np.testing.assert_allclose(runs.Q[0], one(0.2).Q, rtol=1e-12)
    np.testing.assert_array_equal(runs.result, [ld.Result.SUCCESS, ld.Result.DIVERGED])
    assert np.isfinite(runs.Q[0]).all()
    assert np.isfinite(runs.Q[1, :2]).all()
    for row in (runs.Q, runs.R, runs.v, runs.eg):
        assert np.isnan(row[1, 2]).all()


@pytest.fixture(scope="module")
def traced():
    """The chain where nothing is known at compile time."""
    return jax.jit(lambda start, n, ts: run(start, ts, n))


@pytest.mark.parametrize(
    ("start", "n", "ts"),
    [
        (START, 3.0, TS),
        (START, 50.5, TS),
        (START, jnp.nan, TS),
        (eqx.tree_at(lambda s: s.v, START, jnp.array([1.0, jnp.nan])), 50.0, TS),
        (START, 50.0, TS[::-1]),
        (START, 50.0, TS.at[1].set(jnp.nan)),
    ],
)
def test_traced_bad_values_are_nan_and_a_code(traced, start, n, ts):
    got = traced(start, n, ts)
    assert got.result == ld.Result.INVALID_INPUT
    assert np.isnan(got.Q).all()
    assert np.isnan(got.eg).all()


def test_traced_good_values_run(traced):
    got = traced(START, 50.0, TS)
    assert got.result == ld.Result.SUCCESS
    assert np.isfinite(got.eg).all()


@pytest.mark.nightly(by_day=["6-rule1"])
@pytest.mark.parametrize(("n", "rule"), [(4, {}), (6, {"momentum": 0.5})])
def test_as_many_dimensions_as_vectors(n, rule):
    """Nothing is left outside the span; C stays positive semi-definite at full rank."""
    got = run(n=n, noise=0.3, **rule)
    assert got.result == ld.Result.SUCCESS
    c = jnp.block([[got.Q[-1], got.R[-1]], [got.R[-1].T, EYE]])
    assert np.linalg.eigvalsh(c).min() > -1e-12


@pytest.mark.parametrize("rule", [{}, {"momentum": 0.5}, {"batch_size": 3}])
def test_student_equal_to_teacher_stays(rule):
    got = run(CONVERGED, n=6, **rule)
    assert got.result == ld.Result.SUCCESS
    np.testing.assert_allclose(got.Q, jnp.broadcast_to(EYE, got.Q.shape), atol=1e-12)
    np.testing.assert_allclose(got.R, jnp.broadcast_to(EYE, got.R.shape), atol=1e-12)
    np.testing.assert_allclose(got.eg, 0.0, atol=1e-12)


def test_convergence_ends_at_the_teacher_without_negative_eigenvalues():
    """Noiseless learning to 1e-15: C becomes singular and Q - R R^T never negative."""
    near = ld.Overlaps(1.01 * EYE, EYE, EYE)
    got = run(near, ts=jnp.array([0.0, 400.0, 800.0]), n=20)
    assert got.result == ld.Result.SUCCESS
    assert got.eg[-1] < 1e-15
    assert np.linalg.eigvalsh(got.Q[-1] - got.R[-1] @ got.R[-1].T).min() > -1e-14
