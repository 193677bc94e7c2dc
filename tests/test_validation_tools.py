"""What claims share programs by changes nothing: filled-up times, silent units, slow rates.

And how ensembles of unequal size are judged.
"""

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from validation import measure
from validation import test_concentration as concentration
from validation.lab import compiling
from validation.lab.compiling import FOR_CHAINS, FOR_ODES
from validation.measure import (
    chain_curves,
    ensembles,
    final_errors,
    learning_curves,
    plateaus,
    sharing,
    single_steps,
    theory,
)

import learndyn as ld

PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.5, lr_second=0.3)
START = ld.Overlaps(
    [[0.5, 0.1], [0.1, 0.4]], [[0.2, 0.0, 0.1], [0.1, 0.3, 0.0]], jnp.eye(3), v=[0.8, 0.6]
)
TS = np.array([0.0, 0.5, 2.0, 5.0])


def test_filled_times_are_increasing_and_belong_to_the_last_step():
    filled = np.asarray(sharing.filled(TS))
    assert len(filled) == sharing.LENGTHS[0]
    np.testing.assert_array_equal(filled[: len(TS)], TS)
    assert (np.diff(filled) > 0).all()
    for n in (3, 784, 16384):
        assert (np.round(filled[len(TS) :] * n) == np.round(TS[-1] * n)).all()
    assert len(sharing.filled(TS, 7)) == 7
    assert len(sharing.filled(np.arange(600.0))) == 600


@pytest.mark.nightly
def test_filled_times_change_no_solution():
    found = theory.solve_ode(PROBLEM, RULE, START, TS, fill_times=True, xla=FOR_ODES)
    exact = ld.solve_ode(PROBLEM, RULE, START, TS)
    assert found.T.shape == (3, 3)
    for name in ("alpha", "Q", "R", "v", "eg"):
        ours, theirs = getattr(found, name), getattr(exact, name)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)


@pytest.mark.nightly
def test_filled_times_change_no_fluctuations():
    rule, start = ld.SGD(lr=0.5), ld.Overlaps([[0.5]], [[0.2]], [[1.0]])
    found = theory.fluctuations(PROBLEM, rule, start, TS, fill_times=True, xla=FOR_CHAINS)
    exact = ld.fluctuations(PROBLEM, rule, start, TS)
    assert found.covariance.shape == exact.covariance.shape
    np.testing.assert_allclose(found.covariance, exact.covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.mean_norm, exact.mean_norm, rtol=1e-6, atol=1e-9)


def test_silent_units_are_refused_where_they_would_change_something():
    with pytest.raises(ValueError, match="at most k = 1 units"):
        sharing.with_silent_units(START, 1)
    biased = ld.Overlaps(START.Q, START.R, START.T, b=[0.1, 0.2], b_teacher=[0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="without biases"):
        sharing.with_silent_units(biased, 4)


def test_ensembles_of_chains_are_refused_where_the_last_block_is_not_whole():
    # Otherwise there would silently be fewer runs, and larger errors, than a claim asked for.
    runs = {"n": 8, "key": jax.random.key(0)}
    for lanes in (ensembles.LANES, plateaus.LANES):
        assert sharing.whole_blocks(lanes + 1, lanes) == 2 * lanes
        assert sharing.whole_blocks(2 * lanes, lanes) == 2 * lanes
    for wrong in (1, ensembles.LANES - 1, ensembles.LANES + 1):
        with pytest.raises(ValueError, match=rf"whole blocks.*got {wrong} runs.*whole_blocks\("):
            ensembles.chain_ensemble(PROBLEM, RULE, START, TS, runs=wrong, **runs)
    wrong = plateaus.LANES + 1
    with pytest.raises(ValueError, match=rf"whole blocks.*got {wrong} runs.*whole_blocks\("):
        plateaus.chains(0.5, [START], 1.0, runs=wrong, **runs)


TOOLS = [
    *(compiling.compiled, compiling.ensemble, compiling.Runs),
    *(theory.solve_ode, theory.fluctuations, theory.odes_from, theory.drift_at),
    *(ensembles.chain_ensemble, ensembles.runs_from, plateaus.chains),
    *(single_steps.drift, single_steps.mean_slopes, final_errors.denoising_end),
    *(sharing.Savings, learning_curves.Curve, chain_curves.ChainCurve),
]
SAVING = {
    "xla": None,
    "xla_runs": None,
    "xla_theory": None,
    "silent_units": None,
    "fill_times": False,
    "fill_grid": False,
    "saves": sharing.NOTHING_SAVED,
}
"""What saves compilations, and the value that does nothing."""


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_no_tool_saves_compilations_unless_asked(tool):
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(tool).parameters.items()
        if name in SAVING
    }
    assert found
    assert found == {name: SAVING[name] for name in found}


def test_tools_name_no_options_of_the_compiler_themselves():
    named = {
        node.id
        for file in Path(measure.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Name)
    }
    assert "XlaOptions" in named
    assert not [name for name in named if name.startswith("FOR_")]


@pytest.mark.nightly
@pytest.mark.parametrize("activation", [ld.Erf(), ld.Linear()])
def test_silent_units_stay_silent_and_change_nothing(activation):
    problem = ld.Problem(activation, activation, noise=0.1)
    larger = sharing.with_silent_units(START, 4)
    found = theory.solve_ode(problem, RULE, larger, TS, xla=FOR_ODES)
    exact = theory.solve_ode(problem, RULE, START, TS, xla=FOR_ODES)
    np.testing.assert_allclose(found.eg, exact.eg, rtol=1e-6)
    np.testing.assert_allclose(found.Q[:, :2, :2], exact.Q, rtol=1e-6, atol=1e-9)
    for silent in (found.Q[:, 2:], found.R[:, 2:], found.v[:, 2:]):
        np.testing.assert_array_equal(silent, 0.0)
    run = ld.simulate_chain(problem, RULE, larger, TS, n=50, key=jax.random.key(0))
    for silent in (run.Q[:, 2:], run.R[:, 2:], run.v[:, 2:]):
        np.testing.assert_array_equal(silent, 0.0)


@pytest.mark.nightly
def test_gradient_flow_is_the_limit_of_large_batches():
    slow = theory.gradient_flow(PROBLEM, RULE, START, TS, xla=FOR_ODES)
    batches = ld.SGD(lr=0.5, lr_second=0.3, batch_size=10**7)
    np.testing.assert_allclose(slow, ld.solve_ode(PROBLEM, batches, START, TS).eg, rtol=1e-5)
    plain = theory.solve_ode(PROBLEM, RULE, START, TS, xla=FOR_ODES).eg
    assert abs(slow[-1] / plain[-1] - 1) > 0.05


@pytest.mark.nightly
def test_ensembles_come_in_whole_blocks():
    lanes = sharing.LANES
    assert [sharing.whole_blocks(x) for x in (1, lanes, lanes + 1)] == [lanes, lanes, 2 * lanes]
    setting = {"n": 20, "key": jax.random.key(0), "fill_times": True, "xla": FOR_CHAINS}
    with pytest.raises(ValueError, match="whole_blocks"):
        ensembles.chain_ensemble(PROBLEM, RULE, START, TS, runs=lanes - 1, **setting)
    found = ensembles.chain_ensemble(PROBLEM, RULE, START, TS, runs=lanes, **setting)
    assert found["eg"].shape == (lanes, len(TS))
    np.testing.assert_allclose(found["alpha"], TS)


def test_unequal_ensembles_are_judged_and_a_run_that_failed_fails_the_claim(rng):
    sizes, ts, constant = np.array([256, 1024, 4096, 16384]), np.array([0.0, 1.0, 2.0]), 0.3
    by_size = [
        constant / n**0.5 * rng.gamma(6.0, 1 / 6, (runs, 2))
        for n, runs in zip(sizes, (2048, 1024, 1024, 512), strict=True)
    ]
    theory = SimpleNamespace(mean_norm=np.array([0.0, constant, constant]))
    dataset = concentration.concentration_dataset(sizes, ts, by_size, theory)
    mean, error = concentration.mean_and_error(dataset)
    for row, spread, x in zip(mean, error, by_size, strict=True):
        np.testing.assert_allclose(row, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(spread, x.std(axis=0, ddof=1) / len(x) ** 0.5, rtol=1e-12)
    assert concentration.judge(dataset).good
    by_size[1][7] = np.nan
    failed = concentration.concentration_dataset(sizes, ts, by_size, theory)
    assert not concentration.judge(failed).passed
