"""Exact learning dynamics of simple neural networks: simulate, predict, compare.

The whole public API is on this page. Importing it leaves JAX's configuration alone; theory
needs float64: `jax.config.update("jax_enable_x64", True)`.
"""

from learndyn import asymptotics as asymptotics
from learndyn import averages as averages
from learndyn import inputs as inputs
from learndyn import plot as plot
from learndyn import rules as rules
from learndyn._results import Result as Result
from learndyn._version import __version__ as __version__
from learndyn.datasets import load as load
from learndyn.datasets import overlaps_at as overlaps_at
from learndyn.datasets import read_state as read_state
from learndyn.datasets import save as save
from learndyn.datasets import to_dataset as to_dataset
from learndyn.dynamics import Fluctuations as Fluctuations
from learndyn.dynamics import Trajectory as Trajectory
from learndyn.dynamics import fluctuations as fluctuations
from learndyn.dynamics import generalisation_error as generalisation_error
from learndyn.dynamics import ode_term as ode_term
from learndyn.dynamics import simulate_chain as simulate_chain
from learndyn.dynamics import simulate_langevin as simulate_langevin
from learndyn.dynamics import simulate_sgd as simulate_sgd
from learndyn.dynamics import solve_ode as solve_ode
from learndyn.inputs import Gaussian as Gaussian
from learndyn.inputs import Images as Images
from learndyn.inputs import Structured as Structured
from learndyn.inputs import TrainingSet as TrainingSet
from learndyn.inputs import field_overlaps as field_overlaps
from learndyn.problems._activations import Erf as Erf
from learndyn.problems._activations import Linear as Linear
from learndyn.problems._activations import Quadratic as Quadratic
from learndyn.problems._activations import ReLU as ReLU
from learndyn.problems._activations import Sign as Sign
from learndyn.problems._activations import Tanh as Tanh
from learndyn.problems._losses import AbstractLoss as AbstractLoss
from learndyn.problems._losses import Hinge as Hinge
from learndyn.problems._losses import Logistic as Logistic
from learndyn.problems._losses import Perceptron as Perceptron
from learndyn.problems._losses import Squared as Squared
from learndyn.problems._problem import MultiIndex as MultiIndex
from learndyn.problems._problem import Problem as Problem
from learndyn.rules import SGD as SGD
from learndyn.rules import SlowMomentum as SlowMomentum
from learndyn.states._initial import init_weights as init_weights
from learndyn.states._initial import weights_from_overlaps as weights_from_overlaps
from learndyn.states._networks import TwoLayer as TwoLayer
from learndyn.states._networks import student as student
from learndyn.states._networks import teacher as teacher
from learndyn.states._states import Overlaps as Overlaps
from learndyn.states._states import Weights as Weights
from learndyn.states._states import overlaps as overlaps
from learndyn.sweeps import sweep as sweep
