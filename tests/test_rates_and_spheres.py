"""Rates per unit, the population gradient, and learning on the sphere, at every level."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rule_table import ON_SPHERE, PROBLEM, TS, Shares
from rule_table import TWO as START
from rule_table import run as run_level

import learndyn as ld
from learndyn.averages import QuasiMonteCarlo

pytestmark = pytest.mark.filterwarnings(
    "ignore:the error of the Gaussian averages:RuntimeWarning",
    "ignore:the step dt:RuntimeWarning",
)


def run(level, rule, at=START):
    return run_level(level, rule, PROBLEM, at)


LEVELS = ["sgd", "chain", "ode", pytest.param("langevin", marks=pytest.mark.nightly)]


@pytest.mark.nightly(by_day=["sgd", "chain"])
@pytest.mark.parametrize("level", LEVELS)
def test_rates_per_unit_are_factors_of_the_modulation(level):
    rated = run(level, ld.SGD([0.5, 0.1], [0.3, 0.3]))
    scaled = run(level, Shares([1.0, 0.2], lr=0.5, lr_second=0.3))
    for name in ("Q", "R", "v"):
        np.testing.assert_allclose(getattr(rated, name), getattr(scaled, name), rtol=1e-12)
    assert np.abs(rated.Q[-1, 0, 0] - START.Q[0, 0]) > 0.05


@pytest.mark.parametrize("level", LEVELS)
def test_a_rate_of_zero_freezes_a_unit(level):
    # By the programs of the test before.
    found = run(level, ld.SGD([0.5, 0.0], [0.0, 0.3]))
    np.testing.assert_allclose(found.Q[:, 1, 1], START.Q[1, 1], rtol=1e-12)
    np.testing.assert_allclose(found.R[:, 1], jnp.tile(START.R[1], (3, 1)), rtol=1e-12)
    np.testing.assert_array_equal(found.v[:, 0], START.v[0])
    assert np.abs(found.v[-1, 1] - START.v[1]) > 1e-3


@pytest.mark.nightly
@pytest.mark.parametrize("momentum", [0.5, ld.SlowMomentum(3.0)], ids=["constant", "slow"])
@pytest.mark.parametrize("level", ["sgd", "chain", "ode"])
def test_equal_rates_are_one_rate(level, momentum):
    one, two = (ld.SGD(lr, 0.3, momentum=momentum) for lr in (0.5, [0.5, 0.5]))
    np.testing.assert_allclose(run(level, two).Q, run(level, one).Q, rtol=1e-12)


@pytest.mark.nightly
def test_fluctuations_with_rates_per_unit():
    found = ld.fluctuations(PROBLEM, ld.SGD([0.5, 0.0]), START, [0.0, 1.0])
    assert found.std.Q[-1, 1, 1] == 0.0
    assert found.std.Q[-1, 0, 0] > 0.1


@pytest.mark.parametrize("level", ["sgd", "chain", "ode", "langevin"])
def test_rates_for_other_units(level):
    with pytest.raises(ValueError, match=r"one for each of the 2 student units.*got shape \(3,\)"):
        run(level, ld.SGD([0.1, 0.2, 0.3]))

    with pytest.raises(ValueError, match=r"lr_second must be one number.*\(1, 2\)"):
        run(level, ld.SGD(0.1, [[0.1, 0.2]]))


@pytest.mark.nightly
def test_a_batch_of_rates_per_unit():
    lrs = jnp.array([[0.5, 0.1], [0.2, 0.4]])
    many = jax.vmap(lambda lr: ld.solve_ode(PROBLEM, ld.SGD(lr), START, TS).Q)(lrs)
    np.testing.assert_allclose(many[1], run("ode", ld.SGD([0.2, 0.4])).Q, rtol=1e-9)


# The population gradient


@pytest.mark.nightly
def test_the_population_gradient_is_the_limit_of_large_batches():
    limit = run("ode", ld.SGD(0.5, batch_size=math.inf))
    large = run("ode", ld.SGD(0.5, batch_size=10**9))
    np.testing.assert_allclose(limit.Q, large.Q, atol=1e-8)
    assert np.abs(limit.Q - run("ode", ld.SGD(0.5)).Q).max() > 0.01
    assert ld.rule_of(ld.to_dataset(limit)) == ld.SGD(0.5, batch_size=math.inf)


@pytest.mark.parametrize("level", ["sgd", "chain", "langevin", "fluctuations"])
def test_no_other_level_follows_the_population_gradient(level):
    rule = ld.SGD(0.5, batch_size=math.inf)
    with pytest.raises(ValueError, match="batch_size=inf, the average over all samples"):
        run(level, rule)


# The sphere

GOLD = {  # alpha = 1, 3, 6, 20: Q_12, R_11 and eg by an independent solution, DOP853 at 1e-12
    "Q12": [-0.03956155014059538, -0.1381013347343166, -0.1058692208448728, 0.052141403815080006],
    "R11": [0.31138734307972615, 0.4407555380695941, 0.515771543513031, 0.5832059520924274],
    "eg": [0.35023969167262536, 0.14582463252381403, 0.05244510721911719, 0.026669575529578993],
}
SPHERICAL = ld.SGD(0.5, spherical=True)


def test_spherical_sgd_against_an_independent_solution():
    found = ld.solve_ode(PROBLEM, SPHERICAL, ON_SPHERE, [0.0, 1.0, 3.0, 6.0, 20.0])
    np.testing.assert_allclose(found.Q[1:, 0, 1], GOLD["Q12"], atol=1e-7)
    np.testing.assert_allclose(found.R[1:, 0, 0], GOLD["R11"], atol=1e-7)
    np.testing.assert_allclose(found.eg[1:], GOLD["eg"], atol=1e-7)
    np.testing.assert_allclose(found.Q[:, 0, 0], 1.0, rtol=1e-12)


def test_weight_decay_drops_out_on_the_sphere():
    decaying = ld.SGD(0.5, spherical=True, weight_decay=0.5)
    found = run("ode", decaying, ON_SPHERE)
    np.testing.assert_allclose(found.R, run("ode", SPHERICAL, ON_SPHERE).R, atol=1e-8)
    free = run("ode", ld.SGD(0.5, weight_decay=0.5), ON_SPHERE)
    assert np.abs(free.R - run("ode", ld.SGD(0.5), ON_SPHERE).R).max() > 0.05  # the control


@pytest.mark.nightly(by_day=["sgd", "ode"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_stays_on_the_sphere(level):
    found = run(level, ld.SGD(0.5, 0.2, spherical=True, momentum=0.3, batch_size=2), ON_SPHERE)
    np.testing.assert_allclose(jnp.diagonal(found.Q, axis1=1, axis2=2), 1.0, rtol=1e-12)
    assert np.abs(found.R[-1] - ON_SPHERE.R).max() > 0.05


@pytest.mark.nightly
def test_levels_agree_on_the_sphere():
    """Chains at n = 100 against the ODE and its fluctuations."""
    keys = jax.random.split(jax.random.key(11), 400)
    run = jax.vmap(
        lambda key: ld.simulate_chain(PROBLEM, SPHERICAL, ON_SPHERE, [0.0, 3.0], n=100, key=key)
    )(keys)
    theory = ld.fluctuations(PROBLEM, SPHERICAL, ON_SPHERE, [0.0, 3.0])
    chain = np.column_stack([run.Q[:, -1, 0, 1], run.R[:, -1].reshape(400, 4)])
    std, mean = (np.r_[x.Q[-1, 0, 1], x.R[-1].ravel()] for x in (theory.std, theory.mean))
    # 400 runs know a standard deviation to 3.5 %; at n = 100 the theory is right to a tenth.
    np.testing.assert_allclose(10 * chain.std(0), std, rtol=0.12)
    assert np.abs((chain.mean(0) - mean) / (chain.std(0) / 20)).max() < 4.5
    free = ld.fluctuations(PROBLEM, ld.SGD(0.5), ON_SPHERE, [0.0, 3.0])
    assert free.std.Q[-1, 0, 1] < 0.88 * std[0]  # the control
    np.testing.assert_array_equal(theory.std.Q[-1].diagonal(), 0.0)


@pytest.mark.nightly
def test_one_unit_on_the_sphere_keeps_its_angle():
    """Perceptron with label flips, in coordinates that know Q - R^2/T, against nodes."""
    problem = ld.Problem(ld.Linear(), ld.Sign(0.1), ld.Perceptron())
    start = ld.Overlaps([[1.0]], [[0.2]], [[1.0]])
    closed = ld.solve_ode(problem, SPHERICAL, start, TS)
    nodes = ld.solve_ode(problem, SPHERICAL, start, TS, averages=QuasiMonteCarlo(2**13))
    np.testing.assert_allclose(closed.R, nodes.R, atol=3e-4)
    np.testing.assert_allclose(closed.Q, 1.0, rtol=1e-8)


@pytest.mark.parametrize("level", ["sgd", "chain", "ode", "langevin"])
def test_a_start_off_the_sphere(level):
    with pytest.raises(ValueError, match=r"must have Q_ii = 1; got Q_ii = \[0.3"):
        run(level, SPHERICAL, START)


def test_a_traced_start_off_the_sphere_is_nan():
    def final(scale):
        start = ld.Overlaps(scale * ON_SPHERE.Q, ON_SPHERE.R, ON_SPHERE.T)
        return ld.solve_ode(PROBLEM, SPHERICAL, start, TS)

    both = jax.vmap(final)(jnp.array([1.0, 1.1]))
    assert list(both.result) == [ld.Result.SUCCESS.value, ld.Result.INVALID_INPUT.value]


def test_spherical_is_true_or_false():
    with pytest.raises(ValueError, match="spherical must be True or False"):
        ld.SGD(0.1, spherical="yes")
