"""The schema of datasets: what a trajectory knows of itself, and files of earlier versions."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.dynamics import LEVELS, level_of

DATA = Path(__file__).parent / "data"
START = ld.Overlaps([[0.3]], [[0.12]], [[1.0]], v=[0.8])
PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
TS = [0.0, 0.33, 1.0]

LAST_EG = {
    "ode": 0.3856505877098846,
    "chain": 0.36829236822908185,
    "sgd": 0.3615616505691873,
    "langevin": 0.35304141461133887,
    "fluctuations": 0.33156164635812796,
}
"""Printed when version 0.1 wrote the files."""

UNITS = {"student": [1, 2], "student_": [1, 2], "teacher": [1, 2, 3], "teacher_": [1, 2, 3]}


def assert_units_are_numbered(dataset):
    for dim, numbers in UNITS.items():
        assert dataset[dim].values.tolist() == numbers
        assert "unit" in dataset[dim].attrs["long_name"]


@pytest.mark.parametrize("name", LAST_EG)
def test_files_of_the_first_version_are_read(name):
    dataset = ld.load(DATA / "schema-0" / f"{name}.nc")
    assert_units_are_numbered(dataset)
    assert "schema" not in dataset.attrs
    assert dataset.attrs["level"] == name
    assert float(dataset.eg[-1]) == LAST_EG[name]
    state = ld.overlaps_at(dataset, 1.0)
    assert (state.k, state.m) == (2, 3)
    assert json.loads(dataset.attrs["rule"])["lr"] == 0.5


def test_a_sweep_of_the_first_version_is_read_and_drawn():
    dataset = ld.load(DATA / "schema-0" / "sweep.nc")
    assert dict(dataset.sizes)["seed"] == 2
    one = dataset.isel(lr=0, n=0, seed=0)
    assert np.isfinite(one.eg).all()
    figure = ld.plot.learning_curve(ld.load(DATA / "schema-0" / "ode.nc"), one)
    assert figure is not None


def test_files_without_numbers_of_units_are_read():
    """Schema 1; the numbers were printed when the files were written."""
    dataset = ld.load(DATA / "schema-1" / "chain.nc")
    assert dataset.attrs["schema"] == 1
    assert_units_are_numbered(dataset)
    assert float(dataset.eg[-1]) == 0.6193524688108499
    assert float(dataset.R.sel(alpha=1.0, student=2, teacher=1)) == -0.023681742438139714
    state = ld.overlaps_at(dataset, 1.0)
    np.testing.assert_array_equal(state.R, dataset.R.values[-1])
    assert ld.rule_of(dataset) == ld.SGD(lr=0.5, lr_second=0.1)
    sweep = ld.load(DATA / "schema-1" / "sweep.nc")
    assert_units_are_numbered(sweep)
    assert float(sweep.eg.sel(lr=0.1, seed=1, alpha=1.0)) == 0.8671938994066721


def test_a_run_of_an_earlier_schema_goes_on_and_is_written_with_units(tmp_path):
    dataset = ld.load(DATA / "schema-1" / "chain.nc")
    more = ld.to_dataset(ld.continue_run(dataset, [1.0, 1.2]))
    np.testing.assert_allclose(more.R[0], dataset.R[-1], rtol=1e-12)
    assert more.attrs["schema"] == 2
    ld.save(more, tmp_path / "more.nc")
    stored = xr.load_dataset(tmp_path / "more.nc", engine="h5netcdf")
    assert_units_are_numbered(stored)


def test_files_of_a_later_version_are_refused(tmp_path):
    dataset = ld.load(DATA / "schema-0" / "ode.nc").assign_attrs(schema=99)
    ld.save(dataset, tmp_path / "later.nc")
    with pytest.raises(ValueError, match=r"schema 99 .* reads up to 2"):
        ld.load(tmp_path / "later.nc")


def run(name, key=None):
    level, key = LEVELS[name], jax.random.key(0) if key is None else key
    if name == "ode":
        return level.function(PROBLEM, RULE, START, TS)
    if name == "sgd":
        weights = ld.weights_from_overlaps(jax.random.key(1), START, 10)
        return level.function(PROBLEM, RULE, weights, TS, key=key)
    own = {"dt": 0.1} if name == "langevin" else {}
    return level.function(PROBLEM, RULE, START, TS, n=10, key=key, **own)


@pytest.mark.parametrize("name", LEVELS)
def test_a_trajectory_alone_makes_its_dataset(name):
    found = run(name)
    dataset = ld.to_dataset(found)
    assert found.level == dataset.attrs["level"] == name
    assert dataset.attrs["schema"] == 2
    assert dataset.student.values.tolist() == dataset.teacher_.values.tolist() == [1]
    np.testing.assert_array_equal(dataset.alpha, TS)
    if name != "ode":
        assert dataset.attrs["n"] == 10
    if name in ("sgd", "chain"):
        np.testing.assert_allclose(dataset.alpha_actual, [0.0, 0.3, 1.0])
    assert json.loads(dataset.attrs["problem"])["noise"] == 0.1
    assert json.loads(dataset.attrs["rule"]) == json.loads(
        ld.to_dataset(found, PROBLEM, RULE).attrs["rule"]
    )


def test_a_number_that_is_the_same_in_all_runs_stands_once():
    keys = jax.random.split(jax.random.key(2), 3)
    found = eqx.filter_vmap(
        lambda key, lr: ld.simulate_chain(PROBLEM, ld.SGD(lr=lr), START, TS, n=10, key=key)
    )(keys, jnp.array([0.1, 0.2, 0.3]))
    assert found.alpha.shape == (3, 3)
    assert found.problem.noise.shape == found.n.shape == (3,)
    dataset = ld.to_dataset(found, over={"lr": [0.1, 0.2, 0.3]})
    assert json.loads(dataset.attrs["problem"])["noise"] == 0.1
    assert json.loads(dataset.attrs["rule"])["lr"] == [0.1, 0.2, 0.3]
    assert dataset.attrs["n"] == 10
    one = found[1]
    assert float(one.rule.lr) == 0.2
    np.testing.assert_array_equal(one.Q, found.Q[1])
    np.testing.assert_array_equal(ld.to_dataset(one).eg, dataset.eg.sel(lr=0.2))


def test_runs_and_times_that_are_not_there():
    found = run("ode")
    with pytest.raises(ValueError, match="single run"):
        found[0]
    with pytest.raises(IndexError, match="3 saved times; got number 500"):
        found.at(500)
    with pytest.raises(IndexError, match="3 saved times; got number -4"):
        found.at(np.int64(-4))
    batch = jax.vmap(lambda key: run("chain", key))(jax.random.split(jax.random.key(0), 2))
    with pytest.raises(IndexError, match="2 runs; got run number 2"):
        batch[2]


class Steep(eqx.Module):
    """A user's activation whose parameter and name are not arrays."""

    steepness: float
    label: str

    def __call__(self, x):
        return jnp.tanh(self.steepness * x)


@pytest.mark.nightly
def test_whatever_a_users_module_holds_a_run_can_be_compiled_and_vmapped():
    problem = ld.Problem(Steep(1.5, "steep"), ld.Erf())

    def one(key):
        return ld.simulate_chain(problem, RULE, START, TS, n=10, key=key)

    found = jax.vmap(one)(jax.random.split(jax.random.key(0), 2))
    assert found[0].problem.student.label == "steep"
    alone = one(jax.random.split(jax.random.key(0), 2)[0])
    np.testing.assert_allclose(found.Q[0], alone.Q, rtol=1e-12)


def test_levels_are_found_by_their_functions():
    assert [level_of(level.function).name for level in LEVELS.values()] == list(LEVELS)
    assert level_of(run) is None
