"""How a plateau is left, part by part, against numbers by hand and a few lines of NumPy."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import learndyn as ld
from learndyn import asymptotics
from learndyn.asymptotics.fixed_points._linearise import Linearisation
from learndyn.asymptotics.plateaus import _escape
from learndyn.averages import GaussHermite, choose_nodes

LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
ONE = ld.Overlaps([[0.7]], [[0.3]], [[1.4]])
TWO = ld.Overlaps([[0.7]], [[0.3, 0.1]], [[1.4, 0.2], [0.2, 0.9]])
ANYTHING = lambda *arguments, **options: None


def close(found, wanted, rel=1e-12, abs=0.0):
    np.testing.assert_allclose(found, wanted, rtol=rel, atol=abs)


def flow_of(start, problem=LINEAR, **rates):
    return ld.ode_term(problem, ld.SGD(**({"lr": 0.4} | rates)), start).vector_field


# Escape from a plateau


def test_amplitudes_of_one_mode_are_quantiles_and_of_more_are_draws():
    found = _escape._samples(np.array([[2.5]]), 4)
    close(found[:, 0], 2.5**0.5 * scipy.stats.norm.ppf([0.125, 0.375, 0.625, 0.875]))
    spread = np.array([[2.0, 0.7], [0.7, 0.5]])
    found = _escape._samples(spread, 20_000)
    close(np.cov(found.T), spread, rel=0.05)  # five standard errors of the smallest
    np.testing.assert_array_equal(found, _escape._samples(spread, 20_000))


def unstable(monkeypatch, values, noise):
    """What grows fastest by a matrix with these eigenvalues, and left and right eigenvectors."""
    rng = np.random.default_rng(3)
    turn = rng.normal(size=(3, 3))
    matrix = turn @ np.diag(values) @ np.linalg.inv(turn)
    monkeypatch.setattr(_escape, "diffusion", lambda flow, nodes, t, y: jnp.asarray(noise))
    flow, both = flow_of(TWO), np.linalg.eig(matrix)
    given = jnp.zeros(3), jnp.asarray(matrix), *(jnp.asarray(x.astype(complex)) for x in both)
    near = Linearisation(TWO, *given, ("Q", "R", "R"), flow)
    nodes = choose_nodes(LINEAR, 1, 2, biases=False, nodes=GaussHermite(2))
    return matrix, turn, _escape._unstable(near, nodes)


NOISE = np.array([[2.0, 0.3, -0.1], [0.3, 1.5, 0.4], [-0.1, 0.4, 0.7]])


def test_modes_that_grow_nearly_as_fast_as_the_fastest_decide(monkeypatch):
    """The growths 0.5, 0.496 and -0.3: those above 0.99 of the first count."""
    matrix, turn, (rate, modes, spread) = unstable(monkeypatch, [0.5, -0.3, 0.496], NOISE)
    assert rate == pytest.approx(0.5, rel=1e-10)
    # The projector takes the second eigenvector away.
    onto = turn @ np.diag([1.0, 0.0, 1.0]) @ np.linalg.inv(turn)
    assert modes.shape == (3, 2)
    close(modes.T @ modes, np.eye(2), abs=1e-12)
    close(modes @ modes.T @ onto, onto, rel=1e-9, abs=1e-12)
    growth = modes.T @ matrix @ modes
    close(growth @ spread + spread @ growth.T, modes.T @ onto @ NOISE @ onto.T @ modes, rel=1e-9)

    _, turn, (rate, modes, spread) = unstable(monkeypatch, [0.494, -0.3, 0.5], NOISE)
    left = np.linalg.inv(turn)[2] * np.linalg.norm(turn[:, 2])
    close(spread, [[left @ NOISE @ left / (2 * 0.5)]], rel=1e-9)


def test_a_state_that_does_not_grow_lets_nothing_escape(monkeypatch):
    for values in ([-0.1, -0.2, -0.3], [5e-10, -1.0, -0.5], [5e-8, -100.0, -50.0]):
        with pytest.raises(ValueError, match=r"unstable fixed point; the largest growth here is"):
            unstable(monkeypatch, values, NOISE)
    for growth, scale in ((5e-9, 1.0), (5e-7, 100.0)):
        found = unstable(monkeypatch, [growth, -scale, -scale / 2], NOISE)[2][0]
        assert found == pytest.approx(growth, rel=1e-4)


def test_when_eg_has_fallen_far_enough(monkeypatch):
    """eg falls from 0.75 in proportion to time, by a rate that depends on the start."""
    asked = []

    def solve(problem, rule, start, ts, *, averages):
        asked.append(ts)
        return types.SimpleNamespace(eg=0.75 - (start.Q[0, 0] - 0.7) * ts)

    monkeypatch.setattr(_escape, "solve_ode", solve)
    starts = jnp.array([[0.01, 0.0], [0.02, 0.0], [1e-4, 0.0], [5.0, 0.0]])
    given, flow = (jnp.asarray(0.4), 0.5), flow_of(ONE)
    exits = lambda x: (_escape._exit_times.__wrapped__(flow, x, *given), asked[-1])
    found, ts = jax.jit(exits)(starts)
    # Of eg = (Q - 2 R + T) / 2 = 0.75 two fifths are left.
    close(found, [45.0, 22.5, np.nan, 0.09], rel=1e-9)
    end = (np.log(1e4) + 30.0) / 0.5
    close(ts, np.linspace(0.0, end, 4001), rel=1e-12, abs=1e-12)


def replaced(monkeypatch, exits):
    """escape_time with one unstable mode of growth 0.3, which starts with the variance 2.5 / n."""
    asked, mode = [], np.array([[0.6], [-0.8]])
    near = types.SimpleNamespace(flow=types.SimpleNamespace(pack=ANYTHING))
    for name in ("require_fixed_point", "noise_averages", "fixed_flow"):
        monkeypatch.setattr(_escape, name, ANYTHING)
    monkeypatch.setattr(_escape, "linearise", lambda *x, **options: near)
    monkeypatch.setattr(_escape, "_unstable", lambda *x: (0.3, mode, np.array([[2.5]])))
    monkeypatch.setattr(
        _escape, "_exit_times", lambda flow, starts, *x: asked.append((starts, *x)) or exits
    )
    given = LINEAR, ld.SGD(0.4), ONE, [100.0, 2e4]
    return asked, lambda: asymptotics.escape_time(*given, fraction=0.4, runs=4)


def test_times_of_escape_from_those_of_small_starts(monkeypatch):
    asked, call = replaced(monkeypatch, jnp.array([70.0, 90.0]))
    found = call()
    starts, fraction, rate = asked[0]
    close(starts, [[-6e-5, 8e-5], [6e-5, -8e-5]])
    assert (float(fraction), rate) == (0.4, 0.3)
    amplitude = 2.5**0.5 * scipy.stats.norm.ppf([0.125, 0.375, 0.625, 0.875])
    samples = np.array([[70.0], [70.0], [90.0], [90.0]])
    samples = samples + np.log(1e-4 * np.sqrt([100.0, 2e4]) / abs(amplitude)[:, None]) / 0.3
    close(found.samples, samples)
    close(found.mean, samples.mean(axis=0))
    close(found.std, samples.std(axis=0))
    close(found.constant, samples.mean(axis=0)[1] - np.log(2e4) / 0.6)
    assert (float(found.rate), found.n.tolist()) == (0.3, [100.0, 2e4])


def test_ways_out_that_never_end_are_told(monkeypatch):
    _, call = replaced(monkeypatch, jnp.array([70.0, jnp.nan]))
    with pytest.raises(ValueError, match=r"eg does not fall to 0.4 of its value .* every way out"):
        call()
    rule = ld.SGD(0.4)
    with pytest.raises(ValueError, match="concrete values: not under jit"):
        jax.jit(lambda n: asymptotics.escape_time(LINEAR, rule, ONE, n))(100.0)
    # A run counts from n = 1 on.
    with pytest.raises(ValueError, match="n must be"):
        asymptotics.escape_time(LINEAR, rule, ONE, 0.5)
