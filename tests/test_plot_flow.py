"""Figures of gradient flow: what is drawn is what runs and jumps hold."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn import flow, plot

T = np.linspace(0.0, 10.0, 21)
BETA = np.array([0.6, 0.8])
JUMPS = flow.Jumps(np.array([0.2, 0.5]), np.array([1.0, 0.4, 0.0]))
SCALE = 1e-4
AT = np.log(1 / SCALE) * JUMPS.times


@pytest.fixture(autouse=True)
def close_figures():
    """Figures change no settings, and none stays open."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def dataset(model, t=T, **layers):
    """A dataset with the schema of a run whose loss falls exponentially."""
    found = xr.Dataset(
        {"loss": ("t", np.exp(-t)), "result": ((), np.int8(0)), **layers},
        {"t": t},
        {"model": model, "kind": "flow"},
    )
    return found


def diagonal(beta=None, scale=SCALE):
    size = 3 if beta is None else beta.shape[1]
    beta = np.zeros((len(T), size)) if beta is None else beta
    layers = {"u": scale * np.ones_like(beta), "v": np.zeros_like(beta), "beta": beta}
    return dataset("DiagonalNetwork", **{name: (("t", "input"), x) for name, x in layers.items()})


def neuron(a, w):
    a, w = np.asarray(a, float), np.asarray(w, float)
    t = np.arange(len(a), dtype=float)
    beta = ("t", "input"), a[:, None] * w
    return dataset("LinearNeuron", t, a=("t", a), w=(("t", "input"), w), beta=beta)


def dashed(ax):
    return [line for line in ax.lines if line.get_linestyle() == "--"]


class TestLossCurve:
    def test_the_prediction_is_a_staircase_over_the_run(self):
        ax = plot.loss_curve(diagonal(), JUMPS)
        curve = ax.lines[0]
        np.testing.assert_allclose(curve.get_xydata(), np.c_[T, np.exp(-T)])
        (stairs,) = dashed(ax)
        np.testing.assert_allclose(stairs.get_xdata(), [0, AT[0], AT[0], AT[1], AT[1], 10])
        np.testing.assert_allclose(stairs.get_ydata(), [1, 1, 0.4, 0.4, 0, 0])
        assert "start of scale 0.0001" in ax.get_title(loc="left")
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == ["gradient flow", "predicted levels and times"]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"alpha": 0.01}, np.log(100) * JUMPS.times),
            ({"times": [3.0, 12.0]}, [3.0]),
        ],
    )
    def test_the_caller_may_know_the_scale_or_the_times(self, options, expected):
        (stairs,) = dashed(plot.loss_curve(diagonal(), JUMPS, **options))
        np.testing.assert_allclose(np.unique(stairs.get_xdata())[1:-1], expected)

    def test_a_scale_that_jumps_know_comes_first(self):
        known = ld.to_dataset(JUMPS).assign_attrs(alpha=0.01)
        (stairs,) = dashed(plot.loss_curve(diagonal(), known))
        np.testing.assert_allclose(np.unique(stairs.get_xdata())[1:-1], np.log(100) * JUMPS.times)

    def test_jumps_of_higher_degree_count_time_in_powers_of_the_scale(self):
        cubic = flow.Jumps(np.array([0.2]), np.array([1.0, 0.0]), degree=3)
        (stairs,) = dashed(plot.loss_curve(diagonal(), cubic, alpha=0.1))
        assert stairs.get_xdata()[1] == pytest.approx(2.0)

    @pytest.mark.parametrize(
        ("model", "layers", "scale"),
        [
            ("LinearNetwork", {"w1": [[0.3, 0.1]], "w2": [[0.2], [0.2]]}, np.sqrt(0.18 / 4)),
            ("TwoLayer", {"w": [[0.3, 0.4], [0.0, 0.0]], "v": [0.0, 0.02]}, np.sqrt(0.5 * 0.02)),
        ],
    )
    def test_the_scale_of_a_start(self, model, layers, scale):
        dims = {"v": ("hidden",), "w2": ("output", "hidden")}
        start = {
            name: (("t", *dims.get(name, ("hidden", "input"))), [np.array(x, float)] * len(T))
            for name, x in layers.items()
        }
        (stairs,) = dashed(plot.loss_curve(dataset(model, **start), JUMPS))
        assert stairs.get_xdata()[1] == pytest.approx(0.2 * np.log(1 / scale))

    def test_runs_and_jumps_are_drawn_as_they_are(self):
        data = flow.Moments(np.eye(2), [1.0, 0.5])
        start = flow.DiagonalNetwork([0.1, 0.1], [0.0, 0.0])
        run = flow.gradient_descent(start, data, 3, lr=0.1)
        ax = plot.loss_curve(run, flow.diagonal_jumps(data))
        np.testing.assert_allclose(ax.lines[0].get_ydata(), run.loss)
        assert ax.get_xlabel() == "steps"
        assert "diagonal network, 2 inputs" in ax.get_title(loc="left")

    def test_few_runs_are_named_and_many_are_faint(self):
        few = xr.concat([diagonal()] * 3, "delta").assign_coords(delta=[-1.0, 0.0, 0.5])
        texts = [text.get_text() for text in plot.loss_curve(few).get_legend().get_texts()]
        assert texts == [r"$\delta$ = -1", r"$\delta$ = 0", r"$\delta$ = 0.5"]
        many = xr.concat([diagonal()] * 16, "seed").assign_coords(seed=range(16))
        many["result"] = "seed", np.r_[1, np.zeros(15)].astype(np.int8)
        ax = plot.loss_curve(many)
        assert [line.get_alpha() for line in ax.lines] == [0.25] * 16
        assert ax.get_title(loc="left").endswith("16 runs, 1 of 16 runs stopped early")

    def test_logarithms(self):
        t = np.r_[0.0, np.geomspace(0.01, 100.0, 20)]
        ax = plot.loss_curve(dataset("LinearNeuron", t), log_loss=True)
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert ax.get_xlim()[0] == pytest.approx(0.01)

    def test_what_cannot_be_drawn_is_refused(self):
        with pytest.raises(ValueError, match=r"run must be a flow\.Run or its dataset; got str"):
            plot.loss_curve("run")
        with pytest.raises(ValueError, match=r"jumps must be a flow\.Jumps"):
            plot.loss_curve(diagonal(), diagonal())
        with pytest.raises(ValueError, match="one entry for each of the 2 jumps"):
            plot.loss_curve(diagonal(), JUMPS, times=[1.0])
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\); got 2"):
            plot.loss_curve(diagonal(), JUMPS, alpha=2.0)
        with pytest.raises(ValueError, match="give alpha="):
            plot.loss_curve(dataset("Own"), JUMPS)
        with pytest.raises(ValueError, match="has norm 0"):
            plot.loss_curve(diagonal(scale=0.0), JUMPS)
        with pytest.raises(ValueError, match="holds no run"):
            plot.loss_curve([])


class TestCoefficients:
    def test_each_has_its_curve_and_its_staircase(self):
        beta = np.stack([np.tanh(T), -0.5 * np.tanh(T), np.zeros(len(T))], axis=1)
        steps = flow.Jumps(
            JUMPS.times, JUMPS.loss, beta=np.array([[0, 0, 0], [1, 0, 0], [1, -0.5, 0]])
        )
        ax = plot.coefficients(diagonal(beta), steps)
        assert [text.get_text() for text in ax.texts] == [r"$\beta_{1}$", r"$\beta_{2}$", "others"]
        stairs = dashed(ax)
        assert len(stairs) == 3
        np.testing.assert_allclose(stairs[1].get_ydata(), [0, 0, 0, 0, -0.5, -0.5])
        np.testing.assert_allclose(np.unique(stairs[1].get_xdata()), [0, *AT, 10])

    def test_matrices_show_their_singular_values(self):
        maps = np.array([[3.0, 0.0], [0.0, -2.0]]) * (T / 10)[:, None, None]
        maps[-1] = np.nan  # a run that stopped
        run = dataset("LinearNetwork", maps=(("t", "output", "input"), maps))
        curves = [
            line.get_ydata() for line in plot.coefficients(run).lines if len(line.get_xdata()) == 21
        ]
        np.testing.assert_allclose(curves[0][:-1], 3 * T[:-1] / 10, atol=1e-12)
        np.testing.assert_allclose(curves[1][:-1], 2 * T[:-1] / 10, atol=1e-12)

    def test_what_has_none_is_refused(self):
        with pytest.raises(ValueError, match="must be of a network that is linear"):
            plot.coefficients(dataset("TwoLayer"))
        with pytest.raises(ValueError, match="holds 2 runs"):
            plot.coefficients([diagonal(), diagonal()])


class TestLinearNeuron:
    lazy = neuron([2.0, 2.0], [[0.0, 0.0], BETA / 2])
    rich = neuron([0.1, 1.0], [[-0.08, 0.06], BETA])
    delayed = neuron([0.0, -0.5], [[-1.6, 0.0], -BETA / 0.5])

    def test_trajectories_end_on_the_minima(self):
        ax = plot.minima_manifold([self.lazy, self.rich, self.delayed])
        ends = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "o"][1::2]
        np.testing.assert_allclose(np.prod(ends, axis=1), 1.0)
        minima = [line for line in ax.lines if line.get_linewidth() == 2.5]
        for branch in minima:
            np.testing.assert_allclose(np.prod(branch.get_xydata(), axis=1), 1.0)
        assert {np.sign(branch.get_xdata()[0]) for branch in minima} == {1.0, -1.0}

    def test_colours_are_those_of_delta(self):
        ax = plot.minima_manifold([self.lazy, self.rich, self.delayed], BETA)
        first = {tuple(np.round(line.get_xydata()[0], 9)): line.get_color() for line in ax.lines}
        colour = lambda run: mpl.colors.to_rgb(
            first[(round(float(run.w.values[0] @ BETA), 9), float(run.a[0]))]
        )
        red, _, blue = colour(self.lazy)
        assert blue > red
        red, _, blue = colour(self.delayed)
        assert red > blue
        assert max(colour(self.rich)) < 0.2
        (bar,) = [other for other in ax.figure.axes if other is not ax]
        assert bar.get_ylim() == (-4.0, 4.0)

    def test_kernel_distances_are_those_of_the_library(self):
        runs, x = [self.rich, self.lazy], np.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]])
        ax = plot.kernel_distances(runs, x=x, lr_a=0.5)
        kernels = [
            [
                flow.ntk(flow.LinearNeuron(run.a[i].item(), run.w[i].values), x, lr=[0.5, 1.0])
                for i in (0, 1)
            ]
            for run in runs
        ]
        (points,) = [line for line in ax.lines if line.get_marker() == "x"]
        expected = [flow.kernel_distance(*pair) for pair in kernels]
        np.testing.assert_allclose(points.get_ydata(), expected, rtol=1e-12)
        np.testing.assert_allclose(points.get_xdata(), [0.01 - 0.5 * 0.01, 4.0])

    def test_the_closed_form_is_a_line_in_order_of_delta(self):
        pair = np.stack([self.lazy.a, self.delayed.a]), np.stack([self.lazy.w, self.delayed.w])
        ax = plot.kernel_distances([self.lazy, self.delayed], pair)
        line = ax.lines[0]
        np.testing.assert_allclose(line.get_xdata(), [-2.56, 4.0])
        np.testing.assert_allclose(line.get_ydata(), ax.lines[1].get_ydata())
        assert ax.lines[1].get_linestyle() == "None"

    def test_what_is_no_neuron_is_refused(self):
        with pytest.raises(ValueError, match="this figure is of linear neurons"):
            plot.minima_manifold(diagonal())
        with pytest.raises(ValueError, match=r"beta_star must have shape \(2,\)"):
            plot.minima_manifold(self.lazy, [1.0])
        with pytest.raises(ValueError, match=r"x must have shape \(samples, 2\)"):
            plot.kernel_distances(self.lazy, x=np.eye(3))
        with pytest.raises(ValueError, match="theory must be the pair"):
            plot.kernel_distances(self.lazy, (np.ones((2, 2)), np.ones((3, 2, 2))))


class TestDirections:
    def run(self, angles, v, length=1.0, name="w"):
        vectors = length * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        layers = {"v": (("t", "hidden"), np.broadcast_to(v, angles.shape))}
        if name == "w":
            return dataset("TwoLayer", w=(("t", "hidden", "input"), vectors), **layers)
        layers["b"] = ("t", "hidden"), vectors[..., 1]
        return dataset("TwoLayer", w=(("t", "hidden", "input"), vectors[..., :1]), **layers)

    @pytest.mark.parametrize("name", ["w", "b"])
    def test_angles_of_neurons_and_their_signs(self, name):
        angles = np.stack([np.linspace(3.0, 3.5, 21), np.linspace(0.0, 1.0, 21)], axis=1)
        extremal = {1: np.array([[0.0, 2.0]]), -1: np.array([[1.0, 0.0]])}
        ax = plot.neuron_directions(self.run(angles, [0.1, -1.0], name=name), extremal)
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
        by_colour = {line.get_color(): line for line in curves}
        turned, straight = by_colour["#0072B2"], by_colour["#D55E00"]
        np.testing.assert_allclose(straight.get_ydata(), np.degrees(angles[:, 1]))
        assert np.isnan(turned.get_ydata()).sum() == 1  # where it goes over 180 degrees
        assert turned.get_alpha() < straight.get_alpha() == 1.0
        lines = {
            line.get_color(): line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2
        }
        assert lines == pytest.approx({"#0072B2": 90.0, "#D55E00": 0.0})

    def test_what_has_no_angle_is_refused(self):
        run = self.run(np.zeros((21, 2)), [1.0, 1.0])
        with pytest.raises(ValueError, match=r"shape \(directions, 2\)"):
            plot.neuron_directions(run, np.eye(3))
        with pytest.raises(ValueError, match="this figure is of two-layer networks"):
            plot.neuron_directions(diagonal())
        with pytest.raises(ValueError, match="two inputs"):
            plot.neuron_directions(run.isel(input=[0]))


class TestFrequencies:
    def run(self, p=5):
        wave = np.cos(2 * np.pi * 2 * np.arange(p) / p)
        layer = np.zeros((len(T), 1, p)) + (T / 10)[:, None, None] * wave
        still = np.zeros_like(layer)
        dims = ("t", "hidden", "site")
        return dataset("ModularAddition", u=(dims, layer), v=(dims, still), w=(dims, still))

    def test_powers_are_the_squared_norm(self):
        run = self.run()
        ax = plot.frequency_powers(run)
        powers = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 21]
        np.testing.assert_allclose(powers[0], 0.0, atol=1e-12)
        np.testing.assert_allclose(powers[1], (run.u**2).sum(("hidden", "site")), rtol=1e-12)
        assert [text.get_text() for text in ax.texts] == ["frequency 2", "others"]

    def test_predicted_times_have_the_colour_of_their_frequency(self):
        jumps = flow.modular_jumps(np.cos(2 * np.pi * 2 * np.arange(5) / 5))
        ax = plot.frequency_powers(self.run(), jumps, times=[4.0])
        (line,) = dashed(ax)
        assert line.get_xdata()[0] == 4.0
        assert line.get_color() == ax.lines[2].get_color() != ax.lines[1].get_color()

    def test_what_has_no_frequencies_is_refused(self):
        with pytest.raises(ValueError, match="modular addition"):
            plot.frequency_powers(diagonal())
        with pytest.raises(ValueError, match="which knows the frequencies"):
            plot.frequency_powers(self.run(), JUMPS, alpha=0.1)
