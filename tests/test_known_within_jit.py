"""Numbers that are known while something else is traced: what is asked of them must not be traced.

Within jit, JAX traces each of its own operations, those on known numbers, too. So `bool` of such an
operation fails where a user compiles, say, a function of the rate alone.
"""

import equinox as eqx
import first_calls
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics, flow
from learndyn.asymptotics.fixed_points._singular import is_singular

RELU, RULE = ld.Problem(ld.ReLU(), ld.ReLU(), noise=0.1), ld.SGD(lr=0.1)
START = ld.Overlaps([[0.5, 0.1], [0.1, 0.4]], [[0.2, 0.0], [0.1, 0.3]], np.eye(2))
STEEP = ld.Problem(jnp.sin, jnp.sin, loss=lambda phi, y: (phi - y) ** 4)
LEVELS = [0.5, 0.0]


@pytest.fixture(scope="module")
def run():
    data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
    return flow.gradient_flow(flow.LinearNeuron(0.01, [0.01, 0.0]), data, np.linspace(0, 20, 11))


def agree(call):
    np.testing.assert_allclose(jax.jit(call)(), call(), rtol=1e-9, atol=1e-13)


def test_runs_of_a_flow(run):
    agree(lambda: flow.jump_times(run, LEVELS, done=0.75))
    agree(lambda: flow.dwell_times(run, LEVELS))
    agree(lambda: run.at(1).w)
    with pytest.raises(ValueError, match="decrease"):
        jax.jit(lambda: flow.jump_times(run, LEVELS[::-1]))()
    with pytest.raises(ValueError, match="done is a share"):
        jax.jit(lambda: flow.jump_times(run, LEVELS, done=1.5))()
    stopped = eqx.tree_at(lambda run: run.loss, run, run.loss.at[-1].set(jnp.nan))
    with pytest.raises(ValueError, match="no model at saved time number 10"):
        jax.jit(lambda: stopped.at(10).w)()


def test_closed_forms():
    agree(lambda: asymptotics.eg_specialised(2, 1, 0.05, 1.0))
    with pytest.raises(ValueError, match="below the critical rate"):
        jax.jit(lambda: asymptotics.eg_specialised(2, 1, 50.0, 1.0))()


def test_states_without_weights_and_singular_ones():
    no_weights = ld.Overlaps(np.zeros((2, 2)), np.zeros((2, 2)), np.eye(2))
    with pytest.raises(ValueError, match="Q_ii > 0 for every unit"):
        jax.jit(lambda: asymptotics.linearise(RELU, RULE, no_weights).jacobian)()
    found = []
    states = START, asymptotics.specialised_state(2)
    jax.jit(lambda: found.extend(is_singular(state) for state in states) or jnp.zeros(()))()
    assert found == [False, True]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("problem", "state"),
    [(RELU, START), (STEEP, START), (STEEP, asymptotics.specialised_state(2))],
    ids=["relu", "nodes", "student = teacher"],
)
def test_linearisations(problem, state):
    agree(lambda: asymptotics.linearise(problem, RULE, state).jacobian)


@pytest.mark.nightly
@pytest.mark.parametrize("group", first_calls.GROUPS)
def test_public_functions(group):
    for call in first_calls.GROUPS[group].values():
        agree(lambda call=call: call(1.0))
