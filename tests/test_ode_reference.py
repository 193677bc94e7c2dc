"""The ODE against solutions of an independent program, kept next to the test."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

REFERENCE = json.loads((Path(__file__).parent / "data" / "ode_dop853.json").read_text())
CASES = [name for name in REFERENCE if name != "about"]


def solution(name: str, **options):
    case = REFERENCE[name]
    start = ld.Overlaps(**case["start"])
    table = np.array(case["rows"])
    problem = ld.Problem(noise=case["noise"])
    trajectory = ld.solve_ode(problem, ld.SGD(**case["rule"]), start, table[:, 0], **options)
    upper = np.triu_indices(start.k)
    state = np.concatenate(
        [
            np.asarray(trajectory.Q)[:, *upper],
            np.asarray(trajectory.R).reshape(len(table), -1),
            np.asarray(trajectory.v),
        ],
        axis=1,
    )
    assert trajectory.result == ld.Result.SUCCESS
    return np.asarray(trajectory.eg), state, table[:, 1], table[:, 2:]


@pytest.mark.nightly(by_day=[case for case in CASES if case != "iii1"])
@pytest.mark.parametrize("name", CASES)
def test_defaults_follow_the_reference(name):
    """Measured: 2e-7 relative in eg and 9e-10 in Q, R, v at the worst time."""
    eg, state, expected_eg, expected_state = solution(name)
    np.testing.assert_allclose(eg, expected_eg, rtol=1e-6)
    np.testing.assert_allclose(state, expected_state, rtol=0, atol=1e-7)


def test_tighter_tolerances_bring_it_closer():
    eg, state, expected_eg, expected_state = solution("i0", rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(eg, expected_eg, rtol=5e-8)
    np.testing.assert_allclose(state, expected_state, rtol=0, atol=1e-9)


@pytest.mark.nightly
@pytest.mark.parametrize(("units", "nodes", "atol"), [(1, None, 1e-8), (2, 14, 4e-5)])
def test_general_route_gives_the_same_curve(units, nodes, atol):
    """A plain callable has no closed form, so nodes must find the same ODE: as chosen for two
    fields, and 14 nodes a direction for four fields (off by 2e-5)."""
    case = REFERENCE["i0"]["start"]
    blocks = [np.array(case[name])[:units, :units] for name in "QRT"]
    start = ld.Overlaps(*blocks)
    ts = jnp.linspace(0.0, 20.0, 5)

    def sigmoid(x):
        return jax.scipy.special.erf(x / jnp.sqrt(2.0))

    closed = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.2), start, ts)
    general = ld.solve_ode(
        ld.Problem(sigmoid, sigmoid, noise=0.1),
        ld.SGD(lr=0.2),
        start,
        ts,
        averages=nodes and ld.averages.GaussHermite(nodes),
    )
    np.testing.assert_allclose(general.Q, closed.Q, atol=atol)
    np.testing.assert_allclose(general.R, closed.R, atol=atol)
    np.testing.assert_allclose(general.eg, closed.eg, atol=atol)


def test_linear_network_is_the_formula():
    """Goldt et al. 2020, Eq. (12), with its approach: exact for every noise."""
    k, lr, noise = 3, 0.3, 0.5
    start = ld.Overlaps(0.5 * jnp.eye(k), jnp.zeros((k, 2)), jnp.eye(2))
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
    ts = np.linspace(0.0, 10.0, 11)
    eg = np.asarray(ld.solve_ode(problem, ld.SGD(lr=lr), start, ts, rtol=1e-12, atol=1e-14).eg)
    h = lr * k
    fixed = noise**2 * h / (4 - 2 * h)
    expected = fixed + (eg[0] - fixed) * np.exp(-h * (2 - h) * ts)
    np.testing.assert_allclose(eg, expected, rtol=1e-9)


def test_divergence_is_nan_and_said():
    problem = ld.Problem(ld.Linear(), ld.Linear())
    start = ld.Overlaps(jnp.eye(3), jnp.zeros((3, 2)), jnp.eye(2))
    run = ld.solve_ode(problem, ld.SGD(lr=1.0), start, np.linspace(0.0, 30.0, 31))
    assert run.result == ld.Result.DIVERGED
    assert np.isfinite(run.eg[:4]).all()
    assert np.isnan(run.eg[-1])
    assert np.isnan(run.Q[-1]).all()


@pytest.mark.nightly
def test_relu_has_a_closed_form_that_nodes_confirm():
    """Four different fields meet from K + M = 4 on; 65536 nodes are good to about 3e-4."""
    start = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], jnp.eye(2))
    problem = ld.Problem(ld.ReLU(), ld.ReLU(), noise=0.1)
    ts = jnp.linspace(0.0, 5.0, 3)
    closed = ld.solve_ode(problem, ld.SGD(lr=0.2), start, ts)
    assert np.all(closed.stats["averages_error"] == 0.0)
    nodes = ld.averages.QuasiMonteCarlo(16384)
    general = ld.solve_ode(problem, ld.SGD(lr=0.2), start, ts, averages=nodes)
    np.testing.assert_allclose(general.Q, closed.Q, atol=1e-3)
    np.testing.assert_allclose(general.R, closed.R, atol=1e-3)
