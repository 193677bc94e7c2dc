"""Gaussian integrals of piecewise linear functions, with knots anywhere and biases."""

from learndyn.integrals.piecewise_linear import conditioned as conditioned
from learndyn.integrals.piecewise_linear.conditioned import Resolution as Resolution
from learndyn.integrals.piecewise_linear.first_layer import SignalAverages as SignalAverages
from learndyn.integrals.piecewise_linear.first_layer import first_layer as first_layer
from learndyn.integrals.piecewise_linear.first_layer import has_exact_products as has_exact_products
from learndyn.integrals.piecewise_linear.first_layer import second_moments as second_moments
from learndyn.integrals.piecewise_linear.function import Network as Network
from learndyn.integrals.piecewise_linear.function import PiecewiseLinear as PiecewiseLinear
from learndyn.integrals.piecewise_linear.function import network as network
from learndyn.integrals.piecewise_linear.pairs import Steps as Steps
from learndyn.integrals.piecewise_linear.pairs import pair_averages as pair_averages
from learndyn.integrals.piecewise_linear.pairs import squared_slope as squared_slope
from learndyn.integrals.piecewise_linear.pairs import steps_at as steps_at
from learndyn.integrals.piecewise_linear.steps import FAR as FAR
from learndyn.integrals.piecewise_linear.steps import above as above
from learndyn.integrals.piecewise_linear.steps import density as density
