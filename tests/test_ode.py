"""The ODE against equations and simulations written here in NumPy, and all that can go wrong."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import learndyn as ld
from learndyn.dynamics import OverlapFlow

TS = np.array([0.0, 0.5, 2.0, 5.0])
START = ld.Overlaps([[0.9, 0.2], [0.2, 0.6]], [[0.3, -0.1], [0.1, 0.4]], [[1.0, 0.1], [0.1, 0.8]])
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)


def random_overlaps(rng, k, m, **layers):
    w = rng.normal(size=(k + m, 30)) / np.sqrt(30)
    c = w @ w.T
    return ld.Overlaps(c[:k, :k], c[:k, k:], c[k:, k:], **layers)


# The equations once more


def saad_solla(q, r, t, v, u_teacher, lr, lr_second, noise, decay, batch):
    """dQ, dR, dv of an erf committee, term by term from I2, I3, I4 and J2 as printed."""
    k, m = r.shape
    c = np.block([[q, r], [r.T, t]])
    u = np.concatenate([v, -u_teacher])
    fields = range(k + m)
    s = 1 + np.diag(c)

    def i2(a, b):
        return 2 / np.pi * np.arcsin(c[a, b] / np.sqrt(s[a] * s[b]))

    def i3(i, a, b):
        lambda_3 = s[i] * s[b] - c[i, b] ** 2
        return 2 / np.pi * (c[a, b] * s[i] - c[i, a] * c[i, b]) / (s[i] * np.sqrt(lambda_3))

    def j2(i, j):
        return 2 / np.pi / np.sqrt(s[i] * s[j] - c[i, j] ** 2)

    def i4(i, j, a, b):
        lambda_4 = s[i] * s[j] - c[i, j] ** 2

        def lambda_0(a, b, c_ab):
            cross = c[i, a] * c[j, b] + c[i, b] * c[j, a]
            own = c[j, a] * c[j, b] * s[i] + c[i, a] * c[i, b] * s[j]
            return lambda_4 * c_ab - own + c[i, j] * cross

        norm = np.sqrt(lambda_0(a, a, s[a]) * lambda_0(b, b, s[b]))
        return 4 / np.pi**2 * np.arcsin(lambda_0(a, b, c[a, b]) / norm) / np.sqrt(lambda_4)

    def c_field(i, a):
        return v[i] * sum(u[b] * i3(i, a, b) for b in fields)

    c_f = np.array([[c_field(i, a) for a in fields] for i in range(k)])
    dq = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            second = sum(u[a] * u[b] * i4(i, j, a, b) for a in fields for b in fields)
            c_c = v[i] * v[j] * (second + noise**2 * j2(i, j))
            pull = c_f[i, j] + c_f[j, i] + 2 * decay * q[i, j]
            dq[i, j] = -lr * pull + lr**2 / batch * c_c
    dr = -lr * (c_f[:, k:] + decay * r)
    dv = np.array([-lr_second * sum(u[a] * i2(i, a) for a in fields) for i in range(k)])
    return dq, dr, dv


def by_scipy(start, ts, **rule):
    q, r, t, v, u = map(np.asarray, (start.Q, start.R, start.T, start.v, start.v_teacher))
    k, m = r.shape

    def unpack(y):
        return y[: k * k].reshape(k, k), y[k * k : k * (k + m)].reshape(k, m), y[k * (k + m) :]

    def slope(_, y):
        q, r, v = unpack(y)
        return np.concatenate([x.ravel() for x in saad_solla(q, r, t, v, u, **rule)])

    y0 = np.concatenate([q.ravel(), r.ravel(), v])
    run = solve_ivp(slope, (ts[0], ts[-1]), y0, "DOP853", t_eval=ts, rtol=1e-10, atol=1e-12)
    rows = [unpack(y) for y in run.y.T]
    return [np.stack(x) for x in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("k", "m", "rule"),
    [
        (3, 2, {"lr": 0.4, "lr_second": 0.3, "noise": 0.3, "decay": 0.05, "batch": 3}),
        (1, 3, {"lr": 1.5, "lr_second": 0.0, "noise": 0.0, "decay": 0.0, "batch": 1}),
    ],
    ids=["everything", "k < m"],
)
def test_equations_written_twice(k, m, rule):
    rng = np.random.default_rng(k)
    start = random_overlaps(rng, k, m, v=rng.normal(size=k), v_teacher=rng.normal(size=m))
    sgd = ld.SGD(rule["lr"], rule["lr_second"] or None, None, rule["decay"], rule["batch"])
    run = ld.solve_ode(ld.Problem(noise=rule["noise"]), sgd, start, TS, rtol=1e-11, atol=1e-13)
    for ours, theirs in zip((run.Q, run.R, run.v), by_scipy(start, TS, **rule), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


def test_ridge_regression_ends_where_it_must():
    """m* and q* of linear regression with weight decay, and the largest stable rate."""
    lr, decay, noise, rho = 0.8, 0.5, 0.3, 1.3
    start = ld.Overlaps([[0.4]], [[0.1]], [[rho]])
    rule = ld.SGD(lr=lr, weight_decay=decay)
    run = ld.solve_ode(LINEAR, rule, start, [0.0, 20.0, 40.0])
    m = rho / (1 + decay)
    q = (2 * m + lr * (rho - 2 * m + noise**2)) / (2 * (1 + decay) - lr)
    assert float(run.R[-1, 0, 0]) == pytest.approx(m, abs=1e-8)
    assert float(run.Q[-1, 0, 0]) == pytest.approx(q, abs=1e-8)
    assert float(run.eg[-1]) == pytest.approx(0.5 * (rho - 2 * m + q), abs=1e-8)


# Momentum


def test_constant_momentum_is_a_larger_rate():
    heavy = ld.solve_ode(ld.Problem(noise=0.3), ld.SGD(lr=0.1, momentum=0.8), START, TS)
    plain = ld.solve_ode(ld.Problem(noise=0.3), ld.SGD(lr=0.5), START, TS)
    np.testing.assert_allclose(heavy.Q, plain.Q, atol=1e-9)
    np.testing.assert_allclose(heavy.R, plain.R, atol=1e-9)


@pytest.mark.nightly
def test_fast_velocities_are_plain_sgd():
    """The difference falls like 1 / gamma as gamma grows."""
    rule = {"lr": 0.4, "lr_second": 0.2}
    plain = ld.solve_ode(ld.Problem(noise=0.3), ld.SGD(**rule), START, TS)

    def distance(gamma):
        heavy = ld.SGD(momentum=ld.SlowMomentum(gamma), **rule)
        run = ld.solve_ode(ld.Problem(noise=0.3), heavy, START, TS, rtol=1e-7)
        return np.abs(run.Q - plain.Q).max() + np.abs(run.v - plain.v).max()

    near, far = distance(400.0), distance(100.0)
    assert far < 0.05
    assert far / near == pytest.approx(4, rel=0.1)


def weights_with(rng, state, runs, n):
    """(runs, k + m, n) random weights with exactly these overlaps."""
    factor = np.linalg.cholesky(np.asarray(state.covariance))
    frames = [np.linalg.qr(rng.normal(size=(n, len(factor))))[0].T for _ in range(runs)]
    return np.sqrt(n) * factor @ np.stack(frames)


@pytest.mark.nightly
def test_slow_momentum_against_sgd_on_weights():
    """(1 - beta) n = gamma, rate lr gamma / n, decay and a batch; averages over 24 runs."""
    rng, n, runs, batch = np.random.default_rng(0), 500, 24, 2
    lr, lr_second, gamma, decay, noise = 0.8, 0.5, 2.0, 0.1, 0.3
    w = weights_with(rng, START, runs, n)
    w, teacher = w[:, :2].copy(), w[:, 2:]
    v, beta = np.ones((runs, 2)), 1 - gamma / n
    u, u_v, saved = np.zeros_like(w), np.zeros_like(v), []
    stops = np.round(TS * n).astype(int)
    for step in range(stops[-1] + 1):
        if step in stops:
            saved.append((w @ w.mT / n, w @ teacher.mT / n, v.copy()))
        x = rng.normal(size=(runs, n, batch))
        lam, rho = w @ x / np.sqrt(n), teacher @ x / np.sqrt(n)
        g, slope = np.asarray(jax.scipy.special.erf(lam / np.sqrt(2))), np.exp(-(lam**2) / 2)
        y = np.asarray(jax.scipy.special.erf(rho / np.sqrt(2))).sum(1)
        delta = np.einsum("ri,rib->rb", v, g) - y - noise * rng.normal(size=(runs, batch))
        c = v[:, :, None] * np.sqrt(2 / np.pi) * slope * delta[:, None]
        u = beta * u + c @ x.mT / batch / np.sqrt(n) + decay / n * w
        u_v = beta * u_v + (g * delta[:, None]).mean(2) / n
        w, v = w - lr * gamma / n * u, v - lr_second * gamma / n * u_v
    rule = ld.SGD(lr, lr_second, None, decay, batch, ld.SlowMomentum(gamma))
    run = ld.solve_ode(ld.Problem(noise=noise), rule, START, TS, rtol=1e-7)
    plain = ld.solve_ode(ld.Problem(noise=noise), ld.SGD(lr, lr_second), START, TS)
    for index, name in enumerate(("Q", "R", "v")):
        sample = np.stack([row[index] for row in saved])
        error = sample.std(1, ddof=1) / np.sqrt(runs)
        off = np.abs(sample.mean(1) - getattr(run, name))
        assert (off < 4 * error + 0.006).all(), name
    assert np.abs(plain.Q - run.Q).max() > 0.1  # the momentum matters here


@pytest.mark.nightly
def test_biases_against_sgd_on_weights():
    """tanh with biases on both sides, everything trained; averages over 24 runs."""
    rng, n, runs = np.random.default_rng(1), 500, 24
    lr, lr_second, lr_bias, noise = 0.6, 0.4, 3.0, 0.2
    start = ld.Overlaps(START.Q, START.R, START.T, [0.9, 0.7], None, [0.2, -0.3], [0.5, -0.6])
    w = weights_with(rng, start, runs, n)
    w, teacher = w[:, :2].copy(), w[:, 2:]
    v, b = (np.tile(np.asarray(x), (runs, 1)) for x in (start.v, start.b))
    stops, saved = np.round(TS * n).astype(int), []
    for step in range(stops[-1] + 1):
        if step in stops:
            saved.append((w @ w.mT / n, w @ teacher.mT / n, v.copy(), b.copy()))
        x = rng.normal(size=(runs, n, 1))
        lam = (w @ x)[..., 0] / np.sqrt(n) + b
        rho = (teacher @ x)[..., 0] / np.sqrt(n) + np.asarray(start.b_teacher)
        g = np.tanh(lam)
        delta = (v * g).sum(1) - np.tanh(rho).sum(1) - noise * rng.normal(size=runs)
        c = v * (1 - g**2) * delta[:, None]
        w = w - lr / np.sqrt(n) * c[:, :, None] * x.mT
        v, b = v - lr_second / n * g * delta[:, None], b - lr_bias / n * c
    problem = ld.Problem(ld.Tanh(), ld.Tanh(), noise=noise)
    rule = ld.SGD(lr, lr_second, lr_bias)
    run = ld.solve_ode(problem, rule, start, TS)
    for index, name in enumerate(("Q", "R", "v", "b")):
        sample = np.stack([row[index] for row in saved])
        error = sample.std(1, ddof=1) / np.sqrt(runs)
        assert (np.abs(sample.mean(1) - getattr(run, name)) < 4 * error + 0.006).all(), name
    assert np.abs(run.b[-1] - run.b[0]).max() > 0.05


# Schedules and times


class Falling(eqx.Module):
    delay: jax.Array

    def __call__(self, alpha):
        return 0.8 / (1 + alpha + self.delay)


def test_schedules_read_the_time():
    """A run from ts[0] = 2 on is one from 0 with a schedule two units ahead."""
    problem = ld.Problem(noise=0.3)
    late = ld.solve_ode(problem, ld.SGD(lr=Falling(jnp.array(0.0))), START, TS + 2)
    early = ld.solve_ode(problem, ld.SGD(lr=Falling(jnp.array(2.0))), START, TS)
    np.testing.assert_allclose(late.Q, early.Q, atol=1e-9)
    np.testing.assert_array_equal(late.alpha, TS + 2)
    np.testing.assert_array_equal(late.Q[0], START.Q)
    now = ld.solve_ode(problem, ld.SGD(lr=Falling(jnp.array(0.0))), START, TS)
    assert np.abs(late.Q[-1] - now.Q[-1]).max() > 0.05


def test_schedules_see_alpha_wherever_a_run_begins():
    """The solver has a time of its own, from 0 to 1, but for times at which a schedule may jump."""
    rule, ts = ld.SGD(lr=lambda alpha: 1.0 / (1.0 + alpha)), [3.0, 4.0, 8.0]
    ours, theirs = (
        ld.solve_ode(ld.Problem(), rule, START, ts, jump_ts=jumps) for jumps in (None, [4.0])
    )
    np.testing.assert_allclose(ours.Q, theirs.Q, rtol=1e-8)
    np.testing.assert_allclose(ours.R, theirs.R, rtol=1e-8)


def test_jumping_schedules():
    """Two solves end to end; told where the jump is, the solver wastes no steps on it."""
    problem = ld.Problem(noise=0.3)

    def stairs(alpha):
        return jnp.where(alpha < 1.7, 0.8, 0.2)

    ts = np.array([0.0, 1.7, 4.0, 5.0])
    # Four times, as in other tests, which share the program.
    first = ld.solve_ode(problem, ld.SGD(lr=0.8), START, [0.0, 0.5, 1.0, 1.7])
    second = ld.solve_ode(problem, ld.SGD(lr=0.2), first.at(-1), [1.7, 3.0, 4.0, 5.0])
    told = ld.solve_ode(problem, ld.SGD(lr=stairs), START, ts, jump_ts=[3.0, 1.7])
    blind = ld.solve_ode(problem, ld.SGD(lr=stairs), START, ts)
    np.testing.assert_allclose(told.Q[1:], second.Q[np.array([0, 2, 3])], atol=1e-9)
    np.testing.assert_allclose(blind.Q[1:], second.Q[np.array([0, 2, 3])], atol=1e-6)
    assert told.stats["steps"] < blind.stats["steps"]


def test_save_times_change_nothing_beyond_the_tolerance():
    problem, rule = ld.Problem(noise=0.3), ld.SGD(lr=0.5)
    dense = ld.solve_ode(problem, rule, START, np.linspace(0, 5, 51))
    sparse = ld.solve_ode(problem, rule, START, TS)
    np.testing.assert_allclose(np.asarray(dense.Q)[[0, 5, 20, 50]], sparse.Q, atol=1e-8)


def test_one_time_is_the_start():
    run = ld.solve_ode(ld.Problem(noise=0.3), ld.SGD(lr=0.5), START, [3.0])
    assert run.result == ld.Result.SUCCESS
    np.testing.assert_array_equal(run.Q, START.Q[None])
    assert float(run.eg[0]) == pytest.approx(float(ld.generalisation_error(ld.Problem(), START)))


def test_a_student_that_is_the_teacher_stays():
    same = ld.Overlaps(START.T, START.T, START.T)
    run = ld.solve_ode(ld.Problem(), ld.SGD(lr=0.5), same, 100 * TS)
    for found in (run.Q, run.R):
        np.testing.assert_allclose(found, np.broadcast_to(START.T, found.shape), rtol=0, atol=1e-9)
    np.testing.assert_allclose(run.eg, 0, atol=1e-9)


# Transformations


@eqx.filter_jit
def solved(noise, lr, start, ts):
    return ld.solve_ode(ld.Problem(noise=noise), ld.SGD(lr=lr), start, ts)


def test_vmap_equals_loop():
    rng = np.random.default_rng(2)
    starts = [random_overlaps(rng, 2, 2) for _ in range(3)]
    noises, rates = jnp.array([0.0, 0.2, 0.5]), jnp.array([0.1, 0.9, 2.0])
    batch = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    together = eqx.filter_vmap(solved)(noises, rates, batch, jnp.array([TS, TS, TS + 1]))
    for i in range(3):
        alone = solved(noises[i], rates[i], starts[i], jnp.asarray(TS) + (i == 2))
        for name in ("alpha", "Q", "R", "v", "eg"):
            np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name), atol=1e-10)
        assert together.stats["steps"][i] == alone.stats["steps"]


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_derivatives_with_respect_to_the_rate(mode):
    adjoint = diffrax.ForwardMode() if mode == "forward" else None

    def last(lr):
        rule, options = ld.SGD(lr=lr), {"rtol": 1e-10, "atol": 1e-12, "adjoint": adjoint}
        return ld.solve_ode(ld.Problem(noise=0.3), rule, START, TS, **options).eg[-1]

    step = 1e-4
    slope = (last(0.5 + step) - last(0.5 - step)) / (2 * step)
    found = jax.grad(last)(0.5) if mode == "reverse" else jax.jvp(last, (0.5,), (1.0,))[1]
    assert float(found) == pytest.approx(float(slope), rel=1e-5)


def test_new_numbers_need_no_new_program():
    traced = []

    def lr(alpha):
        traced.append(1)
        return 0.3 + 0 * alpha

    rng = np.random.default_rng(3)
    ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=lr), START, TS)
    first = len(traced)
    assert first > 0
    other = random_overlaps(rng, 2, 2, v=[0.3, 0.4])
    rule = ld.SGD(lr=lr, weight_decay=0.2)
    ld.solve_ode(ld.Problem(noise=0.4), rule, other, TS + 0.3, rtol=1e-6, atol=1e-8)
    assert len(traced) == first


def overlaps_from(seed):
    return random_overlaps(np.random.default_rng(seed), 2, 2)


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=15)
@given(SEEDS, st.floats(0.0, 3.0), st.floats(0.0, 1.0))
def test_permuting_units_permutes_the_overlaps(seed, lr, noise):
    start = overlaps_from(seed)
    swapped = ld.Overlaps(start.Q[::-1, ::-1], start.R[::-1, ::-1], start.T[::-1, ::-1])
    noise, lr, ts = map(jnp.asarray, (noise, lr, TS))
    run, other = (solved(noise, lr, state, ts) for state in (start, swapped))
    np.testing.assert_allclose(other.Q, run.Q[:, ::-1, ::-1], atol=1e-8)
    np.testing.assert_allclose(other.R, run.R[:, ::-1, ::-1], atol=1e-8)
    np.testing.assert_allclose(other.eg, run.eg, atol=1e-8)


@settings(max_examples=15)
@given(SEEDS, st.floats(0.0, 3.0), st.floats(0.0, 1.0))
def test_overlaps_stay_positive_semi_definite(seed, lr, noise):
    run = solved(jnp.asarray(noise), jnp.asarray(lr), overlaps_from(seed), jnp.asarray(TS))
    assert run.result == ld.Result.SUCCESS
    for index in range(len(TS)):
        assert np.linalg.eigvalsh(run.at(index).covariance).min() > -1e-8


def test_other_solvers_agree():
    tsit5 = ld.solve_ode(ld.Problem(noise=0.3), ld.SGD(lr=0.5), START, TS)
    dopri8 = ld.solve_ode(ld.Problem(noise=0.3), ld.SGD(0.5), START, TS, solver=diffrax.Dopri8())
    np.testing.assert_allclose(dopri8.Q, tsit5.Q, atol=1e-8)


def test_the_vector_field_is_traced_once(monkeypatch):
    traced, drift = [], OverlapFlow.overlap_drift
    monkeypatch.setattr(
        OverlapFlow, "overlap_drift", lambda *args: traced.append(1) or drift(*args)
    )
    problem = ld.Problem(loss=lambda phi, y: (phi - y) ** 2)  # which no other test has traced
    flow = ld.ode_term(problem, ld.SGD(lr=0.1), START).vector_field
    for t in (0.0, 0.5, 1, 2.0):  # plain numbers: each could start a new trace
        flow(t, flow.pack(START), None)
    assert len(traced) == 1
