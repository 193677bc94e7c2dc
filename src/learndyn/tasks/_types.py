"""What a task is, and when it is learned."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, brief, is_concrete, require_finite, shown
from learndyn._readable import Readable
from learndyn._types import Absent, RealLike
from learndyn.problems import Problem

_SUM = 1e-9
"""Shares may differ from 1 by this in sum: rounding of numbers such as 0.1, and no mistake."""


class Task(Readable):
    """One task: a problem, the teacher's units that give its labels, and the head that learns it.

    Args:
        problem: the teacher-student problem of this task.
        v_teacher: (m,) second layer over the teacher's units of all tasks, which are those of the
            start: 0 on the units of other tasks.
        head: number of the student's second layer that this task reads and trains; tasks may share
            one.
        until: where tasks are learned in turn, the time alpha = steps / n at which the next one
            begins; None: never.
        share: where tasks are interleaved, the probability that a step is one of this task.

    Raises:
        ValueError: for a problem that is none, a v_teacher that is not one list of finite numbers,
            or a head that is no whole number >= 0.

    Example:
        >>> first = ld.Task(ld.Problem(), v_teacher=[1.0, 0.0], until=20.0)
        >>> int(first.head), first.v_teacher
        (0, Array([1., 0.], dtype=float64))
    """

    problem: Problem
    v_teacher: Float[Array, " m"]
    head: int = eqx.field(static=True)
    until: Float[Array, ""] | None
    share: Float[Array, ""] | None

    def __init__(
        self,
        problem: Problem | Any,
        v_teacher: RealLike,
        head: int = 0,
        until: RealLike | None = None,
        share: RealLike | None = None,
    ):
        if not isinstance(problem, Problem):
            raise ValueError(
                f"Task: problem must be a Problem; got {brief(problem)}. For example "
                "ld.Task(ld.Problem(), v_teacher=[1.0, 0.0])."
            )
        self.problem, self.v_teacher = problem, as_float(v_teacher, "v_teacher")
        if self.v_teacher.ndim != 1:
            raise ValueError(
                "Task: v_teacher must be one list, a number for each of the teacher's units of all "
                f"tasks; got shape {self.v_teacher.shape}."
            )
        require_finite(v_teacher=self.v_teacher)
        if isinstance(head, bool) or not isinstance(head, int | np.integer) or head < 0:
            raise ValueError(
                f"Task: head must be the number of a head, 0, 1, ...; got {brief(head)}."
            )
        self.head = int(head)
        self.until = None if until is None else as_float(until, "until")
        self.share = None if share is None else as_float(share, "share")


class Drift(Readable):
    """Teachers that wander: after each step w*_n <- a w*_n + sqrt((1 - a**2) norms_n) xi_n with
    fresh Gaussian xi_n and a = 1 - rate/n.

    Args:
        rate: >= 0, in units of 1/alpha: one number, or (m,), one for each unit of the teacher.
        norms: (m,) or one number, > 0: squared lengths |w*|**2/n to which T_nn relaxes; None: those
            at the start, where they then stay in the mean.

    Raises:
        ValueError: for a rate that is negative or not finite, norms that are not > 0 and finite, or
            more than one axis.

    Source:
        Biehl and Schwarze (1993), J. Phys. A 26, 2651.

    Example:
        >>> float(ld.Drift(0.1).rate)
        0.1
    """

    rate: Float[Array, "..."]
    norms: Float[Array, "..."] | Absent

    def __init__(self, rate: RealLike, norms: RealLike | None = None):
        self.rate = as_float(rate, "rate")
        self.norms = None if norms is None else as_float(norms, "norms")
        if self.rate.ndim > 1 or not _is_rate(self.rate):
            raise ValueError(
                "Drift: rate must be one finite number >= 0, or one for each unit of the teacher; "
                f"got {shown(np.asarray(self.rate))}."
            )
        if self.norms is not None and (self.norms.ndim > 1 or not _are_positive(self.norms)):
            raise ValueError(
                "Drift: norms must be finite numbers > 0, one or one for each unit of the teacher; "
                f"got {shown(np.asarray(self.norms))}. None keeps the lengths of the start."
            )


def _is_rate(rate: Array) -> bool:
    """Whether all numbers, where they are known, are finite and >= 0."""
    return not is_concrete(rate) or bool(np.all(np.isfinite(rate) & (np.asarray(rate) >= 0)))


def _are_positive(norms: Array) -> bool:
    return _is_rate(norms) and (not is_concrete(norms) or bool(np.all(np.asarray(norms) > 0)))


class Schedule(eqx.Module):
    """Which share of the steps each task has, phase by phase. Phase i ends before ends[i].

    The numbers are data: one compiled program serves all schedules of as many phases.
    """

    ends: Float[Array, " phases"]
    shares: Float[Array, "phases tasks"]

    def at(self, alpha: Any) -> Float[Array, " tasks"]:
        """The shares at time alpha; at the time of a switch those of what comes next."""
        return self._of_phase(jnp.searchsorted(self.ends, alpha, side="right"))

    def at_step(self, step: Any, n: Any) -> Float[Array, " tasks"]:
        """The shares of a step: a switch comes before step number round(end n)."""
        # An infinite end times n is infinite, and no step reaches it.
        return self._of_phase(jnp.searchsorted(jnp.round(self.ends * n), step, side="right"))

    def _of_phase(self, phase: Any) -> Float[Array, " tasks"]:
        return self.shares[jnp.minimum(phase, len(self.shares) - 1)]


def alike(problems: Sequence[Problem]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the problems, in groups within which they differ in numbers alone."""
    groups: list[list[int]] = []
    for number, problem in enumerate(problems):
        own = next((group for group in groups if _same_form(problems[group[0]], problem)), None)
        if own is None:
            groups.append([number])
        else:
            own.append(number)
    return tuple(tuple(group) for group in groups)


def _same_form(a: Problem, b: Problem) -> bool:
    """Whether one compiled program serves both problems."""
    (ours, form), (theirs, other) = (eqx.partition(x, eqx.is_array) for x in (a, b))
    kinds = [[(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (ours, theirs)]
    same = jax.tree.structure(ours) == jax.tree.structure(theirs) and kinds[0] == kinds[1]
    return same and bool(eqx.tree_equal(form, other))


class Lessons(eqx.Module):
    """What is taught: the tasks, when each is learned, and how the teachers drift; None: not."""

    tasks: tuple[Task, ...]
    schedule: Schedule
    drift: Drift | None


def choose(shares: Float[Array, " tasks"], uniform: Any) -> Any:
    """The number of the task that a uniform number in [0, 1) chooses."""
    # Inversion of the distribution function; a task of share 0 has no interval.
    return jnp.sum(uniform >= jnp.cumsum(shares)[:-1] - _ROUNDING)


_ROUNDING = 1e-15
"""A sum of shares such as 0.1 + 0.2 + 0.7 is 1 to this; uniform numbers have 52 bits."""


def schedule_of(tasks: Sequence[Task], given: Any) -> Schedule:
    """The schedule that is given, or that the tasks' own `until` or `share` make.

    Raises: ValueError for phases whose times do not increase to infinity, or whose shares are
    negative, of another number, or do not sum to 1.
    """
    if isinstance(given, Schedule):  # that of an earlier run
        given = list(zip(given.ends, given.shares, strict=True))
    phases = _own_phases(tasks) if given is None else given
    try:
        ends = jnp.stack([as_float(end, "until") for end, _ in phases])
        rows = [as_float(row, "shares") for _, row in phases]
    except (TypeError, ValueError) as error:
        raise ValueError(
            "learn: schedule must be a list of phases (until, shares), such as [(20.0, (1, 0)), "
            f"(math.inf, (0.25, 0.75))]; got {brief(given)}."
        ) from error
    for row in rows:
        _require_shares(row, len(tasks))
    _require_ends(ends)
    return Schedule(ends, jnp.stack(rows))


def _own_phases(tasks: Sequence[Task]) -> list[tuple[Any, Any]]:
    """In turn where the tasks have no shares, else interleaved all the time."""
    shares = [task.share for task in tasks if task.share is not None]
    if not shares:
        one = np.eye(len(tasks))
        ends = [math.inf if task.until is None else task.until for task in tasks]
        return list(zip(ends, one, strict=True))
    if len(shares) < len(tasks) or any(task.until is not None for task in tasks):
        raise ValueError(
            "learn: all tasks must have a share (interleaved) or none (in turn, by until); got "
            f"shares for {len(shares)} of {len(tasks)} tasks, and "
            f"{sum(task.until is not None for task in tasks)} with until. Phases of both kinds are "
            "written as schedule=[(until, shares), ...]."
        )
    return [(math.inf, jnp.stack(shares))]


def _require_shares(row: Array, tasks: int) -> None:
    if row.shape != (tasks,):
        raise ValueError(
            f"learn: each phase needs {tasks} shares, one for each task; got shape {row.shape}."
        )
    if not is_concrete(row):
        return
    values = np.asarray(row)
    if not (values >= 0).all() or not abs(values.sum() - 1.0) <= _SUM:
        raise ValueError(
            "learn: the shares of a phase must be >= 0 and sum to 1; got "
            f"{shown(values)}, whose sum is {values.sum():g}. Divide them by their sum."
        )


def _require_ends(ends: Array) -> None:
    if not is_concrete(ends):
        return
    values = np.asarray(ends)
    if not (np.diff(values) > 0).all() or not values[0] > 0 or values[-1] != math.inf:
        raise ValueError(
            "learn: the times at which phases end must be > 0, increase, and the last one be "
            f"math.inf (until=None for the last task); got {values.tolist()}."
        )
