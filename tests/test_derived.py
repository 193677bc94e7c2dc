"""The accessor `dataset.learndyn`: units matched to teachers, plateaus, times of exit."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld

TURNED = [2, 0, 1]
"""Which teacher each student unit of `run` learns."""


def overlaps_of(w, w_teacher):
    """Q, R and T of weights (…, k, n) and (m, n)."""
    n = w.shape[-1]
    return w @ np.swapaxes(w, -1, -2) / n, w @ w_teacher.T / n, w_teacher @ w_teacher.T / n


def run(choice, times=5, m=3, seed=0):
    """A dataset in which student units turn from noise to the teachers of `choice`."""
    rng = np.random.default_rng(seed)
    n = 60
    w_teacher = np.sqrt(n) * np.linalg.qr(rng.normal(size=(n, m)))[0].T
    noise = 0.3 * rng.normal(size=(len(choice), n))
    share = np.linspace(0.0, 1.0, times)[:, None, None]
    w = share * w_teacher[choice] + (1.0 - share) * noise
    q, r, t = overlaps_of(w, w_teacher)
    eg = np.linspace(1.0, 0.1, times)
    v = np.broadcast_to(10.0 + np.arange(len(choice)), (times, len(choice)))
    return ld.to_dataset({"Q": q, "R": r, "T": t, "v": v, "eg": eg}, ts=np.arange(times))


def together(*runs):
    return xr.concat([one.expand_dims("seed") for one in runs], "seed", coords="minimal")


class TestUnits:
    def test_order_puts_each_unit_before_its_teacher(self):
        ds = run(TURNED)
        found = ds.learndyn.order()
        np.testing.assert_array_equal(found.unit, [2, 3, 1])
        np.testing.assert_array_equal(found.teacher_of_unit, [1, 2, 3])
        np.testing.assert_array_equal(found.student, [1, 2, 3])
        last = found.isel(alpha=-1)
        np.testing.assert_allclose(last.R, np.eye(3), atol=1e-12)
        by_hand = [1, 2, 0]
        np.testing.assert_array_equal(found.v, ds.v[:, by_hand])
        np.testing.assert_array_equal(found.Q, ds.Q.values[:, by_hand][:, :, by_hand])
        np.testing.assert_array_equal(found.R, ds.R.values[:, by_hand])
        np.testing.assert_array_equal(found.T, ds.T)
        assert found.R.attrs == ds.R.attrs
        assert found.attrs == ds.attrs
        assert "unit" not in ds.coords

    def test_each_run_has_its_own_order(self):
        """The mean over seeds is that of units with the same task."""
        one, two = run(TURNED), run([0, 1, 2], seed=1)
        both = together(one, two).learndyn
        found = both.order()
        np.testing.assert_array_equal(found.unit, [[2, 3, 1], [1, 2, 3]])
        assert found.R.dims == ("seed", "alpha", "student", "teacher")
        assert found.Q.dims == ("seed", "alpha", "student", "student_")
        np.testing.assert_allclose(found.R.isel(alpha=-1).mean("seed"), np.eye(3), atol=1e-12)
        for i, alone in enumerate((one, two)):
            for name in ("Q", "R", "v"):
                np.testing.assert_array_equal(found[name][i], alone.learndyn.order()[name])
            alone = alone.learndyn.specialisation()
            np.testing.assert_allclose(both.specialisation()[i], alone, rtol=1e-14)

    def test_units_that_are_left_follow_in_the_order_of_their_teachers(self):
        found = run([1, 1, 0, 0, 2]).learndyn.alignment()
        np.testing.assert_array_equal(found.teacher_of_unit, [1, 2, 3, 1, 2])
        own = found.isel(alpha=-1).values[range(5), found.teacher_of_unit.values - 1]
        np.testing.assert_allclose(own, 1.0, rtol=1e-12)

    def test_fewer_students_than_teachers(self):
        found = run([2, 0]).learndyn.specialisation()
        np.testing.assert_array_equal(found.teacher_of_unit, [1, 3])
        np.testing.assert_array_equal(found.unit, [2, 1])

    def test_alignment_is_a_cosine(self):
        ds = run(TURNED)
        scale = np.array([1.0, 2.0, 5.0])
        longer = ds.assign(Q=ds.Q * np.outer(scale, scale), R=ds.R * scale[:, None])
        found = longer.learndyn.alignment()
        np.testing.assert_allclose(found, ds.learndyn.alignment(), rtol=1e-12)
        assert found.dims == ("alpha", "student", "teacher")
        first = ds.isel(alpha=0)
        by_hand = float(first.R[1, 0] / np.sqrt(first.Q[1, 1] * first.T[0, 0]))
        assert float(found.sel(student=1, teacher=1)[0]) == pytest.approx(by_hand, rel=1e-12)
        assert found.attrs["long_name"]

    def test_specialisation_is_0_where_teachers_are_alike_and_1_at_its_own(self):
        ds = run(TURNED)
        assert float(ds.learndyn.specialisation()[-1].min()) == pytest.approx(1.0, abs=1e-12)
        same = ds.assign(R=xr.full_like(ds.R, 0.3), Q=ds.Q * 0 + 1.0)
        np.testing.assert_allclose(same.learndyn.specialisation(), 0.0, atol=1e-15)
        first = ds.isel(alpha=0)
        row = np.abs(first.R.values[1]) / np.sqrt(float(first.Q[1, 1]) * np.diag(first.T.values))
        found = float(ds.learndyn.specialisation()[0, 0])
        assert found == pytest.approx(row[0] - max(row[1], row[2]), rel=1e-12)

    def test_one_teacher_leaves_the_cosine(self):
        ds = run([0, 0], m=1).learndyn
        np.testing.assert_allclose(
            ds.specialisation(), abs(ds.alignment()).isel(teacher=0), rtol=1e-14
        )

    def test_a_run_that_stopped_is_matched_where_it_stopped(self):
        ds = run(TURNED)
        stopped = ds.where(ds.alpha < 3)
        stopped["T"] = ds.T
        found = stopped.learndyn.specialisation()
        np.testing.assert_array_equal(found.unit, [2, 3, 1])
        assert np.isnan(found[-1]).all()

    def test_a_single_time_has_units_as_well(self):
        found = run(TURNED).isel(alpha=-1).learndyn.specialisation()
        assert found.dims == ("student",)
        np.testing.assert_allclose(found, 1.0)

    def test_numbered_overlaps_are_left_out_of_order(self):
        ds = run(TURNED).assign(covariance=(("coordinate", "coordinate_"), np.eye(15)))
        assert "covariance" not in ds.learndyn.order()

    @pytest.mark.parametrize("name", ["alignment", "specialisation", "order"])
    def test_what_is_missing_is_named(self, name):
        ds = run(TURNED).drop_vars("Q")
        with pytest.raises(ValueError, match=r"Q, R and T.*has no \['Q'\]"):
            getattr(ds.learndyn, name)()

    def test_gradient_flows_have_no_teacher(self):
        ds = xr.Dataset({"loss": ("t", np.ones(3))}, {"t": np.arange(3)}, {"kind": "flow"})
        with pytest.raises(ValueError, match=r"gradient flow \(flow\).*plateau"):
            ds.learndyn.alignment()


def escaping(rate, plateau=0.1, floor=1e-4, end=200.0, points=401, delta=1e-6):
    """A curve that falls to a plateau and leaves it exponentially, as a committee's does."""
    t = np.linspace(0.0, end, points)
    off = 1.0 / (1.0 + delta * np.exp(np.minimum(rate * t, 300.0)))
    return t, (plateau - floor) * off + floor + 0.4 * np.exp(-t)


def curve(t, eg, **others):
    return xr.Dataset({"eg": ("alpha", eg)} | others, {"alpha": t})


class TestCurves:
    def test_exit_times_are_interpolated(self):
        ds = curve(np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.5, 0.1]))
        assert float(ds.learndyn.exit_time(below=0.3)) == pytest.approx(2.0)
        assert float(ds.learndyn.exit_time(below=2.0)) == 0.0
        assert np.isnan(ds.learndyn.exit_time(below=0.05))

    def test_true_times_are_used_where_they_are_known(self):
        ds = curve(np.array([0.0, 1.0]), np.array([1.0, 0.0]), alpha_actual=("alpha", [0.0, 1.2]))
        assert float(ds.learndyn.exit_time(below=0.5)) == pytest.approx(0.6)

    def test_below_may_differ_between_runs(self):
        t = np.linspace(0.0, 10.0, 101)
        rates = xr.DataArray([1.0, 2.0], {"lr": [0.1, 0.2]}, "lr")
        ds = xr.Dataset({"eg": np.exp(-rates * xr.DataArray(t, {"alpha": t}, "alpha"))})
        found = ds.learndyn.exit_time(below=xr.DataArray([0.1, 0.01], {"lr": [0.1, 0.2]}, "lr"))
        np.testing.assert_allclose(found, np.log(10.0), rtol=2e-3)
        assert found.dims == ("lr",)

    @pytest.mark.parametrize("rate", [0.1, 0.2])
    def test_a_plateau_and_its_exit(self, rate):
        t, eg = escaping(rate)
        found = curve(t, eg).learndyn.plateau()
        # off = 1/2 at the exit from 0.1 to 0.05, floor and relaxation aside
        assert float(found.exit) == pytest.approx(np.log(1e6) / rate, rel=0.01)
        assert float(found.eg) == pytest.approx(0.1, rel=0.02)
        assert 2.0 < float(found.begin) < 6.5
        assert 0.8 * float(found.exit) < float(found.end) < float(found.exit)
        assert float(curve(t, eg).learndyn.exit_time()) == float(found.exit)

    def test_each_run_has_its_own_plateau(self):
        curves = [escaping(rate) for rate in (0.1, 0.2)]
        noise = 1.0 + 0.02 * np.random.default_rng(0).normal(size=(2, 401))
        eg = np.stack([eg for _, eg in curves]) * noise
        ds = xr.Dataset({"eg": (("seed", "alpha"), eg)}, {"alpha": curves[0][0]})
        found = ds.learndyn.plateau()
        np.testing.assert_allclose(found.exit, np.log(1e6) / np.array([0.1, 0.2]), rtol=0.02)
        assert found.exit.dims == ("seed",)
        np.testing.assert_array_equal(ds.learndyn.exit_time(), found.exit)

    @pytest.mark.parametrize(
        "eg",
        [
            lambda t: np.exp(-0.05 * t),
            lambda t: 1.0 / (1.0 + t),
            lambda t: np.exp(-t) + 0.1,
            lambda t: np.full_like(t, np.nan),
        ],
        ids=["exponential", "power law", "end of a run", "failed"],
    )
    def test_curves_without_a_plateau(self, eg):
        t = np.linspace(0.0, 100.0, 301)
        found = curve(t, eg(t)).learndyn.plateau()
        assert all(np.isnan(found[name]) for name in ("eg", "begin", "end", "exit"))
        assert np.isnan(curve(t, eg(t)).learndyn.exit_time())

    def test_the_loss_of_a_gradient_flow_has_plateaus_too(self):
        t, loss = escaping(0.1)
        ds = xr.Dataset({"loss": ("t", loss)}, {"t": t}, {"kind": "flow"})
        found = ds.learndyn.plateau()
        assert float(found.loss) == pytest.approx(0.1, rel=0.02)
        assert float(ds.learndyn.exit_time()) == pytest.approx(np.log(1e6) / 0.1, rel=0.01)

    def test_a_dataset_without_a_curve_says_so(self):
        jumps = xr.Dataset({"loss": ("plateau", np.ones(2))}, attrs={"kind": "jumps"})
        for ask in (jumps.learndyn.plateau, jumps.learndyn.exit_time):
            with pytest.raises(ValueError, match="eg along alpha, or the loss"):
                ask()

    @pytest.mark.parametrize("name", ["width", "fraction"])
    @pytest.mark.parametrize("share", [0.0, 1.0, np.nan])
    def test_shares_are_between_0_and_1(self, name, share):
        t, eg = escaping(0.1)
        with pytest.raises(ValueError, match=f"{name} must be a share"):
            curve(t, eg).learndyn.plateau(**{name: share})

    @pytest.mark.parametrize("below", [0.0, -1.0, np.nan])
    def test_below_is_positive(self, below):
        t, eg = escaping(0.1)
        with pytest.raises(ValueError, match="must be > 0"):
            curve(t, eg).learndyn.exit_time(below=below)


@pytest.mark.nightly
def test_seeds_of_a_chain_agree_once_their_units_are_in_order():
    """At n = 50 chance decides which unit learns what; `order` undoes it."""
    problem, rule = ld.Problem(), ld.SGD(lr=1.0)
    start = ld.Overlaps(0.25 * jnp.eye(2), jnp.zeros((2, 2)), jnp.eye(2))
    keys = jax.random.split(jax.random.key(1), 6)
    ts = jnp.linspace(0.0, 150.0, 4)
    simulate = jax.vmap(lambda key: ld.simulate_chain(problem, rule, start, ts, n=50, key=key))
    runs = ld.to_dataset(simulate(keys), over={"seed": range(6)})
    last = runs.learndyn.order().R.isel(alpha=-1)
    assert float(abs(last - np.eye(2)).max()) < 0.1
    assert len({tuple(row) for row in last.unit.values.tolist()}) == 2
    assert float(runs.learndyn.specialisation().isel(alpha=-1).min()) > 0.9


@pytest.mark.nightly
def test_the_plateau_of_a_committee_is_the_symmetric_fixed_point():
    """eg = 0.012615 at K = M = 2 and lr = 0.2, left at the rate 0.012971 from an asymmetry."""
    point = ld.asymptotics.plateau(2, 0.2)
    ts = jnp.linspace(0.0, 1800.0, 721)

    def left_from(asymmetry):
        q = point.c + (point.q - point.c) * jnp.eye(2)
        r = point.r + asymmetry * jnp.array([[1.0, -1.0], [-1.0, 1.0]])
        start = ld.Overlaps(q, r, jnp.eye(2))
        return ld.to_dataset(ld.solve_ode(ld.Problem(), ld.SGD(lr=0.2), start, ts)).learndyn

    early, late = left_from(1e-4), left_from(1e-6)
    assert float(late.plateau().eg) == pytest.approx(0.0126150390, rel=1e-4)
    wait = float(late.exit_time() - early.exit_time())
    assert wait == pytest.approx(np.log(100.0) / (0.2 * 0.0648534), rel=1e-3)
    assert float(late.specialisation().sel(alpha=300.0).max()) < 0.01
    assert float(late.specialisation()[-1].min()) > 0.999


def alone(script):
    kept = {name: value for name, value in os.environ.items() if name != "EAGER_IMPORT"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr


def test_import_registers_it_where_xarray_is_loaded_and_loads_no_jax():
    alone("""
import sys, warnings
warnings.simplefilter("error")
import xarray
import learndyn
assert "jax" not in sys.modules
ds = xarray.Dataset({"eg": ("alpha", [1.0, 0.0])}, {"alpha": [0.0, 1.0]})
assert float(ds.learndyn.exit_time(below=0.5)) == 0.5
import learndyn.datasets
""")


@pytest.mark.parametrize("first", ["to_dataset", "load"])
def test_the_first_dataset_registers_it_where_xarray_came_later(first, tmp_path, monkeypatch):
    ds = curve(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    ld.save(ds, tmp_path / "curve.nc")
    monkeypatch.delattr(xr.Dataset, "learndyn")
    if first == "load":
        found = ld.load(tmp_path / "curve.nc")
    else:
        found = ld.to_dataset({"eg": [1.0, 0.0]}, ts=[0.0, 1.0])
    assert float(found.learndyn.exit_time(below=0.5)) == 0.5
