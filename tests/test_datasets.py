"""Datasets: the schema, what they say of their origin, and that files give back what went in."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.datasets import labelled_arrays
from learndyn.dynamics._fluctuations import Spread

TS = jnp.linspace(0.0, 2.0, 5)
SCHEMA = {
    "Q": ("alpha", "student", "student_"),
    "R": ("alpha", "student", "teacher"),
    "T": ("teacher", "teacher_"),
    "v": ("alpha", "student"),
    "b": ("alpha", "student"),
    "v_teacher": ("teacher",),
    "b_teacher": ("teacher",),
    "eg": ("alpha",),
    "alpha_actual": ("alpha",),
    "result": (),
}


def trajectory(k=3, m=2, biases=True, batch=()):
    """Any numbers, in the shapes of a trajectory."""
    count = iter(range(100))

    def numbers(*shape):
        return jnp.arange(np.prod((*batch, *shape), dtype=int)).reshape(*batch, *shape) + float(
            next(count)
        )

    return ld.Trajectory(
        alpha=jnp.broadcast_to(TS + 0.01, (*batch, 5)),
        Q=numbers(5, k, k),
        R=numbers(5, k, m),
        T=numbers(m, m),
        v=numbers(5, k),
        v_teacher=numbers(m),
        b=numbers(5, k) if biases else None,
        b_teacher=numbers(m) if biases else None,
        eg=numbers(5),
        result=jnp.zeros(batch, int),
        stats={"steps": jnp.full(batch, 7)},
    )


@pytest.fixture
def dataset():
    problem, rule = ld.Problem(teacher=jnp.sin, noise=0.1), ld.SGD(lr=lambda alpha: 1 / alpha)
    return ld.to_dataset(trajectory(), problem, rule, level="sgd", n=100, seed=3, ts=TS)


def test_schema(dataset):
    assert {name: dataset[name].dims for name in SCHEMA} == SCHEMA
    assert dict(dataset.sizes) == {
        "alpha": 5, "student": 3, "student_": 3, "teacher": 2, "teacher_": 2
    }  # fmt: skip
    for variable in (*dataset.data_vars.values(), dataset.alpha):
        assert "units" not in variable.attrs  # figures would print them
        assert variable.attrs["long_name"]
    np.testing.assert_array_equal(dataset.alpha, TS)
    np.testing.assert_array_equal(dataset.alpha_actual, TS + 0.01)
    np.testing.assert_array_equal(dataset.R, trajectory().R)
    assert dataset.steps == 7


def test_result_says_what_its_codes_mean(dataset):
    assert dataset.result.dtype == np.int8
    meanings = dataset.result.attrs["flag_meanings"].split()
    values = dataset.result.attrs["flag_values"]
    assert values.dtype == np.int8
    named = {code.name.lower(): code.value for code in ld.Result}
    assert dict(zip(meanings, values, strict=True)) == named


def test_absent_parts_are_absent_variables():
    assert "b" not in ld.to_dataset(trajectory(biases=False))


def test_attributes_say_where_a_dataset_comes_from(dataset):
    attributes = dataset.attrs
    problem, rule = json.loads(attributes["problem"]), json.loads(attributes["rule"])
    assert problem["noise"] == 0.1
    assert problem["student"] == {"type": "Erf"}
    assert "sin" in problem["teacher"]["callable"]
    assert "<lambda>" in rule["lr"]["callable"]
    assert (attributes["level"], attributes["n"], attributes["seed"]) == ("sgd", 100, 3)
    assert attributes["x64"] == 1
    assert json.loads(attributes["versions"])["jax"] == jax.__version__
    assert attributes["creation_library_version"] == ld.__version__
    assert attributes["device"].startswith("cpu")
    assert attributes["created_at"].endswith("+00:00")
    assert "level" not in ld.to_dataset(trajectory()).attrs


@pytest.mark.parametrize("number", [0, 7, 2**32 - 1])
def test_a_key_made_by_a_seed_is_stored_as_that_seed(number):
    stored = ld.to_dataset(trajectory(), seed=jax.random.key(number)).attrs["seed"]
    assert stored == number


def test_any_other_key_is_stored_by_its_words():
    key = jax.random.split(jax.random.key(0))[1]
    kind, *words = ld.to_dataset(trajectory(), seed=key).attrs["seed"].split()
    again = jax.random.wrap_key_data(jnp.array([int(w) for w in words], jnp.uint32), impl=kind)
    assert again == key


def test_batch_axes_have_names_and_values():
    batched = trajectory(batch=(2, 3))
    ds = ld.to_dataset(batched, over={"lr": [0.1, 0.2], "seed": range(3)})
    assert ds.Q.dims == ("lr", "seed", *SCHEMA["Q"])
    np.testing.assert_array_equal(ds.sel(lr=0.2, seed=1).Q, batched.Q[1, 1])
    np.testing.assert_array_equal(ds.alpha, TS + 0.01)


@pytest.mark.parametrize("over", [None, {"lr": [0.1, 0.2, 0.3]}, {"lr": [1, 2], "seed": [0]}])
def test_batch_axes_without_names_are_refused(over):
    with pytest.raises(ValueError, match="over"):
        ld.to_dataset(trajectory(batch=(2,)), over=over)


def test_different_times_without_requested_ones_are_refused():
    late = eqx.tree_at(lambda t: t.alpha, trajectory(batch=(2,)), jnp.stack([TS, TS + 1]))
    with pytest.raises(ValueError, match="ts"):
        ld.to_dataset(late, over={"n": [10, 20]})
    assert ld.to_dataset(late, over={"n": [10, 20]}, ts=TS).alpha_actual.dims == ("n", "alpha")


def test_times_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="times"):
        ld.to_dataset(trajectory(), ts=TS[:-1])


def test_fluctuations_become_variables():
    mean = trajectory(biases=False)
    spread = Spread(Q=mean.Q, R=mean.R, v=mean.v, b=None, eg=mean.eg)
    covariance = jnp.ones((5, 4, 4))
    found = ld.Fluctuations(
        TS, spread, covariance, jnp.ones(5), jnp.asarray(2.0), mean, jnp.asarray(0.1)
    )
    ds = ld.to_dataset(found, level="ode")
    assert ds.R_std.dims == SCHEMA["R"]
    assert ds.covariance.dims == ("alpha", "coordinate", "coordinate_")
    assert (ds.constant, ds.noise_error) == (2.0, 0.1)
    np.testing.assert_array_equal(ds.eg, mean.eg)
    assert "b_std" not in ds


def test_a_dict_names_its_own_variables():
    arrays = {
        "exit_time": 3.0,
        "eg": np.arange(5.0),
        "history": np.zeros((5, 2)),
        "spectrum": (("mode",), np.ones(4)),
    }
    dims = {name: labelled.dims for name, labelled in labelled_arrays(arrays, times=5).items()}
    assert dims == {
        "exit_time": (),
        "eg": ("alpha",),
        "history": ("alpha", "history_1"),
        "spectrum": ("mode",),
    }


def test_what_is_no_result_is_refused():
    with pytest.raises(ValueError, match="Trajectory or a dict"):
        labelled_arrays(3.0, times=5)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_files_give_back_what_went_in(dataset, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    dataset.attrs |= {"none": None, "flag": True, "nested": {"a": [1, None]}, "tricky": "json:x"}
    dataset.attrs["long"] = "x" * 100_000
    dataset.eg.attrs["checked"] = False
    dataset = dataset.assign_coords(label=("student", ["a", "bb", "ccc"]))
    dataset["eg"][2:] = np.nan
    path = tmp_path / "new" / f"run{suffix}"
    assert ld.save(dataset, path) == path
    again = ld.load(path)
    xr.testing.assert_identical(again, dataset)
    assert again.attrs["flag"] is True
    assert again.attrs["none"] is None
    assert {name: again[name].dtype for name in again.variables} == {
        name: dataset[name].dtype for name in dataset.variables
    }
    ld.save(dataset.isel(alpha=[0]), path)  # replaces
    assert ld.load(path).sizes["alpha"] == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_files_are_plain_netcdf(dataset, tmp_path):
    ld.save(dataset, tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as plain:
        xr.testing.assert_identical(plain.load(), dataset)


def test_an_interrupted_save_leaves_the_old_file(dataset, tmp_path, monkeypatch):
    path = ld.save(dataset, tmp_path / "run.nc")

    def fail(self, path, **keywords):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(KeyboardInterrupt):
        ld.save(dataset, path)
    xr.testing.assert_identical(ld.load(path), dataset)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.nc"]


def test_bad_paths_and_attributes_are_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"\.nc"):
        ld.save(dataset, tmp_path / "run.pickle")
    with pytest.raises(FileNotFoundError):
        ld.load(tmp_path / "absent.nc")
    dataset.attrs["problem_object"] = ld.Problem()
    with pytest.raises(ValueError, match="problem_object"):
        ld.save(dataset, tmp_path / "run.nc")


def test_a_state_comes_back_from_a_dataset():
    start = ld.Overlaps([[0.5]], [[0.1]], [[1.0]], v=[2.0], b=[0.3])
    ds = ld.to_dataset(trajectory(k=1, m=1))
    for name in ("Q", "R", "T", "v", "v_teacher", "b", "b_teacher"):
        values = np.asarray(getattr(start, name))
        if "alpha" in ds[name].dims:
            ds[name][0] = values
        else:
            ds[name][:] = values
    assert eqx.tree_equal(ld.overlaps_at(ds, 0.1), start)  # alpha = 0 is the nearest
    with pytest.raises(ValueError, match="lr"):
        ld.overlaps_at(ds.expand_dims(lr=[0.1, 0.2]), 0.0)
    with pytest.raises(ValueError, match="no variable"):
        ld.overlaps_at(ds.drop_vars("R"), 0.0)
