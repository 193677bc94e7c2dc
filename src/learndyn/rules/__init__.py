"""How it is learned: learning rules and schedules of their rates."""

from learndyn.rules._schedules import ConstantRate as ConstantRate
from learndyn.rules._schedules import Family as Family
from learndyn.rules._schedules import InverseTimeRate as InverseTimeRate
from learndyn.rules._schedules import PiecewiseRate as PiecewiseRate
from learndyn.rules._sgd import SGD as SGD
from learndyn.rules._sgd import Rates as Rates
from learndyn.rules._sgd import SlowMomentum as SlowMomentum
