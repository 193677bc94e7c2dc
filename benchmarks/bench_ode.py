"""The ODE against the same equations in vectorised NumPy, solved by SciPy's DOP853.

Both at the loosest of the tolerances 1e-6, 3e-7, 1e-7, ... whose largest error in Q and R, over
all starts and times, is at most 1e-6 against a solution at rtol 1e-12. One process, one run.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.numpy_committee import NumpyCommittee

import learndyn as ld

K, M, LR, NOISE, RUNS = 4, 4, 0.2, 0.01, 256
"""The problem of the README; 256 starts as in the benchmark of the chain."""

TS = np.linspace(0.0, 300.0, 301)
"""Long enough for the plateau, in which solvers take long steps, and for the way out of it."""

TOLERANCES = (1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9)
"""Half a decade apart, so that neither solver is much more exact than asked."""

ERROR = 1e-6
"""What both are held to: far below the line width of a figure, and above the floor of either."""


def scipy_loop(starts, rtol):
    return np.stack([NumpyCommittee(t, LR, NOISE).solve(q, r, TS, rtol) for q, r, t in starts])


@eqx.filter_jit
def learndyn_runs(starts, rtol):
    def one(start):
        problem, rule = ld.Problem(noise=NOISE), ld.SGD(lr=LR)
        run = ld.solve_ode(problem, rule, start, jnp.asarray(TS), rtol=rtol, atol=rtol / 100)
        return coordinates(run)

    return eqx.filter_vmap(one)(starts)


@eqx.filter_jit
def learndyn_run(start, rtol):
    problem, rule = ld.Problem(noise=NOISE), ld.SGD(lr=LR)
    run = ld.solve_ode(problem, rule, start, jnp.asarray(TS), rtol=rtol, atol=rtol / 100)
    return coordinates(run)


def coordinates(run):
    i, j = np.triu_indices(K)
    return jnp.concatenate([run.Q[:, i, j], run.R.reshape(len(TS), -1)], axis=1)


@pytest.fixture(scope="module")
def starts():
    """Overlaps of random weights at n = 784."""
    rng, n = np.random.default_rng(0), 784
    fields = [rng.normal(size=(K + M, n)) for _ in range(RUNS)]
    grams = [w @ w.T / n for w in fields]
    return [(g[:K, :K], g[:K, K:], g[K:, K:]) for g in grams]


@pytest.fixture(scope="module")
def exact(starts):
    return scipy_loop(starts, 1e-12)


def loosest(solve, exact, few=None):
    """The loosest tolerance at which solve(tolerance) is right to ERROR, and its error.

    few(tolerance): optionally the first solutions alone, to see sooner that they are not.
    """
    for rtol in TOLERANCES:
        for attempt in (few, solve) if few else (solve,):
            found = np.asarray(attempt(rtol))
            error = np.abs(found - exact[: len(found)]).max()
            if error > ERROR:
                break
        else:
            return rtol, error
    raise AssertionError(f"error {error:.2g} > {ERROR} even at rtol={rtol}")


def test_one_solve(starts, exact, race, say):
    start = ld.Overlaps(*starts[0])
    ours, our_error = loosest(lambda rtol: learndyn_run(start, rtol), exact[0])
    theirs, their_error = loosest(lambda rtol: scipy_loop(starts[:1], rtol)[0], exact[0])
    fast, slow = race(
        lambda: learndyn_run(start, ours), lambda: scipy_loop(starts[:1], theirs), rounds=20
    )
    say(
        f"one ODE solve, erf, K = M = 4, alpha <= 300: {1e3 * fast:.2f} ms (error "
        f"{our_error:.0e}); NumPy and DOP853 {1e3 * slow:.1f} ms ({their_error:.0e}); "
        f"ratio {slow / fast:.1f}"
    )
    assert slow / fast >= 5


def test_many_solves(starts, exact, race, say):
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(ld.Overlaps(*s) for s in starts))
    ours, our_error = loosest(lambda rtol: learndyn_runs(batch, rtol), exact)
    theirs, their_error = loosest(
        lambda rtol: scipy_loop(starts, rtol), exact, few=lambda rtol: scipy_loop(starts[:8], rtol)
    )
    fast, slow = race(
        lambda: learndyn_runs(batch, ours), lambda: scipy_loop(starts, theirs), rounds=2
    )
    say(
        f"{RUNS} solves vmapped: {1e3 * fast / RUNS:.2f} ms each (error {our_error:.0e}); "
        f"loop of NumPy and DOP853 {1e3 * slow / RUNS:.1f} ms ({their_error:.0e}); "
        f"ratio {slow / fast:.1f}"
    )
    assert slow / fast >= 20
