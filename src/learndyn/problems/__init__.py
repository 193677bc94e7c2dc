"""What is learned: activations, losses, and the one definition of a sample's loss."""

from learndyn.problems._activations import AbstractActivation as AbstractActivation
from learndyn.problems._activations import Erf as Erf
from learndyn.problems._activations import LeakyReLU as LeakyReLU
from learndyn.problems._activations import Linear as Linear
from learndyn.problems._activations import Quadratic as Quadratic
from learndyn.problems._activations import ReLU as ReLU
from learndyn.problems._activations import Sign as Sign
from learndyn.problems._activations import Tanh as Tanh
from learndyn.problems._activations import derivative as derivative
from learndyn.problems._functions import Function as Function
from learndyn.problems._functions import are_same as are_same
from learndyn.problems._functions import as_module as as_module
from learndyn.problems._functions import called as called
from learndyn.problems._functions import declared as declared
from learndyn.problems._functions import describe as describe
from learndyn.problems._functions import plain_name as plain_name
from learndyn.problems._functions import to_json as to_json
from learndyn.problems._indices import out_of_range as out_of_range
from learndyn.problems._kinks import kinked_part as kinked_part
from learndyn.problems._losses import AbstractLoss as AbstractLoss
from learndyn.problems._losses import AdaTron as AdaTron
from learndyn.problems._losses import Hebb as Hebb
from learndyn.problems._losses import Hinge as Hinge
from learndyn.problems._losses import Logistic as Logistic
from learndyn.problems._losses import Perceptron as Perceptron
from learndyn.problems._losses import Squared as Squared
from learndyn.problems._losses import is_squared as is_squared
from learndyn.problems._losses import label_sign as label_sign
from learndyn.problems._losses import slope as slope
from learndyn.problems._piecewise_linear import piecewise_linear as piecewise_linear
from learndyn.problems._problem import FieldGradient as FieldGradient
from learndyn.problems._problem import Layers as Layers
from learndyn.problems._problem import MultiIndex as MultiIndex
from learndyn.problems._problem import Problem as Problem
from learndyn.problems._problem import Signals as Signals
from learndyn.problems._recognition import error_function as error_function
from learndyn.problems._recognition import parity as parity
from learndyn.problems._recognition import polynomial_degree as polynomial_degree
from learndyn.problems._recognition import squared_scale as squared_scale
from learndyn.problems._regularity import Regularity as Regularity
from learndyn.problems._regularity import evaluate as evaluate
from learndyn.problems._regularity import jump_places as jump_places
from learndyn.problems._regularity import jumps_on_lines as jumps_on_lines
from learndyn.problems._regularity import regularity as regularity
from learndyn.problems._regularity import remembered as remembered
from learndyn.problems._regularity import slope_of as slope_of
from learndyn.problems._smoothness import changes_sign_at_zero as changes_sign_at_zero
from learndyn.problems._smoothness import gradient_jumps as gradient_jumps
from learndyn.problems._smoothness import (
    gradient_jumps_given_label as gradient_jumps_given_label,
)
from learndyn.problems._smoothness import is_resolved as is_resolved
from learndyn.problems._smoothness import is_smooth as is_smooth
from learndyn.problems._smoothness import is_smooth_given_label as is_smooth_given_label
from learndyn.problems._smoothness import label_jumps as label_jumps
from learndyn.problems._smoothness import loss_slope_jumps as loss_slope_jumps
