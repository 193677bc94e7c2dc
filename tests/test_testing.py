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


@pytest.mark.nightly
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


@pytest.mark.nightly
def test_too_few_runs_do_not_confirm():
    with pytest.raises(AssertionError, match="take more runs"):
        testing.assert_matches_ode(ld.Problem(), RULE, START, [0.0, 1.0], key=KEY, runs=8)


@pytest.mark.nightly
def test_weights_match_too():
    testing.assert_matches_ode(
        ld.Problem(), RULE, START, [0.0, 0.5, 1.0], key=KEY, n=400, runs=150, level="sgd"
    )


@pytest.mark.nightly
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
    passed = [testing.difference(x, error, 0.0, 0.5).equal for x in estimates]
    assert abs(np.mean(passed) - testing.LEVEL) < 4 * np.sqrt(0.05 * 0.95 / 20_000)
    inside = [testing.difference(x, error, 0.5, 0.5).equal for x in estimates]
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
    each = [testing.difference(0.0, one, 0.0, margin).false_alarm(bias) for one in error]
    np.testing.assert_allclose(stated, sum(each), rtol=1e-12)
    assert 0.1 < failed < stated + 4 * np.sqrt(failed / trials)  # entries are added up
    assert stated - failed < 1.1 * each[0] * each[1] + 4 * np.sqrt(failed / trials)
    assert testing.difference(0.0, 0.0, 0.0, 0.1).false_alarm(0.05) == 0.0
    assert testing.difference(0.0, 1.0, 0.0, 0.1).false_alarm() == 1.0


def test_differences_keep_an_error_for_each_entry_whatever_is_expected():
    expected = np.array([1.0, -2.0])
    found = testing.difference(1.5, 0.1, expected, 0.5)
    np.testing.assert_allclose(found.estimate, [0.5, 3.5])
    np.testing.assert_allclose(found.error, [0.1, 0.1])
    found = testing.relative_difference([1.5, -2.2], 0.1, expected, 0.5)
    np.testing.assert_allclose(found.estimate, [0.5, 0.1])
    np.testing.assert_allclose(found.error, [0.1, 0.05])  # never negative


def test_how_likely_a_wrong_theory_was_to_be_accepted():
    """A control within chance of passing must weigh on the false alarms of its claim."""
    rng = np.random.default_rng(3)
    error, margin, off, trials = np.array([0.1, 0.15]), 0.4, np.array([0.3, 0.35]), 50_000
    room = margin - NormalDist().inv_cdf(1 - testing.LEVEL) * error
    accepted = np.abs(off + error * rng.normal(size=(trials, 2))) < room
    each = zip(off, error, strict=True)
    stated = [testing.difference(x, e, 0.0, margin).missed for x, e in each]
    np.testing.assert_allclose(stated, accepted.mean(axis=0), atol=4 * (0.25 / trials) ** 0.5)
    together = testing.Equivalence(off, error, margin).missed
    assert together == min(stated) > accepted.all(axis=1).mean()
    assert testing.difference(1.0, 0.0, 0.0, margin).missed == 0.0
    wrong, limit = np.array([1.0, -4.0]), 3.5
    kept = (np.abs(wrong + rng.normal(size=(trials, 2))) < limit).all(axis=1).mean()
    assert abs(testing.z_missed(wrong, limit) - kept) < 0.01


def test_a_jump_is_no_power_law_although_its_exponent_is_right():
    x = np.array([100.0, 200.0, 400.0, 800.0])
    jump = np.array([1.0, 0.5, 0.5, 1.0]) / x
    with pytest.raises(AssertionError, match=r"at x = 200 log y .* by -0\.5545 ± 0\.0002"):
        testing.assert_scaling(x, jump, -1.0, error=1e-4 / x)


def test_too_few_runs_do_not_show_a_line():
    x = 10.0 ** np.arange(2, 7)
    with pytest.raises(AssertionError, match="take more runs"):
        testing.assert_scaling(x, 1 / x, -1.0, error=0.15 / x)
    testing.assert_scaling(x, 1 / x, -1.0, error=0.15 / x, scatter=0.3)


def test_corrections_of_order_1_over_n_pass():
    n = 2.0 ** np.arange(6, 13)
    y = (1 + 10 / n) / n**0.5
    testing.assert_scaling(n, y, -0.5, error=0.02 * y)
    with pytest.raises(AssertionError, match="at x = 64 "):
        testing.assert_scaling(n, y, -0.5, error=1e-3 * y, scatter=0.03)


def test_points_off_the_line_by_the_scatter_pass_as_often_as_stated():
    """A point off by 0.2 passes with probability 5 % at most, for the line follows it."""
    rng = np.random.default_rng(3)
    x, error, trials = 2.0 ** np.arange(9), 0.03, 2000
    off = np.where(x == 16, 0.2 * 9 / 8, 0.0)  # the line takes up 1/9 of it
    passed = 0
    for _ in range(trials):
        y = np.exp(off + error * rng.normal(size=9)) / x
        try:
            testing.assert_scaling(x, y, -1.0, error=error * y, margin=0.1)
        except AssertionError as found:
            assert "at x = 16 " in str(found)  # noqa: PT017
        else:
            passed += 1
    assert passed / trials < testing.LEVEL + 4 * np.sqrt(0.05 * 0.95 / trials)


@pytest.mark.nightly
def test_a_theory_at_other_times_is_refused():
    problem, ts = ld.Problem(), np.array([0.0, 1.0, 3.0])
    for other in ([0.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]):
        theory = ld.solve_ode(problem, RULE, START, other)
        with pytest.raises(
            ValueError, match=r"those of whole steps at n = 50, .* \[0.0, 1.0, 3.0\]"
        ):
            testing.assert_matches_ode(
                problem, RULE, START, ts, key=KEY, n=50, runs=4, theory=theory
            )
        with pytest.raises(ValueError, match="11 equally spaced ones from 0 to horizon"):
            testing.assert_concentrates(problem, RULE, START, key=KEY, runs=4, theory=theory)


@pytest.mark.nightly
def test_a_theory_is_compared_at_whole_steps():
    """alpha = 1/3 is no whole step of n = 100: the runs are those of 0.33."""
    problem, options = ld.Problem(), {"key": KEY, "n": 100, "runs": 256}
    right = ld.solve_ode(problem, RULE, START, [0.0, 0.33])
    testing.assert_matches_ode(problem, RULE, START, [0.0, 1 / 3], theory=right, **options)
    other = ld.solve_ode(problem, RULE, START, [0.0, 1 / 3])
    with pytest.raises(ValueError, match=r"alpha = \[0.0, 0.33\]"):
        testing.assert_matches_ode(problem, RULE, START, [0.0, 1 / 3], theory=other, **options)


@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan, np.inf])
def test_margins_are_positive(bad):
    problem, x = ld.Problem(), np.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="margin must be positive"):
        testing.assert_matches_ode(problem, RULE, START, [0.0, 1.0], key=KEY, margin=bad)
    for name in ("margin", "scatter"):
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            testing.assert_concentrates(problem, RULE, START, key=KEY, **{name: bad})
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            testing.assert_scaling(x, x, 1.0, error=0.01, **{name: bad})


@pytest.mark.parametrize("ns", [(64, 128), (64, 64, 128), (64, 128, 256, 256)])
def test_sizes_are_different(ns):
    with pytest.raises(ValueError, match="ns must be at least three sizes, all different"):
        testing.assert_concentrates(ld.Problem(), RULE, START, key=KEY, ns=ns)


def test_a_chain_needs_a_dimension_for_every_vector():
    options = {"key": KEY, "n": 3, "runs": 4}
    with pytest.raises(ValueError, match=r"n must be at least k \+ m, here 4"):
        testing.assert_matches_ode(ld.Problem(), RULE, START, [0.0, 1.0], **options)
    momentum = ld.SGD(lr=0.1, momentum=0.5)
    with pytest.raises(ValueError, match=r"2 k \+ m, units and velocities, here 6"):
        testing.assert_matches_ode(ld.Problem(), momentum, START, [0.0, 1.0], **options | {"n": 5})


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["chain", "sgd"])
def test_runs_that_do_not_move_are_refused(level):
    options = {"key": KEY, "runs": 8, "level": level}  # as many as above: one program
    still = ld.SGD(lr=0.0)
    with pytest.raises(ValueError, match="nothing moves"):
        testing.assert_matches_ode(ld.Problem(), still, START, [0.0, 1.0], n=50, **options)
    with pytest.raises(ValueError, match="nothing moves"):
        testing.assert_concentrates(
            ld.Problem(), still, START, horizon=1.0, ns=(20, 30, 40), **options
        )


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], {"error": 0.1}, "at least three different"),
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
    with pytest.raises(ValueError, match=r"did not end well: .* the learning rate is too large"):
        testing.assert_matches_ode(
            problem, ld.SGD(lr=5.0), START, [0.0, 100.0], key=KEY, n=20, runs=4
        )


def test_level_is_one_of_two():
    with pytest.raises(ValueError, match="level must be"):
        testing.assert_matches_ode(ld.Problem(), RULE, START, [0.0, 1.0], key=KEY, level="ode")
