"""Figures of gradient flow: from runs and sequences of jumps, or from their datasets."""

from learndyn.plot.flow.coefficients import coefficients as coefficients
from learndyn.plot.flow.directions import neuron_directions as neuron_directions
from learndyn.plot.flow.frequencies import frequency_powers as frequency_powers
from learndyn.plot.flow.losses import loss_curve as loss_curve
from learndyn.plot.flow.neuron import kernel_distances as kernel_distances
from learndyn.plot.flow.neuron import minima_manifold as minima_manifold
from learndyn.plot.flow.overview import flow_overview as flow_overview
