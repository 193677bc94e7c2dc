"""The command line: what it writes, what it says, and how it refuses."""

import ast
import gc
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import problems, rules
from learndyn.cli import _doctor, _door, _options, main
from learndyn.cli._names import Loss, Rule, StudentUnit, TeacherUnit
from learndyn.cli._settings import save_times, settings_from
from learndyn.cli.tasks.command import schedule_from
from learndyn.problems._activations import AbstractActivation

SMALL = ["--k", "2", "--m", "1", "--n", "20", "--alpha-max", "1", "--points", "5"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test writes into its own folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def forget_figures():
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


def settings(*arguments, level="ode"):
    return settings_from(_options.parse([level, *arguments]), level)


def start_of(seed, **keywords):
    key = jax.random.fold_in(jax.random.key(seed), 0)
    return ld.init_weights(key, **({"n": 20, "k": 2, "m": 1} | keywords))


def test_ode_writes_what_the_library_computes(folder, capsys):
    assert main(["ode", *SMALL, "--lr", "0.3", "--noise", "0.1", "--seed", "5"]) == 0
    ds = ld.load("learndyn-ode.nc")
    ts = jnp.linspace(0.0, 1.0, 5)
    start = ld.overlaps(start_of(5))
    expected = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.3), start, ts)
    np.testing.assert_array_equal(ds.alpha, ts)
    np.testing.assert_allclose(ds.R, expected.R, rtol=1e-12)
    np.testing.assert_allclose(ds.eg, expected.eg, rtol=1e-12)
    assert json.loads(ds.attrs["problem"])["noise"] == 0.1
    assert json.loads(ds.attrs["options"])["start"]["seed"] == 5
    assert (folder / "learndyn-ode.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "result 0, the run reached its last time" in said
    assert "learndyn-ode.nc, learndyn-ode.png" in said
    assert f"{float(expected.eg[-1]):.6g}" in said


def test_sgd_writes_runs_and_their_theory(folder, capsys):
    code = main(["sgd", *SMALL, "--runs", "2", "--theory", "-o", "out/run.nc", "--seed", "5"])
    assert code == 0
    sgd, ode = ld.load("out/run.nc"), ld.load("out/run-ode.nc")
    assert (folder / "out" / "run.png").exists()
    assert sgd.R.dims == ("seed", "alpha", "student", "teacher")
    assert (sgd.attrs["level"], ode.attrs["level"]) == ("sgd", "ode")
    assert (sgd.attrs["n"], sgd.attrs["seed"]) == (20, 5)
    np.testing.assert_allclose(sgd.R.isel(alpha=0, seed=1), ode.R[0], rtol=1e-12)
    assert not np.allclose(sgd.R[0, -1], sgd.R[1, -1])
    assert "2 of 2 runs: result 0" in capsys.readouterr().out


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["chain", "langevin"])
def test_levels_on_overlaps_start_where_theory_does(level):
    """At n = 1e6 they follow it, which they could not if an option were lost on the way."""
    size = ["--k", "1", "--m", "1", "--n", "1000000", "--alpha-max", "0.01", "--points", "2"]
    assert main([level, *size, "--theory", "--lr", "0.5", "--noise", "1", "--no-png"]) == 0
    run, theory = ld.load(f"learndyn-{level}.nc"), ld.load(f"learndyn-{level}-ode.nc")
    assert (run.attrs["level"], run.attrs["n"]) == (level, 1_000_000)
    np.testing.assert_allclose(run.Q[0], theory.Q[0], rtol=1e-12)
    np.testing.assert_allclose(run.Q[1], theory.Q[1], atol=1e-3)
    assert (run.Q[1] != theory.Q[1]).all()


def test_the_same_seed_is_the_same_start_at_every_level():
    main(["ode", *SMALL, "--seed", "3", "--no-png"])
    main(["sgd", *SMALL, "--seed", "3", "--no-png"])
    ode, sgd = ld.load("learndyn-ode.nc"), ld.load("learndyn-sgd.nc")
    assert sgd.R.dims == ("alpha", "student", "teacher")
    for name in ("Q", "R", "v"):
        np.testing.assert_allclose(sgd[name][0], ode[name][0], rtol=1e-12)
    assert sgd.alpha_actual[-1] == 1.0


def test_a_run_that_stops_early_is_told_and_exits_with_1(capsys):
    arguments = ["--student", "linear", "--lr", "50", "--alpha-max", "40", "--no-png"]
    assert main(["ode", *SMALL, *arguments]) == 1
    assert "result 1, the state grew beyond bounds" in capsys.readouterr().out
    assert np.isnan(ld.load("learndyn-ode.nc").eg[-1])


@pytest.mark.parametrize("arguments", [[], ["--runs", "2"]])
def test_progress_goes_to_stderr_and_changes_nothing(arguments, capsys):
    def eg(progress):
        main(["sgd", *SMALL, *arguments, "--no-png", "--progress", progress, "--force"])
        return ld.load("learndyn-sgd.nc").eg.values

    with_bar = eg("on")
    assert "100%" in capsys.readouterr().err
    without = eg("off")
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(with_bar, without)


class TestForce:
    def test_nothing_is_replaced_or_run_without_it(self, folder, capsys):
        wrong = ["sgd", *SMALL, "--no-png"]
        for name in ("learndyn-sgd.nc", "learndyn-sgd-ode.nc"):
            (folder / name).write_text("mine")
            with pytest.raises(SystemExit) as stopped:
                main(wrong)
            assert stopped.value.code == 2
            said = capsys.readouterr()
            assert f"{name} would be replaced: add --force" in said.err
            assert said.out == ""
            assert (folder / name).read_text() == "mine"
            (folder / name).unlink()

    def test_the_figure_counts_where_one_is_drawn(self, folder):
        (folder / "learndyn-ode.png").write_text("mine")
        assert settings("--no-png").output == Path("learndyn-ode.nc")
        with pytest.raises(FileExistsError, match=r"learndyn-ode.png would be replaced"):
            settings()
        assert settings("--force").output == Path("learndyn-ode.nc")

    def test_flows_ask_as_well(self, folder, capsys):
        (folder / "learndyn-flow-jumps.nc").write_text("mine")
        with pytest.raises(SystemExit):
            main(["flow", "linear", "--no-png"])
        assert "learndyn-flow-jumps.nc would be replaced" in capsys.readouterr().err

    def test_with_it_files_are_replaced(self, folder):
        (folder / "learndyn-ode.nc").write_text("mine")
        assert main(["ode", *SMALL, "--no-png", "--force"]) == 0
        assert ld.load("learndyn-ode.nc").attrs["level"] == "ode"


class TestTheory:
    @pytest.mark.parametrize(
        "arguments",
        [
            "--k 4 --m 4",
            "--student relu --lr-second 0.1",
            "--rule feedback-alignment --feedback 1,-0.7 --k 2",
            "--rule perceptron --student linear --teacher sign --loss perceptron --k 1 --m 1",
            "--rule reward-perceptron --episode 3 --student linear --teacher sign --loss hebb"
            " --k 1 --m 1",
            "--loss adatron --student linear --teacher sign --k 1 --m 1",
            "--k 40 --theory",
            "--student tanh --theory on",
        ],
    )
    def test_is_solved_where_it_is_cheap_or_asked_for(self, arguments):
        assert settings(*arguments.split(), level="sgd").theory

    @pytest.mark.parametrize(
        "arguments",
        [
            "--k 5 --m 4",
            "--student tanh",
            "--loss logistic --teacher sign",
            "--rule hebb --student linear --teacher sign --loss hebb --k 2 --m 1",
            "--b 0 --lr-bias 0.1 --b-teacher gaussian",
            "--slow-momentum 1",
            "--averages qmc",
            "--inputs digits",
            "--train-size 100",
            "--no-theory",
            "--theory off",
        ],
    )
    def test_is_left_out_elsewhere(self, arguments):
        assert not settings(*arguments.split(), level="sgd").theory

    def test_comes_with_the_runs(self, folder):
        # The sizes of another test, whose compiled programs serve here as well
        size = ["--k", "1", "--m", "1", "--n", "1000000", "--alpha-max", "0.01", "--points", "2"]
        arguments = ["chain", *size, "--lr", "0.5", "--noise", "1", "--no-png"]
        assert main(arguments) == 0
        assert ld.load("learndyn-chain-ode.nc").attrs["level"] == "ode"
        assert main([*arguments, "--no-theory", "-o", "bare.nc"]) == 0
        assert not (folder / "bare-ode.nc").exists()

    def test_band_is_asked_for(self):
        assert (found := settings("--theory", "band", level="sgd")).theory
        assert found.band
        assert not settings("--theory", level="sgd").band

    @pytest.mark.nightly
    def test_band_adds_the_scatter_of_one_run_which_figures_draw(self, folder):
        size = ["--k", "1", "--m", "1", "--n", "100", "--alpha-max", "0.5", "--points", "3"]
        assert main(["chain", *size, "--theory", "band", "--no-png"]) == 0
        ode, chain = ld.load("learndyn-chain-ode.nc"), ld.load("learndyn-chain.nc")
        start, ts = ld.overlaps_at(ode, 0.0), ode.alpha.values
        known = ld.fluctuations(ld.problem_of(ode), ld.rule_of(ode), start, ts)
        np.testing.assert_allclose(ode.eg_std, known.std.eg, rtol=0.03, atol=1e-9)
        np.testing.assert_allclose(ode.R_std, known.std.R, rtol=0.1, atol=1e-9)
        legend = ld.plot.learning_curve(ode, chain).get_legend()
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels == ["ODE", "predicted scatter of one run", "overlap chain"]


def test_coarse_averages_are_told_on_stderr(folder, capsys):
    command = "ode --student tanh --k 1 --m 1 --alpha-max 1 --averages qmc --nodes 16"
    assert main([*command.split(), "-o", str(folder / "coarse.nc"), "--no-png"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("ode: the error of the Gaussian averages is ")
    assert "RuntimeWarning" not in said


def test_without_matplotlib_there_is_no_figure(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert main(["ode", *SMALL]) == 0
    assert "learndyn[plot]" in capsys.readouterr().err
    assert not (folder / "learndyn-ode.png").exists()


class TestOptions:
    def test_of_the_problem(self):
        problem = settings(
            "--student", "tanh", "--teacher", "sign", "--loss", "hinge", "--noise", "0.5",
            "--flip", "0.1",
        ).problem  # fmt: skip
        assert isinstance(problem.student, ld.Tanh)
        assert isinstance(problem.teacher, ld.Sign)
        assert isinstance(problem.loss, ld.Hinge)
        assert (problem.noise, problem.teacher.flip) == (0.5, 0.1)
        assert isinstance(settings("--student", "relu").problem.teacher, ld.ReLU)

    def test_of_the_rule(self):
        rule = settings(
            "--lr", "0.1", "--lr-second", "0.2", "--lr-bias", "0.3", "--weight-decay", "0.4",
            "--batch-size", "5", "--momentum", "0.6",
        ).rule  # fmt: skip
        expected = ld.SGD(0.1, 0.2, 0.3, weight_decay=0.4, batch_size=5, momentum=0.6)
        assert str(rule) == str(expected)
        assert (rule.lr, rule.weight_decay, rule.momentum) == (0.1, 0.4, 0.6)
        assert settings("--slow-momentum", "2").rule.momentum.gamma == 2.0

    def test_of_rates_per_unit(self):
        rule = settings("--k", "2", "--lr", "0.5,0", "--lr-second", "0.1").rule
        np.testing.assert_array_equal(rule.lr, [0.5, 0.0])
        assert rule.lr_second == 0.1

    def test_of_the_population_gradient(self):
        assert settings("--batch-size", "inf").rule.has_infinite_batch

    def test_of_the_sphere(self):
        found = settings("--spherical", "--n", "20")
        assert found.rule.spherical
        np.testing.assert_allclose(jnp.mean(found.start.w**2, axis=1), 1.0, rtol=1e-12)
        free = settings("--n", "20").start.w
        directions = free / jnp.sqrt(jnp.mean(free**2, axis=1, keepdims=True))
        np.testing.assert_allclose(found.start.w, directions, rtol=1e-12)

    def test_of_schedules(self):
        power = settings("--schedule", "power", "--schedule-scale", "3", "--lr-second", "0.1").rule
        assert power.rates(9.0).w == pytest.approx(0.2 * 4.0**-0.5)
        assert power.rates(9.0).v == pytest.approx(0.1 * 4.0**-0.5)
        cosine = settings(
            "--schedule", "cosine", "--alpha-max", "8", "--schedule-final", "0.1"
        ).rule
        rates = [float(cosine.rates(alpha).w) for alpha in (0.0, 4.0, 8.0, 9.0)]
        np.testing.assert_allclose(rates, [0.2, 0.11, 0.02, 0.02])

    def test_of_the_start(self):
        found = settings(
            "--k", "4", "--m", "2", "--n", "30", "--init", "denoising", "--init-scale", "0.5",
            "--teacher-scale", "2", "--orthonormal-teacher", "--v-teacher", "sqrt", "--b", "0.3",
        ).start  # fmt: skip
        expected = start_of(
            0, n=30, k=4, m=2, start="denoising", scale=0.5, teacher_scale=2.0,
            orthonormal_teacher=True, v=1.0, v_teacher="sqrt", b=0.3, b_teacher=0.0,
        )  # fmt: skip
        for name in ("w", "w_teacher", "v", "v_teacher", "b", "b_teacher"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))

    def test_of_times(self):
        def times(*arguments):
            return save_times(_options.parse(["ode", *arguments]).times)

        np.testing.assert_allclose(times("--points", "3", "--alpha-max", "4"), [0, 2, 4])
        log = times("--spacing", "log", "--points", "4", "--alpha-max", "100", "--alpha-min", "1")
        np.testing.assert_allclose(log, [0, 1, 10, 100])

    def test_of_averages(self):
        assert settings().averages is None
        assert settings("--averages", "closed").averages == "closed"
        assert settings("--averages", "hermite", "--nodes", "9").averages.order == 9
        assert settings("--averages", "qmc").averages.points == 4096

    def test_of_inputs(self):
        digits = settings("--inputs", "digits", level="sgd")
        assert digits.n == digits.start.n == 61
        finite = settings("--train-size", "50", "--no-replace", level="sgd").inputs
        assert (finite.p, finite.replace) == (50, False)


class TestInitFile:
    state = ld.Overlaps(
        Q=[[1.0, 0.1], [0.1, 0.8]], R=[[0.2], [0.3]], T=[[1.0]], v=[0.5, -0.5], v_teacher=[4.0]
    )

    def check(self, path, *arguments):
        found = settings("--init-file", str(path), *arguments).start
        for name in ("Q", "R", "T", "v", "v_teacher"):
            np.testing.assert_allclose(getattr(found, name), getattr(self.state, name))

    def test_csv(self):
        rows = ["name,i,j,value"]
        for name in ("Q", "R", "T", "v", "v_teacher"):
            for index, value in np.ndenumerate(getattr(self.state, name)):
                i, j = (*index, "")[:2]
                rows.append(f"{'A' if name == 'v_teacher' else name},{i},{j},{value}")
        Path("start.csv").write_text("\n".join(rows))
        self.check("start.csv")

    def test_npz(self):
        arrays = {name: getattr(self.state, name) for name in ("Q", "R", "T", "v", "v_teacher")}
        np.savez("start.npz", **arrays)
        self.check("start.npz")

    def test_npz_of_weights(self):
        weights = start_of(1)
        np.savez("start.npz", w=weights.w, w_teacher=weights.w_teacher)
        found = settings("--init-file", "start.npz")
        np.testing.assert_array_equal(found.start.w, weights.w)
        assert found.n == 20
        with pytest.raises(ValueError, match="n = 20"):
            settings("--init-file", "start.npz", "--n", "30")

    def test_netcdf_at_a_time(self):
        rows = [jnp.stack([x, 2 * x]) for x in (self.state.Q, self.state.R, self.state.v)]
        trajectory = ld.Trajectory(
            alpha=jnp.array([0.0, 1.0]), Q=rows[0] / 2, R=rows[1] / 2, T=self.state.T,
            v=rows[2] / 2, v_teacher=self.state.v_teacher, b=None, b_teacher=None,
            eg=jnp.zeros(2), result=jnp.array(0), stats={},
        )  # fmt: skip
        ld.save(ld.to_dataset(trajectory), "start.nc")
        self.check("start.nc", "--init-alpha", "0.9")

    def test_sgd_starts_from_weights_with_these_overlaps(self):
        np.savez("start.npz", Q=self.state.Q, R=self.state.R, T=self.state.T)
        main(["sgd", "--init-file", "start.npz", *SMALL, "--no-png"])
        np.testing.assert_allclose(ld.load("learndyn-sgd.nc").Q[0], self.state.Q, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ode", "--noise", "-1"], "noise must be finite and >= 0"),
        (["ode", "--lr", "-0.1", "--schedule", "power"], "lr must be"),
        (["ode", "--lr", "fast"], "--lr must be numbers separated by commas"),
        (["ode", "--lr", "0.1,0.2,0.3"], "one for each of the 4 student units"),
        (["ode", "--lr", "0.1,0.2", "--schedule", "power"], "takes one rate for all units"),
        (["ode", "--rule", "dropout"], "--rule dropout needs --keep"),
        (["ode", "--rule", "dropout", "--keep", "0"], "must be > 0 and <= 1; got 0"),
        (["ode", "--rule", "hebb", "--keep", "0.5"], "--rule hebb does not take --keep"),
        (["ode", "--rule", "reward-perceptron"], "--rule reward-perceptron needs --episode"),
        (["ode", "--rule", "clipped", "--limit", "0"], "limit must be finite and > 0"),
        (["ode", "--rule", "delta"], "invalid choice"),
        (["chain", "--rule", "natural-gradient", "--no-theory"], "no chain"),
        (["sgd", "--batch-size", "inf"], "batch_size=inf, the average over all samples"),
        (["ode", "--spherical", "--init-file", "half.csv"], "must have Q_ii = 1; got Q_ii = [0.5]"),
        (["ode", "--learning-rate", "1"], "Unrecognized options"),
        (["ode", "--student", "sign"], "invalid choice"),
        (["ode", "--momentum", "1"], "beta < 1"),
        (["ode", "--momentum", "0.5", "--slow-momentum", "1"], "not both"),
        (["ode", "--k", "0"], "k must be"),
        (["ode", "--lr-bias", "0.1"], "lr_bias trains biases"),
        (["ode", "--alpha-max", "0"], "--alpha-max must be > 0"),
        (["ode", "--points", "1"], "--points must be at least 2"),
        (["ode", "--flip", "0.1"], "--flip turns labels of --teacher sign; got --teacher erf"),
        (["ode", "--spacing", "log", "--alpha-min", "200"], "--alpha-min must lie"),
        (["ode", "--schedule", "cosine", "--schedule-scale", "0"], "--schedule-scale"),
        (["ode", "--schedule", "cosine", "--schedule-final", "-1"], "--schedule-final"),
        (["ode", "--nodes", "10"], "--nodes goes with"),
        (["ode", "--student", "tanh", "--averages", "closed"], "closed-form averages exist"),
        (["ode", "--output", "run.txt"], "must end in .nc"),
        (["ode", "--k", "7", "--init-file", "two.csv"], "has k = 2 units, but --k 7 was asked"),
        (["ode", "--m", "3", "--init-file", "two.csv"], "has m = 1 units, but --m 3 was asked"),
        (["ode", "--v", "1", "--init-file", "two.csv"], "--v would be ignored"),
        (["ode", "--init", "informed", "--init-file", "two.csv"], "--init would be ignored"),
        (["ode", "--orthonormal-teacher", "--init-file", "two.csv"], "--orthonormal-teacher would"),
        (["ode", "--init-alpha", "3", "--init-file", "two.csv"], "a time of an .nc file"),
        (["ode", "--init-alpha", "3"], "a time of --init-file, which is not given"),
        (["ode", "--alpha-min", "0.5"], "--alpha-min goes with --spacing log"),
        (["ode", "--schedule-scale", "5"], "--schedule-scale goes with --schedule power or"),
        (["ode", "--schedule", "cosine", "--schedule-power", "1"], "goes with --schedule power"),
        (["ode", "--schedule-final", "0.1"], "--schedule-final goes with --schedule cosine"),
        (["sgd", "--no-replace"], "--no-replace goes with --train-size"),
        (["ode", "--init-file", "absent.csv"], "there is no such file"),
        (["ode", "--init-file", "bad.txt"], "read from .nc, .npz or .csv"),
        (["ode", "--init-file", "bad.csv"], "positive semi-definite"),
        (["ode", "--init-file", "holes.csv"], "Q has no finite entry [0, 1]"),
        (["ode", "--init-file", "header.csv"], "columns name,i,j,value"),
        (["ode", "--init-file", "word.csv"], "line 2"),
        (["ode", "--init-file", "part.csv"], "has no ['R', 'T']"),
        (["sgd", "--inputs", "digits", "--n", "10"], "61"),
        (["sgd", "--runs", "0"], "--runs must be at least 1"),
        (["chian"], "Available subcommands: ode, sgd, chain, langevin"),
        ([], "Expected one of"),
    ],
)
def test_usage_errors_exit_with_2_and_a_message(arguments, message, folder, capsys):
    files = {
        "bad.txt": "",
        "bad.csv": "name,i,j,value\nQ,0,0,1\nR,0,0,2\nT,0,0,1\n",
        "holes.csv": "name,i,j,value\nQ,0,0,1\nQ,1,1,1\nR,0,0,0\nT,0,0,1\n",
        "header.csv": "a,b\n1,2\n",
        "word.csv": "name,i,j,value\nQ,0,0,one\n",
        "part.csv": "name,i,j,value\nQ,0,0,1\n",
        "half.csv": "name,i,j,value\nQ,0,0,0.5\nR,0,0,0\nT,0,0,1\n",
        "two.csv": "name,i,j,value\nQ,0,0,1\nQ,1,1,1\nQ,0,1,0\nQ,1,0,0\n"
        "R,0,0,0\nR,1,0,0\nT,0,0,1\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert "Traceback" not in said
    assert not list(folder.glob("*.nc"))


@pytest.mark.parametrize("command", list(_options.COMMANDS))
def test_help_shows_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for line in _options.EXAMPLES[command].splitlines():
        assert line in said
        program, *arguments = line.split()
        assert program == "learndyn"
        _options.parse(arguments)


@pytest.mark.parametrize(
    "path", ["_options.py", "flow/options.py", "sweep/options.py", "tasks/options.py"]
)
def test_lines_of_help_break_between_sentences(path):
    """tyro starts a new line wherever a description does, also in the middle of a sentence."""
    source = (Path(_options.__file__).parent / path).read_text()
    for holder in ast.walk(ast.parse(source)):
        if not isinstance(holder, ast.ClassDef):
            continue
        for field, below in itertools.pairwise(holder.body):
            match field, below:
                case ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(description))):
                    for line in description.splitlines():
                        assert line.endswith((".", "...")), line


def alone(*command, **environment):
    """Run a command in a new process that loads JAX when it needs it, and not with learndyn."""
    inherited = {name: value for name, value in os.environ.items() if name != "EAGER_IMPORT"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=inherited | environment
    )


def entry_point():
    """Arguments of Python that do what the installed command `learndyn` does."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    module, _, function = project["project"]["scripts"]["learndyn"].partition(":")
    return "-c", f"import sys; from {module} import {function}; sys.exit({function}())"


DOORS = pytest.mark.parametrize("door", [entry_point(), ("-m", "learndyn")], ids=["command", "-m"])


@pytest.mark.parametrize("arguments", [["sgd", "--help"], ["ode", "--student", "sign"]])
def test_help_and_wrong_options_are_answered_before_jax(arguments):
    script = f"""
import atexit, sys
from learndyn.cli import main

def show():
    print([name for name in ("jax", "numpy", "equinox") if name in sys.modules])

atexit.register(show)
main({arguments})
"""
    done = alone("-c", script)
    assert done.returncode == (0 if "--help" in arguments else 2), done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.nightly(by_day=["-m"])
@DOORS
def test_a_process_of_its_own_switches_on_float64_and_the_cache(door, folder, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("JAX_", "EQX_"))]:
        if name != "JAX_PLATFORMS":
            monkeypatch.delenv(name)
    done = alone(*door, "ode", *SMALL, "--no-png", XDG_CACHE_HOME=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    assert ld.load("learndyn-ode.nc").attrs["x64"] == 1
    stored = {file.name.partition("-")[0] for file in (folder / "cache").glob("learndyn/jax-*/*")}
    # With Equinox's run-time checks, EQX_ON_ERROR=raise, the large program could not be stored. The
    # small ones, which draw the initial weights, take less than the second that JAX asks for.
    assert {"jit__solve", "jit__normal"} <= stored


@pytest.mark.parametrize(("jaxlib", "flags"), [("0.10.1", _door.QUICKLY), ("0.11.0", "")])
def test_small_runs_compile_quickly_where_xla_knows_the_flags(jaxlib, flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=dump")
    monkeypatch.setattr(_door.importlib.metadata, "version", {"jaxlib": jaxlib}.get)
    _door.compile_quickly()
    assert os.environ["XLA_FLAGS"] == f"{flags} --xla_dump_to=dump".strip()


def test_version_names_the_stack_before_jax_is_loaded(capsys):
    assert main(["--version"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"learndyn {ld.__version__}"
    assert f"jax {jax.__version__}" in others
    assert f"numpy {np.__version__}" in others
    script = """
import sys
from learndyn.cli import main
main(["--version"])
assert not {"jax", "numpy"} & set(sys.modules)
"""
    assert alone("-c", script).returncode == 0


class TestDoctor:
    def test_a_healthy_machine(self, capsys):
        assert main(["doctor"]) == 0
        said = capsys.readouterr().out
        for words in ("x64:      on", "device:   CPU with", "cache:", "random:   passed"):
            assert words in said
        assert re.search(r"theory:   passed, .* the second \d+ ms\n", said)
        assert said.endswith("all is well\n")

    def test_a_wrong_number_is_found(self, capsys, monkeypatch):
        monkeypatch.setattr(_doctor, "_EG", _doctor._EG * (1.0 + 2e-6))
        monkeypatch.setattr(_doctor, "_NORMALS", (0.0, *_doctor._NORMALS[1:]))
        assert main(["doctor"]) == 1
        assert capsys.readouterr().out.endswith("FAILED: theory, random\n")

    def test_a_missing_extra_is_named_with_its_line(self, capsys, monkeypatch):
        monkeypatch.setattr(_doctor, "_EXTRAS", {"plot": "no_such_module"})
        monkeypatch.setattr(_doctor, "_CHECKS", {})
        assert main(["doctor"]) == 0
        assert 'pip install "learndyn[plot]"' in capsys.readouterr().out

    def test_its_stored_number_is_that_of_the_reference(self):
        path = Path(__file__).parent / "data" / "ode_dop853.json"
        rows = json.loads(path.read_text())["i0"]["rows"]
        assert [_doctor._ALPHA, _doctor._EG] in [row[:2] for row in rows]


class Left:
    """A stream whose reader has left."""

    encoding, errors = "utf-8", "strict"

    def __init__(self, file):
        self.file = file

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError

    def isatty(self):
        return False

    def fileno(self):
        return self.file.fileno()


def test_a_run_goes_on_when_its_reader_leaves(folder, monkeypatch):
    """`learndyn ode | head -1` writes its files all the same."""
    with (folder / "pipe").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Left(file))
        assert main(["ode", *SMALL, "--no-png"]) == 0
        assert sys.stdout.file is file
    assert (folder / "learndyn-ode.nc").exists()


@pytest.mark.parametrize("arguments", [["--version"], ["sgd", "--help"]])
def test_a_broken_pipe_is_no_traceback(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "learndyn", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def names_of(base):
    """The names of the concrete classes of `learndyn.problems` that derive from `base`."""
    classes = [value for value in vars(problems).values() if isinstance(value, type)]
    concrete = [cls for cls in classes if issubclass(cls, base) and not inspect.isabstract(cls)]
    return {cls.name for cls in concrete}


def test_the_names_of_activations_and_losses_are_those_of_the_classes():
    assert set(get_args(TeacherUnit)) == names_of(AbstractActivation)
    assert set(get_args(StudentUnit)) == names_of(AbstractActivation) - {"sign"}
    assert set(get_args(Loss)) == names_of(ld.AbstractLoss)


RULES = {
    "sgd": ("", ld.SGD(0.2)),
    "feedback-alignment": ("--feedback 1,-0.7", rules.FeedbackAlignment([1.0, -0.7], 0.2)),
    "hebb": ("", rules.Hebb(0.2)),
    "perceptron": ("", rules.Perceptron(0.2)),
    "adatron": ("", rules.AdaTron(0.2)),
    "node-perturbation": ("--law sign --scale 0.1", rules.NodePerturbation(0.1, "sign", 0.2)),
    "weight-perturbation": ("", rules.WeightPerturbation(0.2)),
    "clipped": ("--limit 0.5 --per batch", rules.Clipped(0.5, 0.2, per="batch")),
    "dropout": ("--keep 0.8", rules.Dropout(0.8, 0.2)),
    "input-noise": ("--std 0.3", rules.InputNoise(0.3, 0.2)),
    "reward-perceptron": (
        "--episode 3 --reward 2 --penalty 0.1",
        rules.RewardPerceptron(3, 2.0, 0.1, lr=0.2),
    ),
    "natural-gradient": ("--damping 0.1", rules.NaturalGradient(0.1, lr=0.2)),
}


@pytest.mark.parametrize("name", get_args(Rule))
def test_every_rule_has_a_name_and_its_arguments_are_options(name):
    options, expected = RULES[name]
    assert settings("--rule", name, *options.split()).rule == expected


def test_rules_of_the_library_are_there_by_name():
    classes = [x for x in vars(rules).values() if isinstance(x, type)]
    named = {x.name for x in classes if issubclass(x, rules.AbstractRule) and x.name}
    assert set(get_args(Rule)) == named


@pytest.mark.parametrize("unit", get_args(TeacherUnit))
def test_every_activation_has_a_name(unit):
    assert settings("--teacher", unit).problem.teacher.name == unit


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_loss_has_a_name(loss):
    assert settings("--loss", loss).problem.loss.name == loss


def test_a_usage_error_of_a_process_is_one_line():
    """Also while another thread is still importing slow libraries."""
    done = alone("-m", "learndyn", "ode", "--noise", "-1")
    assert done.returncode == 2
    assert done.stderr.startswith("learndyn: error: noise must be")
    assert done.stderr.count("\n") == 1


def test_inside_another_program_its_settings_are_left_alone(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    before = dict(jax.config.values), dict(os.environ), gc.get_freeze_count()
    assert main(["ode", *SMALL, "--no-png"]) == 0
    assert (dict(jax.config.values), dict(os.environ), gc.get_freeze_count()) == before
    assert gc.isenabled()


def test_garbage_is_collected_again_once_modules_are_loaded():
    before = gc.get_freeze_count()
    try:
        with _door.modules_kept():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


class TestTasks:
    def test_a_run_writes_what_the_library_computes(self, folder, capsys):
        given = ["--n", "20", "--alpha-max", "2", "--points", "5", "--switch", "1", "--no-png"]
        assert main(["tasks", *given, "--lr", "0.5", "--similarity", "0.3"]) == 0
        ds = ld.load("learndyn-tasks.nc")
        np.testing.assert_allclose(ds["T"], [[1, 0.3], [0.3, 1]], atol=1e-12)
        start = ld.Overlaps(ds.Q[0].values, ds.R[0].values, ds["T"].values)
        tasks = [ld.Task(ld.Problem(), [1.0, 0.0], 0), ld.Task(ld.Problem(), [0.0, 1.0], 1)]
        schedule = [(1.0, (1, 0)), (np.inf, (0, 1))]
        rule, heads = ld.SGD(lr=0.5), np.ones((2, 2))
        run = ld.learn("ode", tasks, rule, start, ds.alpha.values, heads, schedule)
        np.testing.assert_allclose(ds.eg_tasks, run.eg_tasks, rtol=1e-6)
        said = capsys.readouterr().out
        assert "2 tasks of 1 teacher units" in said
        assert "eg 2, ode" in said

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--similarity", "2"], "--similarity must lie between -1 and 1"),
            (["--tasks", "3", "--switch", "5"], "--switch needs 2 times for 3 tasks; got 1"),
            (["--shares", "0.5,0.5", "--replay", "0.1"], "leave out --switch and --replay"),
            (["--replay", "1.5"], "between 0 and 1"),
            (["--shares", "a,b"], "numbers separated by commas"),
            (["--runs", "3"], "the ODE has nothing random"),
            (["--tasks", "0"], "--tasks must be at least 1"),
        ],
    )
    def test_options_that_do_not_go_together(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["tasks", *arguments])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err

    def test_replay_is_of_all_earlier_tasks(self):
        own = _options.parse(["tasks", "--tasks", "3", "--switch", "1,2", "--replay", "0.2"]).tasks
        shares = [row for _, row in schedule_from(own, 3.0)]
        np.testing.assert_allclose(shares, [[1, 0, 0], [0.2, 0.8, 0], [0.1, 0.1, 0.8]])
