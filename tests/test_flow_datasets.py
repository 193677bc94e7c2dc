"""Runs of gradient flow and sequences of jumps as labelled datasets, in memory and in files."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn import flow

DATA = flow.Data([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]], [1.0, -0.5, 0.3])
WIDE = flow.Moments(np.eye(3), np.diag([3.0, 1.0])[:, [0, 1, 1]] * [1, 1, 0])
TS = np.linspace(0.0, 2.0, 5)
NETWORK = flow.LinearNetwork([0.1 * np.ones((2, 3)), 0.2 * np.eye(2)])


def neuron_run(a):
    return flow.gradient_flow(flow.LinearNeuron(a, jnp.array([0.1, 0.2])), DATA, TS)


@pytest.fixture(scope="module")
def batch():
    return jax.vmap(neuron_run)(jnp.array([0.5, -0.3, jnp.nan]))


def one_step(model, data, **options):
    return flow.gradient_descent(model, data, 1, lr=0.1, **options)


class TestRuns:
    def test_one_run_has_its_layers_along_named_dimensions(self, batch):
        run = batch[0]
        ds = ld.to_dataset(run, seed=7, attributes={"note": "mine"})
        assert {name: ds[name].dims for name in ("a", "w", "beta", "loss", "speed")} == {
            "a": ("t",), "w": ("t", "input"), "beta": ("t", "input"), "loss": ("t",),
            "speed": ("t",),
        }  # fmt: skip
        np.testing.assert_array_equal(ds.t, TS)
        np.testing.assert_array_equal(ds.w, run.model.w)
        np.testing.assert_allclose(ds.beta, run.model.a[:, None] * run.model.w, rtol=1e-15)
        np.testing.assert_array_equal(ds.loss, run.loss)
        assert (ds.result.item(), ds.end.item()) == (0, 2.0)
        assert (ds.attrs["kind"], ds.attrs["model"]) == ("flow", "LinearNeuron")
        assert (ds.attrs["seed"], ds.attrs["note"], ds.attrs["schema"]) == (7, "mine", 2)

    def test_everything_is_described(self, batch):
        ds = ld.to_dataset(batch, over={"start": range(3)})
        for name in ds.variables:
            assert "units" not in ds[name].attrs
            assert ds[name].attrs["long_name"] not in ("", name)
        assert ds.result.attrs["flag_meanings"].split()[0] == "success"

    def test_a_batch_keeps_the_code_of_its_failed_run(self, batch):
        ds = ld.to_dataset(batch, over={"a0": [0.5, -0.3, np.nan]})
        assert ds.w.dims == ("a0", "t", "input")
        assert (ds.result.dims, ds.result.dtype) == (("a0",), np.int8)
        assert ds.result.values.tolist() == [0, 0, ld.Result.INVALID_INPUT]
        assert np.isnan(ds.loss.isel(a0=2, t=-1))
        np.testing.assert_array_equal(ds.w.isel(a0=1), batch[1].model.w)

    def test_layers_of_networks(self):
        deep = ld.to_dataset(one_step(NETWORK, WIDE))
        assert deep.w1.dims == ("t", "hidden", "input")
        assert deep.w2.dims == ("t", "output", "hidden")
        assert deep.maps.dims == ("t", "output", "input")
        np.testing.assert_allclose(deep.maps, deep.w2.values @ deep.w1.values, atol=1e-15)
        deeper = flow.LinearNetwork([*NETWORK.weights, np.eye(2)])
        found = ld.to_dataset(one_step(deeper, WIDE, momentum=0.5))
        assert found.w2.dims == ("t", "hidden_2", "hidden_1")
        assert found.velocity_w3.dims == ("t", "output", "hidden_2")
        assert found.t.attrs["long_name"] == "step of gradient descent"

    @pytest.mark.nightly
    def test_networks_with_hidden_units(self):
        relu = ld.TwoLayer(jnp.eye(2), jnp.ones(2), None, ld.LeakyReLU(0.1))
        ds = ld.to_dataset(one_step(relu, DATA))
        assert (ds.w.dims, ds.v.dims) == (("t", "hidden", "input"), ("t", "hidden"))
        assert "b" not in ds
        assert ds.attrs["activation"] == "LeakyReLU(slope=0.1)"
        x = np.array([1.0, -2.0, 1.0])
        modular = flow.ModularAddition(*(np.ones((3, 2, 3)) * [0.1, -0.1, 0.05]))
        ds = ld.to_dataset(one_step(modular, flow.modular_data(x)))
        assert ds.u.dims == ds.w.dims == ("t", "hidden", "site")

    def test_models_of_ones_own_are_named_by_their_fields(self):
        class Own(eqx.Module):
            layer: eqx.nn.Linear
            loss: jax.Array
            count: int = 3

            def __call__(self, x):
                return self.loss * self.layer(x)[0]

        own = Own(eqx.nn.Linear(2, 1, key=jax.random.key(0)), jnp.ones(()))
        ds = ld.to_dataset(one_step(own, DATA))
        assert ds.layer_weight.dims == ("t", "layer_weight_0", "layer_weight_1")
        assert ds.model_loss.dims == ds.loss.dims == ("t",)
        assert "maps" not in ds

    def test_what_does_not_fit_is_refused(self, batch):
        with pytest.raises(ValueError, match="name every batch axis"):
            ld.to_dataset(batch)
        with pytest.raises(ValueError, match="name every batch axis"):
            ld.to_dataset(batch, over={"seed": range(2)})
        with pytest.raises(ValueError, match="choose other names"):
            ld.to_dataset(batch, over={"input": range(3)})
        with pytest.raises(ValueError, match=r"\['problem', 'n'\] belong to trajectories"):
            ld.to_dataset(batch[0], ld.Problem(), n=3)
        late = eqx.tree_at(lambda run: run.t, batch, batch.t + jnp.arange(3.0)[:, None])
        with pytest.raises(ValueError, match="different times"):
            ld.to_dataset(late, over={"seed": range(3)})
        with pytest.raises(ValueError, match="being traced"):
            jax.jit(lambda run: ld.to_dataset(run) and 0)(batch[0])


class TestJumps:
    def test_of_a_diagonal_network(self):
        jumps = flow.diagonal_jumps(DATA)
        ds = ld.to_dataset(jumps)
        assert ds.times.dims == ("jump",)
        assert ds.beta.dims == ds.dual.dims == ("plateau", "input")
        assert ds.active.dims == ("plateau", "neuron")
        np.testing.assert_array_equal(ds.beta, jumps.beta)
        np.testing.assert_array_equal(ds.jump, [1, 2])
        np.testing.assert_array_equal(ds.plateau, [0, 1, 2])
        assert (ds.attrs["degree"], ds.attrs["kind"]) == (2, "jumps")
        assert ds.attrs["stopped"] == jumps.stopped
        assert "alpha" not in ds.attrs
        for name in ds.variables:
            assert ds[name].attrs["long_name"] not in ("", name)

    def test_of_other_networks(self):
        linear = ld.to_dataset(flow.linear_jumps(WIDE))
        assert linear.maps.dims == ("plateau", "output", "input")
        assert linear.relaxation_exponents.dims == ("jump",)
        large = flow.linear_jumps(np.eye(2), np.diag([2.0, 1.0])[np.minimum(np.arange(250), 1)])
        assert "relaxation_exponents" not in ld.to_dataset(large)
        assert large.relaxation_exponents.shape == (2,)
        assert "relaxation_exponents" in ld.to_dataset(large)
        modular = ld.to_dataset(flow.modular_jumps([1.0, -2.0, 1.0]))
        assert modular.frequencies.dims == ("jump",)
        assert modular.attrs["degree"] == 3
        shown = flow.Jumps(
            np.ones(1), np.array([1.0, 0.0]), parameters=np.zeros((2, 3, 4)), alpha=0.1
        )
        ds = ld.to_dataset(shown)
        assert ds.parameters.dims == ("plateau", "neuron", "parameter")
        assert ds.attrs["alpha"] == 0.1

    def test_jumps_have_no_batch(self):
        with pytest.raises(ValueError, match="has no batch axes"):
            ld.to_dataset(flow.diagonal_jumps(DATA), over={"seed": range(2)})


def test_files_give_back_what_was_written(batch, tmp_path):
    nothing = flow.diagonal_jumps(flow.Data(DATA.x, np.zeros(3)))
    written = {
        "run": ld.to_dataset(batch, over={"seed": range(3)}),
        "jumps": ld.to_dataset(flow.linear_jumps(WIDE)),
        "none": ld.to_dataset(nothing),
    }
    for name, ds in written.items():
        xr.testing.assert_identical(ld.load(ld.save(ds, tmp_path / f"{name}.nc")), ds)
    assert written["none"].sizes["jump"] == 0


def test_save_takes_a_run_and_jumps_themselves(batch, tmp_path):
    run, jumps = batch[0], flow.diagonal_jumps(DATA)
    np.testing.assert_array_equal(ld.load(ld.save(run, tmp_path / "run.nc")).w, run.model.w)
    read = ld.load(ld.save(jumps, tmp_path / "jumps.nc"))
    np.testing.assert_array_equal(read.times, jumps.times)
    with pytest.raises(ValueError, match="name every batch axis"):
        ld.save(batch, tmp_path / "batch.nc")
