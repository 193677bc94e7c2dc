"""The same invalid input at every level: concrete values are refused with the name of what is
wrong, traced ones give NaN and a result code."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

START = ld.Overlaps([[0.5]], [[0.2]], [[1.0]])
PROBLEM = ld.Problem(noise=0.1)
RULE = ld.SGD(lr=0.5, weight_decay=0.1, momentum=0.3)
TS = jnp.array([0.0, 0.5])
N, KEY = 8, jax.random.key(0)

LEVELS = {
    "ode": lambda problem, rule, start, ts: ld.solve_ode(problem, rule, start, ts),
    "chain": lambda problem, rule, start, ts: ld.simulate_chain(
        problem, rule, start, ts, n=N, key=KEY
    ),
    "langevin": lambda problem, rule, start, ts: ld.simulate_langevin(
        problem, rule, start, ts, n=N, key=KEY, dt=0.25
    ),
    "fluctuations": lambda problem, rule, start, ts: ld.fluctuations(problem, rule, start, ts),
    "sgd": lambda problem, rule, start, ts: ld.simulate_sgd(problem, rule, start, ts, key=KEY),
}


def good(level):
    start = ld.weights_from_overlaps(KEY, START, N) if level == "sgd" else START
    return PROBLEM, RULE, start, TS


def first_matrix(given):
    start = given[2]
    return start.w if isinstance(start, ld.Weights) else start.Q


TABLE = {
    "negative noise": (lambda x: x[0].noise, -0.1, "noise"),
    "noise that is NaN": (lambda x: x[0].noise, np.nan, "noise"),
    "negative rate": (lambda x: x[1].lr, -0.5, "lr"),
    "infinite rate": (lambda x: x[1].lr, np.inf, "lr"),
    "negative decay": (lambda x: x[1].weight_decay, -0.1, "weight_decay"),
    "beta of 1": (lambda x: x[1].momentum, 1.0, "momentum"),
    "a start that is NaN": (first_matrix, np.nan, "finite"),
    "v that is infinite": (lambda x: x[2].v, np.inf, "finite"),
    "times that decrease": (lambda x: x[3], np.array([0.5, 0.0]), "increas"),
    "times that are NaN": (lambda x: x[3], np.array([0.0, np.nan]), "ts"),
    "times before 0": (lambda x: x[3], np.array([-1.0, 0.5]), "ts"),
}


def bad(level, name):
    """The arguments with one of them spoilt, behind the back of constructors that would refuse."""
    where, value, _ = TABLE[name]
    given = good(level)
    return eqx.tree_at(where, given, jnp.broadcast_to(jnp.asarray(value), where(given).shape))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", TABLE)
def test_what_is_concrete_is_refused(name, level):
    with pytest.raises(ValueError, match=TABLE[name][2]):
        LEVELS[level](*bad(level, name))


@pytest.fixture(scope="module")
def programs():
    """One program of each level serves, since all that is wrong are numbers."""
    return {name: eqx.filter_jit(level) for name, level in LEVELS.items()}


@pytest.mark.nightly
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", TABLE)
def test_what_is_traced_is_nan_with_a_code(name, level, programs):
    run = programs[level](*bad(level, name))
    assert int(run.result) == ld.Result.INVALID_INPUT.value
    assert np.isnan(run.eg if level != "fluctuations" else run.covariance).all()


@pytest.mark.nightly
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_good_is_success(level, programs):
    assert int(programs[level](*good(level)).result) == 0
