"""The overlap chain against SGD on weights and against its own random numbers: erf, K = M = 4.

On a CPU all runs share one core. The floor is what no chain can do without: K + M + 1 normal
numbers and one chi-square number a step, by the library's own generator.
"""

import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.dynamics.chain._draws import steps_per_block
from learndyn.dynamics.chain._random import LaneRandom, chi_square, lane_seeds

K, M, LR, NOISE = 4, 4, 0.2, 0.1
"""The cost of a step depends on K and M alone. LR is far below 1.2, the critical rate of four
units, so that no run diverges; with label noise eg stays above 0, and its mean can be held to the
ODE."""

CHAINS, ALPHA, N = 256, 20.0, 784
"""256 runs fill the lanes of one core's vectors and caches; alpha = 20 is 15 680 steps, a second of
work, beside which starting is nothing; n is that of MNIST's images, as in Goldt et al. (2020)."""

PROBLEM, RULE = ld.Problem(noise=NOISE), ld.SGD(LR)
FLOOR_AIM, FLOOR_LIMIT = 2.0, 3.5
"""The aim is not reached: at 7 ns a normal number the step's arithmetic is most of its time."""

GPU_CHAINS, GPU_AIM = (1_000, 10_000, 100_000), 1e9
"""Numbers of runs between which a GPU fills up, and the aim for the most, in steps a second."""


on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="one core of a CPU")
on_gpu = pytest.mark.skipif(jax.default_backend() != "gpu", reason="JAX sees no GPU here")


@pytest.fixture(scope="module")
def start():
    return ld.overlaps(ld.init_weights(jax.random.key(0), N, K, M, scale=0.5))


@pytest.fixture(scope="module")
def chains(start):
    """eg of many runs from `start` to alpha; one program for all alpha and n."""

    @jax.jit
    def run(keys, alpha, n):
        ts = jnp.array([0.0, 1.0]) * alpha
        one = lambda key: ld.simulate_chain(PROBLEM, RULE, start, ts, n=n, key=key).eg
        return jax.vmap(one)(keys)

    return run


def assert_right(eg, start, alpha, n):
    """The mean of the runs is the ODE's to O(1/n)."""
    with jax.default_device(jax.devices("cpu")[0]):  # on a GPU it would take longer than the chains
        expected = float(ld.solve_ode(PROBLEM, RULE, start, jnp.array([0.0, alpha])).eg[1])
    last = np.asarray(eg)[:, 1]
    assert abs(last.mean() - expected) < 5 * last.std() / len(last) ** 0.5 + 2 / n


@on_cpu
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(("n", "least"), [(784, 15.0), (5000, 80.0)])
def test_chain_is_faster_than_sgd_on_weights(n, least, chains, start, race, say):
    keys, alpha = jax.random.split(jax.random.key(1), CHAINS), ALPHA * N / n
    assert_right(chains(keys, alpha, n), start, alpha, n)
    weights = ld.weights_from_overlaps(jax.random.key(2), start, n=n)
    ts = jnp.array([0.0, 2000 / n])

    def sgd():
        return ld.simulate_sgd(
            PROBLEM, RULE, weights, ts, key=jax.random.key(3), input_dtype="float64"
        )

    chain_s, sgd_s = race(lambda: chains(keys, alpha, n), lambda: sgd().eg, rounds=5)
    rate, sgd_rate = CHAINS * ALPHA * N / chain_s, 2000 / sgd_s
    say(
        f"Chain, K = M = {K}, {CHAINS} side by side, one core: {rate:,.0f} steps/s; SGD on "
        f"weights at n = {n}, float64 draws: {sgd_rate:,.0f}; {rate / sgd_rate:.0f} times faster"
    )
    assert rate / sgd_rate >= least


@on_cpu
@pytest.mark.usefixtures("one_core")
def test_chain_is_near_the_floor_of_its_random_numbers(chains, race, say):
    d = K + M
    block, dof = steps_per_block(RULE, d, 1), jnp.full((1, 1), float(N - d))
    blocks = round(ALPHA * N) // block

    @jax.jit
    def floor(keys):
        seeds = lane_seeds(keys)

        def one(index, total):
            random = LaneRandom(seeds, index)
            normal = random.normal(block * (d + 2))
            chi = chi_square(random, dof, normal[-block:, None])
            # Every number is used, or it would not be made.
            return total + jnp.sum(normal[:-block], axis=0) + jnp.sum(chi, (0, 1))

        return jax.lax.fori_loop(0, blocks, one, jnp.zeros(CHAINS))

    keys = jax.random.split(jax.random.key(1), CHAINS)
    total = floor(keys)
    drawn = blocks * block
    error = (drawn * (d + 1 + 2 * (N - d)) / CHAINS) ** 0.5
    assert abs(jnp.mean(total) - drawn * (N - d)) < 5 * error
    chain_s, floor_s = race(lambda: chains(keys, ALPHA, N), lambda: floor(keys), rounds=5)
    floor_s *= ALPHA * N / drawn
    say(
        f"Random numbers of the chain alone: {CHAINS * ALPHA * N / floor_s:,.0f} steps/s; "
        f"a step of the chain takes {chain_s / floor_s:.2f} times as long (aim {FLOOR_AIM})"
    )
    assert chain_s / floor_s < FLOOR_LIMIT


@on_cpu
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's measure of peak memory")
def test_memory_does_not_grow_with_steps(chains, say):
    """Ten times the steps with the same program: only the saved times are kept."""
    keys = jax.random.split(jax.random.key(1), CHAINS)
    jax.block_until_ready(chains(keys, ALPHA, N))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    eg = jax.block_until_ready(chains(keys, 10 * ALPHA, N))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert np.isfinite(eg).all()
    say(f"Chain, {CHAINS * 10 * ALPHA * N:,.0f} steps instead of a tenth: {grown:.1f} MiB more")
    assert grown < 5.0  # the steps' numbers alone would be 32 GB


@on_gpu
@pytest.mark.parametrize("count", GPU_CHAINS)
def test_chains_side_by_side_on_a_gpu(count, chains, start, say):
    keys = jax.random.split(jax.random.key(1), count)
    eg = jax.block_until_ready(chains(keys, ALPHA, N))
    assert_right(eg, start, ALPHA, N)
    begin = time.perf_counter()
    jax.block_until_ready(chains(keys, ALPHA, N))
    rate = count * ALPHA * N / (time.perf_counter() - begin)
    device = jax.devices()[0].device_kind
    say(f"Chain on {device}, {count:,} side by side: {rate:,.0f} steps/s (aim {GPU_AIM:,.0f})")
