"""The command `learndyn flow`: what it writes, what it says, and how it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

import learndyn as ld
from learndyn import flow
from learndyn.cli import _options, main
from learndyn.cli.flow.settings import problem_of

FEW = ["--points", "21", "--no-png"]
pytestmark = pytest.mark.usefixtures("folder", "forget_figures")


def problem(*arguments):
    return problem_of(_options.parse(["flow", *arguments]).model)


def measured(said):
    """Predicted and measured times of the printed table."""
    rows = [line.split() for line in said.splitlines()]
    return np.array(
        [[float(x) for x in row[1:3]] for row in rows if len(row) == 4 and row[0].isdigit()]
    )


def test_a_linear_network_jumps_when_it_is_predicted_to(folder, capsys):
    command = "flow linear --teacher 3,2 --hidden 3 --scale 1e-6 --lr 0.5,2 --points 201"
    assert main(command.split()) == 0
    said = capsys.readouterr().out
    times = measured(said)
    assert times.shape == (2, 2)
    np.testing.assert_allclose(times[:, 1], times[:, 0], rtol=1e-3)
    assert "flow: result 0, the run reached its last time" in said
    assert "wrote learndyn-flow.nc, learndyn-flow-jumps.nc, learndyn-flow.png" in said
    assert (folder / "learndyn-flow.png").read_bytes().startswith(b"\x89PNG")
    run, jumps = ld.load("learndyn-flow.nc"), ld.load("learndyn-flow-jumps.nc")
    # The last mode is still on its way, exp(-2 s 0.3 t) from its end.
    np.testing.assert_allclose(run.maps[-1], np.diag([3.0, 2.0]), atol=0.01)
    np.testing.assert_allclose(jumps.loss, [6.5, 2.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(jumps.predicted, times[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(run.syx, np.diag([3.0, 2.0]))
    assert json.loads(run.attrs["options"])["flow"]["lr"] == "0.5,2"
    assert (run.attrs["network"], run.attrs["seed"]) == ("linear", 0)


@pytest.mark.nightly
def test_a_neuron_follows_its_closed_form(capsys):
    arguments = ["--delta=-1,2", "--lr", "0.5,2", "--seed", "3", "--t-max", "4", "-o", "out/n.nc"]
    assert main(["flow", "neuron", *arguments, "--samples", "1", *FEW]) == 0
    run, theory = ld.load("out/n.nc"), ld.load("out/n-theory.nc")
    assert run.w.dims == ("delta", "t", "input")
    np.testing.assert_allclose(
        2 * run.a[:, 0] ** 2 - 0.5 * (run.w[:, 0] ** 2).sum("input"), [-1, 2]
    )
    np.testing.assert_allclose(np.abs(run.a[:, 0]) * np.linalg.norm(run.w[:, 0], axis=1), 0.09)
    for name in ("a", "w", "beta", "loss"):
        np.testing.assert_allclose(theory[name], run[name], atol=1e-8)
    said = capsys.readouterr().out
    assert "closed form, -1" in said
    again = problem("neuron", "--data", "out/n.nc").data
    np.testing.assert_array_equal(again.x, run.x)
    np.testing.assert_array_equal(again.y, run.y)
    assert "2 of 2 runs: result 0" in said


def test_a_run_that_stops_early_is_told_and_exits_with_1(capsys):
    arguments = ["--teacher", "1,0.5", "--covariance", "1,2", "--max-steps", "2"]
    assert main(["flow", "neuron", *arguments, "--points", "21"]) == 1
    said = capsys.readouterr()
    assert "result 2, the solver used up max_steps" in said.out
    assert "theory: no closed form: linear_neuron_data needs inputs whose covariance" in said.out
    assert said.err.startswith("flow: the flow run stopped")
    assert Path("learndyn-flow.png").exists()
    assert np.isnan(ld.load("learndyn-flow.nc").loss[-1])


@pytest.mark.nightly
@pytest.mark.parametrize(
    "arguments",
    ["diagonal --samples 5", "relu --rtol 1e-4", "modular --aligned --scale 0.01 --rtol 1e-6"],
)
def test_other_networks(arguments, folder, capsys):
    assert main(["flow", *arguments.split()]) == 0
    assert (folder / "learndyn-flow.png").exists()
    run = ld.load("learndyn-flow.nc")
    assert run.loss[-1] < 0.1 * run.loss[0]
    if not arguments.startswith("relu"):
        times = measured(capsys.readouterr().out)
        np.testing.assert_allclose(times[:, 1], times[:, 0], rtol=0.05)


class TestProblems:
    def test_second_moments_of_a_teacher(self):
        found = problem("linear", "--teacher", "3,2", "--covariance", "1,4", "--hidden", "5")
        np.testing.assert_allclose(found.data.sxx, np.diag([1.0, 4.0]))
        np.testing.assert_allclose(found.data.syx, np.diag([3.0, 8.0]))
        (start,) = found.starts
        assert [w.shape for w in start.weights] == [(5, 2), (2, 5)]
        scales = [float(np.std(w)) for w in start.weights]
        np.testing.assert_allclose(scales, 1e-6, rtol=0.5)
        assert found.note == "times are those of this start"

    def test_samples_of_a_teacher(self):
        found = problem("diagonal", "--teacher", "1,-2,0", "--samples", "50", "--scale", "1e-9")
        np.testing.assert_allclose(found.data.y, found.data.x @ np.array([1.0, -2.0, 0.0]))
        np.testing.assert_allclose(found.jumps.beta[-1], [1.0, -2.0, 0.0], atol=1e-9)
        np.testing.assert_allclose(found.times, found.jumps.at(1e-9))
        noisy = problem("diagonal", "--teacher", "1,-2,0", "--samples", "50", "--noise", "0.1")
        np.testing.assert_allclose(noisy.data.x, found.data.x)
        assert 0.05 < np.std(noisy.data.y - found.data.y) < 0.2

    def test_the_seed_decides_the_start_alone_where_nothing_else_is_random(self):
        one, other = problem("linear", "--seed", "1"), problem("linear", "--seed", "2")
        assert (one.starts[0].weights[0] != other.starts[0].weights[0]).all()
        with_samples = problem("linear", "--seed", "1", "--samples", "30")
        np.testing.assert_array_equal(one.starts[0].weights[0], with_samples.starts[0].weights[0])

    def test_units_of_a_relu_network(self):
        found = problem("relu", "--hidden", "7", "--scale", "0.1", "--delta", "0.5", "--lr", "2,1")
        (net,) = found.starts
        np.testing.assert_allclose(np.abs(net.v) * np.linalg.norm(net.w, axis=1), 0.01)
        np.testing.assert_allclose(2 * net.v**2 - np.sum(net.w**2, axis=1), 0.5)
        assert set(found.directions) == {1, -1}
        assert found.data.x.shape == (40, 2)
        assert problem("relu", "--inputs", "3").directions is None

    def test_the_encoding_of_modular_addition(self):
        found = problem("modular", "--p", "7", "--amplitudes", "0,3", "--scale", "0.1", "--lr", "2")
        np.testing.assert_array_equal(found.jumps.frequencies, [2])
        np.testing.assert_allclose(found.times, found.jumps.at(0.1) / 2)
        (net,) = found.starts
        norms = np.sqrt(sum(np.sum(x**2, axis=1) for x in (net.u, net.v, net.w)))
        np.testing.assert_allclose(norms, 0.1)

    def test_aligned_units_of_modular_addition(self):
        found = problem("modular", "--aligned", "--amplitudes", "2,1", "--scale", "0.2")
        (net,) = found.starts
        assert net.u.shape == (12, 11)
        for layer in (net.u, net.v, net.w):
            np.testing.assert_allclose(np.sum(layer**2, axis=1), 0.2**2 / 3)
        assert found.end == pytest.approx(1.3 * found.times[-1])
        assert problem("modular").starts[0].u.shape == (20, 11)

    def test_networks_without_a_prediction(self):
        for arguments in (
            ["linear", "--depth", "3"],
            ["diagonal", "--lr", "1,0"],
            ["modular", "--lr", "1,1,2"],
        ):
            found = problem(*arguments)
            assert found.jumps is None
            assert found.note is not None

    def test_moments_that_do_not_commute_have_times_to_leading_order(self):
        found = problem(
            "linear", "--samples", "20", "--scale", "1e-4", "--lr", "1,4", "--hidden", "2"
        )
        np.testing.assert_allclose(found.times, found.jumps.at(1e-4) / 2)
        assert found.jumps.loss.shape == (3,)  # two hidden units, two jumps of three
        assert "do not commute" in found.note


class TestFiles:
    x, y = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]]), np.array([1.0, -1.0, 0.5])

    def check(self, path):
        for network in ("neuron", "diagonal"):
            data = problem(network, "--data", path).data
            np.testing.assert_array_equal(data.x, self.x)
            np.testing.assert_array_equal(data.y, self.y)
        assert problem("linear", "-d", path).data.y.shape == (3, 1)

    def test_npz(self):
        np.savez("data.npz", x=self.x, y=self.y[:, None])
        self.check("data.npz")

    def test_csv(self):
        rows = ["x1,x2,y", *(f"{a},{b},{y}" for (a, b), y in zip(self.x, self.y, strict=True))]
        Path("data.csv").write_text("\n".join(rows) + "\n")
        self.check("data.csv")

    def test_netcdf(self):
        arrays = {"x": (("sample", "input"), self.x), "y": ("sample", self.y)}
        ld.save(ld.to_dataset(arrays, ts=[0.0]), "data.nc")
        self.check("data.nc")

    def test_an_encoding(self):
        np.savez("x.npz", x=[1.0, -2.0, 1.0])
        found = problem("modular", "--data", "x.npz")
        np.testing.assert_array_equal(found.data.x, flow.modular_data([1.0, -2.0, 1.0]).x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected one of {neuron, linear, diagonal, relu, modular}"),
        (["lin"], "Available subcommands: neuron, linear"),
        (["neuron", "--hidden", "3"], "Unrecognized options"),
        (["neuron", "--scale", "0"], "--scale must be > 0"),
        (["neuron", "--delta", "a"], "--delta must be numbers separated by commas; got 'a'"),
        (["neuron", "--lr", "1,2,3"], "--lr must be one rate, or 2 of them"),
        (["neuron", "--lr=-1"], "--lr must be one rate"),
        (["neuron", "--lr", "1,0"], "--lr must be > 0 for both layers"),
        (["neuron", "--teacher", "0,0"], "there is nothing to learn"),
        (["neuron", "--noise", "0.1"], "--noise goes with --samples"),
        (["neuron", "--covariance", "1"], "--covariance must be 2 variances"),
        (["neuron", "--samples", "0"], "--samples must be at least 1"),
        (["neuron", "--t-max", "0"], "--t-max must be > 0"),
        (["neuron", "--points", "1"], "--points must be at least 2"),
        (["neuron", "--rtol", "0"], "rtol must be"),
        (["neuron", "--output", "run.txt"], "must end in .nc"),
        (["neuron", "--data", "two.csv", "--teacher", "1"], "--teacher would be ignored next to"),
        (["neuron", "--data", "two.csv"], "this network has one output"),
        (["neuron", "--data", "absent.npz"], "there is no such file"),
        (["neuron", "--data", "bad.txt"], "--data is read from .npz, .nc or .csv"),
        (["neuron", "--data", "word.csv"], "it is no .csv file with x and y"),
        (["neuron", "--data", "part.csv"], "has no ['y']; it has ['b', 'x']"),
        (["linear", "--hidden", "0"], "--hidden and --depth must be at least 1"),
        (["linear", "--depth", "3"], "--t-max must be given, for no time is predicted"),
        (["linear", "--scale", "2"], "jumps are predicted of starts of a scale below 1"),
        (["diagonal", "--lr", "0"], "not all 0"),
        (["relu", "--inputs", "0"], "--hidden and --inputs must be at least 1"),
        (["modular", "--p", "8"], "--p must be odd"),
        (["modular", "--hidden", "0"], "--hidden must be at least 1"),
        (["modular", "--hidden", "5", "--aligned"], "--hidden would be ignored next to --aligned"),
        (["modular", "--p", "5", "--amplitudes", "1,1,1"], "at most (p - 1)/2 --amplitudes"),
    ],
)  # fmt: skip
def test_usage_errors_exit_with_2_and_a_message(arguments, message, folder, capsys):
    files = {
        "bad.txt": "",
        "word.csv": "x,y\none,2\n",
        "part.csv": "x1,x2,b\n1,2,3\n",
        "two.csv": "x,y1,y2\n1,2,3\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["flow", *arguments])
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert "Traceback" not in said
    assert not list(folder.glob("*.nc"))


@pytest.mark.parametrize("network", ["neuron", "linear", "diagonal", "relu", "modular"])
def test_every_network_explains_its_options(network, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["flow", network, "--help"])
    assert stopped.value.code == 0
    assert "--scale FLOAT" in capsys.readouterr().out
