"""The verdict on a theory and an experiment: right ones agree, wrong ones differ."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.3)
N = 400
WEIGHTS = ld.init_weights(jax.random.key(3), n=N, k=2, m=2)
START = ld.overlaps(WEIGHTS)
TS = np.linspace(0.0, 20.0, 11)


def solve(rule=RULE, problem=PROBLEM, ts=TS):
    return ld.solve_ode(problem, rule, START, ts)


def chains(rule=RULE, runs=8):
    run = lambda key: ld.simulate_chain(PROBLEM, rule, START, TS, n=N, key=key)
    return jax.vmap(run)(jax.random.split(jax.random.key(0), runs))


@pytest.fixture(scope="module")
def theory():
    return solve()


@pytest.fixture(scope="module")
def experiment():
    return chains()


@pytest.fixture(scope="module")
def fluctuations():
    return ld.fluctuations(PROBLEM, RULE, START, TS)


def test_the_right_theory_agrees(theory, experiment, fluctuations):
    found = ld.compare(theory, experiment, fluctuations)
    assert found.verdict == "agree"
    assert 1.5 < found.largest_z < found.limit
    # Each run alone as well, and Fluctuations hold their own theory.
    alone = ld.compare(fluctuations, experiment[0])
    assert alone.verdict == "agree"
    np.testing.assert_allclose(alone["z_R"], found["z_R"].isel(seed=0), rtol=1e-2, atol=1e-2)


@pytest.mark.nightly
def test_the_scatter_of_a_small_error_is_resolved():
    """Where it is not, a run of the right theory seems to differ without end."""
    start, ts = ld.Overlaps([[0.5]], [[0.2]], [[1.0]]), np.linspace(0.0, 100.0, 101)
    problem, rule = ld.Problem(noise=0.01), ld.SGD(lr=0.5)
    fine = ld.testing.SCATTER | {"rtol": 1e-9, "atol": 1e-14}
    found, exact = (
        ld.fluctuations(problem, rule, start, ts, **options)
        for options in (ld.testing.SCATTER, fine)
    )
    assert found.mean.eg[-1] < 1e-5
    np.testing.assert_allclose(found.std.eg[1:], exact.std.eg[1:], rtol=0.02)


def test_its_numbers_are_what_they_say(theory, experiment, fluctuations):
    found = ld.compare(theory, experiment[0], fluctuations)
    difference = experiment.Q[0] - theory.Q
    scatter = fluctuations.std.Q / np.sqrt(N)
    np.testing.assert_allclose(found["difference_Q"], difference)
    np.testing.assert_allclose(found["scatter_Q"][1:], scatter[1:], rtol=1e-3)
    np.testing.assert_allclose(found["z_Q"][1:], (difference / scatter)[1:], rtol=1e-3)
    assert set(found) == {
        f"{kind}_{name}" for kind in ("difference", "scatter", "z") for name in ("Q", "R", "eg")
    }
    np.testing.assert_array_equal(found["alpha"], TS)
    # At the start both are the same; the solver's tolerance keeps 0 / 0 away.
    assert float(np.abs(found["z_Q"][0]).max()) < 1e-3


@pytest.mark.nightly
def test_the_scores_are_those_of_a_standard_normal(theory, fluctuations):
    scores = ld.compare(theory, chains(runs=256), fluctuations)["z_eg"][:, 1:]
    # Standard errors of a mean and of a standard deviation of 256, with room for the 1/n bias
    np.testing.assert_allclose(scores.mean("seed"), 0.0, atol=4 / 16 + 0.1)
    np.testing.assert_allclose(scores.std("seed"), 1.0, atol=4 / np.sqrt(2 * 256) + 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: solve(ld.SGD(lr=0.45)),
        lambda: solve(problem=ld.Problem(noise=0.5)),
        lambda: ld.solve_ode(PROBLEM, RULE, dataclasses.replace(START, R=1.5 * START.R), TS),
    ],
    ids=["rate", "noise", "start"],
)
def test_a_wrong_theory_differs(wrong, experiment, fluctuations):
    found = ld.compare(wrong(), experiment, fluctuations)
    assert found.verdict == "differ"
    assert found.largest_z > found.limit


def test_scatter_grows_from_a_common_start(theory, experiment, fluctuations):
    later = slice(5, None)
    late = [ld.to_dataset(run).isel(alpha=later) for run in (theory, experiment[0])]
    with pytest.raises(ValueError, match="must begin at the same overlaps"):
        ld.compare(*late)
    whole = ld.compare(theory, experiment[0], fluctuations)
    spread = ld.to_dataset(fluctuations).isel(alpha=later)
    np.testing.assert_allclose(ld.compare(*late, spread)["z_R"], whole["z_R"][later])


@pytest.mark.nightly
def test_a_theory_of_functions_without_a_name(experiment):
    # Its problem and rule are at hand; only a dataset would have to read them back.
    theory = solve(ld.SGD(lr=lambda alpha: 0.3))
    assert ld.compare(theory, experiment[0]).verdict == "agree"


@pytest.mark.parametrize("moving", ["v", "b"])
def test_a_layer_that_one_side_alone_trains_is_compared(moving, theory, experiment, fluctuations):
    zero = {name: jnp.zeros((*experiment.v.shape[:-1], 2)) for name in ("b",)}
    both = [dataclasses.replace(theory, b=jnp.zeros((11, 2)), b_teacher=jnp.zeros(2))]
    both.append(dataclasses.replace(experiment, **zero, b_teacher=jnp.zeros((8, 2))))
    moved = getattr(both[1], moving).at[..., 5:, 0].add(0.1)
    found = ld.compare(both[0], dataclasses.replace(both[1], **{moving: moved}), fluctuations)
    assert found.verdict == "differ"
    assert found.worst.startswith(f"{moving} at ")


def test_worst_says_where(theory, experiment, fluctuations):
    shifted = dataclasses.replace(experiment, R=experiment.R.at[2, 5, 0, 1].add(1.0))
    found = ld.compare(theory, shifted, fluctuations)
    assert found.worst == "R at seed = 2, alpha = 10, student = 1, teacher = 2"


def test_a_run_that_failed_differs(theory, experiment, fluctuations):
    gone = dataclasses.replace(experiment[0], Q=experiment.Q[0].at[7:].set(jnp.nan))
    found = ld.compare(theory, gone, fluctuations)
    assert found.verdict == "differ"
    assert np.isinf(found.largest_z)


@pytest.mark.nightly
def test_without_fluctuations_they_are_solved_for(theory, experiment, fluctuations, tmp_path):
    path = ld.save(theory, tmp_path / "theory.nc")
    found = ld.compare(ld.load(path), ld.to_dataset(experiment[0]))
    expected = ld.compare(theory, experiment[0], fluctuations)
    np.testing.assert_allclose(found["scatter_eg"], expected["scatter_eg"], rtol=0.1, atol=1e-9)


def test_dimensions_swept_over_n(theory, experiment, fluctuations):
    run = ld.to_dataset(experiment[0])
    both = [run.assign_coords(n=N), run.assign_coords(n=4 * N)]
    import xarray as xr

    found = ld.compare(theory, xr.concat(both, "n", data_vars="all"), fluctuations)
    np.testing.assert_allclose(
        found["z_eg"].sel(n=4 * N)[1:], 2 * found["z_eg"].sel(n=N)[1:], rtol=1e-3
    )


def test_what_cannot_be_compared_is_refused(theory, experiment, fluctuations):
    one = experiment[0]
    later = [ld.to_dataset(run).assign_coords(alpha=TS + 1.0) for run in (theory, one)]
    with pytest.raises(ValueError, match="theory must be a run of the ODE"):
        ld.compare(one, theory)
    with pytest.raises(ValueError, match="experiment must have an input dimension n"):
        ld.compare(theory, theory)
    with pytest.raises(ValueError, match="times of the experiment must be those of the theory"):
        ld.compare(theory, later[1])
    with pytest.raises(ValueError, match="times of the fluctuations"):
        ld.compare(*later, fluctuations)
    with pytest.raises(ValueError, match="compare takes trajectories or datasets"):
        ld.compare(theory, one.eg)
    with pytest.raises(ValueError, match="2 batch axes"):
        ld.compare(theory, jax.tree.map(lambda leaf: leaf[None], experiment))
    with pytest.raises(ValueError, match="same teacher; T differ"):
        ld.compare(theory, dataclasses.replace(one, T=1.01 * one.T))
    with pytest.raises(ValueError, match="got one time"):
        ld.compare(ld.to_dataset(theory).isel(alpha=-1), ld.to_dataset(one).isel(alpha=-1))
    fewer = ld.to_dataset(one).isel(student=[0], student_=[0])
    with pytest.raises(ValueError, match="as many student units; got 2 and 1"):
        ld.compare(theory, fewer)
