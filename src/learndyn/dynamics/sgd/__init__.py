"""SGD on weights: the experiment."""

from learndyn.dynamics.sgd._simulate import simulate_sgd as simulate_sgd
from learndyn.dynamics.sgd._simulate import simulate_sgd_in_parts as simulate_sgd_in_parts
