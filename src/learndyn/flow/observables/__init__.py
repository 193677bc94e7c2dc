"""What is measured of a network along a run; `jax.vmap` over `run.model` gives every time."""

from learndyn.flow.observables.extremal import extremal_directions as extremal_directions
from learndyn.flow.observables.kernel import kernel_distance as kernel_distance
from learndyn.flow.observables.kernel import ntk as ntk
from learndyn.flow.observables.neurons import Speeds as Speeds
from learndyn.flow.observables.neurons import alignment as alignment
from learndyn.flow.observables.neurons import neuron_masses as neuron_masses
from learndyn.flow.observables.neurons import neurons as neurons
from learndyn.flow.observables.neurons import speeds as speeds
from learndyn.flow.observables.plateaus import dwell_times as dwell_times
from learndyn.flow.observables.plateaus import jump_times as jump_times
from learndyn.flow.observables.rank import effective_rank as effective_rank
