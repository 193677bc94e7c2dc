"""Jumps of diagonal linear networks: published digits, brute force, and the flow itself."""

import time
import tracemalloc
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import linprog, nnls

from learndyn import flow

X = np.array(
    [
        [0.0, 0.3, -0.3, -0.9, -0.5, -1.0],
        [0.1, 1.3, -0.5, -0.6, 0.5, 0.4],
        [0.1, -0.9, -0.0, 0.7, -1.3, -0.5],
        [-1.9, -1.3, -1.8, -0.2, -1.3, 0.3],
        [0.2, -0.2, -2.5, -0.5, -0.0, 0.1],
        [-1.5, -0.5, -1.0, -0.8, 1.1, -0.8],
        [-0.0, 0.9, -0.6, -0.1, 0.1, 0.1],
    ]
)
Y = np.array([-1.2, 0.1, 1.4, -1.5, 0.9, 0.1, -0.6])
TIMES = [2.31023102310231, 4.907499723053064, 6.012057624982976]
TIMES += [7.427959828370157, 8.206538257668115, 15.307772345333015]
BETA_4 = [0.839442355624582, -0.8273452740156917, 0.0, 0.20460106689817015, 0.567158712641524, 0.0]
BETA_6 = [0.6858026314671785, -0.22484344883240764, -0.6634948538898497]
BETA_6 += [1.6723923566970331, 0.80094217109799, -0.7672577806840523]
DUAL_1 = [1.0, -0.10231023102310229, 0.33663366336633666]
DUAL_1 += [0.6039603960396039, 0.2739273927392739, 0.013201320132013214]


def problem(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def leaves(found):
    """How often a coordinate falls back to zero."""
    return (found.active[:-1] & ~found.active[1:]).sum()


def brute_force(x, y):
    """The same algorithm with a fresh solver at every jump."""
    s, beta, now, times = np.zeros(x.shape[1]), np.zeros(x.shape[1]), 0.0, []
    small = 1e-10 * np.abs(x.T @ y).max()
    while True:
        slope = x.T @ (y - x @ beta)
        slope[(beta != 0) | (np.abs(slope) < small)] = 0
        if not slope.any():
            return np.array(times) * len(x), beta
        waits = [(np.sign(v) - si) / v if v else np.inf for v, si in zip(slope, s, strict=True)]
        first, wait = np.argmin(waits), min(waits)
        s, now = s + wait * slope, now + wait
        s[first] = np.sign(slope[first])
        edge = np.flatnonzero(np.abs(s) == 1)
        beta = np.zeros_like(s)
        beta[edge] = s[edge] * nnls(x[:, edge] * s[edge], y)[0]
        times.append(now)


def crossings(x, y, found, alpha, weights):
    """Times, over log(1/alpha), at which the flow's loss passes the mean of adjacent levels."""
    size, n = -np.log(alpha), len(x)
    q, b = x.T @ x / n, x.T @ y / n
    shift = np.log(weights) / size

    def beta(z):
        return (np.exp(2 * size * (z - 1 + shift)) - np.exp(-2 * size * (z + 1 - shift))) / 4

    def jac(t, z):
        grow = np.exp(2 * size * (z - 1 + shift)) + np.exp(-2 * size * (z + 1 - shift))
        return -q * (size / 2 * grow)

    def passes(level):
        return lambda t, z: np.mean((y - x @ beta(z)) ** 2) / 2 - level

    events = [passes(level) for level in (found.loss[1:] + found.loss[:-1]) / 2]
    with np.errstate(over="ignore", invalid="ignore"):
        field = lambda t, z: b - q @ beta(z)
        options = {"method": "Radau", "jac": jac, "rtol": 1e-9, "atol": 1e-11}
        run = solve_ivp(field, (0, 1.3 * found.times[-1]), 0 * b, events=events, **options)
    return np.array([event[0] for event in run.t_events])


def slopes(x, y, found, alphas, weights):
    sizes = -np.log(alphas)
    late, early = (
        crossings(x, y, found, a, weights) * s for a, s in zip(alphas, sizes, strict=True)
    )
    return (late - early) / (sizes[0] - sizes[1])


def test_published_digits():
    found = flow.diagonal_jumps(X, Y)
    np.testing.assert_allclose(found.times, TIMES, rtol=1e-13)
    np.testing.assert_allclose(found.beta[[4, 6]], [BETA_4, BETA_6], atol=1e-13)
    np.testing.assert_allclose(found.dual[1], DUAL_1, atol=1e-13)
    assert not found.beta[0].any()
    assert not found.dual[0].any()
    # Alternating flows take arccosh(alpha^-2)/2 for log(1/alpha), with which the theory is exact.
    np.testing.assert_allclose(14.508657738523969 / 2 * found.times[0], 16.75917560555574)


@pytest.mark.parametrize("seed", range(12))
def test_brute_force_with_coordinates_that_leave(seed):
    n, d = [(4, 9), (6, 6), (9, 5), (8, 14)][seed % 4]
    x, y = problem(seed, n, d)
    found, (times, beta) = flow.diagonal_jumps(x, y), brute_force(x, y)
    np.testing.assert_allclose(found.times, times, rtol=1e-10)
    np.testing.assert_allclose(found.beta[-1], beta, atol=1e-10)
    assert np.all(np.diff(found.loss) < 0)
    assert np.all(np.abs(found.dual) <= 1)
    on_edge = np.abs(found.dual) == 1
    assert np.all(on_edge | (found.beta == 0))
    if seed % 4 in (0, 3):
        size = linprog(np.ones(2 * d), A_eq=np.hstack([x, -x]), b_eq=y).fun
        np.testing.assert_allclose(np.abs(found.beta[-1]).sum(), size, rtol=1e-10)
    else:
        np.testing.assert_allclose(found.beta[-1], np.linalg.lstsq(x, y)[0], atol=1e-10)


def test_cases_have_coordinates_that_leave():
    cases = [problem(seed, *[(4, 9), (6, 6), (9, 5), (8, 14)][seed % 4]) for seed in range(12)]
    assert sum(leaves(flow.diagonal_jumps(x, y)) for x, y in cases) >= 10


@pytest.mark.nightly(by_day=["46-4-6"])
@pytest.mark.parametrize(("seed", "n", "d"), [(46, 4, 6), (29, 5, 7)])
def test_flow_jumps_when_theory_says(seed, n, d):
    x, y = problem(seed, n, d)
    found = flow.diagonal_jumps(x, y)
    assert leaves(found) >= 2
    # Any start alpha ū, alpha v̄ with |ū| ≠ |v̄| has the same slopes.
    weights = np.exp(0.3 * np.random.default_rng(seed).standard_normal(d))
    for start in (np.ones(d), weights):
        measured = slopes(x, y, found, (1e-64, 1e-32), start)
        np.testing.assert_allclose(measured, found.times, atol=1e-6)


def test_units():
    mean, total = flow.diagonal_jumps(X, Y), flow.diagonal_jumps(X, Y, reduce="sum")
    np.testing.assert_allclose(mean.times, 7 * total.times, rtol=1e-12)
    np.testing.assert_allclose(7 * mean.loss, total.loss, rtol=1e-12)
    scaled = flow.diagonal_jumps(1e-9 * X, 1e5 * Y)
    np.testing.assert_allclose(scaled.times * 1e-4, mean.times, rtol=1e-10)
    np.testing.assert_allclose(scaled.beta * 1e-14, mean.beta, atol=1e-10)
    np.testing.assert_allclose(mean.at(1e-8), mean.times * 8 * np.log(10), rtol=1e-14)
    assert mean.at([1e-4, 1e-8]).shape == (2, 6)
    with pytest.raises(ValueError, match="alpha"):
        mean.at(1.5)


def test_data_and_moments():
    expected = flow.diagonal_jumps(X, Y)
    data = flow.diagonal_jumps(SimpleNamespace(x=X, y=Y[:, None], reduce="mean"))
    np.testing.assert_array_equal(data.times, expected.times)
    known = SimpleNamespace(sxx=X.T @ X / 7, syx=Y @ X / 7, syy=Y @ Y / 7)
    moments = flow.diagonal_jumps(known)
    np.testing.assert_allclose(moments.times, expected.times, rtol=1e-11)
    np.testing.assert_allclose(moments.loss, expected.loss, rtol=1e-11)
    known.syx = np.ones(6)
    known.sxx = np.diag([1.0, 1, 1, 1, 1, 0])
    with pytest.raises(ValueError, match="range of sxx"):
        flow.diagonal_jumps(known)


def test_dependent_columns_share():
    equal = flow.diagonal_jumps([[1, 0, 0.5], [0, 1, 0.5]], [1, 1])
    np.testing.assert_allclose(equal.beta[-1], 2 / 3, rtol=1e-12)
    assert equal.times.shape == (1,)
    twice = flow.diagonal_jumps(np.column_stack([X, -2 * X[:, 2], X[:, 1]]), Y)
    once = flow.diagonal_jumps(np.column_stack([X, -2 * X[:, 2]]), Y)
    np.testing.assert_allclose(twice.times, once.times, rtol=1e-12)
    np.testing.assert_allclose(twice.loss, once.loss, rtol=1e-12)
    np.testing.assert_allclose(twice.beta[:, 1], once.beta[:, 1] / 2, atol=1e-12)
    np.testing.assert_allclose(twice.beta[:, 1], twice.beta[:, 7], atol=1e-14)


@pytest.mark.parametrize("angle", [0.3, 1.1, 2.0])
def test_ties_survive_rounding(angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y = turn @ [[1, 0, 0.5], [0, 1, 0.5]], turn @ [1, 1]
    found = flow.diagonal_jumps(x, y)
    np.testing.assert_allclose(found.times, [2.0], rtol=1e-12)
    np.testing.assert_allclose(found.beta[1], 2 / 3, rtol=1e-12)


def test_dependent_columns_share_as_in_the_flow():
    x = np.array([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 0.5, -0.2]])
    y = np.array([1.0, 1.0])
    found = flow.diagonal_jumps(x, y)
    size, q, b = 64 * np.log(10), x.T @ x / 2, x.T @ y / 2
    beta = lambda z: (np.exp(2 * size * (z - 1)) - np.exp(-2 * size * (z + 1))) / 4
    with np.errstate(over="ignore", invalid="ignore"):
        run = solve_ivp(
            lambda t, z: b - q @ beta(z),
            (0, 40),
            np.zeros(4),
            method="Radau",
            rtol=1e-9,
            atol=1e-12,
        )
    np.testing.assert_allclose(found.beta[-1], beta(run.y[:, -1]), atol=1e-6)


def test_nothing_to_learn():
    tenths = np.array([[0.1, 0.2, 0.3]]).T
    assert flow.diagonal_jumps(tenths, [0.3, 0.3, -0.3]).times.shape == (0,)
    for y in ([0.0, 0.0], [0.0, 3.0]):
        found = flow.diagonal_jumps([[1.0, 2.0], [0.0, 0.0]], y)
        assert found.times.shape == (0,)
        assert found.beta.shape == found.dual.shape == (1, 2)
        np.testing.assert_allclose(found.loss, [np.mean(np.square(y)) / 2])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, np.ones((7, 2)), "one output"),
        (X, Y[:3], r"\(samples, d\)"),
        (X, None, "labels"),
        (X * 1j, Y, "real"),
        (X, Y * np.nan, "finite"),
    ],
)
def test_bad_input_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        flow.diagonal_jumps(x, y)


def test_tracing_is_refused():
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda y: flow.diagonal_jumps(X, y).times)(Y)


@pytest.mark.parametrize(
    ("n", "limit"), [(50, 10), pytest.param(500, 10, marks=pytest.mark.nightly)]
)
def test_ten_thousand_coordinates_without_a_matrix_of_that_size(n, limit):
    rng = np.random.default_rng(0)
    x, beta = rng.standard_normal((n, 10_000)), np.zeros(10_000)
    beta[:20] = rng.standard_normal(20)
    y = x @ beta + 0.3 * rng.standard_normal(n)
    began = time.process_time(), time.perf_counter()
    found = flow.diagonal_jumps(x, y)
    # Threads that wait count as work, and other programs as time: the smaller of both is the cost.
    assert min(time.process_time() - began[0], time.perf_counter() - began[1]) < limit
    np.testing.assert_allclose(x @ found.beta[-1], y, atol=1e-9)
    # Optimality of the smallest l1 norm: the gradient of the norm is in the row space.
    np.testing.assert_allclose(found.dual[-1] @ found.beta[-1], np.abs(found.beta[-1]).sum())
    if n < 100:
        tracemalloc.start()
        flow.diagonal_jumps(x, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8e8 / 4
