"""Tests for theories of your own: the statistics of the validation suite, one line each."""

from learndyn.claims import Claim as Claim
from learndyn.claims import Verdict as Verdict
from learndyn.claims import from_attributes as from_attributes
from learndyn.claims import to_attributes as to_attributes
from learndyn.testing._assertions import Agreement as Agreement
from learndyn.testing._assertions import Scaling as Scaling
from learndyn.testing._assertions import assert_concentrates as assert_concentrates
from learndyn.testing._assertions import assert_matches_ode as assert_matches_ode
from learndyn.testing._assertions import assert_runs_match as assert_runs_match
from learndyn.testing._assertions import assert_scaling as assert_scaling
from learndyn.testing._compare import SCATTER as SCATTER
from learndyn.testing._compare import compare as compare
from learndyn.testing._statistics import LEVEL as LEVEL
from learndyn.testing._statistics import Equivalence as Equivalence
from learndyn.testing._statistics import difference as difference
from learndyn.testing._statistics import in_units_of_one_run as in_units_of_one_run
from learndyn.testing._statistics import power_law as power_law
from learndyn.testing._statistics import relative_difference as relative_difference
from learndyn.testing._statistics import two_sample_z as two_sample_z
from learndyn.testing._statistics import z_limit as z_limit
from learndyn.testing._statistics import z_missed as z_missed
from learndyn.testing._statistics import z_scores as z_scores
