"""Gradient flow and gradient descent of finite networks on finite data or population moments."""

from learndyn.flow._data import Data as Data
from learndyn.flow._data import Moments as Moments
from learndyn.flow._data import modular_data as modular_data
from learndyn.flow._descent import gradient_descent as gradient_descent
from learndyn.flow._flow import gradient_flow as gradient_flow
from learndyn.flow._loss import loss as loss
from learndyn.flow._run import Run as Run
from learndyn.flow.models import AbstractLinearModel as AbstractLinearModel
from learndyn.flow.models import DiagonalNetwork as DiagonalNetwork
from learndyn.flow.models import LinearNetwork as LinearNetwork
from learndyn.flow.models import LinearNeuron as LinearNeuron
from learndyn.flow.models import ModularAddition as ModularAddition
from learndyn.flow.until import AtLoss as AtLoss
from learndyn.flow.until import AtPlateau as AtPlateau
from learndyn.flow.until import LeavesPlateau as LeavesPlateau
