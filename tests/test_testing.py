"""The assertions for users' own theories pass where theory is right, and fail where it is not."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import testing

START = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], jnp.eye(2))
KEY = jax.random.key(0)
RULE = ld.SGD(lr=0.5)


def swish(x):
    return x * jax.nn.sigmoid(x)


def test_a_users_activation_matches_its_ode():
    found = testing.assert_matches_ode(
        ld.Problem(swish, swish, noise=0.1), RULE, START, [0.0, 1.0, 3.0], key=KEY
    )
    assert found.alpha.shape == found.mean.shape == (2,)
    assert np.abs(found.distance).max() < 0.4


def test_a_wrong_theory_does_not_match():
    problem, ts = ld.Problem(noise=0.1), np.array([0.0, 1.0, 3.0])
    wrong = ld.solve_ode(problem, ld.SGD(lr=0.5, batch_size=1000), START, ts)
    with pytest.raises(AssertionError, match="the theory is wrong"):
        testing.assert_matches_ode(problem, RULE, START, ts, key=KEY, theory=wrong)


def test_too_few_runs_do_not_confirm():
    with pytest.raises(AssertionError, match="take more runs"):
        testing.assert_matches_ode(ld.Problem(), RULE, START, [0.0, 1.0], key=KEY, runs=8)


def test_weights_match_too():
    testing.assert_matches_ode(
        ld.Problem(), RULE, START, [0.0, 0.5, 1.0], key=KEY, n=400, runs=150, level="sgd"
    )


def test_concentration_and_its_exponent():
    problem = ld.Problem(noise=0.1)
    ns = (64, 128, 256, 512, 1024)
    found = testing.assert_concentrates(problem, RULE, START, key=KEY, horizon=2.0, ns=ns)
    predicted = ld.fluctuations(problem, RULE, START, np.linspace(0.0, 2.0, 11)).constant
    np.testing.assert_allclose(found.y * np.sqrt(ns), predicted, rtol=0.1)
    with pytest.raises(AssertionError, match="fitted exponent"):
        testing.assert_scaling(found.x, found.y, -1.0, error=found.y_error)
    half = ld.solve_ode(problem, ld.SGD(lr=0.25), START, np.linspace(0.0, 2.0, 11))
    with pytest.raises(AssertionError, match="fitted exponent"):
        testing.assert_concentrates(
            problem, RULE, START, key=KEY, horizon=2.0, ns=ns[:3], runs=64, theory=half
        )


def test_scaling_recovers_an_exponent_and_its_error():
    """The standard error of the slope is the scatter of the slope."""
    x = 2.0 ** np.arange(4, 10)
    rng = np.random.default_rng(0)
    slopes, errors = [], []
    for _ in range(300):
        samples = 3 * x**-0.5 * rng.gamma(4.0, 0.25, (400, len(x)))
        found = testing.assert_scaling(x, samples, -0.5)
        slopes.append(found.slope)
        errors.append(found.slope_error)
    assert abs(np.mean(slopes) + 0.5) < 4 * np.std(slopes) / 300**0.5
    assert abs(np.mean(errors) / np.std(slopes) - 1) < 4 / 600**0.5


def test_false_alarms_and_power_are_those_stated():
    """At the margin itself 5 % pass; at three standard errors inside it nearly all do."""
    rng = np.random.default_rng(1)
    error = 0.1
    estimates = rng.normal(0.5, error, 20_000)
    passed = [testing.is_equal(x, error, 0.0, 0.5) for x in estimates]
    assert abs(np.mean(passed) - testing.LEVEL) < 4 * np.sqrt(0.05 * 0.95 / 20_000)
    inside = [testing.is_equal(x - 0.5, error, 0.0, 0.5) for x in estimates]
    assert np.mean(inside) > 0.999
    z = np.abs(rng.normal(size=(20_000, 5))).max(axis=1)
    expected = 0.01
    assert abs(np.mean(z > testing.z_limit(5, expected)) - expected) < 0.003


def test_the_false_alarm_of_an_equivalence_is_how_often_a_true_one_fails():
    rng = np.random.default_rng(2)
    error, margin, bias, trials = np.array([0.1, 0.15]), 0.4, 0.1, 50_000
    gaps = np.abs(bias + error * rng.normal(size=(trials, 2)))
    room = margin - NormalDist().inv_cdf(1 - testing.LEVEL) * error
    failed = (gaps >= room).any(axis=1).mean()
    stated = testing.Equivalence(np.zeros(2), error, margin).false_alarm(bias)
    each = [testing.false_alarm(one, margin, bias) for one in error]
    np.testing.assert_allclose(stated, sum(each), rtol=1e-12)
    assert 0.1 < failed < stated + 4 * np.sqrt(failed / trials)  # entries are added up
    assert stated - failed < 1.1 * each[0] * each[1] + 4 * np.sqrt(failed / trials)
    assert testing.false_alarm(0.0, 0.1, 0.05) == 0.0
    assert testing.false_alarm(1.0, 0.1) == 1.0


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], {"error": [0.1, 0.1]}, "at least three"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], {"error": 0.1}, "y must be samples"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {}, "y must be samples"),
        ([1.0, 2.0, 3.0], [1.0, -2.0, 3.0], {"error": 0.1}, "positive and finite"),
    ],
)
def test_bad_input(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        testing.assert_scaling(x, y, 1.0, **options)


def test_runs_that_diverge_are_refused():
    problem = ld.Problem(ld.Linear(), ld.Linear())
    with pytest.raises(ValueError, match="did not end well"):
        testing.assert_matches_ode(
            problem, ld.SGD(lr=5.0), START, [0.0, 100.0], key=KEY, n=20, runs=4
        )


def test_level_is_one_of_two():
    with pytest.raises(ValueError, match="level must be"):
        testing.assert_matches_ode(ld.Problem(), RULE, START, [0.0, 1.0], key=KEY, level="ode")
