"""A store that survives: what is finished of a sweep is on disk, and the same call goes on.

`_drive` runs what is missing; `_files` says how a store is laid out; `_open` makes a dataset of it.
"""

from learndyn.sweeps.store._drive import run_in_store as run_in_store
from learndyn.sweeps.store._open import open_sweep as open_sweep
from learndyn.sweeps.store._pace import Pace as Pace
from learndyn.sweeps.store._pace import pace_of as pace_of
