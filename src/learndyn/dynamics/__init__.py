"""The levels of description: what a run of learning does, exactly or in the limit."""

from learndyn.dynamics._diffusion import diffusion as diffusion
from learndyn.dynamics._diffusion import noise_averages as noise_averages
from learndyn.dynamics._diffusion import require_no_slow_momentum as require_no_slow_momentum
from learndyn.dynamics._fluctuations import Fluctuations as Fluctuations
from learndyn.dynamics._fluctuations import fluctuations as fluctuations
from learndyn.dynamics._langevin import simulate_langevin as simulate_langevin
from learndyn.dynamics._levels import LEVELS as LEVELS
from learndyn.dynamics._levels import Level as Level
from learndyn.dynamics._levels import level_of as level_of
from learndyn.dynamics._ode import generalisation_error as generalisation_error
from learndyn.dynamics._ode import ode_term as ode_term
from learndyn.dynamics._ode import solve_ode as solve_ode
from learndyn.dynamics._overlap_flow import OverlapFlow as OverlapFlow
from learndyn.dynamics._stiff_groups import StiffGroups as StiffGroups
from learndyn.dynamics._trajectory import FAILED_RUN as FAILED_RUN
from learndyn.dynamics._trajectory import Trajectory as Trajectory
from learndyn.dynamics.chain import simulate_chain as simulate_chain
from learndyn.dynamics.sgd import simulate_sgd as simulate_sgd
