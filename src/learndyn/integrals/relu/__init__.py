"""Gaussian integrals of g(x) = max(0, x), whose derivative is a step."""

from learndyn.integrals.relu.committee import I2 as I2
from learndyn.integrals.relu.committee import I3 as I3
from learndyn.integrals.relu.committee import I4 as I4
from learndyn.integrals.relu.committee import J2 as J2
from learndyn.integrals.relu.committee import first_layer as first_layer
from learndyn.integrals.relu.committee import pair as pair
from learndyn.integrals.relu.committee import squared_slope as squared_slope
from learndyn.integrals.relu.two_sided import two_sided_first_layer as two_sided_first_layer
from learndyn.integrals.relu.two_sided import two_sided_signals as two_sided_signals
