"""The options of `learndyn flow`, a class for each network; nothing here imports JAX."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg, subcommand

from learndyn.cli._destination import OutputOptions

File = Annotated[Path | None, arg(aliases=("-d",))]


@dataclass(frozen=True)
class DataOptions:
    """What is learned: the labels of a teacher on random inputs N(0, covariance), or a file."""

    teacher: str | None = None
    """The teacher's coefficients, separated by commas: one for each input.
    For a linear network: the diagonal of its matrix.
    For ReLU units: their output weights, in random directions.
    None: 1,0.5 (neuron), 3,2,1 (linear), 1,-0.7,0.4,0,0,0 (diagonal), 1,-1 (relu)."""
    covariance: str | None = None
    """Variances of the inputs, separated by commas, one for each. None: 1."""
    samples: int | None = None
    """Size of a random data set.
    None: infinitely many samples, which means exact second moments; for relu 40."""
    noise: float = 0.0
    """Standard deviation of the label noise, where there are samples."""
    data: File = None
    """Learn from a file instead, an .npz, .nc or .csv.
    An .npz or .nc has x (samples, d) and y (samples,) or (samples, c).
    A .csv has columns x1, x2, ... and y, or y1, y2, ..."""


@dataclass(frozen=True)
class SeedOptions:
    """Random numbers."""

    seed: int = 0
    """Seed of the start and of the data."""


@dataclass(frozen=True)
class FlowOptions:
    """How it flows, and when to save."""

    lr: str = "1"
    """Learning rate of all layers, or of each one, separated by commas; 0 freezes a layer."""
    t_max: float | None = None
    """Last time. None: after the last predicted jump."""
    points: int = 401
    """Number of saved times, 0 among them."""
    rtol: float | None = None
    """Relative tolerance of the solver. None: 1e-10; for relu 1e-6."""
    max_steps: int = 200_000
    """Most steps it may take."""


@dataclass(frozen=True)
class FlowCommon:
    """What all networks share."""

    data: DataOptions = field(default_factory=DataOptions)
    seed: SeedOptions = field(default_factory=SeedOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Neuron(FlowCommon):
    """One linear neuron, f(x) = a w.x, with its closed form where inputs are white."""

    scale: float = 0.3
    """Scale of the start: |a w| is its square; w points in a random direction."""
    delta: str = "0"
    """lr_w a^2 - lr_a |w|^2, which the flow conserves: below 0 delayed, 0 rich, above 0 lazy.
    Several numbers, separated by commas, are as many runs."""


@dataclass(frozen=True)
class Linear(FlowCommon):
    """A linear network, f(x) = W_L ... W_1 x, with plateaus and jump times for two layers."""

    hidden: Annotated[int, arg(aliases=("-k",))] = 4
    """Units of each hidden layer."""
    depth: int = 2
    """Number of layers; only for two does theory predict jumps."""
    scale: float = 1e-6
    """Standard deviation of the weights at the start."""


@dataclass(frozen=True)
class Diagonal(FlowCommon):
    """A diagonal linear network, f(x) = sum_i u_i v_i x_i, with its plateaus and jump times."""

    scale: float = 1e-8
    """u at the start, where v is 0."""


@dataclass(frozen=True)
class Relu(FlowCommon):
    """Two layers of ReLU units; for two inputs with the directions that attract small units."""

    hidden: Annotated[int, arg(aliases=("-k",))] = 20
    """Hidden units."""
    inputs: int = 2
    """Dimension of the inputs, unless a file or the covariance says it."""
    scale: float = 1e-3
    """Scale of the start: |v| |w| of each unit is its square; directions and signs are random."""
    delta: float = 0.0
    """lr_w v^2 - lr_v |w|^2 of each unit, which the flow conserves."""


@dataclass(frozen=True)
class Modular:
    """A quadratic network that learns addition modulo p, one frequency after another."""

    p: int = 11
    """The modulus, odd; x has as many entries."""
    amplitudes: str = "2,1.4"
    """Amplitudes of the waves of frequency 1, 2, ... of which the encoding x consists."""
    data: File = None
    """Take the encoding from a file instead: .npz or .nc with x (p,), or .csv with a column x."""
    hidden: Annotated[int | None, arg(aliases=("-k",))] = None
    """Hidden units; six for each frequency are needed. None: 20, or these six."""
    aligned: bool = False
    """Start with six units for each frequency in the directions that grow fastest.
    They jump at the predicted times; random units have to turn to these directions first."""
    scale: float = 0.03
    """Norm of each unit at the start."""
    seed: SeedOptions = field(default_factory=SeedOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    output: OutputOptions = field(default_factory=OutputOptions)


@dataclass(frozen=True)
class Flow:
    """Gradient flow of a finite network, with the plateaus and jumps that theory predicts."""

    model: (
        Annotated[Neuron, subcommand("neuron")]
        | Annotated[Linear, subcommand("linear")]
        | Annotated[Diagonal, subcommand("diagonal")]
        | Annotated[Relu, subcommand("relu")]
        | Annotated[Modular, subcommand("modular")]
    )


EXAMPLES = """\
  learndyn flow neuron --delta -2,0,2
  learndyn flow linear --teacher 3,2,1 --scale 1e-8
  learndyn flow linear --covariance 1,2 --teacher 2,1 --lr 0.3,2
  learndyn flow diagonal --samples 5 -o sparse.nc
  learndyn flow diagonal --data measured.csv --scale 1e-16
  learndyn flow relu --samples 20 --teacher 1,-1,2 --hidden 30
  learndyn flow modular --p 11 --amplitudes 2,1.4
  learndyn flow modular --aligned --scale 0.01"""
