"""Jumps of two-layer linear networks: published digits, the flow, blocks and ties."""

import pickle
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from learndyn import flow
from learndyn.flow.jumps import _linear
from learndyn.flow.jumps._data import moments
from learndyn.flow.jumps._linear import hessian, task_of

SXX0 = [
    [0.4136012472952317, 0.20483544376248475, -0.0790341098819002, -0.2845369282107613],
    [0.20483544376248475, 1.053767782374756, -0.21355290315628567, -0.28796265227728157],
    [-0.0790341098819002, -0.21355290315628567, 0.9216784184302282, 0.664838140029133],
    [-0.2845369282107613, -0.28796265227728157, 0.664838140029133, 2.1855368656183622],
]
SYX0 = [
    [0.8536873665071318, 0.9878768709285974, 0.539766305508138, -1.0956877949957413],
    [-0.24539643132179012, -1.1086463046053827, -2.0606047394790865, 0.1539151786145979],
    [-0.13698280836935492, -0.32984668477178875, 1.771722694497384, -0.16665988195384024],
]
SXX1 = [
    [0.9504730597836821, -0.06377284846804272, -0.08385154174162396, -0.33201438208610423],
    [-0.06377284846804272, 0.7112341330403069, 0.1909511062540382, -0.03314899650175098],
    [-0.08385154174162396, 0.1909511062540382, 0.42978246779544627, -0.0006784627323529019],
    [-0.33201438208610423, -0.03314899650175098, -0.0006784627323529019, 0.5899900228656025],
]
SYX1 = [
    [-0.06387033695829965, -1.4021483233213572, -0.015600697894473705, 0.04652057908681487],
    [-0.31039188387627414, 0.6997167160178823, 0.8266340815365641, 0.3230893170361516],
    [1.7237754218278458, -0.02307672595066363, -1.7639044085633397, 1.618809097729323],
]
PUBLISHED = [  # sxx, syx, times, levels
    (
        *(SXX0, SYX0, [0.3333333333333333, 0.6247142144741789, 1.4187245883010435]),
        [8.233032284959515, 1.2276960605733416, 0.24122389078909282, 0.0],
    ),
    (
        *(SXX1, SYX1, [0.3333333333333333, 0.6139494282657637, 1.4248565509857039]),
        [12.679219469155989, 2.3396646188452337, 0.5982880622710767, 0.0],
    ),
]


def half_times(sxx, syx, found, alpha, hidden=5, seed=0):
    """Times at which the flow's loss passes the mean of adjacent levels."""
    syx, sxx = np.asarray(syx), np.asarray(sxx)
    (c, d), rng = syx.shape, np.random.default_rng(seed)
    split = c * hidden

    def parts(z):
        return z[:split].reshape(c, hidden), z[split:].reshape(hidden, d)

    def field(t, z):
        a, w = parts(z)
        error = syx - a @ w @ sxx
        return np.concatenate([(error @ w.T).ravel(), (a.T @ error).ravel()])

    best = syx @ np.linalg.pinv(sxx)

    def passes(level):
        def event(t, z):
            rest = np.subtract(np.matmul(*parts(z)), best)
            return np.trace(rest @ sxx @ rest.T) / 2 - level

        return event

    start = alpha * rng.standard_normal((c + d) * hidden)
    levels = (found.loss[1:] + found.loss[:-1]) / 2
    until = (found.times[-1] * -np.log(alpha) + 12) * 1.05
    options = {"method": "DOP853", "rtol": 1e-9, "atol": 1e-4 * alpha}
    run = solve_ivp(field, (0, until), start, events=[passes(l) for l in levels], **options)
    return np.array([times[0] for times in run.t_events])


def slopes(sxx, syx, found, **options):
    late, early = (half_times(sxx, syx, found, a, **options) for a in (1e-8, 1e-6))
    return (late - early) / np.log(100)


@pytest.mark.parametrize(("sxx", "syx", "times", "levels"), PUBLISHED)
def test_published_digits(sxx, syx, times, levels):
    found = flow.linear_jumps(sxx, syx)
    np.testing.assert_allclose(found.times, times, rtol=1e-12)
    np.testing.assert_allclose(found.loss, levels, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.maps[-1], syx @ np.linalg.inv(sxx), atol=1e-12)
    assert [np.linalg.matrix_rank(m) for m in found.maps] == [0, 1, 2, 3]


@pytest.mark.parametrize(("sxx", "syx", "times", "levels"), PUBLISHED)
def test_flow_jumps_when_theory_says(sxx, syx, times, levels):
    found = flow.linear_jumps(sxx, syx)
    assert found.relaxation_exponents.min() > 0.25
    np.testing.assert_allclose(slopes(sxx, syx, found), found.times, rtol=1e-2)


def test_commuting_moments():
    found = flow.linear_jumps(np.diag([1.2, 0.8, 0.5]), np.diag([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(found.times, [1 / 3, 1 / 2, 1], rtol=1e-14)
    np.testing.assert_allclose(found.loss, [3.75 + 3.5, 3.5, 1.0, 0.0], atol=1e-13)


def test_orders_of_size_and_of_gain_may_differ():
    # s = (3, 2) but s²/lam = (3, 4): the first jump is to s = 3, and not to the best rank 1.
    sxx, syx = np.diag([3.0, 1.0]), np.diag([3.0, 2.0])
    found = flow.linear_jumps(sxx, syx)
    np.testing.assert_allclose(found.times, [1 / 3, 1 / 2], rtol=1e-14)
    np.testing.assert_allclose(found.loss, [3.5, 2.0, 0.0], atol=1e-14)
    np.testing.assert_allclose(slopes(sxx, syx, found, hidden=3), found.times, rtol=1e-2)
    # Without blocks one expects reduced-rank regression of the whole, and is wrong.
    plain = [1 / 3, 1 / 3 + (1 - 2 / 3) / 3]
    assert abs(found.times[1] - plain[1]) > 0.05


def rotated(sxx, syx, seed):
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in np.shape(syx))
    return v @ sxx @ v.T, u @ syx @ v.T


def test_blocks_are_found_in_any_basis():
    sxx = np.array([[1.0, 0.4, 0.0], [0.4, 0.8, 0.0], [0.0, 0.0, 2.5]])
    syx = np.array([[1.4, -0.5, 0.0], [0.2, 1.1, 0.0], [0.0, 0.0, 2.3]])
    apart = flow.linear_jumps(sxx[:2, :2], syx[:2, :2])
    whole = flow.linear_jumps(sxx, syx)
    turned = flow.linear_jumps(*rotated(sxx, syx, 3))
    np.testing.assert_allclose(turned.times, whole.times, rtol=1e-10)
    np.testing.assert_allclose(turned.loss, whole.loss, atol=1e-12)
    np.testing.assert_allclose(whole.times[0], 1 / 2.3)
    np.testing.assert_allclose(whole.loss[1:], apart.loss, atol=1e-12)
    np.testing.assert_allclose(slopes(sxx, syx, whole), whole.times, rtol=1e-2)


def test_ties_have_equal_times():
    found = flow.linear_jumps(*rotated(np.eye(3), np.diag([2.0, 2.0, 1.0]), 1))
    np.testing.assert_allclose(found.times, [0.5, 0.5, 1.0], rtol=1e-12)
    np.testing.assert_array_equal(found.ties, [False, True, False])


def test_singular_moments_and_one_output():
    sxx = np.diag([2.0, 0.5, 0.0])
    found = flow.linear_jumps(sxx, [1.0, 0.5, 0.0])
    np.testing.assert_allclose(found.maps[1], [[0.5, 1.0, 0.0]], atol=1e-14)
    np.testing.assert_allclose(found.times, [1 / np.sqrt(1.25)])
    with pytest.raises(ValueError, match="range of sxx"):
        flow.linear_jumps(sxx, [1.0, 0.5, 0.1])
    nothing = flow.linear_jumps(np.eye(2), np.zeros((3, 2)))
    assert nothing.times.shape == nothing.relaxation_exponents.shape == (0,)
    assert nothing.maps.shape == (1, 3, 2)


def test_data_give_the_loss_itself():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    found = flow.linear_jumps(SimpleNamespace(x=x, y=y, reduce="mean"))
    np.testing.assert_allclose(found.loss[0], np.sum(y**2) / 18)
    best = np.linalg.lstsq(x, y)[0]
    np.testing.assert_allclose(found.loss[-1], np.sum((y - x @ best) ** 2) / 18)
    np.testing.assert_allclose(found.floor, found.loss[-1])
    bare = flow.linear_jumps(x.T @ x / 9, y.T @ x / 9)
    np.testing.assert_allclose(bare.loss, found.excess_loss, atol=1e-13)
    for seed in range(6):
        x, y = np.random.default_rng(seed).standard_normal((2, 3, 4))
        fitted = flow.linear_jumps(SimpleNamespace(x=x, y=y, reduce="mean"))
        assert 0 <= fitted.floor <= fitted.loss[-1] < 1e-9


def test_relaxation_exponents():
    task = task_of(moments(SXX0, SYX0, "test"))
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((3, 2)), rng.standard_normal((2, 4))

    def loss(z):
        rest = z[:6].reshape(3, 2) @ z[6:].reshape(2, 4) - task.best
        return jnp.trace(rest @ task.sxx @ rest.T) / 2

    expected = jax.hessian(loss)(np.concatenate([a.ravel(), w.ravel()]))
    np.testing.assert_allclose(hessian(task, a, w), expected, atol=1e-12)
    # One mode relaxes with 2 s; others at M_1 = diag(s_1, 0) are saddles or gauge.
    found = flow.linear_jumps(np.eye(2), np.diag([3.0, 2.0]))
    np.testing.assert_allclose(found.relaxation_exponents, [(1 / 2 - 1 / 3) * 1.0, np.inf])


def test_relaxation_is_worked_out_when_it_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(_linear, "hessian", lambda *a: calls.append(a) or hessian(*a))
    found = pickle.loads(pickle.dumps(flow.linear_jumps(np.eye(2), np.diag([3.0, 2.0]))))
    assert not calls
    first = found.relaxation_exponents
    assert found.relaxation_exponents is first
    assert len(calls) == 1
    assert "relaxation" not in repr(found)


def test_bad_input_is_refused():
    for sxx, syx, message in [
        (np.eye(2), np.ones((2, 3)), r"\(d, d\)"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones(2), "symmetric"),
        (np.diag([1.0, -1.0]), np.ones(2), "semi-definite"),
        (np.eye(2), 1j * np.ones(2), "real"),
    ]:
        with pytest.raises(ValueError, match=message):
            flow.linear_jumps(sxx, syx)


@pytest.mark.parametrize(("sxx", "syx", "times", "levels"), PUBLISHED)
def test_greedy_low_rank_learning_has_the_same_plateaus(sxx, syx, times, levels):
    found, expected = flow.greedy_low_rank(sxx, syx), flow.linear_jumps(sxx, syx)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-9)
    np.testing.assert_allclose(found.loss, levels, atol=1e-10)
    assert np.isnan(found.times).all()


def test_greedy_low_rank_learning_respects_blocks():
    found = flow.greedy_low_rank(np.diag([3.0, 1.0]), np.diag([3.0, 2.0]))
    np.testing.assert_allclose(found.loss, [3.5, 2.0, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="size"):
        flow.greedy_low_rank(np.eye(2), np.eye(2), size=0.0)
