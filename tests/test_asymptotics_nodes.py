"""Asymptotics by averages over nodes, which have no derivatives where overlaps are singular."""

import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import Result, asymptotics

TANH = ld.Problem(ld.Tanh(), ld.Tanh(), noise=0.3)
RULE = ld.SGD(lr=0.3)


@pytest.mark.nightly
@pytest.mark.parametrize("m", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_fixed_point_from_a_singular_start(m):
    # The noiseless end is singular, the noisy one is not: the search leaves the one for the other.
    state = asymptotics.specialised_state(m)
    found = asymptotics.fixed_point(TANH, RULE, state)
    nearby = ld.Overlaps(state.Q + 0.02 * jnp.eye(m), 0.99 * state.R, state.T)
    expected = asymptotics.fixed_point(TANH, RULE, nearby)
    assert found.result == expected.result == Result.SUCCESS
    np.testing.assert_allclose(found.eg, expected.eg, rtol=1e-9)
    # The slowest eigenvalue of two units is -0.015.
    fine = found.flow.averages
    end = ld.solve_ode(TANH, RULE, state, [0.0, 1500.0], rtol=1e-8, atol=1e-11, averages=fine)
    np.testing.assert_allclose(found.eg, end.eg[-1], rtol=1e-6)  # rtol of Q and R is 1e-8


@pytest.mark.nightly
def test_fixed_point_at_a_singular_start():
    state = asymptotics.specialised_state(2)
    found = asymptotics.fixed_point(ld.Problem(ld.Tanh(), ld.Tanh()), RULE, state)
    assert found.result == Result.SUCCESS
    np.testing.assert_allclose(found.state.Q, state.Q, atol=1e-12)


@pytest.mark.nightly
def test_locally_optimal_schedule_from_a_singular_start():
    start, ts = ld.Overlaps([[0.0]], [[0.0]], [[1.0]]), np.linspace(0.0, 6.0, 121)
    schedule, eg = asymptotics.locally_optimal_schedule(TANH, RULE, start, ts)
    followed = ld.solve_ode(TANH, ld.SGD(lr=schedule), start, ts).eg
    np.testing.assert_allclose(eg, followed, rtol=1e-4)  # the schedule is linear between its knots
