"""Trajectories as labelled datasets: the only place that knows the schema.

xarray is imported inside functions, here and above: it takes as long to load as JAX, and who
simulates without datasets should not wait for it. Where it is loaded, `dataset.learndyn` works.
"""

import sys

from learndyn.datasets._build import build as build
from learndyn.datasets._build import overlaps_at as overlaps_at
from learndyn.datasets._build import to_dataset as to_dataset
from learndyn.datasets._continue import continue_run as continue_run
from learndyn.datasets._derived import Derived as Derived
from learndyn.datasets._derived import register as register
from learndyn.datasets._files import load as load
from learndyn.datasets._files import reading as reading
from learndyn.datasets._files import require_schema as require_schema
from learndyn.datasets._files import require_writable as require_writable
from learndyn.datasets._files import save as save
from learndyn.datasets._flows import is_flow as is_flow
from learndyn.datasets._origins import problem_of as problem_of
from learndyn.datasets._origins import rule_of as rule_of
from learndyn.datasets._origins import with_value as with_value
from learndyn.datasets._provenance import SCHEMA_VERSION as SCHEMA_VERSION
from learndyn.datasets._provenance import key_of as key_of
from learndyn.datasets._provenance import provenance as provenance
from learndyn.datasets._provenance import seed_attribute as seed_attribute
from learndyn.datasets._starts import read_state as read_state
from learndyn.datasets._variables import CONSTANTS as CONSTANTS
from learndyn.datasets._variables import SCHEMA as SCHEMA
from learndyn.datasets._variables import Labelled as Labelled
from learndyn.datasets._variables import are_codes as are_codes
from learndyn.datasets._variables import labelled_arrays as labelled_arrays

if "xarray" in sys.modules:
    register()
