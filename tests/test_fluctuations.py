"""The covariance of sqrt(n) (m - m_ode), its noise term and the Langevin level."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.dynamics._diffusion import diffusion, noise_averages, noise_error
from learndyn.dynamics._fluctuations import _WithCovariance, gaussian_norm
from learndyn.dynamics._ode import overlap_flow

NEAR = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], jnp.eye(2))
FAR = ld.Overlaps([[1.0, 0.1], [0.1, 0.8]], [[0.12, 0.02], [-0.03, 0.07]], jnp.eye(2))
BOTH = ld.Overlaps(NEAR.Q, NEAR.R, NEAR.T, v=[0.8, 0.6])
NOISY = ld.Problem(noise=0.1)
LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
"""Three nodes a direction are exact for it, so it costs least where any problem will do."""
TS = jnp.linspace(0.0, 60.0, 61)
LANGEVIN_TS = jnp.array([0.0, 1.0, 2.0])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("start", "lr_second", "full", "triangle"),
    [(FAR, None, 0.504, 0.468), (NEAR, None, 0.297, 0.284), (BOTH, 0.2, 0.30559, 0.29201)],
)
def test_constant_of_the_concentration_theorem(start, lr_second, full, triangle):
    """Values of an independent implementation; the last pair by 16**4 Gauss-Hermite nodes."""
    fl = ld.fluctuations(NOISY, ld.SGD(lr=0.2, lr_second=lr_second), start, TS)
    assert fl.result == ld.Result.SUCCESS
    # Half a digit, or twice what the default nodes are off by in the converged pair.
    allowed = 2e-4 if lr_second else 6e-4
    assert fl.constant == pytest.approx(full, abs=allowed)
    over_triangle = jax.vmap(gaussian_norm)(fl.covariance)
    assert jnp.max(over_triangle) == pytest.approx(triangle, abs=allowed)
    mean = ld.solve_ode(NOISY, ld.SGD(lr=0.2, lr_second=lr_second), start, TS)
    np.testing.assert_allclose(fl.mean.Q, mean.Q, atol=2e-5)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("state", "noise", "lr", "end"),
    [
        (ld.Overlaps([[1.0]], [[0.1]], [[1.0]]), 0.0, 0.5, 50.0),
        pytest.param(FAR, 1e-3, 0.2, 800.0, marks=pytest.mark.nightly),
    ],
    ids=["one unit", "two"],
)
def test_the_spread_of_a_small_error_does_not_depend_on_the_tolerances(state, noise, lr, end):
    """It is a difference of covariances that cancel all but their fourth digit or less."""
    arguments = (ld.Problem(noise=noise), ld.SGD(lr), state, jnp.linspace(0.0, end, 6))
    finer = ld.fluctuations(*arguments, rtol=1e-9, atol=1e-14)
    assert finer.mean.eg[-1] < 2e-4
    found = ld.fluctuations(*arguments)
    np.testing.assert_allclose(found.std.eg[1:], finer.std.eg[1:], rtol=2e-3)


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_gaussian_norm_of_white_noise_is_the_chi_mean(dims):
    from scipy.stats import chi

    assert gaussian_norm(9.0 * jnp.eye(dims)) == pytest.approx(3 * chi.mean(dims), rel=1e-9)


def test_gaussian_norm_at_rank_one_and_zero():
    direction = jnp.array([3.0, 0.0, 4.0])
    expected = 5 * np.sqrt(2 / np.pi)
    assert gaussian_norm(jnp.outer(direction, direction)) == pytest.approx(expected, rel=1e-9)
    assert gaussian_norm(jnp.zeros((3, 3))) == 0.0


def linear_diffusion(state, lr, lr_second, noise, batch_size):
    """Wick: increments of a linear network are quadratic forms x^T A x, Cov = 2 tr(A C B C)."""
    k, m = state.k, state.m
    d = k + m
    c = np.zeros((d + 1, d + 1))
    c[:d, :d], c[d, d] = state.covariance, 1.0
    u = np.concatenate([state.v, -state.v_teacher, [-noise]])
    unit = np.eye(d + 1)

    def form(x, y):
        return 0.5 * (np.outer(x, y) + np.outer(y, x))

    forms = []
    for i, j in zip(*np.triu_indices(k), strict=True):
        pull = u[i] * form(u, unit[j]) + u[j] * form(u, unit[i])
        forms.append(-lr * pull + lr**2 / batch_size * u[i] * u[j] * np.outer(u, u))
    forms += [-lr * u[i] * form(u, unit[k + n]) for i in range(k) for n in range(m)]
    forms += [-lr_second * form(u, unit[i]) for i in range(k)]
    return np.array([[2 * np.trace(a @ c @ b @ c) for b in forms] for a in forms]) / batch_size


def covariance_by_product_rule(g, slope, teacher, state, lr, noise, order):
    """Cov of a step's increments of Q and R, times n**2: Gauss and Hermite's rule in NumPy for all
    fields and the noise of the label."""
    k, c = state.k, np.asarray(state.covariance)
    x, w = np.polynomial.hermite_e.hermegauss(order)
    z = np.stack(np.meshgrid(*[x] * (len(c) + 1), indexing="ij")).reshape(len(c) + 1, -1)
    weight = np.prod(np.meshgrid(*[w] * len(z), indexing="ij"), axis=0).ravel()
    weight /= weight.sum()
    f = np.linalg.cholesky(c) @ z[:-1]
    error = np.asarray(state.v) @ g(f[:k]) - np.asarray(state.v_teacher) @ teacher(f[k:])
    pull = np.asarray(state.v)[:, None] * slope(f[:k]) * (error - noise * z[-1])
    rows = [
        -lr * (pull[i] * f[j] + pull[j] * f[i]) + lr**2 * pull[i] * pull[j]
        for i, j in zip(*np.triu_indices(k), strict=True)
    ]
    rows += [-lr * pull[i] * f[k + n] for i in range(k) for n in range(state.m)]
    rows = np.array(rows)
    rows -= (rows @ weight)[:, None]
    return (rows * weight) @ rows.T


POLYNOMIALS = {
    "quadratic": (ld.Quadratic(), ld.Quadratic(), lambda x: x**2, lambda x: 2 * x, lambda x: x**2),
    "a teacher alone": (ld.Linear(), ld.Quadratic(), lambda x: x, np.ones_like, lambda x: x**2),
    "the user's": (
        lambda x: x + 0.3 * x**2,
        ld.Linear(),
        lambda x: x + 0.3 * x**2,
        lambda x: 1 + 0.6 * x,
        lambda x: x,
    ),
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_diffusion_of_polynomials_is_exact(name):
    """Random nodes missed a third of it: it has powers of up to 12."""
    student, teacher, g, slope, g_teacher = POLYNOMIALS[name]
    start = ld.Overlaps([[0.9, 0.2], [0.2, 0.6]], [[0.3], [-0.1]], [[1.4]], [0.7, -1.3], [1.1])
    problem, rule = ld.Problem(student, teacher, noise=0.3), ld.SGD(lr=0.2)
    flow = ld.ode_term(problem, rule, start).vector_field
    nodes = noise_averages(problem, rule, start)
    found = diffusion(flow, nodes, jnp.array(0.0), flow.pack(start))
    right = covariance_by_product_rule(g, slope, g_teacher, start, 0.2, 0.3, order=9)
    np.testing.assert_allclose(found, right, rtol=1e-11)
    assert nodes.exact


def test_an_error_of_the_noise_is_told():
    """Nodes of every kind, against those that are exact."""
    start = ld.Overlaps([[1.2]], [[0.4]], [[1.0]])
    problem, rule = ld.Problem(ld.Quadratic(), ld.Quadratic()), ld.SGD(lr=0.2)
    flow = ld.ode_term(problem, rule, start).vector_field
    ts, ys = jnp.zeros(1), flow.pack(start)[None]
    exact = noise_averages(problem, rule, start)
    right = diffusion(flow, exact, ts[0], ys[0])
    assert noise_error(flow, exact, ts, ys) == 0.0
    few = ld.averages.QuasiMonteCarlo(64, replicates=2)
    random = [ld.averages.QuasiMonteCarlo(256, replicates=r) for r in (2, 4)]
    kinds = [(x, None) for x in (ld.averages.GaussHermite(5), *random)]
    for nodes, finer in (*kinds, (few, exact)):
        ready = noise_averages(problem, rule, start, nodes)
        told = noise_error(flow, ready, ts, ys, finer)
        off = np.abs(diffusion(flow, ready, ts[0], ys[0]) - right).max() / np.abs(right).max()
        assert off < told < 30 * off
    alone = ready.replicate(jnp.asarray(0))
    assert np.isnan(noise_error(flow, alone, ts, ys))


def test_a_coarse_noise_is_told_with_a_cure():
    start, problem = ld.Overlaps([[1.2]], [[0.4]], [[1.0]]), ld.Problem(*[ld.Quadratic()] * 2)
    few = ld.averages.QuasiMonteCarlo(64, symmetric=True)
    run = functools.partial(ld.fluctuations, problem, ld.SGD(lr=0.2), start, [0.0, 0.1])
    with pytest.warns(RuntimeWarning, match=r"noise's covariance from its nodes is .*noise_nodes="):
        told = run(noise_nodes=few).noise_error
    assert told > 0.5
    assert run().noise_error == 0.0
    traced = jax.jit(lambda noise: run(noise_nodes=few).noise_error + 0 * noise)
    assert traced(0.0) == pytest.approx(told)  # in stats alone


@pytest.mark.nightly
def test_diffusion_of_a_linear_network_is_exact():
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
    rule = ld.SGD(lr=0.4, lr_second=0.7, batch_size=3)
    flow = ld.ode_term(problem, rule, BOTH).vector_field
    got = diffusion(flow, noise_averages(problem, rule, BOTH), jnp.array(0.0), flow.pack(BOTH))
    np.testing.assert_allclose(got, linear_diffusion(BOTH, 0.4, 0.7, 0.3, 3), rtol=1e-11)


def test_diffusion_with_biases_against_plain_monte_carlo():
    """Every kind of coordinate at once, by a NumPy transcription of one step's increment."""
    start = ld.Overlaps(NEAR.Q, NEAR.R, NEAR.T, [0.8, 0.6], None, [0.3, -0.1], [0.2, 0.4])
    problem = ld.Problem(ld.Tanh(), ld.Tanh(), noise=0.5)
    rule = ld.SGD(lr=0.4, lr_second=0.7, lr_bias=0.5)
    flow = ld.ode_term(problem, rule, start).vector_field
    got = diffusion(flow, noise_averages(problem, rule, start), jnp.array(0.0), flow.pack(start))

    rng = np.random.default_rng(1)
    fields = rng.normal(size=(400_000, 4)) @ np.linalg.cholesky(start.covariance).T
    lam, rho, zeta = fields[:, :2], fields[:, 2:], rng.normal(size=len(fields))
    g = np.tanh(lam + np.asarray(start.b))
    delta = g @ np.asarray(start.v) - np.tanh(rho + np.asarray(start.b_teacher)).sum(1) - 0.5 * zeta
    c = np.asarray(start.v) * (1 - g**2) * delta[:, None]
    columns = [
        -0.4 * (c[:, i] * lam[:, j] + c[:, j] * lam[:, i]) + 0.16 * c[:, i] * c[:, j]
        for i, j in ((0, 0), (0, 1), (1, 1))
    ]
    columns += [-0.4 * c[:, i] * rho[:, n] for i in range(2) for n in range(2)]
    columns += [-0.7 * g[:, i] * delta for i in range(2)] + [-0.5 * c[:, i] for i in range(2)]
    xi = np.stack(columns, 1)
    expected = np.cov(xi.T)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((got - expected) / scale).max() < 0.02  # five standard errors


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("m", "threshold", "norm", "expected"),
    [
        (1, 9.0, 36.0, (12.82267, 10.01551, 0.26176)),
        pytest.param(4, 0.0, 1.0, (0.371709, 0.288531, 0.281981), marks=pytest.mark.nightly),
    ],
)
def test_fluctuations_with_a_label_that_jumps_where_no_one_looks(m, threshold, norm, expected):
    """Values of an integration by Gauss and Legendre's rule, split at the thresholds, in NumPy. If
    the jump is not seen, the Jacobian lacks <rho dy/drho> and spreads are off by 40 %."""
    label = ld.MultiIndex(lambda rho, zeta: 1.0 * jnp.all(rho > threshold))
    start = ld.Overlaps([[norm]], np.full((1, m), 0.2 * norm), norm * np.eye(m))
    fl = ld.fluctuations(ld.Problem(ld.Linear(), label), ld.SGD(lr=0.4), start, [0.0, 2.0])
    covariance = np.asarray(fl.covariance[-1])
    std = np.sqrt(np.diag(covariance))
    found = std[0], std[1], covariance[0, 1] / (std[0] * std[1])
    np.testing.assert_allclose(found, expected, rtol=0.01)


@pytest.mark.nightly
def test_constant_momentum_is_a_larger_rate():
    plain = ld.fluctuations(LINEAR, ld.SGD(lr=0.4), NEAR, LANGEVIN_TS)
    heavy = ld.fluctuations(LINEAR, ld.SGD(lr=0.1, momentum=0.75), NEAR, LANGEVIN_TS)
    np.testing.assert_allclose(heavy.covariance, plain.covariance, rtol=1e-5, atol=1e-9)


@jax.jit
def langevin(key, n, dt, ts=LANGEVIN_TS):
    return ld.simulate_langevin(LINEAR, ld.SGD(lr=0.4), NEAR, ts, n=n, key=key, dt=dt)


@pytest.mark.nightly
@pytest.mark.slow
def test_langevin_scatters_as_fluctuations_predict():
    keys, n = jax.random.split(jax.random.key(0), 2000), 1e6
    runs = jax.jit(jax.vmap(langevin, (0, None, None)))(keys, n, 0.02)
    fl = ld.fluctuations(LINEAR, ld.SGD(lr=0.4), NEAR, runs.alpha[0])
    for measured, predicted in ((runs.Q, fl.std.Q), (runs.R, fl.std.R), (runs.eg, fl.std.eg)):
        ratio = np.std(measured, axis=0)[1:] * np.sqrt(n) / predicted[1:]
        # Standard error 1/sqrt(2 * 2000) = 1.6 %; a step of 0.02 biases by about 1 %.
        assert np.abs(ratio - 1).max() < 0.09


def test_langevin_stays_positive_semi_definite_and_counts_corrections():
    run = langevin(jax.random.key(3), 3.0, 0.05)
    c = jax.vmap(lambda q, r: jnp.block([[q, r], [r.T, run.T]]))(run.Q, run.R)
    assert np.linalg.eigvalsh(c).min() > -1e-12
    assert run.stats["corrections"] > 0
    assert langevin(jax.random.key(3), 1e6, 0.05).stats["corrections"] == 0


@pytest.mark.nightly
def test_langevin_noise_depends_on_the_step_alone():
    key = jax.random.key(1)
    every, last = (langevin(key, 100.0, 0.1, ts) for ts in (LANGEVIN_TS, LANGEVIN_TS[::2]))
    np.testing.assert_allclose(every.Q[-1], last.Q[-1], rtol=1e-10)


@pytest.mark.nightly
def test_a_rule_that_bends_takes_few_steps():
    """Clipped by the norm of an episode's gradient, so that the Jacobian jumps at every node: it
    took 361 steps at the default tolerance. Right is what 20 steps of one length give."""

    def clipped(problem, samples, layers):
        gradient = jax.vmap(problem.gradient, (0, 0, None))(samples.lam, samples.y, layers)
        norm = jnp.sqrt(jnp.sum(gradient.c**2)) / len(samples.y)
        return ld.Modulation(gradient.c * jnp.minimum(1.0, 0.2 / norm), gradient.dv)

    rule = ld.LocalRule(clipped, 1.0, episode=True, batch_size=2)
    start = ld.Overlaps([[0.3]], [[0.12]], [[1.0]])
    found = ld.fluctuations(NOISY, rule, start, [0.0, 2.0])
    flow = overlap_flow(NOISY, rule, start)
    assert flow.averages.has_stepwise_slopes
    assert not flow.averages.is_stepwise
    field = _WithCovariance(flow, noise_averages(NOISY, rule, start))
    y0 = field.join(flow.pack(start))
    steps = diffrax.diffeqsolve(diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 2.0, 0.1, y0)
    _, right = field.split(steps.ys[-1])
    np.testing.assert_allclose(found.covariance[-1], right, rtol=2e-3)
    assert found.mean.stats["steps"] < 120


@pytest.mark.parametrize("call", [ld.fluctuations, ld.simulate_langevin])
def test_slow_momentum_is_refused(call):
    options = {} if call is ld.fluctuations else {"n": 100, "key": jax.random.key(0), "dt": 0.1}
    with pytest.raises(ValueError, match="SlowMomentum"):
        call(NOISY, ld.SGD(lr=0.2, momentum=ld.SlowMomentum(1.0)), NEAR, TS, **options)


@pytest.mark.parametrize(("bad", "words"), [({"dt": 0.0}, "dt"), ({"n": 0}, "n must")])
def test_langevin_rejects_bad_steps(bad, words):
    options = {"n": 100, "key": jax.random.key(0), "dt": 0.1} | bad
    with pytest.raises(ValueError, match=words):
        ld.simulate_langevin(NOISY, ld.SGD(lr=0.2), NEAR, TS, **options)


def test_a_kinked_loss_with_a_trained_second_layer_is_refused():
    problem = ld.Problem(loss=ld.Hinge())
    with pytest.raises(ValueError, match="loss without kinks"):
        ld.fluctuations(problem, ld.SGD(lr=0.2, lr_second=0.1), NEAR, TS)
