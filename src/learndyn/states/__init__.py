"""The two states of learning, weights and overlaps: where runs start and what they reach."""

from learndyn.states._arguments import OverlapsLike as OverlapsLike
from learndyn.states._arguments import ProblemLike as ProblemLike
from learndyn.states._arguments import RuleLike as RuleLike
from learndyn.states._arguments import StateLike as StateLike
from learndyn.states._arguments import WeightsLike as WeightsLike
from learndyn.states._arguments import as_overlaps as as_overlaps
from learndyn.states._arguments import as_state as as_state
from learndyn.states._arguments import require_arguments as require_arguments
from learndyn.states._checks import concrete_covariance as concrete_covariance
from learndyn.states._groups import GroupedOverlaps as GroupedOverlaps
from learndyn.states._groups import Spectrum as Spectrum
from learndyn.states._groups import of_fields as of_fields
from learndyn.states._groups import overlaps as overlaps
from learndyn.states._initial import init_weights as init_weights
from learndyn.states._initial import weights_from_overlaps as weights_from_overlaps
from learndyn.states._networks import TwoLayer as TwoLayer
from learndyn.states._networks import student as student
from learndyn.states._networks import teacher as teacher
from learndyn.states._states import Overlaps as Overlaps
from learndyn.states._states import Weights as Weights
from learndyn.states._states import in_double as in_double
from learndyn.states._states import require_compatible as require_compatible
from learndyn.states._states import tested as tested
