"""How it is learned: learning rules, and schedules of their rates.

A rule is one file: a class with the function `modulation`, which says what a step makes of one
sample. It then runs at every level of description.
"""

from learndyn.rules._classification import AdaTron as AdaTron
from learndyn.rules._classification import Hebb as Hebb
from learndyn.rules._classification import Perceptron as Perceptron
from learndyn.rules._clipped import Clipped as Clipped
from learndyn.rules._feedback_alignment import FeedbackAlignment as FeedbackAlignment
from learndyn.rules._local import LocalRule as LocalRule
from learndyn.rules._natural import NaturalGradient as NaturalGradient
from learndyn.rules._node_perturbation import NodePerturbation as NodePerturbation
from learndyn.rules._noise import Dropout as Dropout
from learndyn.rules._noise import InputNoise as InputNoise
from learndyn.rules._reads import blank_sample as blank_sample
from learndyn.rules._reads import reads_size as reads_size
from learndyn.rules._reward import RewardPerceptron as RewardPerceptron
from learndyn.rules._rule import AbstractRule as AbstractRule
from learndyn.rules._rule import Rates as Rates
from learndyn.rules._rule import SlowMomentum as SlowMomentum
from learndyn.rules._rule import require_gradient as require_gradient
from learndyn.rules._schedules import ConstantRate as ConstantRate
from learndyn.rules._schedules import Family as Family
from learndyn.rules._schedules import InverseTimeRate as InverseTimeRate
from learndyn.rules._schedules import PiecewiseRate as PiecewiseRate
from learndyn.rules._seam import ErrorSignal as ErrorSignal
from learndyn.rules._seam import FieldAverages as FieldAverages
from learndyn.rules._seam import Modulation as Modulation
from learndyn.rules._seam import Sample as Sample
from learndyn.rules._seam import Seen as Seen
from learndyn.rules._sgd import SGD as SGD
from learndyn.rules._sgd import plain as plain
from learndyn.rules._sized import Sized as Sized
from learndyn.rules._weight_perturbation import WeightPerturbation as WeightPerturbation

OWN = (
    *(SGD, FeedbackAlignment, Hebb, Perceptron, AdaTron),
    *(NodePerturbation, WeightPerturbation, Dropout, InputNoise),
    *(RewardPerceptron, NaturalGradient),
)
"""The library's rules that call no function of the user's: they read all fields alike."""

NAMED = {rule.name: rule for rule in (*OWN, Clipped)}
"""The rules that the command line knows, by name."""
