"""The ODE against the same equations in vectorised NumPy, solved by SciPy's DOP853.

Both at the loosest of the tolerances 1e-6, 3e-7, 1e-7, ... whose largest error in Q and R, over
all starts and times, is at most 1e-6 against a solution at rtol 1e-12. One process, one run.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import learndyn as ld

K, M, LR, NOISE, RUNS = 4, 4, 0.2, 0.01, 256
TS = np.linspace(0.0, 300.0, 301)
TOLERANCES = (1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9)
ERROR = 1e-6


class NumpyCommittee:
    """dy/dalpha of an erf committee, v = v* = 1, for y = (upper triangle of Q, R).

    Written to be fast: no loops, index arrays made once, I4 for i <= k and a <= b alone.
    Source: Saad & Solla (1995), with label noise as Goldt et al. (2020), Eq. (9).
    """

    def __init__(self, teacher):
        self.i, self.j = np.triu_indices(K)
        self.a, self.b = np.triu_indices(K + M)
        self.u = np.concatenate([np.ones(K), -np.ones(M)])
        self.weight = np.where(self.a == self.b, 1, 2) * self.u[self.a] * self.u[self.b]
        self.positions = np.zeros((K, K + M), int)  # where each entry of [Q, R] stands in y
        self.positions[self.i, self.j] = np.arange(len(self.i))
        self.positions[self.j, self.i] = np.arange(len(self.i))
        self.positions[:, K:] = len(self.i) + np.arange(K * M).reshape(K, M)
        self.c = np.zeros((K + M, K + M))
        self.c[K:, K:] = teacher

    def __call__(self, t, y):
        c, u, i, j, a, b = self.c, self.u, self.i, self.j, self.a, self.b
        top = c[:K] = y[self.positions]
        c[K:, :K] = top[:, K:].T
        s = 1 + c.diagonal()
        weight = 2 / np.pi * u / np.sqrt(s[:K, None] * s - top**2)
        c_f = weight @ c - ((weight * top).sum(1) / s[:K])[:, None] * top
        x, z, s_i, s_j, c_ij = c[i], c[j], s[i][:, None], s[j][:, None], c[i, j][:, None]
        lambda_4 = s_i * s_j - c_ij**2
        p, q = s_j * x - c_ij * z, s_i * z - c_ij * x
        scale = 1 / np.sqrt(lambda_4 * s - p * x - q * z)  # of Lambda_1, Lambda_2
        lambda_0 = lambda_4 * c[a, b] - p[:, a] * x[:, b] - q[:, a] * z[:, b]
        arcs = np.arcsin(lambda_0 * scale[:, a] * scale[:, b])
        c_c = 4 / np.pi**2 * (arcs @ self.weight) + 2 / np.pi * NOISE**2
        dq = -LR * (c_f[i, j] + c_f[j, i]) + LR**2 * c_c / np.sqrt(lambda_4[:, 0])
        return np.concatenate([dq, -LR * c_f[:, K:].ravel()])

    def solve(self, q, r, rtol):
        y0 = np.concatenate([q[self.i, self.j], r.ravel()])
        span, atol = (TS[0], TS[-1]), rtol / 100
        return solve_ivp(self, span, y0, "DOP853", t_eval=TS, rtol=rtol, atol=atol).y.T


def scipy_loop(starts, rtol):
    return np.stack([NumpyCommittee(t).solve(q, r, rtol) for q, r, t in starts])


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
