"""The options of every subcommand as classes, with their help, and how a command line is read.

A new option is a field with a docstring. Nothing here imports JAX.
"""

import functools
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, arg, subcommand

from learndyn.cli._destination import OutputOptions
from learndyn.cli._names import Loss, Rule, StudentUnit, TeacherUnit
from learndyn.cli.flow import options as flow
from learndyn.cli.sweep import options as sweep
from learndyn.cli.tasks import options as several

Layer = float | Literal["mean", "sqrt", "gaussian"]

Rate = float | str
"""A number, or numbers separated by commas."""


@dataclass(frozen=True)
class ProblemOptions:
    """What is learned: y = sum_j v*_j g*(w*_j.x / sqrt n + b*_j) + noise."""

    student: StudentUnit = "erf"
    """Activation of the student's units; erf is erf(x / sqrt 2)."""
    teacher: TeacherUnit | None = None
    """Activation of the teacher's units. None: that of the student."""
    loss: Loss = "squared"
    """Loss of one sample; all but squared are for classification, y = sign(...)."""
    noise: float = 0.0
    """Standard deviation of the label noise."""
    flip: float = 0.0
    """For the teacher sign: the probability that a label is turned."""


@dataclass(frozen=True)
class RuleOptions:
    """How it is learned. Rates are those of the literature, per unit of alpha."""

    rule: Rule = "sgd"
    """Learning rule: online SGD, or another one, whose own options follow."""
    feedback: str | None = None
    """For feedback-alignment: the weight of the error at each student unit, for example 1,-0.7."""
    scale: float | None = None
    """For node-perturbation: how far units are shaken. None: 0, the limit."""
    law: Literal["normal", "sign"] | None = None
    """For node-perturbation: the law of what shakes the units. None: normal."""
    limit: float | None = None
    """For clipped: the largest norm of a gradient."""
    per: Literal["sample", "batch"] | None = None
    """For clipped: whether each sample's gradient is clipped, or that of a batch. None: sample."""
    keep: float | None = None
    """For dropout: the probability that a unit stays."""
    std: float | None = None
    """For input-noise: the standard deviation of the noise on each input."""
    episode: int | None = None
    """For reward-perceptron: decisions in an episode, which is one step."""
    reward: float | None = None
    """For reward-perceptron: how far a good episode moves the weights. None: 1."""
    penalty: float | None = None
    """For reward-perceptron: how far a bad episode moves them back. None: 0."""
    damping: float | None = None
    """For natural-gradient: what is added to the diagonal of the Fisher matrix. None: 0."""
    lr: Rate = 0.2
    """Learning rate of the first layer, or one for each unit, such as 0.2,0.1; 0 freezes a unit."""
    lr_second: Rate | None = None
    """Learning rate of the second layer, likewise. None: it is not trained."""
    lr_bias: Rate | None = None
    """Learning rate of the biases, likewise. None: they are not trained."""
    weight_decay: float = 0.0
    """Weight decay of the first layer; it is multiplied by the learning rate."""
    batch_size: int | Literal["inf"] | None = None
    """Fresh samples per step; a batch is one step. None: 1, or the episode.
    inf: the average over all samples, which the ODE alone can follow."""
    spherical: bool = False
    """End each step on the sphere w_i^2 = n. Random weights start there; a file's have to."""
    momentum: float | None = None
    """Momentum beta of each step, 0 <= beta < 1."""
    slow_momentum: float | None = None
    """Instead of beta: gamma, with 1 - beta = gamma / n, so that momentum matters at large n."""
    schedule: Literal["constant", "power", "cosine"] = "constant"
    """How all rates change with alpha. power: they are multiplied by (1 + alpha / scale)^-power.
    cosine: by a cosine that falls from 1 at alpha = 0 to `final` at alpha = scale."""
    schedule_scale: float | None = None
    """Time scale of the schedule in alpha. None: alpha-max."""
    schedule_power: float | None = None
    """Exponent of the schedule power. None: 0.5."""
    schedule_final: float | None = None
    """Last value of the schedule cosine, as a fraction of the rate. None: 0."""


@dataclass(frozen=True)
class StartOptions:
    """Where it starts: random weights from a seed, or a file."""

    k: Annotated[int | None, arg(aliases=("-k",))] = None
    """Units of the student. None: 4, or what the file has."""
    m: Annotated[int | None, arg(aliases=("-m",))] = None
    """Units of the teacher. None: 4, or what the file has."""
    n: Annotated[int | None, arg(aliases=("-n",))] = None
    """Input dimension. The ODE has n = infinity and uses it only to draw weights.
    None: 784, or what the inputs or the file have."""
    seed: int = 0
    """Seed of all random numbers. The same seed gives `ode` and `sgd` the same start."""
    init: Literal["random", "informed", "denoising"] | None = None
    """Student's weights: noise; the teacher's plus noise; or k/m copies of the teacher's.
    None: random, or those of the file."""
    init_scale: float | None = None
    """Standard deviation of that noise. None: 1 for random, else 0.1."""
    teacher_scale: float | None = None
    """Standard deviation of the teacher's weights. None: 1."""
    orthonormal_teacher: bool = False
    """Make the teacher's overlaps T the unit matrix, times teacher-scale squared, exactly."""
    v: Layer | None = None
    """Second layer of the student: a number, mean (1/k), sqrt (1/sqrt k), or gaussian.
    None: 1, or that of the file."""
    v_teacher: Layer | None = None
    """Second layer of the teacher, likewise."""
    b: float | Literal["gaussian"] | None = None
    """Biases of the student: a number, or gaussian. None: there are no biases."""
    b_teacher: float | Literal["gaussian"] | None = None
    """Biases of the teacher, likewise."""
    init_file: Path | None = None
    """Start from a file instead: .nc of an earlier run, .npz, or .csv.
    An .npz has arrays Q, R, T, or w, w_teacher; and v, v_teacher, b, b_teacher.
    A .csv has columns name,i,j,value; the teacher's second layer is v_teacher or A."""
    init_alpha: float | None = None
    """Which saved time of an .nc file to start from, the nearest to this. None: 0."""


@dataclass(frozen=True)
class TimeOptions:
    """When to save; alpha = steps / n."""

    alpha_max: float = 100.0
    """Last time."""
    points: int = 201
    """Number of saved times, 0 among them."""
    spacing: Literal["linear", "log"] = "linear"
    """How they are spaced: log means 0 and then logarithmic from alpha-min."""
    alpha_min: float | None = None
    """First time after 0 of spacing log. None: 0.1."""


@dataclass(frozen=True)
class AverageOptions:
    """How Gaussian averages are taken where there is no closed form."""

    averages: Literal["auto", "closed", "hermite", "qmc", "mc"] = "auto"
    """auto: closed forms, series for smooth units with squared loss, else a set of nodes."""
    nodes: int | None = None
    """Nodes per direction (hermite) or points per replicate (qmc, mc). None: the default."""


@dataclass(frozen=True)
class Common:
    """What all levels of description share."""

    problem: ProblemOptions = field(default_factory=ProblemOptions)
    rule: RuleOptions = field(default_factory=RuleOptions)
    start: StartOptions = field(default_factory=StartOptions)
    times: TimeOptions = field(default_factory=TimeOptions)
    averages: AverageOptions = field(default_factory=AverageOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class SolverOptions:
    """The adaptive solver."""

    rtol: float = 1e-9
    """Relative tolerance."""
    atol: float = 1e-11
    """Absolute tolerance."""
    max_steps: int = 100_000
    """Most steps it may take."""


@dataclass(frozen=True)
class EnsembleOptions:
    """How many runs, and what to compare them with."""

    runs: int = 1
    """Independent runs from the same start; the figure shows their median and spread."""
    theory: Literal["auto", "on", "band", "off"] = "auto"
    """Also solve the ODE from the same overlaps, draw it, and save it as OUTPUT-ode.nc.
    --theory alone is on, --no-theory is off.
    auto: on where it takes seconds (closed forms, at most 8 units in all, fresh Gaussian samples).
    band: also the scatter of one run that theory predicts, eg_std / sqrt n, in some seconds more.
    For digits it is the ODE of each direction of the images.
    The scatter is then that of a few groups of directions."""


@dataclass(frozen=True)
class ExperimentOptions:
    """What the samples are."""

    inputs: Literal["gaussian", "digits", "digits-whitened"] = "gaussian"
    """Inputs: N(0, 1), or images of digits (standardised, n = 61), raw or PCA-whitened."""
    train_size: int | None = None
    """Draw from a finite training set of this many samples. None: a fresh one at every step."""
    replace: bool = True
    """Draw from the training set with replacement; otherwise in epochs."""
    input_dtype: Literal["float64", "float32"] = "float64"
    """Precision in which inputs are drawn; float32 is faster."""


@dataclass(frozen=True)
class LangevinOptions:
    """The stochastic differential equation."""

    dt: float | None = None
    """Step in alpha. None: so small that it changes eg by less than 1 %."""


@dataclass(frozen=True)
class Ode(Common):
    """The limit n = infinity: overlaps and generalisation error by an ODE."""

    solver: SolverOptions = field(default_factory=SolverOptions)


@dataclass(frozen=True)
class Sgd(Common):
    """The experiment: SGD on weights at finite n, for any inputs."""

    ensemble: EnsembleOptions = field(default_factory=EnsembleOptions)
    experiment: ExperimentOptions = field(default_factory=ExperimentOptions)


@dataclass(frozen=True)
class Chain(Common):
    """The law of SGD with Gaussian inputs at any n >= k + m, at a cost that n does not change."""

    ensemble: EnsembleOptions = field(default_factory=EnsembleOptions)


@dataclass(frozen=True)
class Langevin(Common):
    """The ODE with the noise of finite n, to first order in 1 / sqrt n."""

    ensemble: EnsembleOptions = field(default_factory=EnsembleOptions)
    langevin: LangevinOptions = field(default_factory=LangevinOptions)


@dataclass(frozen=True)
class Tasks:
    """Several tasks, one after another or interleaved: what is learned, and what is forgotten."""

    problem: ProblemOptions = field(default_factory=ProblemOptions)
    rule: RuleOptions = field(default_factory=RuleOptions)
    tasks: several.TaskOptions = field(default_factory=several.TaskOptions)
    start: several.TaskStartOptions = field(default_factory=several.TaskStartOptions)
    times: TimeOptions = field(default_factory=TimeOptions)
    ensemble: several.TaskEnsembleOptions = field(default_factory=several.TaskEnsembleOptions)
    averages: AverageOptions = field(default_factory=AverageOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Report:
    """Rebuild the page of `nox -s validate` from its datasets; nothing is run again."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("results/validation")
    """Where the claims are: data/*.nc and figures/*.png."""


@dataclass(frozen=True)
class Explore:
    """An interactive page of a dataset, in one HTML file that needs no network."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """A run, an ensemble, a sweep or a gradient flow: .nc or .zarr."""
    theory: Path | None = None
    """Dataset of the theory to draw next to it. None: DATASET-ode.nc, where there is one."""
    output: Annotated[Path | None, arg(aliases=("-o",))] = None
    """HTML file, ending in .html. None: that of the dataset's name."""
    force: bool = False
    """Replace a file of this name."""


@dataclass(frozen=True)
class Animate:
    """A film of a run: the learning curve and the overlaps R and Q as time goes on."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """A run or an ensemble of one setting: .nc or .zarr."""
    theory: Path | None = None
    """Dataset of the theory to draw next to it. None: DATASET-ode.nc, where there is one."""
    output: Annotated[Path | None, arg(aliases=("-o",))] = None
    """Film, ending in .gif or, with ffmpeg, .mp4. None: a .gif of the dataset's name."""
    force: bool = False
    """Replace a file of this name."""


@dataclass(frozen=True)
class Reproduce:
    """Published figures again: a dataset, pictures, and measured next to published numbers."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Entries of the atlas, such as goldt2020-fig2a; --list has them all."""
    list: bool = False
    """List all entries, one a line: the name, the claim, what it shows. Nothing is run."""
    all: bool = False
    """All entries."""
    quick: bool = False
    """Smaller sizes, shorter times, fewer runs: seconds for an entry in place of minutes.
    Without it: the published sizes."""
    output: Annotated[Path, arg(aliases=("-o",))] = Path("learndyn-reproduce")
    """Folder for NAME.nc, NAME.png and NAME.svg."""
    force: bool = False
    """Replace files of these names; else nothing is run where there are any."""


@dataclass(frozen=True)
class Doctor:
    """What learndyn runs on (device, float64, versions, cache, extras), and a short self-test."""


EXAMPLES = {
    "ode": """\
  learndyn ode --k 4 --m 4 --lr 0.2 --alpha-max 1000 --spacing log
  learndyn ode --student relu --k 3 --m 2 --lr 0.1 --noise 0.1
  learndyn ode --lr 0.05 --lr-second 0.05 --v gaussian --v-teacher 4
  learndyn ode --student tanh --b 0 --b-teacher gaussian --lr-bias 0.2 --averages qmc
  learndyn ode --lr 1.0 --schedule power --schedule-scale 50 --noise 0.1
  learndyn ode --k 2 --m 2 --rule dropout --keep 0.8 --lr 0.5,0.1
  learndyn ode --k 2 --m 2 --lr 0.5 --spherical
  learndyn ode --init-file start.csv --alpha-max 500 -o from-file.nc""",
    "sgd": """\
  learndyn sgd --k 4 --m 4 --n 784 --lr 0.2 --alpha-max 300
  learndyn sgd --runs 20 --n 500 --spacing log -o ensemble.nc --force
  learndyn sgd --student tanh --theory
  learndyn sgd --inputs digits --lr 0.1 --theory
  learndyn sgd --train-size 5000 --batch-size 10 --lr 0.5
  learndyn sgd --k 2 --m 2 --rule node-perturbation --law sign --theory""",
    "chain": """\
  learndyn chain --n 10000 --alpha-max 300
  learndyn chain --runs 500 --n 100 --k 2 --m 2 --no-theory""",
    "langevin": """\
  learndyn langevin --n 1000 --dt 0.005""",
    "tasks": several.EXAMPLES,
    "flow": flow.EXAMPLES,
    "sweep": sweep.EXAMPLES,
    "report": """\
  learndyn report
  learndyn report results/validation""",
    "explore": """\
  learndyn explore learndyn-sgd.nc
  learndyn explore sweep.zarr --theory sweep-ode.zarr -o page.html --force""",
    "animate": """\
  learndyn animate learndyn-sgd.nc
  learndyn animate learndyn-sgd.nc -o run.mp4 --force""",
    "reproduce": """\
  learndyn reproduce --list
  learndyn reproduce goldt2020-fig2a goldt2020-fig3c --quick
  learndyn reproduce --all --quick -o atlas --force""",
    "doctor": """\
  learndyn doctor""",
}

COMMANDS: dict[str, type] = {
    "ode": Ode,
    "sgd": Sgd,
    "chain": Chain,
    "langevin": Langevin,
    "tasks": Tasks,
    "flow": flow.Flow,
    "sweep": sweep.Sweep,
    "report": Report,
    "explore": Explore,
    "animate": Animate,
    "reproduce": Reproduce,
    "doctor": Doctor,
}

DESCRIPTION = """\
Learning dynamics of two-layer neural networks that learn from a teacher: simulate them, and
predict them from theory. `learndyn COMMAND --help` explains every option, with examples.

A first comparison of theory and experiment, in learndyn-sgd.nc and learndyn-sgd.png:

  learndyn sgd

`learndyn --version` prints the versions of everything that decides numbers.
"""


def parse(arguments: Sequence[str]) -> Any:
    """The options of a subcommand. Prints help, or a usage error, and exits where asked to."""
    return tyro.cli(
        OmitSubcommandPrefixes[OmitArgPrefixes[_commands(arguments)]],
        prog="learndyn",
        description=DESCRIPTION,
        args=_with_choices(arguments),
    )


def _with_choices(arguments: Sequence[str]) -> list[str]:
    """`--theory` and `--no-theory` as what they stand for, `--theory on` and `--theory off`."""
    if arguments and arguments[0] in ("explore", "animate"):  # whose theory is a file
        return list(arguments)
    written = []
    for here, after in itertools.zip_longest(arguments, arguments[1:]):
        written += ["--theory", "off"] if here == "--no-theory" else [here]
        if here == "--theory" and after not in ("auto", "on", "band", "off"):
            written.append("on")
    return written


def _commands(arguments: Sequence[str]) -> Any:
    """The subcommands; the help of one shows its examples, the list of all does not."""
    chosen = arguments[0] if arguments else None

    def command(name: str, options: type) -> Any:
        described = f"{options.__doc__}\n{EXAMPLES[name]}" if name == chosen else options.__doc__
        return Annotated[options, subcommand(name, description=described)]

    return functools.reduce(operator.or_, [command(*item) for item in COMMANDS.items()])
