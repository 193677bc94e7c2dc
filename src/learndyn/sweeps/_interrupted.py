"""What is left of a sweep that was stopped by Ctrl-C."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray


class Interrupted(KeyboardInterrupt):
    """A sweep was interrupted, by Ctrl-C or by the kernel of a notebook; what is finished is kept.

    Args:
        finished, total: numbers of runs.
        dataset: that of the sweep, in which runs that were not reached are NaN with the result 6,
            `Result.NOT_RUN`; None where no run was finished.
        store: the store that holds what is finished, from which the same call goes on; or None.

    Example:
        >>> stopped = ld.Interrupted(finished=2, total=8, dataset=None, store="run.zarr")
        >>> stopped.finished, stopped.total, isinstance(stopped, KeyboardInterrupt)
        (2, 8, True)
    """

    def __init__(
        self,
        finished: int,
        total: int,
        dataset: "xarray.Dataset | None",
        store: str | None = None,
    ):
        self.finished, self.total, self.dataset, self.store = finished, total, dataset, store
        kept = (
            "those are in the attribute `dataset` of this exception (`except ld.Interrupted as "
            "stopped:`, or sys.last_value in a notebook)."
            if store is None
            else f"those are in {store!r}, and the same call goes on from there."
        )
        super().__init__(f"the sweep was interrupted after {finished} of {total} runs; {kept}")
