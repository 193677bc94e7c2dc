"""Conserved quantities of gradient flow, one for every symmetry of the network, and their fate
under decay, finite steps and inertia."""

from learndyn.flow.conservation.laws import after_step as after_step
from learndyn.flow.conservation.laws import conserved as conserved
from learndyn.flow.conservation.laws import inertial_charge as inertial_charge
from learndyn.flow.conservation.laws import under_decay as under_decay
from learndyn.flow.conservation.symmetries import GeneralLinear as GeneralLinear
from learndyn.flow.conservation.symmetries import Rescale as Rescale
from learndyn.flow.conservation.symmetries import Scale as Scale
from learndyn.flow.conservation.symmetries import Translation as Translation
