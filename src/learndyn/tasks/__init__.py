"""Several tasks: learned in turn or interleaved, with a head each, by teachers that may drift."""

from learndyn.tasks._learn import learn as learn
from learndyn.tasks._types import Drift as Drift
from learndyn.tasks._types import Task as Task
