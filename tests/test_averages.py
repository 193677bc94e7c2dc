"""Gaussian averages against quadrature, Monte Carlo and finite differences written here in NumPy.

Nothing of the library's own nodes is used as a reference. Tolerances are a few times the error
measured; the errors of node averages are those of 4 x 4096 quasi-Monte Carlo points.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf as scipy_erf

import learndyn as ld
from learndyn.averages import (
    ClosedForm,
    GaussHermite,
    MonteCarlo,
    NodeAverages,
    QuasiMonteCarlo,
    Trapezoid,
    averages_error,
    choose_averages,
    has_closed_form,
)


def erf(x):
    return jax.scipy.special.erf(x / jnp.sqrt(2.0))


@eqx.filter_jit
def averages_of(averages, problem, state, cross=None):
    """c_probe, c_c, dv, c and eg as one tree."""
    return (
        averages.field_averages(problem, state, cross),
        averages.generalisation_error(problem, state),
    )


def chosen(problem, state, averages=None):
    biases = state.b is not None
    return choose_averages(problem, state.k, state.m, biases=biases, averages=averages)


# Closed forms against quadrature


@functools.cache
def trapezoid(dims, step, reach=7.5):
    """Points and weights of N(0, 1)^dims on a lattice: spectral for analytic integrands.

    With step h the error is that of the integrand's Fourier transform at 2 pi / h.
    """
    x = np.arange(-reach, reach + step / 2, step)
    density = np.exp(-(x**2) / 2)
    grids = np.meshgrid(*[x] * dims, indexing="ij")
    weight = functools.reduce(np.multiply.outer, [density / density.sum()] * dims).ravel()
    keep = weight > 1e-21
    return np.stack([grid.ravel()[keep] for grid in grids], 1), weight[keep]


FUNCTIONS = {
    ld.Erf: (
        lambda x: scipy_erf(x / np.sqrt(2)),
        lambda x: np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2),
    ),
    ld.Linear: (lambda x: x, np.ones_like),
}


def by_quadrature(kind, c, u, k, noise, step):
    """<c_i f_p>, <c_i c_k>, <dloss/dv_i>, eg from nothing but their definitions."""
    g, slope = FUNCTIONS[kind]
    z, weight = trapezoid(len(c), step)
    values, vectors = np.linalg.eigh(c)
    f = z @ (vectors * np.sqrt(np.maximum(values, 0))).T
    prefactor, out = u[:k] * slope(f[:, :k]), g(f)
    delta = out @ u
    gradient = prefactor * delta[:, None]
    c_c = (gradient.T * weight) @ gradient + noise**2 * (prefactor.T * weight) @ prefactor
    dv = (out[:, :k].T * weight) @ delta
    return (gradient.T * weight) @ f, c_c, dv, 0.5 * weight @ delta**2


def covariances():
    """Random ones, and all that happens where runs end, with diagonals up to 0.6."""
    rng = np.random.default_rng(3)
    cases = {}
    for i in range(3):
        a = rng.normal(size=(4, 4 + 2 * i))
        cases[f"random {i}"] = a @ a.T
    a = rng.normal(size=(4, 2))
    cases["rank 2"] = a @ a.T
    cases["nearly rank 2"] = a @ a.T + 1e-9 * np.eye(4)
    teacher = np.array([[1.0, 0.3], [0.3, 0.8]])
    cases["student = teacher"] = np.tile(teacher, (2, 2))
    cases["student at rest"] = np.kron(np.diag([0.0, 1.0]), teacher)
    cases["all parallel"] = np.outer([1, -1, 0.5, 1], [1, -1, 0.5, 1])
    return {name: 0.6 * c / c.diagonal().max() for name, c in cases.items()}


COVARIANCES = covariances()
V, V_TEACHER = np.array([0.7, -1.3]), np.array([1.1, 0.4])


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("name", COVARIANCES)
def test_closed_forms_against_quadrature(kind, name):
    c = COVARIANCES[name]
    state = ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], V, V_TEACHER)
    problem = ld.Problem(kind(), kind(), noise=0.3)
    found, eg = averages_of(chosen(problem, state), problem, state)
    expected = by_quadrature(kind, c, np.concatenate([V, -V_TEACHER]), 2, 0.3, 0.4)
    for ours, theirs in zip((found.c_probe, found.c_c, found.dv, eg), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1e-6, 1.0, 30.0])
@pytest.mark.parametrize("r", [-0.7, 0.0, 0.999, 1.0])
def test_closed_forms_of_small_and_large_fields(size, r):
    c = np.array([[size, r * size], [r * size, size]])
    state = ld.Overlaps(c[:1, :1], c[:1, 1:], c[1:, 1:], [0.7])
    problem = ld.Problem(noise=0.3)
    found, eg = averages_of(chosen(problem, state), problem, state)
    expected = by_quadrature(ld.Erf, c, np.array([0.7, -1.0]), 1, 0.3, 0.06)
    for ours, theirs in zip((found.c_probe, found.c_c, found.dv, eg), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_probes_that_are_not_fields():
    """<c_i f_p> with a fourth field p that the network does not see."""
    a = np.random.default_rng(8).normal(size=(4, 5))
    c = 0.1 * a @ a.T
    state = ld.Overlaps(c[:1, :1], c[:1, 1:3], c[1:3, 1:3], [0.7])
    cross = jnp.asarray(c[3:, :3])
    expected = by_quadrature(ld.Erf, c, np.array([0.7, -1, -1, 0]), 1, 0.0, 0.4)[0][:, 3:]
    closed, plain = ld.Problem(), ld.Problem(erf, erf)
    found = averages_of(chosen(closed, state), closed, state, cross)[0].c_probe
    np.testing.assert_allclose(found, expected, atol=1e-10)
    nodes = chosen(plain, state, Trapezoid(40))
    found = averages_of(nodes, plain, state, cross)[0].c_probe
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_probes_at_singular_covariances():
    c = COVARIANCES["student = teacher"]
    state = ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], V, V_TEACHER)
    mixed = np.random.default_rng(9).normal(size=(3, 4)) @ c
    problem = ld.Problem(erf, erf)
    nodes = chosen(problem, state, QuasiMonteCarlo(512))
    found = averages_of(nodes, problem, state, jnp.asarray(mixed))[0].c_probe
    fields = averages_of(nodes, problem, state)[0].c_probe
    np.testing.assert_allclose(found, fields @ np.linalg.pinv(c) @ mixed.T, atol=1e-9)


# The general route, given erf as a plain function, is the closed form


STATE = ld.Overlaps(
    [[0.9, 0.2], [0.2, 0.6]], [[0.3, -0.1], [0.1, 0.4]], [[1.0, 0.1], [0.1, 0.8]], V, V_TEACHER
)
ONE = ld.Overlaps([[0.8]], [[0.35]], [[1.1]], [0.9])


@pytest.mark.parametrize(
    ("state", "averages", "error"),
    [
        (ONE, None, 1e-12),
        (ONE, GaussHermite(48), 1e-8),
        (STATE, Trapezoid(24), 2e-5),
        (STATE, GaussHermite(16), 2e-4),
        (STATE, QuasiMonteCarlo(), 3e-4),
        (STATE, MonteCarlo(), 2e-2),
    ],
)
def test_nodes_reproduce_the_closed_form(state, averages, error):
    closed, plain = ld.Problem(noise=0.3), ld.Problem(erf, erf, noise=0.3)
    expected, eg = averages_of(chosen(closed, state), closed, state)
    found, found_eg = averages_of(chosen(plain, state, averages), plain, state)
    for name in ("c_probe", "c_c", "dv"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=error)
    np.testing.assert_allclose(found.c, 0, atol=error)  # odd
    assert float(found_eg) == pytest.approx(float(eg), abs=error)


@pytest.mark.parametrize(
    ("state", "averages", "error"), [(ONE, None, 1e-8), (STATE, QuasiMonteCarlo(512), 3e-3)]
)
def test_nodes_reproduce_the_closed_ode(state, averages, error):
    ts, rule = [0.0, 1.0, 4.0], ld.SGD(lr=0.5, lr_second=0.3, weight_decay=0.01)
    closed = ld.solve_ode(ld.Problem(noise=0.3), rule, state, ts)
    nodes = ld.solve_ode(
        ld.Problem(erf, erf, noise=0.3), rule, state, ts, averages=averages, rtol=1e-7
    )
    for name in ("Q", "R", "v", "eg"):
        np.testing.assert_allclose(getattr(nodes, name), getattr(closed, name), atol=error)


# Every kind of teacher and loss against plain Monte Carlo


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def squared(phi, y):
    return phi - y


def logistic(phi, y):
    return -y / (1 + np.exp(y * phi))


def hinge(phi, y):
    return np.where(y * phi < 1, -y, 0.0)


def perceptron(phi, y):
    return np.where(y * phi < 0, -y, 0.0)


def huber(phi, y):
    return np.clip(phi - y, -1, 1)


def exponential(phi, y):
    return -y * np.exp(-y * phi)


def huber_loss(phi, y):
    d = jnp.abs(phi - y)
    return jnp.where(d < 1, 0.5 * d**2, d - 0.5)


class ExponentialLoss(eqx.Module):
    classification = True

    def __call__(self, phi, y):
        return jnp.exp(-y * phi)


TANH = (np.tanh, lambda x: 1 - np.tanh(x) ** 2)
RELU = (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0)
SQUARE = (np.square, lambda x: 2 * x)
B, B_TEACHER = np.array([0.3, -0.2]), np.array([0.1, 0.5])

# problem; student and its derivative; slope of the loss; teacher's output; biases
KINDS = {
    "tanh, biases, noise": (
        ld.Problem(ld.Tanh(), ld.Tanh(), noise=0.4),
        (TANH, squared, lambda rho, zeta: np.tanh(rho) @ V_TEACHER + 0.4 * zeta, True),
    ),
    "relu student of a tanh teacher": (
        ld.Problem(ld.ReLU(), ld.Tanh(), noise=0.4),
        (RELU, squared, lambda rho, zeta: np.tanh(rho) @ V_TEACHER + 0.4 * zeta, False),
    ),
    "relu, biases": (
        ld.Problem(ld.ReLU(), ld.ReLU()),
        (RELU, squared, lambda rho, zeta: np.maximum(rho, 0) @ V_TEACHER, True),
    ),
    "phase retrieval": (
        ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=0.4),
        (SQUARE, squared, lambda rho, zeta: rho**2 @ V_TEACHER + 0.4 * zeta, False),
    ),
    "multi-index regression": (
        ld.Problem(ld.Tanh(), ld.MultiIndex(lambda rho, zeta: rho[0] * rho[1] + 0.5 * zeta)),
        (TANH, squared, lambda rho, zeta: rho[:, 0] * rho[:, 1] + 0.5 * zeta, False),
    ),
    "huber, noise": (
        ld.Problem(ld.Tanh(), ld.Tanh(), huber_loss, noise=0.8),
        (TANH, huber, lambda rho, zeta: np.tanh(rho) @ V_TEACHER + 0.8 * zeta, False),
    ),
    "logistic": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ld.Logistic()),
        (TANH, logistic, lambda rho, zeta: sign(np.tanh(rho) @ V_TEACHER), False),
    ),
    "logistic, noise, sign teacher": (
        ld.Problem(ld.Tanh(), ld.Sign(), ld.Logistic(), noise=0.7),
        (TANH, logistic, lambda rho, zeta: sign(sign(rho) @ V_TEACHER + 0.7 * zeta), False),
    ),
    "hinge, biases, noise": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ld.Hinge(), noise=0.7),
        (TANH, hinge, lambda rho, zeta: sign(np.tanh(rho) @ V_TEACHER + 0.7 * zeta), True),
    ),
    "perceptron, noise": (
        ld.Problem(ld.ReLU(), ld.Linear(), ld.Perceptron(), noise=0.7),
        (RELU, perceptron, lambda rho, zeta: sign(rho @ V_TEACHER + 0.7 * zeta), False),
    ),
    "parity": (
        ld.Problem(ld.Tanh(), ld.MultiIndex(lambda r, z: r[0] * r[1] + 0.5 * z), ld.Logistic()),
        (TANH, logistic, lambda rho, zeta: sign(rho[:, 0] * rho[:, 1] + 0.5 * zeta), False),
    ),
    "own classification loss": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ExponentialLoss(), noise=0.7),
        (TANH, exponential, lambda rho, zeta: sign(np.tanh(rho) @ V_TEACHER + 0.7 * zeta), False),
    ),
}


def by_monte_carlo(student, slope, label, biased, classification, samples=400_000):
    """Means and standard errors of everything, sample by sample."""
    rng = np.random.default_rng(11)
    f = rng.normal(size=(samples, 4)) @ np.linalg.cholesky(STATE.covariance).T
    zeta = rng.normal(size=samples)
    lam, rho = f[:, :2] + biased * B, f[:, 2:] + biased * B_TEACHER
    g, dg = student
    phi = g(lam) @ V
    c = V * dg(lam) * slope(phi, label(rho, zeta))[:, None]
    dv = g(lam) * slope(phi, label(rho, zeta))[:, None]
    clean = label(rho, 0 * zeta)
    eg = (phi >= 0) != (clean >= 0) if classification else 0.5 * (phi - clean) ** 2
    products = (c[:, :, None] * f[:, None, :], c[:, :, None] * c[:, None, :], dv, c, eg)
    return [(x.mean(0), x.std(0) / np.sqrt(samples)) for x in products]


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_problems_against_monte_carlo(name):
    problem, recipe = KINDS[name]
    state = STATE
    if recipe[-1]:
        state = ld.Overlaps(STATE.Q, STATE.R, STATE.T, V, V_TEACHER, B, B_TEACHER)
    averages = chosen(problem, state)
    found, eg = averages_of(averages, problem, state)
    own_error = float(averages_error(problem, state, averages))
    expected = by_monte_carlo(*recipe, problem.is_classification)
    for ours, (mean, error) in zip((*found, eg), expected, strict=True):
        # About 250 comparisons in all; 4.5 standard errors happen in one of 600 such suites.
        assert (np.abs(ours - mean) < 4.5 * error + 4 * own_error).all()
    assert own_error < 0.05 * max(np.abs(mean).max() for mean, _ in expected)


# Derivatives


LEGENDRE = np.polynomial.legendre.leggauss(100)


def pieces(breaks, reach):
    """Gauss-Legendre nodes on [-reach, reach], cut at the breaks."""
    edges = np.unique([-reach, *breaks, reach])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    x, weight = LEGENDRE
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * weight).ravel()


def piecewise_averages(p, student, slope, label, breaks):
    """c_probe, c_c, dv, c for k = m = 1 by quadrature between the jumps; p = (Q, R, T, b)."""
    q, r, t, b = p
    x, weight_x = pieces(breaks[0] - b, 9 * np.sqrt(q))
    y, weight_y = pieces(breaks[1], 9 * np.sqrt(t))
    x, y = np.meshgrid(x, y, indexing="ij")
    det = q * t - r**2
    density = np.exp(-(t * x**2 - 2 * r * x * y + q * y**2) / (2 * det))
    weight = np.outer(weight_x, weight_y) * density / (2 * np.pi * np.sqrt(det))
    g, dg = student
    pull = slope(0.9 * g(x + b), label(y))
    c = 0.9 * dg(x + b) * pull
    return np.array([(weight * h).sum() for h in (c * x, c * y, c * c, g(x + b) * pull, c)])


LINEAR = (lambda x: x, np.ones_like)
NOWHERE, ORIGIN = np.array([]), np.array([0.0])

# problem; its averages in NumPy; error of the derivatives; whether derivatives through the
# nodes are wrong (for one relu unit they happen to be right: scaling moves no sign)
DERIVATIVES = {
    "tanh": (
        ld.Problem(ld.Tanh(), ld.Tanh()),
        (TANH, squared, np.tanh, (NOWHERE, NOWHERE)),
        1e-6,
    ),
    "tanh student of a relu teacher": (
        ld.Problem(ld.Tanh(), ld.ReLU()),
        (TANH, squared, RELU[0], (NOWHERE, ORIGIN)),
        2e-3,
    ),
    "relu": (
        ld.Problem(lambda x: jnp.maximum(x, 0), ld.ReLU()),
        (RELU, squared, RELU[0], (ORIGIN, ORIGIN)),
        6e-3,
    ),
    "sign teacher": (
        ld.Problem(ld.Tanh(), ld.Sign()),
        (TANH, squared, sign, (NOWHERE, ORIGIN)),
        4e-3,
    ),
    "logistic": (
        ld.Problem(ld.Tanh(), ld.Sign(), ld.Logistic()),
        (TANH, logistic, sign, (NOWHERE, ORIGIN)),
        3e-3,
    ),
    "hinge": (
        ld.Problem(ld.Linear(), ld.Tanh(), ld.Hinge()),
        (LINEAR, hinge, sign, (np.array([-1, 1]) / 0.9, ORIGIN)),
        3e-3,
    ),
    "perceptron": (
        ld.Problem(ld.Tanh(), ld.Tanh(), ld.Perceptron()),
        (TANH, perceptron, sign, (ORIGIN, ORIGIN)),
        3e-3,
    ),
}


def jacobian(averages, problem, p):
    def vector(p):
        q, r, t, b = p[:, None]
        state = ld.Overlaps(q[:, None], r[:, None], t[:, None], [0.9], None, b)
        found = averages.field_averages(problem, state)
        return jnp.concatenate([x.ravel() for x in found])

    return jax.jit(jax.jacfwd(vector))(p)


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_derivatives_against_finite_differences(name, bias):
    problem, recipe, error = DERIVATIVES[name]
    p, step = np.array([0.8, 0.35, 1.1, bias]), 1e-4
    expected = np.stack(
        [
            (piecewise_averages(p + d, *recipe) - piecewise_averages(p - d, *recipe)) / (2 * step)
            for d in step * np.eye(4)
        ],
        axis=1,
    )
    averages = choose_averages(problem, 1, 1, biases=True)
    np.testing.assert_allclose(jacobian(averages, problem, jnp.asarray(p)), expected, atol=error)


@pytest.mark.parametrize("name", ["sign teacher", "logistic", "hinge", "perceptron"])
def test_derivatives_through_the_nodes_would_be_wrong_at_jumps(name):
    """The negative control: by the score these agree to 0.004."""
    problem, recipe, error = DERIVATIVES[name]
    p, step = np.array([0.8, 0.35, 1.1, 0.0]), np.array([0, 1e-4, 0, 0])
    after, before = piecewise_averages(p + step, *recipe), piecewise_averages(p - step, *recipe)
    averages = choose_averages(problem, 1, 1, biases=True)
    assert averages.score
    through = NodeAverages(averages.z, averages.weight, score=False)
    found = jacobian(through, problem, jnp.asarray(p))[:, 1]
    assert np.abs(found - (after - before) / 2e-4).max() > 0.1 > 20 * error


def test_derivatives_of_relu_committees_use_the_score():
    """Two relu units: through the nodes the jump of one unit's step is lost."""
    exact = ld.Problem(ld.ReLU(), ld.ReLU())
    plain = ld.Problem(lambda x: jnp.maximum(x, 0), lambda x: jnp.maximum(x, 0))

    def c_c(problem, averages):
        def at(q01):
            q = STATE.Q.at[0, 1].set(q01).at[1, 0].set(q01)
            state = eqx.tree_at(lambda s: s.Q, STATE, q)
            return averages.field_averages(problem, state).c_c

        return jax.jit(jax.jacfwd(at))(STATE.Q[0, 1])

    expected = c_c(exact, chosen(exact, STATE))
    assert chosen(plain, STATE).score
    # Off by 0.04 at 4096 points, 0.01 at 16384, 0.005 here.
    nodes = chosen(plain, STATE, QuasiMonteCarlo(65536))
    np.testing.assert_allclose(c_c(plain, nodes), expected, atol=0.02)
    through = NodeAverages(nodes.z, nodes.weight, score=False)
    assert np.abs(c_c(plain, through) - expected).max() > 0.1


TEACHER = np.array([[1.0, 0.3], [0.3, 0.8]])
NEAR = np.array([[1.0, 0.3], [0.3, 0.8 + 1e-9]])


def drift_jacobian(problem, state, averages=None):
    rule = ld.SGD(lr=0.4, lr_second=0.3)
    flow = ld.ode_term(problem, rule, state, averages=averages).vector_field
    return jax.jit(jax.jacfwd(lambda y: flow(0.0, y, None)))(flow.pack(state))


@pytest.mark.parametrize(
    "state",
    [
        ld.Overlaps(TEACHER, TEACHER, TEACHER),
        ld.Overlaps(NEAR, TEACHER, TEACHER),
        ld.Overlaps(np.zeros((2, 2)), np.zeros((2, 2)), TEACHER),
        ld.Overlaps(np.ones((2, 2)), np.ones((2, 1)), [[1.0]]),
    ],
    ids=["student = teacher", "nearly", "student at rest", "parallel units"],
)
def test_derivatives_of_smooth_problems_at_singular_covariances(state):
    """There nodes lack directions: derivatives through them miss a third of the Jacobian."""
    expected = drift_jacobian(ld.Problem(noise=0.3), state)
    found = drift_jacobian(ld.Problem(erf, erf, noise=0.3), state, QuasiMonteCarlo())
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_derivatives_with_jumps_are_finite_at_singular_covariances():
    same = ld.Overlaps(TEACHER, TEACHER, TEACHER)
    for student in (lambda x: jnp.maximum(x, 0), jax.nn.elu):
        problem = ld.Problem(student, ld.Tanh())
        assert np.isfinite(drift_jacobian(problem, same, QuasiMonteCarlo(256))).all()


def test_reverse_and_second_derivatives_of_smooth_averages():
    problem = ld.Problem(erf, erf, noise=0.3)

    def eg(q, problem, averages):
        state = ld.Overlaps(q[None, None], ONE.R, ONE.T, [0.9])
        return chosen(problem, state, averages).generalisation_error(problem, state)

    for derivative in (jax.grad, lambda f: jax.grad(jax.grad(f))):
        found = jax.jit(derivative(lambda q: eg(q, problem, Trapezoid(64))))(0.8)
        expected = jax.jit(derivative(lambda q: eg(q, ld.Problem(), None)))(0.8)
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


# Choice, and the errors reported


def test_choice():
    closed = choose_averages(ld.Problem(), 2, 2, biases=False)
    assert isinstance(closed, ClosedForm)
    assert not has_closed_form(ld.Problem(), biases=True)
    assert not has_closed_form(ld.Problem(ld.Erf(), ld.Tanh()), biases=False)
    assert not has_closed_form(ld.Problem(loss=ld.Logistic()), biases=False)
    assert not has_closed_form(ld.Problem(loss=lambda phi, y: (phi - y) ** 2), biases=False)
    few = choose_averages(ld.Problem(ld.Tanh(), ld.Tanh()), 1, 1, biases=True)
    assert few.coarse is not None
    kinked = choose_averages(ld.Problem(ld.Tanh(), ld.ReLU()), 1, 1, biases=True)
    steep = choose_averages(ld.Problem(lambda x: jnp.tanh(9 * x), ld.Erf()), 1, 1, biases=True)
    assert kinked.coarse is steep.coarse is None
    assert choose_averages(ld.Problem(ld.Tanh(), ld.Tanh()), 2, 2, biases=True).z.shape[0] == 4
    with pytest.raises(ValueError, match="closed-form averages exist for"):
        choose_averages(ld.Problem(ld.Tanh()), 2, 2, biases=False, averages="closed")
    with pytest.raises(ValueError, match="averages must be None"):
        choose_averages(ld.Problem(), 2, 2, biases=False, averages="exact")
    assert choose_averages(ld.Problem(), 2, 2, biases=False, averages=few) is few


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussHermite(64).nodes(5), "at most 5e6"),
        (lambda: GaussHermite(1).nodes(2), "at least"),
        (lambda: GaussHermite(500).nodes(1), "order <= 300"),
        (lambda: Trapezoid(200).nodes(3), "makes 8e.06 nodes"),
        (lambda: QuasiMonteCarlo(points=1000), "power of two"),
        (lambda: QuasiMonteCarlo(replicates=1), "replicates >= 2"),
        (lambda: MonteCarlo(points=0), "points >= 1"),
    ],
)
def test_bad_nodes(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_nodes_are_fixed_and_normal():
    for rule in (QuasiMonteCarlo(256), MonteCarlo(4096), GaussHermite(20), Trapezoid(30)):
        z, weight = rule.nodes(3)
        again, _ = rule.nodes(3)
        np.testing.assert_array_equal(z, again)
        assert weight.sum() == pytest.approx(1)
        assert z.shape[1:] == (len(weight), 3)
        second = np.einsum("rpi,p,rpj->rij", z, weight, z)
        np.testing.assert_allclose(second, np.broadcast_to(np.eye(3), second.shape), atol=0.15)
    other = QuasiMonteCarlo(256, seed=1).nodes(3)[0]
    assert not np.array_equal(other, QuasiMonteCarlo(256).nodes(3)[0])


@pytest.mark.parametrize("rule", [QuasiMonteCarlo, MonteCarlo])
def test_reported_errors_are_honest(rule):
    """The largest true error, over the largest standard error, in ten different sets of nodes."""
    closed, plain = ld.Problem(noise=0.3), ld.Problem(erf, erf, noise=0.3)
    exact = averages_of(chosen(closed, STATE), closed, STATE)[0]
    ratios = []
    for seed in range(10):
        nodes = chosen(plain, STATE, rule(points=1024, seed=seed))
        found = averages_of(nodes, plain, STATE)[0]
        true = max(np.abs(getattr(found, n) - getattr(exact, n)).max() for n in ("c_probe", "c_c"))
        ratios.append(true / float(averages_error(plain, STATE, nodes)))
    # Of four replicates: a standard error of three degrees of freedom, and so long tails.
    assert 0.3 < np.median(ratios) < 1.5
    assert max(ratios) < 8


def test_closed_forms_report_no_error():
    assert averages_error(ld.Problem(), STATE, chosen(ld.Problem(), STATE)) == 0


@pytest.mark.parametrize("steepness", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("rule", [None, Trapezoid(64), GaussHermite(64)])
def test_lattices_report_their_errors_too(steepness, rule):
    problem = ld.Problem(lambda x: jnp.tanh(steepness * x), ld.Tanh())
    nodes = chosen(problem, ONE, rule)
    found = averages_of(nodes, problem, ONE)[0]
    student = (lambda x: np.tanh(steepness * x), lambda x: steepness * TANH[1](steepness * x))
    finer = np.linspace(-2, 2, 11)  # no jumps: more nodes
    recipe = (student, squared, np.tanh, (finer, NOWHERE))
    exact = piecewise_averages(np.array([0.8, 0.35, 1.1, 0.0]), *recipe)
    true = np.abs(np.concatenate([x.ravel() for x in found]) - exact).max()
    reported = float(averages_error(problem, ONE, nodes))
    assert true < 4 * reported + 1e-11
    if rule is None:
        assert true < 1e-3
