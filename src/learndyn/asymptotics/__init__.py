"""Where learning ends and how it gets there: fixed points, asymptotic errors, stability."""

from learndyn.asymptotics._states import denoising_state as denoising_state
from learndyn.asymptotics._states import specialised_state as specialised_state
from learndyn.asymptotics._states import symmetric_state as symmetric_state
from learndyn.asymptotics.closed_forms._erf_committee import (
    critical_lr_specialised as critical_lr_specialised,
)
from learndyn.asymptotics.closed_forms._erf_committee import eg_denoising as eg_denoising
from learndyn.asymptotics.closed_forms._erf_committee import eg_specialised as eg_specialised
from learndyn.asymptotics.closed_forms._linear import critical_lr_linear as critical_lr_linear
from learndyn.asymptotics.closed_forms._linear import eg_linear as eg_linear
from learndyn.asymptotics.closed_forms._linear import eg_linear_curve as eg_linear_curve
from learndyn.asymptotics.closed_forms._linear import eg_linear_finite_n as eg_linear_finite_n
from learndyn.asymptotics.closed_forms._linear import eg_linear_small_lr as eg_linear_small_lr
from learndyn.asymptotics.closed_forms._linear import linear_gain as linear_gain
from learndyn.asymptotics.closed_forms._linear import (
    linear_variance_is_finite as linear_variance_is_finite,
)
from learndyn.asymptotics.closed_forms._relu import critical_lr_relu as critical_lr_relu
from learndyn.asymptotics.closed_forms._relu import eg_relu as eg_relu
from learndyn.asymptotics.closed_forms._ridge import Ridge as Ridge
from learndyn.asymptotics.closed_forms._ridge import critical_lr_ridge as critical_lr_ridge
from learndyn.asymptotics.closed_forms._ridge import ridge as ridge
from learndyn.asymptotics.closed_forms._ridge import ridge_curve as ridge_curve
from learndyn.asymptotics.closed_forms._ridge import ridge_finite_n as ridge_finite_n
from learndyn.asymptotics.closed_forms._small_lr import (
    eg_denoising_small_lr as eg_denoising_small_lr,
)
from learndyn.asymptotics.closed_forms._small_lr import (
    eg_normalised_small_lr as eg_normalised_small_lr,
)
from learndyn.asymptotics.closed_forms._small_lr import (
    eg_specialised_small_lr as eg_specialised_small_lr,
)
from learndyn.asymptotics.closed_forms._small_lr import (
    eg_zero_error_small_lr as eg_zero_error_small_lr,
)
from learndyn.asymptotics.fixed_points._fixed_point import FixedPoint as FixedPoint
from learndyn.asymptotics.fixed_points._fixed_point import fixed_point as fixed_point
from learndyn.asymptotics.fixed_points._linearise import Direction as Direction
from learndyn.asymptotics.fixed_points._linearise import Linearisation as Linearisation
from learndyn.asymptotics.fixed_points._linearise import linearise as linearise
from learndyn.asymptotics.fixed_points._perturb import Response as Response
from learndyn.asymptotics.fixed_points._perturb import eg_response as eg_response
from learndyn.asymptotics.fixed_points._perturb import perturb as perturb
from learndyn.asymptotics.fixed_points._stability import Stability as Stability
from learndyn.asymptotics.fixed_points._stability import critical_lr as critical_lr
from learndyn.asymptotics.fixed_points._stability import stability as stability
from learndyn.asymptotics.plateaus._escape import EscapeTimes as EscapeTimes
from learndyn.asymptotics.plateaus._escape import escape_time as escape_time
from learndyn.asymptotics.plateaus._plateau import Plateau as Plateau
from learndyn.asymptotics.plateaus._plateau import plateau as plateau
from learndyn.asymptotics.reduced._flow import ReducedFlow as ReducedFlow
from learndyn.asymptotics.reduced._flow import ReducedTrajectory as ReducedTrajectory
from learndyn.asymptotics.reduced._flow import reduced_flow as reduced_flow
from learndyn.asymptotics.reduced._flow import solve_reduced as solve_reduced
from learndyn.asymptotics.reduced._states import SpecialisedOverlaps as SpecialisedOverlaps
from learndyn.asymptotics.reduced._states import SymmetricOverlaps as SymmetricOverlaps
from learndyn.asymptotics.schedules._locally_optimal import locally_optimal_lr as locally_optimal_lr
from learndyn.asymptotics.schedules._locally_optimal import (
    locally_optimal_schedule as locally_optimal_schedule,
)
from learndyn.asymptotics.schedules._optimal import OptimalSchedule as OptimalSchedule
from learndyn.asymptotics.schedules._optimal import optimal_schedule as optimal_schedule
from learndyn.rules import ConstantRate as ConstantRate
from learndyn.rules import InverseTimeRate as InverseTimeRate
from learndyn.rules import PiecewiseRate as PiecewiseRate
