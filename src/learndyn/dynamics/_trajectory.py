"""What every level of description returns."""

import operator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn._checks import is_concrete
from learndyn._types import CountLike
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps


class Given(eqx.Module):
    """A problem and a rule, their numbers as data, and functions and words as structure.

    So they may leave compiled and vmapped programs, whatever a user's modules hold.
    """

    numbers: Any
    rest: Any = eqx.field(static=True)

    @staticmethod
    def of(problem: Problem, rule: AbstractRule) -> "Given":
        # vmap and jit return arrays only; all else must be structure.
        is_number = lambda leaf: eqx.is_array(leaf) or isinstance(leaf, np.ndarray)
        return Given(*eqx.partition((problem, rule), is_number))

    @property
    def both(self) -> tuple[Problem, AbstractRule]:
        return eqx.combine(self.numbers, self.rest)


class Trajectory(eqx.Module):
    """Overlaps and generalisation error at the requested times.

    alpha: (times,) true times = steps / n (the requested ones for the ODE), dimensionless.
    Q (times, k, k), R (times, k, m), v (times, k), b (times, k) or None, eg (times,): NaN
        after a run stopped early. T (m, m), v_teacher (m,), b_teacher (m,) or None: constant.
    Q_field, R_field (times, ...), T_field (m, m): second moments of the fields, w Omega w^T / n,
        where the inputs' covariance Omega is not 1; else None.
    result: a `Result` code, 0 for success. stats: numbers about the run, by name.
    level: "ode", "chain", "sgd", "langevin" or "". n: input dimension, None where it is infinite.
    ts: (times,) the requested times. problem, rule: what was run.
    A vmapped function returns one with batch axes in front of all numbers, those of problem and
    rule included; `run[i]` takes one run out of it.
    """

    alpha: Float[Array, "*batch times"]
    Q: Float[Array, "*batch times k k"]
    R: Float[Array, "*batch times k m"]
    T: Float[Array, "*batch m m"]
    v: Float[Array, "*batch times k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch times k"] | None
    b_teacher: Float[Array, "*batch m"] | None
    eg: Float[Array, "*batch times"]
    result: Int[Array, "*batch"]
    stats: dict[str, Array]
    Q_field: Float[Array, "*batch times k k"] | None = None
    R_field: Float[Array, "*batch times k m"] | None = None
    T_field: Float[Array, "*batch m m"] | None = None
    level: str = eqx.field(static=True, default="")
    n: Array | None = None
    ts: Float[Array, "*batch times"] | None = None
    given: Given | None = None

    @property
    def problem(self) -> Problem | None:
        """The problem that was run; None for a trajectory made by hand."""
        return None if self.given is None else self.given.both[0]

    @property
    def rule(self) -> AbstractRule | None:
        """The rule by which was learned; None for a trajectory made by hand."""
        return None if self.given is None else self.given.both[1]

    def __getitem__(self, index: Any) -> "Trajectory":
        """One run, or several, out of a batch: `index` acts on the leading batch axis.

        Raises: ValueError for a single run; IndexError for a run that is not there.
        """
        if self.alpha.ndim < 2:
            raise ValueError(
                "this trajectory is a single run, so there is no run to take out of it. For one of "
                "its saved times use .at(index)."
            )
        runs = self.alpha.shape[0]
        _require_there(index, runs, "the trajectory holds {} runs; got run number {}.")
        return jax.tree.map(lambda leaf: leaf[index], self)

    def at(self, index: CountLike) -> Overlaps:
        """The state at saved time number `index`, for example -1 for the last one.

        Raises: IndexError where there are fewer times; ValueError where that state is not finite
        (a run that stopped earlier).
        """
        times = self.alpha.shape[-1]
        _require_there(index, times, "the run has {} saved times; got number {}.")
        if is_concrete(self.Q) and not np.isfinite(np.asarray(self.Q[..., index, :, :])).all():
            raise ValueError(
                f"no state at saved time number {index}: the run stopped before (result "
                f"{np.asarray(self.result)}; learndyn.Result says why)."
            )
        b = None if self.b is None else self.b[..., index, :]
        return Overlaps(
            self.Q[..., index, :, :],
            self.R[..., index, :, :],
            self.T,
            self.v[..., index, :],
            self.v_teacher,
            b,
            self.b_teacher,
        )


def _require_there(index: Any, size: int, message: str) -> None:
    """Raises: IndexError for a whole number beyond the end, where JAX would take the last one."""
    try:
        number = operator.index(index)
    except TypeError:  # a slice or an array
        return
    if not -size <= number < size:
        raise IndexError(message.format(size, number))
