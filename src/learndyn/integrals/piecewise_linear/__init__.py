"""Gaussian integrals of piecewise linear functions, with knots anywhere and biases."""

from learndyn.integrals.piecewise_linear.function import Network as Network
from learndyn.integrals.piecewise_linear.function import PiecewiseLinear as PiecewiseLinear
from learndyn.integrals.piecewise_linear.function import network as network
from learndyn.integrals.piecewise_linear.pairs import PairAverages as PairAverages
from learndyn.integrals.piecewise_linear.pairs import pair_averages as pair_averages
from learndyn.integrals.piecewise_linear.pairs import squared_slope as squared_slope
