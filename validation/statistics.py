"""Decisions under noise: `learndyn.testing` has the statistics. Margins are fixed beforehand.

A claim of equality passes where two one-sided tests at level `LEVEL` both reject a difference as
large as the margin; that needs an estimate within margin - z(LEVEL) standard errors, so the number
of runs is chosen to leave several standard errors of room. Each verdict says how likely its claim
was to fail although it is true; what the theory leaves out at finite n counts as a bias, and so
does a control that might have been accepted by chance.
"""

from learndyn.claims import BUDGET as BUDGET
from learndyn.testing import LEVEL as LEVEL
from learndyn.testing import Equivalence as Equivalence
from learndyn.testing import difference as difference
from learndyn.testing import in_units_of_one_run as in_units_of_one_run
from learndyn.testing import power_law as power_law
from learndyn.testing import relative_difference as relative_difference
from learndyn.testing import two_sample_z as two_sample_z
from learndyn.testing import z_limit as z_limit
from learndyn.testing import z_missed as z_missed
from learndyn.testing import z_scores as z_scores
