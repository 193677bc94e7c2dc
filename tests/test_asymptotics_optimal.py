"""Optimal learning rates: exact in linear networks, better than the alternatives in others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import learndyn as ld
from learndyn import asymptotics
from learndyn.asymptotics.schedules._descent import descend
from learndyn.rules import ConstantRate

NOISE = 0.3
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE)
ERF = ld.Problem(noise=NOISE)
UNIT = ld.Overlaps([[0.5]], [[0.2]], [[1.0]])
PAIR = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.32, 0.03], [0.02, 0.3]], jnp.eye(2))


def close(actual, expected, *, rel=0.0, abs=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rel, atol=abs)


def best_linear_eg(alpha, eg_start):
    """H = e / (e + s), s = noise**2 / 2, is best at all times: log e - s/e falls by alpha."""
    s = NOISE**2 / 2

    def excess(e):
        return np.log(e / eg_start) - s / e + s / eg_start + alpha

    return scipy.optimize.brentq(excess, 1e-6, eg_start, xtol=1e-15)


def optimal_linear(**options):
    """One program serves all options, since a search is compiled for its knots and steps."""
    return asymptotics.optimal_schedule(
        LINEAR, ld.SGD(lr=0.1), UNIT, 20.0, knots=33, steps=120, **options
    )


@pytest.fixture(scope="module")
def linear():
    return optimal_linear()


def test_the_locally_optimal_rate_of_a_linear_network():
    eg = ld.generalisation_error(LINEAR, UNIT)
    for lr in (0.01, 0.7):  # whatever the rule's own rate
        best = asymptotics.locally_optimal_lr(LINEAR, ld.SGD(lr=lr), UNIT)
        close(best, eg / (eg + NOISE**2 / 2), rel=1e-12)
    # A batch of B: eg / (eg + s) B; two units see twice the rate.
    batch = asymptotics.locally_optimal_lr(LINEAR, ld.SGD(lr=0.1, batch_size=3), UNIT)
    close(batch, 3 * best, rel=1e-12)


@pytest.mark.nightly
def test_the_locally_optimal_rate_lowers_eg_fastest():
    best = asymptotics.locally_optimal_lr(ERF, ld.SGD(lr=0.1), PAIR)

    @jax.jit
    def speed(lr):
        flow = ld.ode_term(ERF, ld.SGD(lr=lr), PAIR).vector_field
        y = flow.pack(PAIR)
        change = flow(jnp.zeros(()), y, None)
        return jax.jvp(lambda y: ld.generalisation_error(ERF, flow.unpack(y)), (y,), (change,))[1]

    assert abs(jax.grad(speed)(best)) < 1e-12
    assert speed(best) < min(0, speed(0.9 * best), speed(1.1 * best))


def test_the_locally_optimal_schedule_of_a_linear_network_is_exact():
    ts = jnp.linspace(0.0, 20.0, 21)
    schedule, eg = asymptotics.locally_optimal_schedule(LINEAR, ld.SGD(lr=0.1), UNIT, ts)
    close(eg[-1], best_linear_eg(20.0, float(eg[0])), rel=1e-6)
    close(schedule(20.0), eg[-1] / (eg[-1] + NOISE**2 / 2), rel=1e-6)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_optimal_schedule_of_a_linear_network_is_exact(linear):
    eg_start = ld.generalisation_error(LINEAR, UNIT)
    exact = best_linear_eg(20.0, float(eg_start))
    # Log-linear between 33 knots, so a little above.
    assert -1e-5 < linear.value / exact - 1 < 1e-3
    rates = linear.schedule(jnp.array([0.0, 10.0]))
    middle = best_linear_eg(10.0, float(eg_start))
    close(rates, [eg_start / (eg_start + NOISE**2 / 2), middle / (middle + NOISE**2 / 2)], rel=0.05)


@pytest.mark.nightly
@pytest.mark.slow
def test_constant_and_inverse_time_rates_are_the_best_of_their_kind(linear):
    def final(lr):
        return float(asymptotics.eg_linear_curve(20.0, 0.55, lr, NOISE, k=1))

    found = scipy.optimize.minimize_scalar(final, bounds=(0.01, 1), method="bounded").fun
    close(linear.constant.value, found, rel=1e-5)
    close(final(float(linear.constant.schedule(0.0))), found, rel=1e-5)
    assert linear.value < linear.inverse_time.value < linear.constant.value
    close(linear.gain, linear.constant.value / linear.value)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("range_lr", [(0.6, 1.5), (2e-3, 0.02)])
def test_the_best_constant_rate_is_found_outside_its_range(linear, range_lr):
    found = optimal_linear(range_lr=range_lr)
    close(found.constant.schedule(0.0), linear.constant.schedule(0.0), rel=0.02)
    close(found.constant.value, linear.constant.value, rel=1e-5)


@pytest.fixture(scope="module")
def committee():
    return asymptotics.optimal_schedule(
        ERF, ld.SGD(lr=0.1), PAIR, 30.0, objective="integral", knots=5, steps=60
    )


@pytest.mark.nightly
def test_the_schedule_is_what_the_ode_says(committee):
    ts = jnp.linspace(0.0, 30.0, 2001)
    run = ld.solve_ode(ERF, ld.SGD(lr=committee.schedule), PAIR, ts)
    close(jnp.trapezoid(run.eg, ts) / 30, committee.value, rel=1e-4)
    assert committee.gain > 1.02
    assert committee.history[-1] <= committee.history[0]


@pytest.mark.nightly
def test_no_neighbour_is_better(committee):
    @eqx.filter_jit
    @eqx.filter_vmap
    def mean_eg(log_lr):
        schedule = eqx.tree_at(lambda s: s.log_lr, committee.schedule, log_lr)
        ts = jnp.linspace(0.0, 30.0, 2001)
        run = ld.solve_ode(ERF, ld.SGD(lr=schedule), PAIR, ts, rtol=1e-8)
        return jnp.trapezoid(run.eg, ts) / 30

    best = committee.schedule.log_lr
    shifts = 0.1 * np.concatenate([np.zeros((1, 5)), np.eye(5), -np.eye(5)])
    values = mean_eg(best + shifts)
    assert values[1:].min() > values[0] * (1 - 1e-4)


def test_schedules_are_positive_functions():
    piecewise = asymptotics.PiecewiseRate([0.0, 10.0], [1.0, 0.01])
    close(piecewise(jnp.array([-1.0, 5.0, 20.0])), [1.0, 0.1, 0.01], rel=1e-12)
    close(asymptotics.InverseTimeRate(0.5, 10.0)(30.0), 0.125, rel=1e-12)
    assert asymptotics.ConstantRate(0.3)(7.0) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": "least"}, "objective must"),
        ({"horizon": 0.0}, "horizon"),
        ({"knots": 1}, "knots"),
        ({"range_lr": (1.0, 0.1)}, "range_lr"),
        pytest.param({"range_lr": (1e3, 1e4)}, "diverge", marks=pytest.mark.nightly),
        ({"range_lr": 0.1}, "range_lr must be two rates"),
        ({"range_lr": (0.1, 0.2, 0.3)}, "range_lr must be two rates"),
        ({"range_lr": (1e-9, 1e-8)}, r"highest of those searched, .* \(1e-09, 1e-08\)"),
        ({"start": ld.Overlaps([[1.0]], [[1.0]], [[1.0]])}, "nothing can be gained"),
    ],
)
def test_bad_calls(change, words):
    arguments = {"problem": LINEAR, "rule": ld.SGD(lr=0.1), "start": UNIT, "horizon": 20.0}
    with pytest.raises(ValueError, match=words):
        asymptotics.optimal_schedule(**(arguments | change))


def test_bad_calls_of_the_local_rate():
    slow = ld.SGD(lr=0.1, momentum=ld.SlowMomentum(1.0))
    with pytest.raises(ValueError, match="slow momentum"):
        asymptotics.locally_optimal_lr(LINEAR, slow, UNIT)
    with pytest.raises(ValueError, match="as many rates"):
        asymptotics.PiecewiseRate([0.0, 1.0], [0.1])
    for times in ([5.0, 0.0], [1.0, 1.0]):
        with pytest.raises(ValueError, match="strictly increasing"):
            asymptotics.PiecewiseRate(times, [0.1, 0.01])
    with pytest.raises(ValueError, match="finite"):
        asymptotics.PiecewiseRate([0.0, np.nan], [0.1, 0.01])


def test_a_search_shown_in_parts_is_the_same_search():
    def objective(schedule):
        return (schedule.log_lr - 1.0) ** 2

    told, start = [], ConstantRate(0.1)
    whole = descend(objective, start, 50, jnp.asarray(0.1))
    parts = descend(objective, start, 50, jnp.asarray(0.1), told.append)
    assert told == [5] * 10  # the most parts of equal length, up to 20
    np.testing.assert_allclose(parts.history, whole.history, rtol=1e-12)
    np.testing.assert_allclose(parts.schedule.log_lr, whole.schedule.log_lr, rtol=1e-12)
    assert abs(parts.schedule.log_lr - 1.0) < 1.1  # it began 3.3 away
