"""The names of `learndyn.datasets`, which `__init__.py` reads (SPEC 1)."""

from ._build import build as build
from ._build import overlaps_at as overlaps_at
from ._build import to_dataset as to_dataset
from ._continue import continue_run as continue_run
from ._derived import Derived as Derived
from ._derived import register as register
from ._files import load as load
from ._files import reading as reading
from ._files import require_schema as require_schema
from ._files import require_writable as require_writable
from ._files import save as save
from ._flows import is_flow as is_flow
from ._origins import problem_of as problem_of
from ._origins import rule_of as rule_of
from ._origins import tasks_of as tasks_of
from ._origins import with_value as with_value
from ._provenance import key_of as key_of
from ._provenance import provenance as provenance
from ._provenance import seed_attribute as seed_attribute
from ._schema import SCHEMA_VERSION as SCHEMA_VERSION
from ._starts import read_state as read_state
from ._variables import CONSTANTS as CONSTANTS
from ._variables import SCHEMA as SCHEMA
from ._variables import Labelled as Labelled
from ._variables import are_codes as are_codes
from ._variables import labelled_arrays as labelled_arrays
