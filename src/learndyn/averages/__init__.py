"""Gaussian averages of functions of local fields: the right-hand side of every theory."""

from learndyn.averages._choose import choose_averages as choose_averages
from learndyn.averages._choose import choose_nodes as choose_nodes
from learndyn.averages._choose import has_biases as has_biases
from learndyn.averages._closed import ClosedForm as ClosedForm
from learndyn.averages._closed import has_closed_form as has_closed_form
from learndyn.averages._errors import Estimate as Estimate
from learndyn.averages._errors import averages_error as averages_error
from learndyn.averages._errors import cancelling as cancelling
from learndyn.averages._errors import estimated as estimated
from learndyn.averages._errors import is_exact as is_exact
from learndyn.averages._errors import sampled as sampled
from learndyn.averages._nodes import NodeAverages as NodeAverages
from learndyn.averages._one_unit import AbstractOneUnit as AbstractOneUnit
from learndyn.averages._one_unit import outside_of as outside_of
from learndyn.averages._quadrature import AbstractNodes as AbstractNodes
from learndyn.averages._quadrature import GaussHermite as GaussHermite
from learndyn.averages._quadrature import MonteCarlo as MonteCarlo
from learndyn.averages._quadrature import QuasiMonteCarlo as QuasiMonteCarlo
from learndyn.averages._quadrature import Trapezoid as Trapezoid
from learndyn.averages._samples import clean_teacher_output as clean_teacher_output
from learndyn.averages._samples import is_linear_in_error as is_linear_in_error
from learndyn.averages._samples import needs_zeta_node as needs_zeta_node
from learndyn.averages._series import SeriesAverages as SeriesAverages
from learndyn.averages._series import at_level as at_level
from learndyn.averages._types import AbstractAverages as AbstractAverages
from learndyn.rules import FieldAverages as FieldAverages
