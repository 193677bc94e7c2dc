"""What is left of a sweep that was stopped by Ctrl-C."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from learndyn.sweeps._assemble import assemble
from learndyn.sweeps._plan import Plan
from learndyn.sweeps._run import Outcome

if TYPE_CHECKING:
    import xarray


class Interrupted(KeyboardInterrupt):
    """A sweep was interrupted, by Ctrl-C or by the kernel of a notebook; what is finished is kept.

    finished, total: numbers of runs. dataset: that of the sweep, in which runs that were not
    reached are NaN with the result 6, `Result.NOT_RUN`; None where no run was finished.
    """

    def __init__(self, plan: Plan, outcomes: Sequence[Outcome]):
        self.total = plan.cells
        self.finished = sum(len(outcome.cells) for outcome in outcomes)
        some = any(outcome.arrays for outcome in outcomes)
        self.dataset: xarray.Dataset | None = assemble(plan, outcomes) if some else None
        super().__init__(
            f"the sweep was interrupted after {self.finished} of {self.total} runs; those are in "
            "the attribute `dataset` of this exception (`except ld.Interrupted as stopped:`, or "
            "sys.last_value in a notebook)."
        )
