"""How runs ended, and which of them is meant: the same for every kind of run."""

import abc
import math
import operator
import warnings
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from learndyn._checks import is_concrete
from learndyn._results import Result

_Run = TypeVar("_Run", bound="AbstractOutcome")


class AbstractOutcome(eqx.Module):
    """A run, or a batch of runs, with a `Result` code for each."""

    result: eqx.AbstractVar[Int[Array, "*batch"]]

    @abc.abstractmethod
    def _failure(self) -> str:
        """What went wrong, in how many runs, and where the first one stopped."""

    @property
    def ok(self) -> bool | Bool[Array, "*batch"]:
        """Whether the run reached its last time; an array, one answer per run, for a batch."""
        if not is_concrete(self.result):
            return self.result == Result.SUCCESS.value
        # NumPy: within jit, JAX would trace a comparison of numbers that are known.
        good = np.asarray(self.result) == Result.SUCCESS.value
        return bool(good) if good.ndim == 0 else jnp.asarray(good)

    def raise_if_failed(self: _Run) -> _Run:
        """The run itself, where every run of a batch reached its last time.

        Raises: RuntimeError otherwise; ValueError within jit, vmap or grad, where only `result`
        can tell.
        """
        if not is_concrete(self.result):
            raise ValueError(
                "raise_if_failed() needs the outcome, which is being traced: call it outside of "
                "jit, vmap and grad, or return `result` from the traced function."
            )
        if np.any(np.asarray(self.result) != Result.SUCCESS.value):
            raise RuntimeError(self._failure())
        return self


def warn_if_failed(run: _Run) -> _Run:
    """The run itself; a RuntimeWarning where nothing of it is traced and it did not end well."""
    if is_concrete(run) and not np.all(run.ok):
        message = f"{run._failure()} `.result` has the code; `.raise_if_failed()` raises an error."
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return run


def failure_text(result: Any, kind: str, where: str, last: str) -> str:
    """A sentence on runs that failed. where, last: of the first one, where it stopped and what it
    should have reached."""
    codes = np.atleast_1d(np.asarray(result)).ravel()
    failed = np.flatnonzero(codes)
    which = " ".join(word for word in ("the", kind, "run") if word)
    if codes.size > 1:
        which = f"{failed.size} of {codes.size} runs failed; number {failed[0]}"
    code = Result(int(codes[failed[0]]))
    return (
        f"{which} stopped {where}, before {last} ({code.name}): {code.meaning}. What comes later "
        "is NaN."
    )


def mean_of_finished(values: np.ndarray) -> float:
    """The mean over the runs that got there; NaN where none did."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else math.nan


def require_there(index: Any, size: int, message: str) -> None:
    """Raises: IndexError for a whole number beyond the end, where JAX would take the last one."""
    try:
        number = operator.index(index)
    except TypeError:  # a slice or an array
        return
    if not -size <= number < size:
        raise IndexError(message.format(size, number))
