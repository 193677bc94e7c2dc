"""The report of claims, made from stored datasets and figures alone: nothing is run again.

A folder of claims holds data/ID.nc, each dataset with its claim and verdict in its attributes
(`learndyn.testing.to_attributes`), and figures/ID.png. Where a claim crashed, its dataset has the
claim and, in place of a verdict, the attribute `crash`, which says how.
"""

from learndyn.report._build import build as build
from learndyn.report._scorecard import scorecard as scorecard
from learndyn.report._terminal import BUDGET as BUDGET
from learndyn.report._terminal import alarm as alarm
from learndyn.report._terminal import faults as faults
from learndyn.report._terminal import lines as lines
