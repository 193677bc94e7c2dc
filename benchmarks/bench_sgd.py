"""SGD on weights against a blocked NumPy loop: an erf committee, n = 784, K = M = 4, one core.

The opponent draws float32 inputs, the library float64 ones by default. Both run on one core:
the process is confined to it before either starts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import learndyn as ld

N, K, M, LR, NOISE = 784, 4, 4, 0.2, 0.1
"""The problem of the README, with noise that cannot be neglected."""

ALPHA = 5.0
"""3920 steps: 50 ms of ours, 150 ms of NumPy's, far above what a call costs."""

BLOCK = 1000
"""Inputs that NumPy draws at a time: 3 MB in float32, which the cache holds."""


pytestmark = pytest.mark.usefixtures("one_core")


def numpy_run(w, w_teacher, seed):
    """alpha = ALPHA of online SGD: blocks of float32 draws, teacher labels by one product."""
    rng = np.random.default_rng(seed)
    w, steps = w.copy(), round(ALPHA * N)
    root = np.sqrt(N)
    for begin in range(0, steps, BLOCK):
        count = min(BLOCK, steps - begin)
        x = rng.standard_normal((count, N), dtype=np.float32).astype(np.float64)
        labels = erf(x @ w_teacher.T / np.sqrt(2 * N)).sum(1) + NOISE * rng.standard_normal(count)
        for x_one, y in zip(x, labels, strict=True):
            lam = (w @ x_one) / root
            error = erf(lam * 0.5**0.5).sum() - y
            c = (LR * (2 / np.pi) ** 0.5 / root * error) * np.exp(-0.5 * lam * lam)
            w -= c[:, None] * x_one
    return w


@pytest.mark.parametrize(("dtype", "least"), [("float64", 1.5), ("float32", 2.0)])
def test_sgd_is_faster_than_numpy(dtype, least, race, say):
    weights = ld.init_weights(jax.random.key(0), N, K, M, scale=0.5)
    w, w_teacher = np.asarray(weights.w), np.asarray(weights.w_teacher)
    problem, rule, ts = ld.Problem(noise=NOISE), ld.SGD(LR), jnp.array([0.0, ALPHA])

    def ours(seed=0):
        key = jax.random.key(seed)
        return ld.simulate_sgd(problem, rule, weights, ts, key=key, input_dtype=dtype)

    # The answer: both ensembles have the same mean eg, which is that of the ODE to O(1/n).
    theirs = [numpy_run(w, w_teacher, seed) for seed in range(8)]
    states = [ld.overlaps(ld.Weights(w, w_teacher)) for w in theirs]
    numpy_eg = np.array([ld.generalisation_error(problem, state) for state in states])
    our_eg = np.array([ours(seed).eg[1] for seed in range(8)])
    ode_eg = ld.solve_ode(problem, rule, ld.overlaps(weights), ts).eg[1]
    for sample in (numpy_eg, our_eg):
        error = sample.std(ddof=1) / len(sample) ** 0.5
        assert abs(sample.mean() - ode_eg) < 5 * error + 2 / N

    ours_s, numpy_s = race(lambda: ours().eg, lambda: numpy_run(w, w_teacher, 0), rounds=8)
    steps = ALPHA * N
    say(
        f"SGD, n = {N}, K = M = {K}, {dtype} draws: {steps / ours_s:,.0f} steps/s; "
        f"NumPy, float32 draws: {steps / numpy_s:,.0f}; {numpy_s / ours_s:.1f} times faster"
    )
    assert numpy_s / ours_s >= least
