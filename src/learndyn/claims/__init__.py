"""The report of claims, made from stored datasets and figures alone: nothing is run again.

A folder of claims holds data/ID.nc, each dataset with its claim and verdict in its attributes
(`learndyn.testing.to_attributes`), and figures/ID.png. Where a claim crashed, its dataset has the
claim and, in place of a verdict, the attribute `crash`, which says how.
"""

from learndyn.claims._claim import Claim as Claim
from learndyn.claims._claim import Verdict as Verdict
from learndyn.claims._claim import from_attributes as from_attributes
from learndyn.claims._claim import to_attributes as to_attributes
from learndyn.claims._page import build as build
from learndyn.claims._scorecard import scorecard as scorecard
from learndyn.claims._terminal import BUDGET as BUDGET
from learndyn.claims._terminal import alarm as alarm
from learndyn.claims._terminal import faults as faults
from learndyn.claims._terminal import lines as lines
