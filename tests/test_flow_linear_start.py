"""Linear networks from a given start: modes, jump times of each mode, their law, rotations."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from learndyn import flow

Z0 = np.array(
    [
        [-0.8, -1.32, -0.25, 0.42],
        [1.14, 0.11, -0.55, -0.78],
        [0.75, 1.63, 0.27, -1.23],
        [-0.96, 1.6, 0.2, -1.73],
        [-0.08, -1.16, -0.63, -0.49],
        [-0.71, 0.55, -0.06, -0.59],
    ]
)
R_KK = [1.5643848631331103, 1.611273035762386, 1.7853379335617483]
HALF_TIMES = [3.2195758061889337, 4.71323149027007, 8.977306246421055]


def half_times(w1, w2, sxx, syx, left, right, final, lr=(1.0, 1.0), values=False):
    """Times at which the modes of w2 w1, or its singular values, pass half of `final`."""
    split, (h, d) = w1.size, w1.shape

    def parts(z):
        return z[:split].reshape(h, d), z[split:].reshape(-1, h)

    def field(t, z):
        a, b = parts(z)
        error = syx - b @ a @ sxx
        return np.concatenate([lr[0] * (b.T @ error).ravel(), lr[1] * (error @ a.T).ravel()])

    def passes(k):
        def event(t, z):
            mode = left.T @ np.matmul(*parts(z)[::-1]) @ right
            shown = np.linalg.svd(mode, compute_uv=False) if values else np.diag(mode)
            return shown[k] - final[k] / 2

        event.direction = 1
        return event

    start, events = np.append(w1, w2), [passes(k) for k in range(len(final))]
    options = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-17}
    run = solve_ivp(field, (0, 60), start, events=events, **options)
    return np.array([times[0] for times in run.t_events])


def test_published_digits():
    w1, w2 = 1e-4 * Z0[:3].T, 1e-4 * Z0[3:]
    found = flow.linear_jump_times(w1, w2, np.eye(3), np.diag([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(found.times, HALF_TIMES, rtol=1e-13)
    np.testing.assert_allclose(np.sqrt(found.squares) / 1e-4, R_KK, rtol=1e-12)
    np.testing.assert_array_equal(found.freedom, [4, 3, 2])


@pytest.mark.parametrize("lr", [(1.0, 1.0), (0.3, 2.0)])
def test_modes_jump_when_theory_says(lr):
    rng = np.random.default_rng(4)
    u, v = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (3, 4))
    s, lam = np.array([3.0, 1.8, 0.9]), np.array([1.2, 0.8, 0.5, 1.5])
    sxx, syx = v * lam @ v.T, u * s @ v[:, :3].T
    w1, w2 = 1e-8 * rng.standard_normal((5, 4)), 1e-8 * rng.standard_normal((3, 5))
    found = flow.linear_jump_times(w1, w2, sxx, syx, lr)
    expected = half_times(w1, w2, sxx, syx, u, v[:, :3], s / lam[:3], lr)
    np.testing.assert_allclose(found.times, expected, rtol=1e-6)


def test_tied_modes_jump_as_a_block():
    rng = np.random.default_rng(1)
    w1, w2 = 1e-7 * rng.standard_normal((4, 3)), 1e-7 * rng.standard_normal((3, 4))
    syx = np.diag([2.0, 2.0, 0.7])
    found = flow.linear_jump_times(w1, w2, np.eye(3), syx)
    keep = np.eye(3)[:, :2]
    expected = half_times(w1, w2, np.eye(3), syx, keep, keep, [2.0, 2.0], values=True)
    np.testing.assert_allclose(found.times[:2], expected, rtol=1e-6)
    # Without the block the times depend on the basis, and are wrong.
    c = (w1.T + w2) / np.sqrt(2)
    plain = np.log(4.0 / np.diag(np.linalg.qr(c.T, mode="r"))[:2] ** 2 * 1.0) / 4
    assert np.abs(plain - expected).max() > 1e-3


@pytest.mark.parametrize("lr", [(1.0, 1.0), (0.3, 2.0)])
def test_law_of_random_starts(lr):
    rng, alpha = np.random.default_rng(0), 1e-4
    v = (np.sqrt(lr[0] / lr[1]) + np.sqrt(lr[1] / lr[0])) / 2
    squares = []
    for _ in range(400):
        w1, w2 = alpha * rng.standard_normal((4, 3)), alpha * rng.standard_normal((3, 4))
        found = flow.linear_jump_times(w1, w2, np.eye(3), np.diag([3.0, 2.0, 1.0]), lr)
        squares.append(found.squares / alpha**2)
    for k, column in enumerate(np.transpose(squares)):
        assert stats.kstest(column / v, stats.chi2(found.freedom[k]).cdf).pvalue > 1e-3
        # Negative control: another number of degrees of freedom
        assert stats.kstest(column / v, stats.chi2(found.freedom[k] + 1).cdf).pvalue < 1e-3


def test_few_hidden_units_and_modes_that_are_absent():
    rng = np.random.default_rng(0)
    w1, w2 = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    found = flow.linear_jump_times(w1, w2, np.eye(3), np.diag([3.0, 2.0, 1.0]))
    assert found.times.shape == (2,)
    assert flow.linear_jump_times(w1, w2, np.eye(3), np.diag([3.0, 0, 0])).times.shape == (1,)


def test_rotation_leaves_the_network_alone():
    w1, w2 = 1e-4 * Z0[:3].T, 1e-4 * Z0[3:]
    turned = flow.rotated_start(w1, w2, np.eye(3), np.diag([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(turned[1] @ turned[0], w2 @ w1, atol=1e-22)
    shares = (turned[0].T + turned[1]) / np.sqrt(2)
    np.testing.assert_allclose(np.triu(shares, 1), 0, atol=1e-18)
    np.testing.assert_allclose(np.abs(np.diag(shares)) / 1e-4, R_KK, rtol=1e-12)


def test_saxe_modes_are_the_flow():
    s, lam, start = np.array([3.0, 0.5]), np.array([2.0, 0.7]), np.array([1e-6, 2.0])
    ts = np.linspace(0, 6, 7)
    found = flow.linear_modes(start, s, ts, lam, 0.7)
    field = lambda t, u: 0.7 * 2 * u * (s - lam * u)
    run = solve_ivp(field, (0, 6), start, t_eval=ts, rtol=1e-11, atol=1e-14, method="DOP853")
    np.testing.assert_allclose(found, run.y.T, rtol=1e-8)
    late = flow.linear_modes([1e-300], 3.0, [0.0, 1e4])
    np.testing.assert_allclose(late[:, 0], [1e-300, 3.0], rtol=1e-12)
    with pytest.raises(ValueError, match="start"):
        flow.linear_modes([0.0], 1.0, [0.0])
    assert np.isnan(jax.jit(flow.linear_modes)(np.array([-1.0]), 1.0, np.array([1.0]))).all()


def test_bad_input_is_refused():
    w1, w2, syx = Z0[:3].T, Z0[3:], np.diag([3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="commute"):
        flow.linear_jump_times(w1, w2, np.eye(3) + 0.1, syx)
    with pytest.raises(ValueError, match="hidden"):
        flow.linear_jump_times(w2, w1, np.eye(3), syx)
    with pytest.raises(ValueError, match="lr"):
        flow.linear_jump_times(w1, w2, np.eye(3), syx, (1.0, 0.0))
