"""Gaussian averages against quadrature written here in NumPy.

Nothing of the library's own nodes is used as a reference. Tolerances are a few times the error
measured; the errors of node averages are those of 4 x 4096 quasi-Monte Carlo points.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import (
    NOWHERE,
    ONE,
    RULE,
    STATE,
    TANH,
    V_TEACHER,
    V,
    averages_of,
    chosen,
    erf,
    piecewise_averages,
    sampled,
    squared,
)
from scipy.special import erf as scipy_erf

import learndyn as ld
from learndyn.averages import (
    ClosedForm,
    GaussHermite,
    MonteCarlo,
    QuasiMonteCarlo,
    SeriesAverages,
    Trapezoid,
    averages_error,
    choose_averages,
    choose_nodes,
    has_closed_form,
)
from learndyn.dynamics._averages_errors import errors_along

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


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("name", COVARIANCES)
def test_closed_forms_against_quadrature(kind, name):
    c = COVARIANCES[name]
    state = ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], V, V_TEACHER)
    problem = ld.Problem(kind(), kind(), noise=0.3)
    found, eg = averages_of(chosen(problem, state), problem, state)
    expected = by_quadrature(kind, c, np.concatenate([V, -V_TEACHER]), 2, 0.3, 0.4)
    for ours, theirs in zip((*sampled(found, state)[:3], eg), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1e-6, 1.0, 30.0])
@pytest.mark.parametrize("r", [-0.7, 0.0, 0.999, 1.0])
def test_closed_forms_of_small_and_large_fields(size, r):
    c = np.array([[size, r * size], [r * size, size]])
    state = ld.Overlaps(c[:1, :1], c[:1, 1:], c[1:, 1:], [0.7])
    problem = ld.Problem(noise=0.3)
    found, eg = averages_of(chosen(problem, state), problem, state)
    expected = by_quadrature(ld.Erf, c, np.array([0.7, -1.0]), 1, 0.3, 0.06)
    for ours, theirs in zip((*sampled(found, state)[:3], eg), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_probes_that_are_not_fields():
    """<c_i f_p> with a fourth field p that the network does not see."""
    a = np.random.default_rng(8).normal(size=(4, 5))
    c = 0.1 * a @ a.T
    state = ld.Overlaps(c[:1, :1], c[:1, 1:3], c[1:3, 1:3], [0.7])
    cross = jnp.asarray(c[3:, :3])
    expected = by_quadrature(ld.Erf, c, np.array([0.7, -1, -1, 0]), 1, 0.0, 0.4)[0][:, 3:]
    closed, plain = ld.Problem(), ld.Problem(erf, erf)
    found = averages_of(chosen(closed, state), closed, state)[0].G @ cross.T
    np.testing.assert_allclose(found, expected, atol=1e-10)
    nodes = chosen(plain, state, Trapezoid(40))
    found = averages_of(nodes, plain, state)[0].G @ cross.T
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_probes_at_singular_covariances():
    c = COVARIANCES["student = teacher"]
    state = ld.Overlaps(c[:2, :2], c[:2, 2:], c[2:, 2:], V, V_TEACHER)
    mixed = np.random.default_rng(9).normal(size=(3, 4)) @ c
    problem = ld.Problem(erf, erf)
    nodes = chosen(problem, state, QuasiMonteCarlo(512))
    averages = averages_of(nodes, problem, state)[0]
    found, fields = averages.G @ mixed.T, averages.with_fields(state.covariance)
    np.testing.assert_allclose(found, fields @ np.linalg.pinv(c) @ mixed.T, atol=1e-9)


# The general route, given erf as a plain function, is the closed form


@pytest.mark.parametrize(
    ("state", "averages", "error"),
    [
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
    pairs = zip(sampled(found, state)[:3], sampled(expected, state)[:3], strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=error)
    np.testing.assert_allclose(found.f, 0, atol=error)  # odd
    assert float(found_eg) == pytest.approx(float(eg), abs=error)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:the error of the Gaussian averages:RuntimeWarning")
@pytest.mark.parametrize(
    ("state", "averages", "error"),
    [
        pytest.param(ONE, Trapezoid(48), 1e-8, marks=pytest.mark.nightly),
        (STATE, QuasiMonteCarlo(512), 3e-3),
    ],
)
def test_nodes_reproduce_the_closed_ode(state, averages, error):
    ts, rule = [0.0, 1.0, 4.0], ld.SGD(lr=0.5, lr_second=0.3, weight_decay=0.01)
    closed = ld.solve_ode(ld.Problem(noise=0.3), rule, state, ts)
    nodes = ld.solve_ode(
        ld.Problem(erf, erf, noise=0.3), rule, state, ts, averages=averages, rtol=1e-7
    )
    for name in ("Q", "R", "v", "eg"):
        np.testing.assert_allclose(getattr(nodes, name), getattr(closed, name), atol=error)


# Choice, and the errors reported


def test_choice():
    closed = choose_averages(ld.Problem(), 2, 2, biases=False)
    assert isinstance(closed, ClosedForm)
    assert not has_closed_form(ld.Problem(), biases=True)
    assert not has_closed_form(ld.Problem(ld.Erf(), ld.Tanh()), biases=False)
    assert not has_closed_form(ld.Problem(loss=ld.Logistic()), biases=False)
    assert not has_closed_form(ld.Problem(loss=lambda phi, y: (phi - y) ** 4), biases=False)
    assert isinstance(choose_averages(ld.Problem(ld.Tanh()), 1, 1, biases=True), SeriesAverages)
    few, kinked, steep = (
        choose_nodes(problem, 1, 1, rule=RULE, biases=True)
        for problem in (
            ld.Problem(ld.Tanh(), ld.Tanh()),
            ld.Problem(ld.Tanh(), ld.ReLU()),
            ld.Problem(lambda x: jnp.tanh(9 * x), ld.Erf()),
        )
    )
    assert few.coarse is not None
    assert kinked.coarse is steep.coarse is None
    hinge = ld.Problem(ld.Tanh(), ld.Tanh(), ld.Hinge())
    assert choose_averages(hinge, 2, 2, biases=True).z.shape[0] == 4
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
    """The largest true error, over the largest that is told, in ten different sets of nodes."""
    closed, plain = ld.Problem(noise=0.3), ld.Problem(erf, erf, noise=0.3)
    exact = averages_of(chosen(closed, STATE), closed, STATE)[0]
    ratios = []
    for seed in range(10):
        nodes = chosen(plain, STATE, rule(points=1024, seed=seed))
        found = averages_of(nodes, plain, STATE)[0]
        pairs = zip(sampled(found, STATE)[:2], sampled(exact, STATE)[:2], strict=True)
        true = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
        ratios.append(true / float(averages_error(plain, RULE, STATE, nodes)))
    assert 0.1 < np.median(ratios)
    assert max(ratios) <= 1


@pytest.mark.nightly
def test_errors_of_eg_where_a_run_has_come_to_rest():
    """Two linear units that learn a sign, of which a tenth is turned, by the perceptron's rule: by
    hand, their sum rests at cos theta = 0.8, where the drift is 0 and its relative error infinite.
    """
    lr, flip, cos = 0.5, 0.1, 0.8
    error = np.arccos(cos) / np.pi
    noise = flip + (1 - 2 * flip) * error
    length = 2 * lr * noise * np.sqrt(2 * np.pi) / (2 * (1 - cos**2))
    # Half of the sum each, and plus and minus half of a vector that is orthogonal to all else.
    own = 0.25 * (length**2 + np.array([[0.25, -0.25], [-0.25, 0.25]]))
    state = ld.Overlaps(own, np.full((2, 1), 0.5 * length * cos), [[1.0]])
    problem = ld.Problem(ld.Linear(), ld.Sign(flip), ld.Perceptron())
    flow = ld.ode_term(problem, ld.SGD(lr), state).vector_field
    y = flow.pack(state)
    eg = float(averages_of(flow.averages, problem, state)[1])
    told = eqx.filter_jit(errors_along)(flow, jnp.zeros(1), y[None])
    assert abs(eg - error) <= float(told["averages_error_eg"][0])
    # Six standard errors of as many independent samples
    samples = flow.averages.z.shape[0] * flow.averages.z.shape[1]
    independent = 6 * np.sqrt(error * (1 - error) / samples)
    assert told["averages_error_eg"][0] < independent
    assert told["averages_error_drift"][0] > 1


def test_closed_forms_report_no_error():
    assert averages_error(ld.Problem(), RULE, STATE, chosen(ld.Problem(), STATE)) == 0


class Steep(eqx.Module):
    """tanh(gain x), in one program for all gains."""

    gain: jax.Array

    def __call__(self, x):
        return jnp.tanh(self.gain * x)


@pytest.mark.nightly(by_day=["None-1.0"])
@pytest.mark.parametrize("steepness", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("rule", [None, Trapezoid(64), GaussHermite(64)])
def test_lattices_report_their_errors_too(steepness, rule):
    problem = ld.Problem(Steep(jnp.asarray(steepness)), ld.Tanh())
    nodes = chosen(problem, ONE, rule)
    found = averages_of(nodes, problem, ONE)[0]
    student = (lambda x: np.tanh(steepness * x), lambda x: steepness * TANH[1](steepness * x))
    finer = np.linspace(-2, 2, 11)  # no jumps: more nodes
    recipe = (student, squared, np.tanh, (finer, NOWHERE))
    exact = piecewise_averages(np.array([0.8, 0.35, 1.1, 0.0]), *recipe)
    true = np.abs(np.concatenate([x.ravel() for x in sampled(found, ONE)]) - exact).max()
    reported = float(averages_error(problem, RULE, ONE, nodes))
    assert true < 4 * reported + 1e-11
    if rule is None:
        assert true < 1e-3
