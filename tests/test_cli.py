"""The command line: what it writes, what it says, and how it refuses."""

import gc
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import SMALL, settings, start_of

import learndyn as ld
from learndyn.cli import _doctor, _door, _options, main
from learndyn.cli.tasks.command import schedule_from

pytestmark = pytest.mark.usefixtures("folder", "forget_figures")


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
