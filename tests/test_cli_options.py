"""Options of the command line: what they mean, their names, and how wrong ones are refused."""

import ast
import inspect
import itertools
from pathlib import Path
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest
from commands import SMALL, settings, start_of

import learndyn as ld
from learndyn import problems, rules
from learndyn.cli import _options, main
from learndyn.cli._names import Loss, Rule, StudentUnit, TeacherUnit
from learndyn.cli._settings import save_times
from learndyn.problems._activations import AbstractActivation

pytestmark = pytest.mark.usefixtures("folder", "forget_figures")


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
