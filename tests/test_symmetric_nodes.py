"""Averages over nodes keep the symmetries of a problem, so that plateaus last as they should."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from averages_reference import RULE, averages_of, chosen, erf, sampled

import learndyn as ld
from learndyn._numerics.psd_root import scaled_root
from learndyn.averages import (
    AbstractNodes,
    BodyCentred,
    GaussHermite,
    MonteCarlo,
    QuasiMonteCarlo,
    SymmetryWarning,
    Trapezoid,
    averages_error,
    choose_averages,
)
from learndyn.averages._errors import cancelling, estimated


def log_cosh(phi, y):
    return jnp.log(jnp.cosh(phi - y))


# Roots


def test_roots_commute_with_permutations_and_flips():
    a = np.random.default_rng(0).normal(size=(5, 4))  # singular
    c = jnp.asarray(a @ a.T)
    moved = jnp.asarray(np.eye(5)[[3, 0, 4, 1, 2]] * np.array([1, -1, 1, 1, -1]))
    root, inverse = scaled_root(c, jnp.diagonal(c))
    there, _ = scaled_root(moved @ c @ moved.T, jnp.diagonal(moved @ c @ moved.T))
    np.testing.assert_allclose(root @ root.T, c, atol=1e-14)
    np.testing.assert_allclose(c @ inverse.T @ inverse @ c, c, atol=1e-13)
    np.testing.assert_allclose(there, moved @ root @ moved.T, atol=1e-14)


@pytest.mark.nightly
def test_derivatives_of_roots_at_equal_eigenvalues():
    """Eigenvectors have no derivatives there; C = S S^T, differentiated twice, is an identity."""
    change = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)))
    change = change + change.T

    def squared(t):
        root, _ = scaled_root(jnp.eye(4) + t * change, jnp.ones(4))
        return root @ root.T

    np.testing.assert_allclose(jax.jacfwd(squared)(0.0), change, atol=1e-13)
    np.testing.assert_allclose(jax.jacfwd(jax.jacrev(squared))(0.0), 0, atol=1e-12)
    singular = jax.jacfwd(lambda t: scaled_root(jnp.ones((3, 3)) + t, jnp.ones(3))[0])(0.0)
    np.testing.assert_allclose(singular, np.full((3, 3), 0.5 / np.sqrt(3)), atol=1e-12)


# Nodes


def committee(k, m, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(k + m, 9)) / 3
    c, v = w @ w.T, 1 + 0.3 * rng.normal(size=k + m)
    return ld.Overlaps(c[:k, :k], c[:k, k:], c[k:, k:], v[:k], v[k:])


def exchanged(state, student, teacher):
    """The state with its units in another order."""
    i, n = np.array(student), np.array(teacher)
    q, r, t = state.Q[i][:, i], state.R[i][:, n], state.T[n][:, n]
    return ld.Overlaps(q, r, t, state.v[i], state.v_teacher[n])


both = ld.MultiIndex(lambda rho, zeta: 1.0 * jnp.all(rho > 0.3) + 0.2 * zeta)

EXCHANGES = {
    "log cosh": (ld.Problem(ld.Tanh(), ld.Tanh(), log_cosh), 2, 2),
    "log cosh, three units": (ld.Problem(erf, erf, log_cosh), 3, 3),
    "hinge": (ld.Problem(ld.Erf(), ld.Erf(), ld.Hinge()), 2, 2),
    "hinge, three units": (ld.Problem(ld.Erf(), ld.Erf(), ld.Hinge()), 3, 3),
    "index": (ld.Problem(ld.Tanh(), both), 2, 2),
}


@pytest.mark.nightly(by_day=["hinge", "hinge, three units"])
@pytest.mark.parametrize("name", EXCHANGES)
def test_exchanging_units_exchanges_averages(name):
    problem, k, m = EXCHANGES[name]
    i, n = [1, 0, *range(2, k)], [*range(2, m), 1, 0]
    state = committee(k, m)
    averages = chosen(problem, state)
    there = exchanged(state, i, n)
    found, eg = averages_of(averages, problem, state)
    moved, moved_eg = averages_of(averages, problem, there)
    fields = found.with_fields(state.covariance)[np.array(i)][:, [*i, *(k + j for j in n)]]
    np.testing.assert_allclose(moved.with_fields(there.covariance), fields, atol=1e-13)
    np.testing.assert_allclose(moved.Phi, found.Phi[np.array(i)][:, np.array(i)], atol=1e-13)
    np.testing.assert_allclose(moved.h, found.h[np.array(i)], atol=1e-13)
    assert float(moved_eg) == pytest.approx(float(eg), abs=1e-13)


SYMMETRIC = ld.Overlaps(0.25 * np.eye(2), np.zeros((2, 2)), np.eye(2))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:the error of the Gaussian averages")  # a drift of 0
@pytest.mark.parametrize(("averages", "stays"), [(None, True), (QuasiMonteCarlo(1024), False)])
def test_a_symmetric_start_stays_on_its_plateau(averages, stays):
    """Plain nodes, the control, end the plateau."""
    problem = ld.Problem(erf, erf, log_cosh)
    ts = [0.0, 400.0]
    run = ld.solve_ode(problem, ld.SGD(lr=0.5), SYMMETRIC, ts, averages=averages, rtol=1e-6)
    assert run.result == 0
    spread = np.ptp(run.R[-1])
    assert spread < 1e-9 if stays else spread > 0.1


@pytest.mark.nightly
def test_even_students_stay_without_overlap():
    """R = 0 is kept by the flip of the student's fields, and unstable."""
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic(), lambda phi, y: jnp.abs(phi - y) ** 1.5)
    v = [0.5, 0.5]
    start = ld.Overlaps(np.eye(2), np.zeros((2, 2)), np.eye(2), v, v)
    found = averages_of(chosen(problem, start), problem, start)[0].with_fields(start.covariance)
    np.testing.assert_allclose(found[:, 2:], 0, atol=1e-13)


def test_biases_of_odd_networks_stay_zero():
    problem = ld.Problem(erf, erf, ld.Hinge())
    zero = [0.0, 0.0]
    state = committee(2, 2)
    state = ld.Overlaps(state.Q, state.R, state.T, b=zero, b_teacher=zero)
    averages = chosen(problem, state)
    np.testing.assert_allclose(averages_of(averages, problem, state)[0].f, 0, atol=1e-14)


def test_body_centred_lattices_are_closed_and_normal():
    for dims, spacing in ((4, 0.8), (5, 1.1)):
        z, weight = BodyCentred(spacing, 5.0).nodes(dims)
        second = np.einsum("p,pi,pj->ij", weight, z[0], z[0])
        np.testing.assert_allclose(second, np.eye(dims), atol=2e-3)
        assert len(weight) < 20000
    with pytest.raises(ValueError, match="0 < spacing < reach"):
        BodyCentred(2.0, 1.0)
    with pytest.raises(ValueError, match="at most 5e6"):
        BodyCentred(0.1, 5.0).nodes(5)


@pytest.mark.parametrize(("q", "error"), [(0.25, 1e-4), (1.0, 4e-4)])
def test_lattices_of_four_dimensions_against_closed_forms(q, error):
    closed, plain = ld.Problem(), ld.Problem(erf, erf)
    state = ld.Overlaps([[q, 0.1], [0.1, q]], [[0.3, 0.1], [0.0, 0.2]], np.eye(2))
    expected, found = (
        sampled(averages_of(a, p, state)[0], state)[:2]
        for p, a in (
            (closed, chosen(closed, state)),
            (plain, chosen(plain, state, BodyCentred(0.8, 5.0))),
        )
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=error)


# Warnings


class OwnNodes(AbstractNodes):
    def nodes(self, dims):
        z, weight = QuasiMonteCarlo(64, 2).nodes(dims)
        return z + 0.0, weight


HINGE = ld.Problem(ld.Tanh(), ld.Tanh(), ld.Hinge())


@pytest.mark.parametrize("nodes", [QuasiMonteCarlo(128), MonteCarlo(100), OwnNodes()])
def test_nodes_that_break_the_symmetry_warn_once(nodes):
    with pytest.warns(SymmetryWarning, match="equal units drift apart"):
        choose_averages(HINGE, 2, 3, rule=RULE, biases=False, averages=nodes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_averages(HINGE, 2, 3, rule=RULE, biases=False, averages=nodes)


@pytest.mark.nightly
def test_nodes_that_keep_the_symmetry_do_not_warn():
    ordered = ld.MultiIndex(lambda rho, zeta: rho[0] + jnp.sin(rho[1]))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for nodes in (GaussHermite(7), Trapezoid(9), QuasiMonteCarlo(64, symmetric=True)):
            choose_averages(HINGE, 2, 2, rule=RULE, biases=True, averages=nodes)
        # No two of these units are alike.
        problem = ld.Problem(ld.Tanh(), ordered)
        choose_averages(problem, 1, 2, rule=RULE, biases=False, averages=QuasiMonteCarlo(256))
    assert not told


# Errors


def test_neighbours_of_product_rules():
    problem, state = ld.Problem(erf, erf), committee(1, 1)
    averages = chosen(problem, state, GaussHermite(5))
    coarse, fine = averages.neighbours()
    assert [a.z.shape[1] for a in (coarse, averages, fine)] == [16, 25, 49]
    assert coarse.neighbours() is None
    exact = averages_of(chosen(ld.Problem(), state), ld.Problem(), state)[0].Phi
    errors = [
        np.abs(averages_of(a, problem, state)[0].Phi - exact).max()
        for a in (coarse, averages, fine)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_an_exact_product_rule_reports_rounding():
    """Products of x**2 have degree 6; a rule of 3 nodes, exact to degree 5, is off by two."""
    problem, state = ld.Problem(ld.Quadratic(), ld.Quadratic()), committee(1, 1)
    exact, rough = (chosen(problem, state, GaussHermite(n)) for n in (5, 3))
    off = averages_of(rough, problem, state)[0].Phi - averages_of(exact, problem, state)[0].Phi
    told = float(averages_error(problem, RULE, state, exact))
    assert told < 1e-11 * abs(float(off[0, 0]))


def steep(x):
    return jnp.tanh(6.0 * x)


@pytest.mark.nightly
@pytest.mark.parametrize("nodes", [Trapezoid(64), GaussHermite(80)], ids=["Trapezoid", "Gauss"])
def test_the_error_of_a_users_rule_is_not_larger_than_told(nodes):
    """The error of a lattice changes its sign with the spacing. At the first state the differences
    of Phi from the neighbours shrink by 5, and its error does not."""
    problem = ld.Problem(steep, steep)
    rules = [choose_averages(problem, 1, 1, rule=RULE, biases=False, averages=a)
             for a in (nodes, Trapezoid(600))]  # fmt: skip
    of = lambda averages, state: list(sampled(averages_of(averages, problem, state)[0], state)[:3])

    @eqx.filter_jit
    def both(state):
        size = cancelling(state)
        return estimated(rules[0], lambda a: of(a, state), size), of(rules[1], state)

    rng, resolved = np.random.default_rng(0), 0
    for c in [np.array([[0.5870494, 0.27182731], [0.27182731, 2.97964367]]), *covariances(rng, 60)]:
        state = ld.Overlaps(c[:1, :1], c[:1, 1:], c[1:, 1:])
        found, right = both(state)
        for value, told, true in zip(found.values, found.errors, right, strict=True):
            assert not found.resolved or np.abs(value - true).max() <= told
        resolved += int(found.resolved)
    assert resolved > 1


def covariances(rng, count):
    """Random ones of two fields, with variances of 0.03 to 10."""
    for _ in range(count):
        z, variances = rng.normal(size=(2, 3)), 10 ** rng.uniform(-1.5, 1.0, 2)
        z *= np.sqrt(variances / (z**2).sum(axis=1))[:, None]
        yield z @ z.T
