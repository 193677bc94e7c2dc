"""Figures: what is drawn is what the datasets hold. How it looks, a person has to judge."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn import plot
from learndyn.plot._style import spread
from learndyn.problems import to_json

LINEAR = np.linspace(0.0, 10.0, 41)
LOG = np.r_[0.0, np.geomspace(0.1, 100.0, 60)]


@pytest.fixture(autouse=True)
def close_figures():
    """Figures change no settings, and none stays open."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def run(alpha=LINEAR, seeds=None, level="ode", rate=0.3, k=2, m=2, lr=None):
    """A dataset with the schema of a run: eg falls exponentially, R and Q are told apart."""
    alpha = np.asarray(alpha)
    scale = np.ones(1) if lr is None else np.asarray(lr)
    shape = () if lr is None else (len(lr),)
    eg = np.exp(-rate * scale[:, None] * alpha).reshape((*shape, len(alpha)))
    dims = () if lr is None else ("lr",)
    coords = {"alpha": alpha} | ({} if lr is None else {"lr": scale})
    units = np.arange(k)[:, None] + 0.1 * np.arange(m)
    ds = xr.Dataset(
        {
            "eg": ((*dims, "alpha"), eg),
            "R": (("alpha", "student", "teacher"), units + alpha[:, None, None]),
            "Q": (("alpha", "student", "student_"), np.eye(k) + 0 * alpha[:, None, None]),
            "alpha_actual": ("alpha", alpha),
            "result": (dims, np.zeros(shape, np.int8)),
        },
        coords,
        {"level": level},
    )
    if seeds is not None:
        factors = xr.DataArray(np.linspace(0.5, 1.5, seeds), dims="seed")
        ds["eg"] = (ds.eg * factors).transpose("seed", ...)
        ds["result"] = ds.result * (0 * factors).astype(np.int8)
    return ds


def lines(ax, marker="None"):
    return [line for line in ax.lines if line.get_marker() == marker]


class TestLearningCurve:
    def test_theory_is_a_line_and_experiment_markers_on_it(self):
        ax = plot.learning_curve(run(), run(level="sgd"))
        (line,), (points,) = lines(ax), lines(ax, "x")
        np.testing.assert_allclose(line.get_xydata(), np.c_[LINEAR, run().eg])
        assert 15 < len(points.get_xdata()) < len(LINEAR)
        np.testing.assert_allclose(points.get_ydata(), np.exp(-0.3 * points.get_xdata()))
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["ODE", "SGD"]
        assert ax.get_yscale() == "log"
        assert ax.get_xscale() == "linear"

    def test_theory_and_experiment_have_their_colours_and_names_have_theirs(self):
        ax = plot.learning_curve(run(), run(level="sgd"))
        assert lines(ax)[0].get_color() == plot.THEORY
        assert lines(ax, "x")[0].get_color() == plot.EXPERIMENT
        legend = [handle.get_color() for handle in ax.get_legend().legend_handles]
        assert legend == [plot.THEORY, plot.EXPERIMENT]
        both = {"one": run(level="sgd"), "other": run(level="chain")}
        ax = plot.learning_curve(run(), both)
        assert lines(ax)[0].get_color() == plot.THEORY
        shades = [points.get_color() for points in lines(ax, "x")]
        assert len({plot.THEORY, *shades}) == 3

    def test_fluctuations_are_the_theory_with_its_band(self):
        """The band is the scatter of one run of the experiment, whose n it needs."""
        ds = run().assign(eg_std=2.0 * run().eg).assign_attrs(level="fluctuations")
        assert not plot.learning_curve(ds).collections
        ax = plot.learning_curve(ds, run(level="sgd").assign_attrs(n=100))
        (band,) = ax.collections
        ends = [y for x, y in band.get_paths()[0].vertices if x == LINEAR[-1]]
        last = ds.eg.values[-1]
        assert (min(ends), max(ends)) == pytest.approx((0.8 * last, 1.2 * last))
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["ODE", "predicted scatter of one run", "SGD"]

    def test_the_predicted_band_is_that_of_each_n(self):
        ds = run().assign(eg_std=2.0 * run().eg)
        dims = xr.concat([run(level="sgd")] * 2, xr.Variable("n", [100, 400]), data_vars="all")
        by_n = xr.concat([ds] * 2, xr.Variable("n", [100, 400]), data_vars="all")
        bands = plot.learning_curve(by_n, dims).collections
        ends = [[y for x, y in b.get_paths()[0].vertices if x == LINEAR[-1]] for b in bands]
        np.testing.assert_allclose([max(y) / ds.eg[-1] for y in ends], [1.2, 1.1])
        assert not plot.learning_curve(ds, dims).collections  # one line cannot have both

    def test_an_ensemble_is_its_median_in_a_band(self):
        ax = plot.learning_curve(experiment=run(seeds=21, level="sgd"))
        (points,), (band,) = lines(ax, "x"), ax.collections
        np.testing.assert_allclose(points.get_ydata(), np.exp(-0.3 * points.get_xdata()))
        start = [y for x, y in band.get_paths()[0].vertices if x == 0.0]
        factors = np.linspace(0.5, 1.5, 21)
        assert min(start) == pytest.approx(np.quantile(factors, 0.16))
        assert max(start) == pytest.approx(np.quantile(factors, 0.84))
        assert "21 runs" in ax.get_legend().get_texts()[0].get_text()

    def test_the_error_of_the_averages_is_a_band_where_it_is_seen(self):
        ds = run()
        error = 0.3 * ds.eg.values
        ax = plot.learning_curve(ds.assign(averages_error_eg=("alpha", error)))
        (band,) = ax.collections
        ends = [y for x, y in band.get_paths()[0].vertices if x == LINEAR[-1]]
        assert min(ends) == pytest.approx(0.7 * ds.eg.values[-1])
        assert max(ends) == pytest.approx(1.3 * ds.eg.values[-1])
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["ODE", "error of the averages"]
        fine = ds.assign(averages_error_eg=("alpha", 1e-3 * error))
        assert not plot.learning_curve(fine).collections

    def test_an_error_above_the_value_leaves_the_axis_as_it_is(self):
        ds = run()
        lost = np.where(LINEAR > 9.0, np.nan, 100.0 * ds.eg.values)
        errors = xr.DataArray([lost, 0.5 * ds.eg.values], dims=("noise", "alpha"))
        ax = plot.learning_curve(ds.assign(averages_error_eg=errors))
        (band,) = ax.collections
        drawn = band.get_paths()[0].vertices
        assert drawn[:, 0].max() == LINEAR[-1]  # the run that goes on has an error there
        assert drawn[:, 1].min() >= 0.099 * ds.eg.values.min()

    def test_true_times_are_used(self):
        late = run(level="sgd").assign(alpha_actual=("alpha", LINEAR + 0.01))
        (points,) = lines(plot.learning_curve(experiment=late), "x")
        assert set(points.get_xdata()) <= set(LINEAR + 0.01)

    def test_curves_of_a_sweep_are_labelled_at_their_ends(self):
        rates = [0.1, 0.2, 0.4]
        ax = plot.learning_curve(run(lr=rates), run(lr=rates, seeds=3, level="sgd"))
        assert len(lines(ax)) == len(lines(ax, "x")) == 3
        texts = {text.get_text(): text for text in ax.texts}
        assert set(texts) == {rf"$\eta$ = {rate:g}" for rate in rates}
        for line, points, rate in zip(lines(ax), lines(ax, "x"), rates, strict=True):
            label = texts[rf"$\eta$ = {rate:g}"]
            assert line.get_color() == points.get_markeredgecolor() == label.get_color()
        heights = [texts[rf"$\eta$ = {rate:g}"].xy[1] for rate in rates]
        assert heights == sorted(heights, reverse=True)  # as the curves themselves

    def test_more_than_six_numbers_get_a_colour_bar(self):
        rates = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64]
        ax = plot.learning_curve(run(lr=rates[:6]))
        assert len(ax.texts) == 6
        assert len(ax.figure.axes) == 1
        ax = plot.learning_curve(run(lr=rates))
        assert not ax.texts
        bar = ax.figure.axes[1]
        assert bar.get_ylabel() == r"$\eta$"
        assert bar.get_yscale() == "log"  # they span decades
        np.testing.assert_allclose(bar.get_ylim(), (rates[0], rates[-1]))
        drawn = [line.get_color() for line in lines(ax)]
        assert len(set(drawn)) == 7
        linear = plot.learning_curve(run(lr=np.linspace(0.1, 0.7, 7)))
        assert linear.figure.axes[1].get_yscale() == "linear"

    def test_numbers_have_three_digits(self):
        ax = plot.learning_curve(run(lr=[0.123456, 0.234567]))
        assert {text.get_text() for text in ax.texts} == {r"$\eta$ = 0.123", r"$\eta$ = 0.235"}

    def test_the_setting_is_one_grey_line(self):
        problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.123456, lr_second=0.5, momentum=0.9)
        known = {"problem": to_json(problem), "rule": to_json(rule)}
        theory = run(k=3).assign_attrs(known)
        sgd = run(k=3, level="sgd").assign_attrs(known | {"n": 784, "seed": 7})
        text = plot.learning_curve(theory, sgd).get_title(loc="right")
        assert text == (
            r"$k$ = 3, $m$ = 2, $n$ = 784, $\eta$ = 0.123, $\eta_v$ = 0.5, $\beta$ = 0.9, "
            r"$\sigma$ = 0.1, seed 7"
        )
        other = sgd.assign_attrs(rule=to_json(ld.SGD(lr=0.2)))
        assert r"$\eta$" not in plot.learning_curve(theory, other).get_title(loc="right")
        swept = theory.assign_attrs(swept="lr noise")
        assert r"$\sigma$" not in plot.learning_curve(swept).get_title(loc="right")
        scheduled = theory.assign_attrs(rule=to_json(ld.SGD(lr=lambda alpha: 0.1)))
        assert r"$\eta$" not in plot.learning_curve(scheduled).get_title(loc="right")
        for axes in (plot.overlap_trajectories(theory), plot.overlap_matrices(theory, [0.0])):
            figure = axes.flat[0].get_figure()
            assert r"$\beta$ = 0.9" in figure.get_suptitle()

    def test_medians_and_bands_are_named(self):
        ax = plot.learning_curve(run(), run(seeds=5, level="sgd"))
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["ODE", "SGD, median of 5 runs", "middle 68 % of runs"]

    def test_the_training_error_is_a_dotted_line_where_it_is_recorded(self):
        ds = run(level="sgd")
        ds["train_error"] = 0.5 * ds.eg
        ax = plot.learning_curve(run(), ds)
        (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        np.testing.assert_allclose(dotted.get_ydata(), 0.5 * ds.eg)
        assert ax.get_legend().get_texts()[-1].get_text() == "training error"

    def test_a_dict_of_datasets_is_labelled_by_its_names(self):
        ax = plot.learning_curve({"slow": run(rate=0.1), "fast": run(rate=0.9)})
        assert {text.get_text() for text in ax.texts} == {"slow", "fast"}

    def test_logarithmic_times_get_a_logarithmic_axis_without_zero(self):
        ax = plot.learning_curve(run(LOG), run(LOG, level="sgd"))
        assert ax.get_xscale() == "log"
        assert ax.get_xlim()[0] == pytest.approx(0.1)
        assert (lines(ax, "x")[0].get_xdata() > 0).all()
        assert plot.learning_curve(run(LOG), log_time=False).get_xscale() == "linear"

    def test_runs_that_stopped_are_left_out_and_told(self):
        ds = run(seeds=4, level="sgd")
        ds["result"][1] = 1
        ds["eg"][1, 20:] = np.nan
        ax = plot.learning_curve(experiment=ds)
        assert "1 of 4 runs stopped early" in ax.get_title(loc="right")
        (points,) = lines(ax, "x")
        expected = np.median(ds.eg.values[[0, 2, 3], -1])
        assert points.get_ydata()[-1] == pytest.approx(expected)

    def test_a_run_that_stopped_at_once_can_be_drawn(self):
        ds = run(level="sgd")
        ds["eg"][:] = np.nan
        plot.learning_curve(run(), ds)

    def test_given_axes_are_used(self):
        _, ax = plt.subplots()
        assert plot.learning_curve(run(), ax=ax) is ax

    def test_other_quantities(self):
        ds = run().assign(exit=("alpha", LINEAR - 5.0))
        ax = plot.learning_curve(ds, quantity="exit")
        assert ax.get_ylabel() == "exit"
        assert ax.get_yscale() == "linear"  # it has negative values

    def test_an_error_of_zero_leaves_the_axis_logarithmic(self):
        for rest in (0.0, -3.5e-11):  # files of earlier versions have such values
            ds = run()
            ds["eg"][30:] = rest
            ax = plot.learning_curve(ds)
            assert ax.get_yscale() == "log"
            assert ax.get_ylim()[0] > 1e-6
            assert "11 values ≤ 0 not shown" in ax.get_title(loc="right")
        assert "not shown" not in plot.learning_curve(run()).get_title(loc="right")

    def test_what_cannot_be_drawn_is_refused(self):
        with pytest.raises(ValueError, match="nothing to draw"):
            plot.learning_curve()
        with pytest.raises(ValueError, match="to_dataset"):
            plot.learning_curve(np.ones(3))
        with pytest.raises(ValueError, match="no variable 'loss'"):
            plot.learning_curve(run(), quantity="loss")
        with pytest.raises(ValueError, match="by="):
            plot.learning_curve(run(lr=[0.1]).expand_dims(noise=[0.0, 0.1]))
        with pytest.raises(ValueError, match="2 curves"):
            plot.learning_curve({"both": run(lr=[0.1, 0.2])})


class TestOverlaps:
    def test_trajectories_have_a_line_per_entry(self):
        axes = plot.overlap_trajectories(run(k=3), run(k=3, level="sgd"))
        r, q = axes
        drawn = [line for line in lines(r) if len(line.get_xdata()) == len(LINEAR)]
        assert len(drawn) == len(lines(r, "x")) == 3 * 2
        np.testing.assert_allclose(drawn[0].get_ydata(), run().R[:, 0, 0])
        assert len(lines(q, "x")) == 3 * 4 / 2
        assert {text.get_text() for text in r.texts} == {"$R_{i1}$", "$R_{i2}$"}
        assert {text.get_text() for text in q.texts} == {"$Q_{ii}$", "$Q_{ii'}$"}

    def test_fields_are_compared_with_a_theory_that_starts_from_them(self):
        sgd, theory = run(level="sgd", seeds=3), run()
        for name in "QR":
            sgd[f"{name}_field"] = 2 * sgd[name]
        from_fields = theory.assign(Q=2 * theory.Q, R=2 * theory.R)
        for start, scale, title in ((from_fields, 2, "of the fields"), (theory, 1, "$")):
            for ax, quantity in zip(plot.overlap_trajectories(start, sgd), "RQ", strict=True):
                drawn = [line for line in lines(ax) if len(line.get_xdata()) == len(LINEAR)]
                for line, points in zip(drawn, lines(ax, "x"), strict=True):
                    expected = np.interp(points.get_xdata(), *line.get_data())
                    np.testing.assert_allclose(points.get_ydata(), expected)
                np.testing.assert_allclose(drawn[0].get_ydata(), scale * run()[quantity][:, 0, 0])
                assert ax.get_title(loc="left").endswith(title)

    def test_without_theory_overlaps_are_those_of_the_weights(self):
        sgd = run(level="sgd")
        sgd = sgd.assign(R_field=2 * sgd.R, Q_field=2 * sgd.Q)
        r, _ = plot.overlap_trajectories(experiment=sgd)
        np.testing.assert_allclose(lines(r, "x")[0].get_ydata()[-1], sgd.R[-1, 0, 0])

    def test_matrices_show_the_nearest_times_on_one_scale(self):
        axes = plot.overlap_matrices(run(k=3), [0.0, 4.9])
        assert axes.shape == (2, 2)
        images = [ax.get_images()[0] for ax in axes.ravel()]
        np.testing.assert_array_equal(images[1].get_array(), run(k=3).R.sel(alpha=5.0))
        assert {image.get_clim() for image in images} == {(-7.1, 7.1)}
        assert [ax.get_title() for ax in axes[0]] == [r"$\alpha$ = 0", r"$\alpha$ = 5"]

    def test_insets_lie_inside_and_apart(self):
        ax = plot.learning_curve(run(LOG, rate=0.05), run(LOG, rate=0.05, level="sgd"))
        insets = plot.overlap_insets(ax, run(LOG, rate=0.05), [0.0, 10.0, 100.0])
        ax.figure.draw_without_rendering()
        boxes = [inset.get_window_extent() for inset in insets]
        for i, box in enumerate(boxes):
            assert ax.bbox.x0 <= box.x0 < box.x1 <= ax.bbox.x1 + 1
            assert ax.bbox.y0 <= box.y0 < box.y1 <= ax.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
            assert not box.overlaps(ax.get_legend().get_window_extent())
        np.testing.assert_array_equal(
            insets[2].get_images()[0].get_array(), run(LOG).R.isel(alpha=-1)
        )

    def test_an_overview_has_three_panels(self, tmp_path):
        axes = plot.overview(run(), run(level="sgd", seeds=3))
        assert len(axes) == 3
        path = plot.save(axes, tmp_path / "new" / "run.png")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert not plt.get_fignums()

    def test_layers_that_are_trained_have_panels(self):
        fixed = np.full((len(LINEAR), 2), 0.5)
        moving = fixed + 0.1 * LINEAR[:, None] * np.array([1.0, -1.0])
        along = ("alpha", "student")
        theory = run().assign(v=(along, moving), b=(along, fixed))
        sgd = run(level="sgd").assign(v=(along, moving + 0.01), b=(along, fixed))
        axes = plot.overview(theory, sgd)
        assert len(axes) == 4
        drawn = [line for line in lines(axes[3]) if len(line.get_xdata()) == len(LINEAR)]
        np.testing.assert_allclose(drawn[1].get_ydata(), moving[:, 1])
        assert len(lines(axes[3], "x")) == 2
        assert {text.get_text() for text in axes[3].texts} == {"$v_{1}$", "$v_{2}$"}
        assert len(plot.overview(theory.assign(v=(along, fixed)))) == 3

    def test_units_of_a_map_are_counted_from_1(self):
        axes = plot.overlap_matrices(run(k=3), [0.0])
        assert [text.get_text() for text in axes[0, 0].get_yticklabels()] == ["1", "2", "3"]
        assert [text.get_text() for text in axes[0, 0].get_xticklabels()] == ["1", "2"]

    def test_what_cannot_be_drawn_is_refused(self):
        with pytest.raises(ValueError, match="nothing to draw"):
            plot.overlap_trajectories()
        with pytest.raises(ValueError, match="to_dataset"):
            plot.overlap_matrices(ld.Problem(), [0.0])
        with pytest.raises(ValueError, match="alphas is empty"):
            plot.overlap_matrices(run(), [])
        with pytest.raises(ValueError, match="lr"):
            plot.overlap_matrices(run(lr=[0.1, 0.2]), [0.0])


class TestScaling:
    sizes = np.array([10, 20, 40, 80])

    def dataset(self, rng, spread=0.0, seeds=50, slope=-0.5):
        noise = np.exp(spread * rng.normal(size=(seeds, len(self.sizes))))
        values = 3.0 * self.sizes**slope * noise
        return xr.Dataset({"distance": (("seed", "n"), values)}, {"n": self.sizes})

    def test_an_exact_power_law_is_found(self, rng):
        slope = plot.fitted_slope(self.dataset(rng), "n", "distance")
        assert slope.slope == pytest.approx(-0.5)
        assert slope.offset == pytest.approx(np.log(3.0))
        assert slope.error < 1e-10

    def test_the_error_of_the_slope_covers_it(self, rng):
        fits = [
            plot.fitted_slope(self.dataset(rng, spread=0.2), "n", "distance") for _ in range(200)
        ]
        scores = np.array([(fit.slope + 0.5) / fit.error for fit in fits])
        # Student's t with two degrees of freedom: 58 % within one standard error.
        assert 0.48 < (np.abs(scores) < 1).mean() < 0.68

    def test_drawn_in_logarithms_with_its_slope(self, rng):
        ax = plot.scaling(self.dataset(rng, spread=0.1), "n", "distance", expected=-0.5)
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels[0].startswith("slope $-0.")
        assert labels[1] == "slope $-0.5$"

    def test_two_points_have_a_slope_without_error(self, rng):
        ds = self.dataset(rng).isel(n=[0, 1])
        assert np.isnan(plot.fitted_slope(ds, "n", "distance").error)
        plot.scaling(ds.isel(seed=0), "n", "distance")

    def test_what_has_no_power_law_is_refused(self, rng):
        ds = self.dataset(rng)
        with pytest.raises(ValueError, match="no 'm'"):
            plot.scaling(ds, "m", "distance")
        with pytest.raises(ValueError, match="two points"):
            plot.scaling(ds.isel(n=[0]), "n", "distance")
        with pytest.raises(ValueError, match="positive"):
            plot.scaling(-ds.assign_coords(n=self.sizes), "n", "distance")
        with pytest.raises(ValueError, match="dimension"):
            plot.scaling(ds.expand_dims(lr=[0.1, 0.2]), "n", "distance")


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [
        ([0.0, 5.0, 9.0], [0.0, 5.0, 9.0]),
        ([5.0, 5.0], [4.5, 5.5]),
        ([9.0, 1.0, 1.2], [9.0, 0.6, 1.6]),
        ([0.0, 0.9, 1.8], [-0.1, 0.9, 1.9]),
        ([2.0], [2.0]),
    ],
)
def test_labels_move_as_little_as_they_must(wanted, placed):
    np.testing.assert_allclose(spread(np.array(wanted), 1.0), placed)


def tasks(seeds=None, level="ode"):
    """A dataset with the schema of `ld.learn`: the first task until 4, then both by halves."""
    ds = run(level=level, seeds=seeds)
    errors = np.stack([np.exp(-0.3 * LINEAR), np.exp(-0.1 * LINEAR)], axis=1)
    shares = np.where(LINEAR[:, None] < 4.0, [1.0, 0.0], [0.5, 0.5])
    heads = np.arange(4.0).reshape(2, 2) + LINEAR[:, None, None]
    own = {
        "eg_tasks": (("alpha", "task"), errors),
        "shares": (("alpha", "task"), shares),
        "heads": (("alpha", "head", "student"), heads),
        "v": (("alpha", "student"), np.where(LINEAR[:, None] < 4.0, heads[:, 0], np.nan)),
    }
    return ds.assign(own)


class TestTasks:
    def test_each_task_has_a_curve_and_the_schedule_a_strip(self):
        ax = plot.task_curves(tasks(), tasks(level="sgd"))
        curves = [line for line in lines(ax) if len(line.get_xdata()) == len(LINEAR)]
        for line, errors in zip(curves, tasks().eg_tasks.values.T, strict=True):
            np.testing.assert_allclose(line.get_ydata(), errors)
        (switch,) = [line for line in lines(ax) if len(line.get_xdata()) == 2]
        assert switch.get_xdata()[0] == 4.0
        assert [text.get_text() for text in ax.texts] == ["task 1", "task 2"]
        # Strips in the colours of the tasks, as high as their shares, above all curves
        strips = [band.get_paths()[0].vertices for band in ax.collections]
        heights = [np.ptp(strip[:, 1]) for strip in strips]
        np.testing.assert_allclose(heights, 0.05 * np.array([1.0, 0.0, 0.5, 0.5]), atol=1e-12)
        bottom = ax.transAxes.transform((0.0, 0.95))[1]
        assert ax.transData.transform((0.0, 1.0))[1] < bottom

    def test_the_overview_has_heads_in_place_of_v(self):
        axes = plot.overview(tasks())
        titles = [ax.get_title(loc="left") for ax in axes]
        assert titles[0] == "learning curves"
        assert titles[3] == "heads, second layers $v$"
        assert len(titles) == 4
        drawn = [line.get_ydata()[-1] for line in lines(axes[3]) if len(line.get_ydata()) > 2]
        np.testing.assert_allclose(drawn, tasks()["heads"][-1].values.ravel())

    def test_pages_and_films_take_them(self, tmp_path):
        ds = tasks()
        assert '"heads"' in str(plot.explore(ds).html)
        assert plot.animate(ds.isel(alpha=slice(0, 2)), tmp_path / "run.gif").exists()
