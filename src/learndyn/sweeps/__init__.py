"""Many runs as one labelled dataset: plan -> run -> assemble.

`plan` turns a grid into independent work items, `run` yields one outcome per item, in any
order, and `assemble` puts them in grid order. A store or a cluster stands between the last two.
"""

from learndyn.sweeps._assemble import assemble as assemble
from learndyn.sweeps._interrupted import Interrupted as Interrupted
from learndyn.sweeps._items import Item as Item
from learndyn.sweeps._plan import Plan as Plan
from learndyn.sweeps._plan import make_plan as make_plan
from learndyn.sweeps._run import Outcome as Outcome
from learndyn.sweeps._run import run as run
from learndyn.sweeps._sweep import sweep as sweep
from learndyn.sweeps.store import open_sweep as open_sweep
