"""Figures from datasets: what is drawn can be saved, and drawn again.

Those of gradient flow take runs and jumps as well, and make the datasets themselves.

Every function draws into given axes or makes a figure, and returns the axes. Theory is a line,
`THEORY` its colour; an experiment is crosses, `CROSSES` their look and `EXPERIMENT` their colour;
curves that differ by a number or a name have a colour for each. Colours are safe for the
colour-blind, curves carry their labels, and nothing changes Matplotlib's settings.
"""

from learndyn.plot._curves import learning_curve as learning_curve
from learndyn.plot._film import animate as animate
from learndyn.plot._matrices import overlap_insets as overlap_insets
from learndyn.plot._matrices import overlap_matrices as overlap_matrices
from learndyn.plot._overlaps import overlap_trajectories as overlap_trajectories
from learndyn.plot._overview import overview as overview
from learndyn.plot._scaling import Slope as Slope
from learndyn.plot._scaling import fitted_slope as fitted_slope
from learndyn.plot._scaling import scaling as scaling
from learndyn.plot._style import CROSSES as CROSSES
from learndyn.plot._style import EXPERIMENT as EXPERIMENT
from learndyn.plot._style import THEORY as THEORY
from learndyn.plot._style import save as save
from learndyn.plot._style import style as style
from learndyn.plot._tasks import task_curves as task_curves
from learndyn.plot.explorer import Page as Page
from learndyn.plot.explorer import explore as explore
from learndyn.plot.flow import coefficients as coefficients
from learndyn.plot.flow import flow_overview as flow_overview
from learndyn.plot.flow import frequency_powers as frequency_powers
from learndyn.plot.flow import kernel_distances as kernel_distances
from learndyn.plot.flow import loss_curve as loss_curve
from learndyn.plot.flow import minima_manifold as minima_manifold
from learndyn.plot.flow import neuron_directions as neuron_directions
