"""The joint law of the chain's Q, R, v, eg at several times against that of SGD on weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.testing import two_sample_z, z_limit

RUNS = 4000
FALSE_ALARM = 1e-5
"""The probability that one comparison fails by chance, over all its statistics."""

START = ld.Overlaps([[0.5, 0.1], [0.1, 0.4]], [[0.2, 0.0], [0.1, 0.3]], jnp.eye(2), v=[0.8, 0.6])
TS = jnp.array([0.0, 0.5, 2.0])

ERF = ld.Problem(noise=0.2), ld.SGD(lr=1.0, lr_second=0.5)
RELU = ld.Problem(ld.ReLU(), ld.ReLU(), noise=0.2), ld.SGD(lr=0.5, batch_size=4, momentum=0.5)
LINEAR = (
    ld.Problem(ld.Linear(), ld.Linear(), noise=0.2),
    ld.SGD(lr=0.2, lr_second=0.2, weight_decay=0.1, momentum=0.5),
)


def joint(runs):
    """(runs, coordinates): Q, R, v and eg at all times but the first."""
    parts = (runs.Q, runs.R, runs.v, runs.eg)
    return np.concatenate([np.asarray(x)[:, 1:].reshape(len(x), -1) for x in parts], axis=1)


def largest_z(x, y):
    """Largest |z| between two samples, and what equal laws exceed with probability FALSE_ALARM."""
    z = two_sample_z(x, y)
    return np.abs(z).max(), z_limit(len(z), FALSE_ALARM)


@pytest.fixture(scope="module")
def chains():
    """Runs of the chain; one program for each problem, whatever n and the start's numbers."""
    programs = {}

    def run(problem, rule, n, seed, start=START):
        name = (type(problem.student), rule.batch_size)
        if name not in programs:
            one = lambda start, n, key: ld.simulate_chain(problem, rule, start, TS, n=n, key=key)
            programs[name] = jax.jit(jax.vmap(one, (None, None, 0)))
        return programs[name](start, float(n), jax.random.split(jax.random.key(seed), RUNS))

    return run


def on_weights(problem, rule, n, seed):
    def one(key):
        a, b = jax.random.split(key)
        weights = ld.weights_from_overlaps(a, START, n=n)
        return ld.simulate_sgd(problem, rule, weights, TS, key=b, input_dtype="float64")

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), RUNS))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("setting", "n"),
    [(ERF, 10), (ERF, 30), (RELU, 10), (LINEAR, 30)],
    ids=["erf-10", "erf-30", "relu-batch-10", "linear-momentum-30"],
)
def test_chain_has_the_law_of_weights(setting, n, chains, seed):
    z, limit = largest_z(joint(chains(*setting, n, seed)), joint(on_weights(*setting, n, seed + 1)))
    assert z < limit


@pytest.mark.nightly
def test_the_comparison_sees_another_dimension(chains, seed):
    """Chains at n = 30 and 45, at the same times, are told apart (z is about 14)."""
    z, limit = largest_z(joint(chains(*ERF, 30, seed)), joint(chains(*ERF, 45, seed + 1)))
    assert z > limit


def test_the_comparison_calls_equal_what_is_equal(chains, seed):
    z, limit = largest_z(joint(chains(*ERF, 30, seed)), joint(chains(*ERF, 30, seed + 1)))
    assert z < limit
