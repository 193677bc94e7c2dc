"""The public page: every name of `import learndyn as ld`.

`__init__.py` reads this file when it is imported (SPEC 1), type checkers and the documentation read
it as well. lazy_loader understands relative imports with one dot, and nothing else.
"""

from . import asymptotics as asymptotics
from . import averages as averages
from . import flow as flow
from . import inputs as inputs
from . import plot as plot
from . import rules as rules
from . import testing as testing
from ._results import Result as Result
from ._version import __version__ as __version__
from .datasets import continue_run as continue_run
from .datasets import load as load
from .datasets import overlaps_at as overlaps_at
from .datasets import problem_of as problem_of
from .datasets import read_state as read_state
from .datasets import rule_of as rule_of
from .datasets import save as save
from .datasets import to_dataset as to_dataset
from .dynamics import Fluctuations as Fluctuations
from .dynamics import Trajectory as Trajectory
from .dynamics import fluctuations as fluctuations
from .dynamics import generalisation_error as generalisation_error
from .dynamics import ode_term as ode_term
from .dynamics import simulate_chain as simulate_chain
from .dynamics import simulate_langevin as simulate_langevin
from .dynamics import simulate_sgd as simulate_sgd
from .dynamics import solve_ode as solve_ode
from .inputs import Gaussian as Gaussian
from .inputs import Images as Images
from .inputs import Structured as Structured
from .inputs import TrainingSet as TrainingSet
from .inputs import field_overlaps as field_overlaps
from .problems import AbstractLoss as AbstractLoss
from .problems import AdaTron as AdaTron
from .problems import Erf as Erf
from .problems import Hebb as Hebb
from .problems import Hinge as Hinge
from .problems import LeakyReLU as LeakyReLU
from .problems import Linear as Linear
from .problems import Logistic as Logistic
from .problems import MultiIndex as MultiIndex
from .problems import Perceptron as Perceptron
from .problems import Problem as Problem
from .problems import Quadratic as Quadratic
from .problems import ReLU as ReLU
from .problems import Sign as Sign
from .problems import Squared as Squared
from .problems import Tanh as Tanh
from .rules import SGD as SGD
from .rules import LocalRule as LocalRule
from .rules import Modulation as Modulation
from .rules import SlowMomentum as SlowMomentum
from .states import Overlaps as Overlaps
from .states import TwoLayer as TwoLayer
from .states import Weights as Weights
from .states import init_weights as init_weights
from .states import overlaps as overlaps
from .states import student as student
from .states import teacher as teacher
from .states import weights_from_overlaps as weights_from_overlaps
from .sweeps import Interrupted as Interrupted
from .sweeps import sweep as sweep
from .testing import compare as compare
