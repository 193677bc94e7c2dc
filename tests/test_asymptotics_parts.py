"""Parts of searches in asymptotics, each against numbers by hand or a few lines of NumPy and SciPy:
what they call, a run or a search of minutes, is replaced by functions that are known."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from scipy.integrate import quad, solve_ivp

import learndyn as ld
from learndyn import asymptotics, flow
from learndyn.asymptotics.closed_forms._ridge import _geometric
from learndyn.asymptotics.closed_forms._small_lr import _squared_slope
from learndyn.asymptotics.fixed_points import _continuation, _fixed_point, _perturb
from learndyn.asymptotics.fixed_points._continuation import _at_infinity, _Point, _runs_off, follow
from learndyn.asymptotics.fixed_points._fixed_point import (
    FixedPoint,
    Search,
    _levenberg_marquardt,
    fixed_point,
)
from learndyn.asymptotics.fixed_points._flow import regularised, with_rates
from learndyn.asymptotics.fixed_points._linearise import as_direction
from learndyn.asymptotics.fixed_points._singular import averages_at, is_singular
from learndyn.averages import GaussHermite, choose_nodes

LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
ONE = ld.Overlaps([[0.7]], [[0.3]], [[1.4]])
TWO = ld.Overlaps([[0.7]], [[0.3, 0.1]], [[1.4, 0.2], [0.2, 0.9]])


def close(found, wanted, rel=1e-12, abs=0.0):
    np.testing.assert_allclose(found, wanted, rtol=rel, atol=abs)


def flow_of(start, problem=LINEAR, **rates):
    return ld.ode_term(problem, ld.SGD(**({"lr": 0.4} | rates)), start).vector_field


# Small learning rates


def test_closed_forms_at_small_rates_by_hand():
    close(asymptotics.eg_denoising_small_lr(2, 3, 1.5, 0.03, 0.2), 0.0054 / (6 * 3**0.5 * np.pi))
    for name, slope in (("erf", 2 / (np.pi * 3**0.5)), ("relu", 0.5), ("linear", 1.0)):
        found = asymptotics.eg_normalised_small_lr(6, 0.05, 0.2, activation=name)
        close(found, slope * 0.05 * 0.04 / 24)
    h = 0.3 * (0.8**2 + 0.6**2 + 0.1**2)
    close(asymptotics.eg_linear(0.3, 0.2, v=[0.8, -0.6, 0.1]), 0.04 * h / (4 - 2 * h))
    with pytest.raises(ValueError, match="needs a number for lr; got a schedule"):
        asymptotics.eg_zero_error_small_lr(LINEAR, ld.SGD(lambda alpha: 0.1), ONE)


@pytest.mark.parametrize(
    ("g", "slope", "kinks"),
    [
        (jnp.tanh, lambda x: 1 / np.cosh(x) ** 2, ()),
        (jax.nn.selu, lambda x: 1.05070098 * np.where(x > 0, 1, 1.67326324 * np.exp(x)), (0,)),
        (
            lambda x: jnp.where(x > 0.3, 2 * x, jnp.tanh(x)),
            lambda x: np.where(x > 0.3, 2.0, 1 / np.cosh(x) ** 2),
            (0.3,),
        ),
    ],
    ids=["smooth", "selu", "half a tanh"],
)
def test_squared_slopes_of_activations_without_integrals(g, slope, kinks):
    norms, shift = np.array([0.6, 1.2]), np.array([0.4, -0.3])
    of = jax.jit(lambda b: _squared_slope(g, jnp.asarray(norms), b))
    for b in (shift, 2 * shift):
        found = of(b)
        for value, mean, norm in zip(found, b, norms, strict=True):
            density = scipy.stats.norm(mean, norm**0.5).pdf
            ends = [-12.0, *kinks, 12.0]
            parts = [
                quad(lambda x: slope(x) ** 2 * density(x), *pair, epsabs=1e-13)[0]  # noqa: B023
                for pair in pairwise(ends)
            ]
            assert float(value) == pytest.approx(sum(parts), rel=3e-8)  # digits of selu


# Reduced states


def test_states_of_eight_numbers_in_full():
    names = {"Q": 0.8, "C": 0.1, "R": 0.6, "S": 0.05, "D": 0.08, "U": 0.05, "E": 0.4, "F": 0.07}
    layers = {"v": 1.1, "v_superfluous": 0.7, "v_teacher": 0.9}
    state = asymptotics.SpecialisedOverlaps(2, 3, **names, **layers)
    found = state.expanded()
    d, e, f = 0.08, 0.4, 0.07
    q = [
        [0.8, 0.1, d, d, d],
        [0.1, 0.8, d, d, d],
        [d, d, e, f, f],
        [d, d, f, e, f],
        [d, d, f, f, e],
    ]
    r = [[0.6, 0.05], [0.05, 0.6], *3 * [[0.05, 0.05]]]
    close(found.Q, q)
    close(found.R, r)
    close(found.T, np.eye(2))
    close(found.v, [1.1, 1.1, 0.7, 0.7, 0.7])
    close(found.v_teacher, [0.9, 0.9])
    for m, l in ((2, 3), (1, 3), (4, 1), (3, 0)):
        state = asymptotics.SpecialisedOverlaps(m, l, **names)
        whole = np.asarray(state.expanded().covariance)
        assert state.smallest_eigenvalue() == pytest.approx(np.linalg.eigvalsh(whole)[0], rel=1e-9)
    alike = asymptotics.SymmetricOverlaps(3, 2, Q=0.5, C=0.1, R=0.2)
    batch = eqx.filter_vmap(lambda q: eqx.tree_at(lambda s: s.Q, alike, q))(jnp.array([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"one state at a time; got a batch of shape \(2,\)"):
        asymptotics.solve_reduced(LINEAR, ld.SGD(0.3), batch, [0.0, 1.0])


# Following fixed points


def known_branch(monkeypatch, growth, size=lambda lr: 1.0, until=np.inf, since=0.0):
    """`follow` on a branch with this growth and size at each rate, which ends at `until`."""

    def at(flow, lr, near):
        found = since <= lr < until
        return _Point(lr, jnp.full(2, size(min(lr, until))), jnp.zeros(2), found, growth(lr), 0)

    monkeypatch.setattr(_continuation, "_fixed_point_at", at)
    return follow(flow_of(ONE), jnp.zeros(2))


def test_where_a_branch_changes_its_stability(monkeypatch):
    of = lambda *x, **options: known_branch(monkeypatch, *x, **options)
    # Upwards: as the distance to it, as its root, and suddenly, which bisection finds
    assert of(lambda lr: lr - 2.0) == pytest.approx(2.0, rel=1e-9)
    assert of(lambda lr: -np.sqrt(max(2.0 - lr, 0.0))) == pytest.approx(2.0, rel=1e-9)
    assert of(lambda lr: -1.0 if lr < 2.0 else 0.5) == pytest.approx(2.0, rel=1e-9)
    assert of(lambda lr: -1.0) == np.inf
    # Downwards, from a rate where it is unstable
    assert of(lambda lr: lr - 0.13) == pytest.approx(0.13, rel=1e-9)
    assert of(lambda lr: lr - 0.13, since=0.2) == 0.0
    assert of(lambda lr: 1.0) == 0.0
    # Where it ends: in a fold, or at infinity, where 1 / sqrt(size) vanishes like the distance
    assert of(lambda lr: -1.0, until=1.3) == pytest.approx(1.3, rel=1e-7)
    runs_off = lambda lr: (3.0 / max(2.0 - lr, 1e-3)) ** 2
    assert of(lambda lr: -1.0, runs_off, until=1.97) == pytest.approx(2.0, rel=1e-6)
    with pytest.raises(ValueError, match=r"lost its fixed point at lr = 1.3, where overlaps are"):
        of(lambda lr: -1.0, lambda lr: 1.0 + 1e3 * max(lr - 0.5, 0.0), until=1.3)
    with pytest.raises(ValueError, match="could not settle on a fixed point near"):
        of(lambda lr: -1.0, until=0.3)


def test_what_runs_off_to_infinity():
    points = [
        _Point(lr, jnp.array([-size, 1.0]), jnp.zeros(2), True, -1.0, 0)
        for lr, size in ((1.0, 4.0), (1.1, 4.0 * 1.1**11), (1.2, 4.0 * 1.1**11 * (1.2 / 1.1) ** 9))
    ]
    assert not _runs_off(points[:1])
    assert _runs_off(points[:2])
    assert not _runs_off(points)
    at = lambda x: _Point(3.0 - 2 * x + x**2, jnp.array([x**-2.0]), jnp.zeros(1), True, -1.0, 0)
    assert _at_infinity([at(x) for x in (0.5, 0.3, 0.2)]) == pytest.approx(3.0, rel=1e-10)


def test_bisection_stops_where_no_point_is_found(monkeypatch):
    """Between the stable rate 1 and the unstable 2 by the secant of what is known."""
    point = lambda lr, growth, found=True: _Point(lr, jnp.zeros(1), jnp.zeros(1), found, growth, 0)
    monkeypatch.setattr(
        _continuation, "_fixed_point_at", lambda flow, lr, near: point(lr, -0.1, found=False)
    )
    found = _continuation._bisected(flow_of(ONE), point(1.0, -0.3), point(2.0, 0.2))
    assert found == pytest.approx(1.6, rel=1e-12)


def test_neutral_directions_are_counted_once(monkeypatch):
    """And divided out of what decides on stability; here they are the last eigenvalue's."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]

    def evaluated(flow, lr, guess):
        values = [-0.4, -0.1, 1e-14 if lr < 0.5 else 0.2]
        matrix = turn @ np.diag(values) @ turn.T
        return guess, jnp.ones(3), jnp.asarray(True), jnp.asarray(matrix)

    monkeypatch.setattr(_continuation, "_evaluate", evaluated)
    near = _Point(0.3, jnp.arange(3.0), jnp.full(3, 2.0), True, 0.0, _continuation._UNCOUNTED)
    first = _continuation._fixed_point_at(flow_of(TWO), 0.4, near)
    assert first.neutral == 1
    assert first.growth == pytest.approx(-0.1 / 0.4, rel=1e-9)
    close(first.y, np.arange(3.0) + 0.2)
    second = _continuation._fixed_point_at(flow_of(TWO), 0.7, first)
    assert second.neutral == 1
    assert second.growth == pytest.approx(0.2 / 0.4, rel=1e-9)  # the slowest of all left out


def test_what_counts_as_found_on_a_branch(monkeypatch):
    """What is left of f, 1e-10 times (1 + the largest of |J| |y|) and 1e-14 times the square of
    the largest y."""
    matrix, left = jnp.array([[3.0, -4.0], [1.0, 2.0]]), []

    def root(flow, guess, *options):
        y = guess * flow.rule.lr**2
        no = jnp.asarray(False)
        return y, Search(y, y, matrix, jnp.asarray(left[-1]), y[0], jnp.asarray(1), no, no)

    monkeypatch.setattr(_continuation, "root", root)
    limit = 1e-10 * (1 + 26.0) + 1e-14 * 25.0
    for size in (0.999 * limit, 1.001 * limit):
        left.append(size)
        guess = jnp.array([2.0, -5.0]) / 0.25
        y, dy, found, _ = _continuation._evaluate.__wrapped__(flow_of(ONE), jnp.asarray(0.5), guess)
        close(y, [2.0, -5.0])
        close(dy, [8.0, -20.0])
        assert bool(found) == (size < limit)


def test_a_step_of_the_search_leaves_neutral_directions_alone():
    """Levenberg-Marquardt's, by singular values and vectors of NumPy."""
    rng = np.random.default_rng(2)
    u, v = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    values, f = np.array([2.0, 0.7, 1e-13]), rng.normal(size=3)
    zero, no = jnp.zeros(()), jnp.asarray(False)
    matrix = jnp.asarray(u @ np.diag(values) @ v.T)
    search = Search(jnp.zeros(3), jnp.asarray(f), matrix, zero, zero + 0.3, jnp.asarray(1), no, no)
    change, left = _levenberg_marquardt(search, jnp.asarray(1e-8))
    pushed = u[:, :2].T @ f
    step = values[:2] / (values[:2] ** 2 + 0.3 * np.linalg.norm(pushed)) * pushed
    close(change, -v[:, :2] @ step, rel=1e-9)
    close(left @ left.T, u[:, :2] @ u[:, :2].T, rel=1e-9, abs=1e-12)


def test_a_singular_start_that_is_a_fixed_point_is_returned(monkeypatch):
    """And another one is left for the search nearby."""
    flow = flow_of(ONE)
    moved = lambda dq, dr, code=0: FixedPoint(
        state=ld.Overlaps([[0.7 + dq]], [[0.3 + dr]], [[1.4]]), eg=jnp.zeros(()),
        residual=jnp.zeros(()), result=jnp.asarray(code), steps=jnp.asarray(1),
        neutral=jnp.asarray(0), singular_values=jnp.zeros(2), directions=jnp.eye(2), flow=flow,
    )  # fmt: skip
    nearby = ld.Overlaps([[0.8]], [[0.3]], [[1.4]])
    monkeypatch.setattr(_fixed_point, "regularised", lambda flow, start: nearby)
    searched, other = [], moved(9.0, 0.0)
    monkeypatch.setattr(
        _fixed_point,
        "_search_with_restarts",
        lambda flow, start, *x: searched.append(start) or other,
    )
    for found, kept in (
        (moved(5e-10, -5e-10), True),
        (moved(2e-9, 0.0), False),
        (moved(0.0, -2e-9), False),
        (moved(0.0, 0.0, ld.Result.SOLVER_FAILED.value), False),
    ):
        monkeypatch.setattr(_fixed_point, "_fixed_point", lambda *x, found=found: (found, None))
        searched.clear()
        result = fixed_point(LINEAR, ld.SGD(0.4), ONE)
        assert result is (found if kept else other)
        assert searched == ([] if kept else [nearby])


TANH = ld.Problem(ld.Tanh(), ld.Tanh())
SAME = ld.Overlaps([[0.7]], [[0.7]], [[0.7]])


def test_nodes_in_the_directions_that_exist():
    """Where student and teacher are the same, moments of both fields are those of one number."""
    nodes = choose_nodes(TANH, 1, 1, biases=False, nodes=GaussHermite(6))
    rule = ld.SGD(0.4)
    assert is_singular(SAME)
    assert not is_singular(ONE)
    assert not jax.jit(lambda q: jnp.asarray(is_singular(ld.Overlaps(q, q, q))))(jnp.ones((1, 1)))
    assert averages_at(TANH, rule, ONE, nodes) is nodes
    few = averages_at(TANH, rule, SAME, nodes)
    assert (few.smooth, few.score) == (True, False)
    assert few.z.shape == (1, few.z.shape[1], 2)
    root = 0.7**0.5 * np.array([[1.0, 0.0], [1.0, 0.0]])  # the student's field first
    fields = np.asarray(few.z[0]) @ root.T
    close(fields[:, 0], fields[:, 1], abs=1e-12)
    mean = lambda x: np.asarray(few.weight) @ x
    close([mean(fields[:, 0] ** p) for p in (0, 2, 4)], [1.0, 0.7, 3 * 0.49], rel=1e-9)
    error = jax.jit(
        lambda v: few.generalisation_error(TANH, ld.Overlaps(SAME.Q, SAME.R, SAME.T, v))
    )
    error = error(jnp.array([3.0]))
    density = scipy.stats.norm(0.0, 0.7**0.5).pdf
    close(error, 2 * quad(lambda x: np.tanh(x) ** 2 * density(x), -9, 9)[0], rel=1e-9)
    # Four students that are one, and four independent teachers: too many for a lattice
    many = ld.Overlaps(np.ones((4, 4)), np.zeros((4, 4)), np.eye(4))
    assert averages_at(TANH, rule, many, nodes) is nodes

    flow = ld.ode_term(TANH, rule, SAME, averages=GaussHermite(6)).vector_field
    assert regularised(flow, ONE) is ONE
    moved = regularised(flow, SAME)
    assert 0 < float(moved.Q[0, 0]) - 0.7 < 1e-6
    close(moved.R, SAME.R)


def test_rates_are_scaled_along():
    rule = with_rates(ld.SGD(0.4, 0.3, 0.1, weight_decay=0.2), jnp.asarray(0.6))
    close([rule.lr, rule.lr_second, rule.lr_bias, rule.weight_decay], [0.6, 0.45, 0.15, 0.2])
    assert with_rates(ld.SGD(0.4), jnp.asarray(0.6)).lr_second is None


def test_changes_of_all_layers_and_of_those_that_are_trained():
    start = ld.Overlaps([[0.7]], [[0.3]], [[1.4]], [1.1], None, [0.2], [0.1])
    all_of_them = as_direction(flow_of(start, lr_second=0.1, lr_bias=0.2), jnp.arange(1.0, 5.0))
    assert [float(x.ravel()[0]) for x in all_of_them] == [1.0, 2.0, 3.0, 4.0]
    first = as_direction(flow_of(start), jnp.array([1.0, 2.0]))
    assert [float(x.ravel()[0]) for x in first] == [1.0, 2.0, 0.0, 0.0]


def test_sources_of_changes(monkeypatch):
    """Derivatives of a drift that is cos(3 sigma) - kappa**2 + lr."""
    drift = lambda flow, y: (
        (jnp.cos(3 * flow.problem.noise) - flow.rule.weight_decay**2 + flow.rule.lr) * jnp.ones(2)
    )
    monkeypatch.setattr(_perturb, "drift", drift)
    huber = ld.Problem(ld.Linear(), ld.Linear(), lambda phi, y: jnp.cosh(phi - y), noise=0.3)
    change = _perturb._Change("noise_variance", None)
    for problem, wanted in (
        (huber, -3 * np.sin(0.9) / 0.6),
        (eqx.tree_at(lambda p: p.noise, huber, jnp.zeros(())), -4.5),
        (LINEAR, np.cos(3.0) - 1.0),  # linear in sigma**2 for squared loss
    ):
        flow = eqx.tree_at(lambda f: f.problem, flow_of(ONE, weight_decay=0.2), problem)
        close(change.source(flow, jnp.zeros(2)), np.full(2, wanted))
    flow = flow_of(ONE, weight_decay=0.2)
    named = _perturb._Change("weight_decay", None)
    close(named.source(flow, jnp.zeros(2)), [-0.4, -0.4])
    by_hand = lambda e: (ld.Problem(noise=0.3 + 2 * e), ld.SGD(0.4 + e))
    made = _perturb._Change("function", by_hand)
    close(made.source(flow, jnp.zeros(2)), np.full(2, 1 - 6 * np.sin(0.9)))
    several = ld.Problem(ld.Linear(), ld.MultiIndex(lambda rho, zeta: rho[0]))
    with pytest.raises(ValueError, match="MultiIndex teacher makes its own noise"):
        _perturb._as_change("noise_variance", several, ld.SGD(0.4))


def test_a_critical_rate_is_searched_outside_jit():
    with pytest.raises(ValueError, match="concrete values: call it outside jit, vmap"):
        jax.jit(lambda lr: asymptotics.critical_lr(LINEAR, ld.SGD(lr), ONE))(0.1)


def test_regression_without_noise_is_the_default():
    given = {"noise": 0.0, "rho": 1.0, "batch_size": 1}
    pairs = (
        (asymptotics.ridge(0.4, 0.3), asymptotics.ridge(0.4, 0.3, **given)),
        (
            asymptotics.ridge_curve(1.5, 0.4, 0.3),
            asymptotics.ridge_curve(1.5, 0.4, 0.3, **given, m_start=0.0, q_start=1.0),
        ),
        (
            asymptotics.ridge_finite_n(3, 5, 0.4, 0.3),
            asymptotics.ridge_finite_n(3, 5, 0.4, 0.3, 0.0, rho=1.0, m_start=0.0, q_start=1.0),
        ),
    )
    for plain, full in pairs:
        close(list(plain), list(full), rel=0.0)


@pytest.mark.parametrize(("a", "b"), [(0.9, 0.1), (0.9, 0.89), (0.5, 0.5), (-0.3, 0.8)])
def test_geometric_sums_and_their_slopes(a, b):
    """a**2 + a b + b**2, and 2 a + b: finite whichever way the sum is taken."""
    of = lambda a: _geometric(a, jnp.asarray(b), jnp.asarray(3.0))
    value, slope = jax.value_and_grad(of)(jnp.asarray(a))
    close(value, a * a + a * b + b * b)
    close(slope, 2 * a + b, rel=1e-10)


def test_the_rate_that_is_too_large_is_named_with_its_network():
    with pytest.raises(ValueError, match=r"specialised state with m=3, l=1, .*; got lr=7\."):
        asymptotics.eg_specialised([2, 3, 2], [0, 1, 0], [0.1, 7.0, 0.2])


def test_there_are_no_fewer_than_no_superfluous_units():
    with pytest.raises(ValueError, match="superfluous units"):
        asymptotics.specialised_state(2, -1)


def test_starts_on_both_sides_of_the_separatrix():
    """Whitened inputs, |b| = 0.3, D = a**2 - |w|**2 < 0: the sign of a at infinity is that of w b +
    a (D + kappa)/2, kappa**2 = D**2 + 4 |b|**2, and that of the flow, solved by SciPy."""
    best = np.array([0.3, 0.0])
    for along, sign in ((0.25, 1.0), (0.1, -1.0)):
        w = np.array([along, 1.0])
        d = 0.25 - w @ w
        assert np.sign(w @ best - 0.5 * (d + np.sqrt(d * d + 0.36)) / 2) == sign
        slope = lambda t, z: np.append(z[1:] @ (best - z[0] * z[1:]), z[0] * (best - z[0] * z[1:]))
        end = solve_ivp(slope, (0.0, 500.0), [-0.5, *w], rtol=1e-9, atol=1e-11).y[:, -1]
        found = flow.implicit_bias(np.eye(2), best, -0.5, w)
        assert (found.decided_by, float(found.sign), np.sign(end[0])) == ("whitened", sign, sign)
        close([found.a, *found.w], end, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("matrix", "told"), [([[0.0, 1.0], [0.0, 0.0]], "0.45"), ([[0.0, 0.0], [1.0, 0.0]], "0.89")]
)
def test_a_push_that_feeds_back_on_itself_has_no_response(monkeypatch, matrix, told):
    """Decay pushes by -lr (2 Q, R) = -lr (2, 1). Of that a nilpotent Jacobian balances the first
    entry, or the second: left over are 1 / 5**(1/2), or 2 / 5**(1/2)."""
    monkeypatch.setattr(_perturb, "jacobian", lambda flow, y: jnp.array(matrix))
    jax.clear_caches()
    problem, same = ld.Problem(ld.Linear(), ld.Linear()), ld.Overlaps([[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match=f"relative residual {told} of J m1 = -s"):
        asymptotics.perturb(problem, ld.SGD(lr=0.3), same, "weight_decay")
    jax.clear_caches()
