"""Gradient flow of finite networks, and what theory says of it."""

from learndyn.flow.jumps._alternating import alternating as alternating
from learndyn.flow.jumps._diagonal import diagonal_jumps as diagonal_jumps
from learndyn.flow.jumps._greedy import greedy_low_rank as greedy_low_rank
from learndyn.flow.jumps._linear import linear_jumps as linear_jumps
from learndyn.flow.jumps._linear_start import LinearTimes as LinearTimes
from learndyn.flow.jumps._linear_start import linear_jump_times as linear_jump_times
from learndyn.flow.jumps._linear_start import linear_modes as linear_modes
from learndyn.flow.jumps._linear_start import rotated_start as rotated_start
from learndyn.flow.jumps._modular import ModularUtility as ModularUtility
from learndyn.flow.jumps._modular import modular_jumps as modular_jumps
from learndyn.flow.jumps._modular import modular_neurons as modular_neurons
from learndyn.flow.jumps._modular import modular_utility as modular_utility
from learndyn.flow.jumps._result import Jumps as Jumps
from learndyn.flow.neuron._closed_form import linear_neuron as linear_neuron
from learndyn.flow.neuron._closed_form import linear_neuron_data as linear_neuron_data
from learndyn.flow.neuron._implicit_bias import ImplicitBias as ImplicitBias
from learndyn.flow.neuron._implicit_bias import implicit_bias as implicit_bias
from learndyn.flow.neuron._preconditioner import preconditioner as preconditioner
