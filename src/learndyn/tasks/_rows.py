"""What the levels of several tasks share: one state for each task, and the trajectory."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from learndyn._checks import is_concrete, shown
from learndyn._types import Times
from learndyn.averages import AbstractAverages
from learndyn.dynamics._record import Rows, Run, record
from learndyn.dynamics._trajectory import Given, Trajectory
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps, tested
from learndyn.tasks._types import Drift, Lessons, Schedule, Task

TASK, DRIFT = 11, 12
"""Folded into the key for the choice of tasks and for the drift of teachers: none of the numbers of
a run's other draws."""

_SINGULAR = 1e-12
"""The smallest eigenvalue of T over its largest entry, below which two teachers are one to
rounding."""


class Asked(eqx.Module):
    """What `learn` was asked to do. heads: at the start. averages: of each task, for its eg. drift:
    None where the teachers stay."""

    tasks: tuple[Task, ...]
    rule: AbstractRule
    start: Overlaps
    heads: Float[Array, "heads k"]
    schedule: Schedule
    averages: tuple[AbstractAverages, ...]
    ts: Times
    drift: Drift | None = None

    def drift_holds(self, n: Any = None) -> Bool[Array, ""]:
        """Whether the teachers can drift so, from values that may be traced. n: None where it is
        infinite."""
        if self.drift is None:
            return jnp.asarray(True)
        (rate, norms), t = (self.drift.rate, self.drift.norms), self.start.T
        fits = jnp.all(jnp.isfinite(rate) & (rate >= 0.0)) & jnp.all(norms > 0.0)
        fits = fits & jnp.all(jnp.isfinite(norms))
        if n is not None:
            fits = fits & jnp.all(rate <= n)
        return fits & (jnp.linalg.eigvalsh(t)[0] > _SINGULAR * jnp.max(jnp.abs(t)))

    def require_drift(self) -> None:
        """Raises: ValueError for rates of another number, and a singular T."""
        if self.drift is None:
            return
        t = self.start.T
        for name, values in (("rate", self.drift.rate), ("norms", self.drift.norms)):
            if values.ndim and values.shape != (len(t),):
                raise ValueError(
                    f"learn: {name} of drift must be one number, or one for each of the {len(t)} "
                    f"teacher units; got shape {values.shape}."
                )
        if is_concrete(t) and np.linalg.eigvalsh(np.asarray(t))[0] <= _SINGULAR * np.max(np.abs(t)):
            raise ValueError(
                "learn: teachers that drift must be linearly independent at the start, as their "
                f"own noise makes them at once; got a singular T = {np.asarray(t).tolist()}. Leave "
                "out the units that repeat others."
            )

    def require_slow_drift(self, n: Any) -> None:
        """Raises: ValueError for a teacher that turns round within a step in n dimensions."""
        if self.drift is None or not is_concrete(self.drift.rate, n):
            return
        if np.max(np.asarray(self.drift.rate)) > float(n):
            raise ValueError(
                "learn: drift needs rates of at most n, as a step keeps the part 1 - rate/n of a "
                f"teacher; got rate {shown(np.asarray(self.drift.rate))} at n = {float(n):g}."
            )


class TaskRows(NamedTuple):
    """The states at the saved times; T: None where the teachers stay."""

    Q: Float[Array, "times k k"]
    R: Float[Array, "times k m"]
    heads: Float[Array, "times heads k"]
    b: Float[Array, "times k"] | None
    T: Float[Array, "times m m"] | None = None


def of_task(task: Task, state: Any, heads: Float[Array, "heads k"]) -> Any:
    """`state`, overlaps or weights, as this task sees it: its own head, its own teacher."""
    layers = (heads[task.head], task.v_teacher)
    return eqx.tree_at(lambda s: (s.v, s.v_teacher), state, layers)


def trajectory(
    asked: Asked,
    rows: TaskRows,
    stopped: Bool[Array, " times"],
    result: Array,
    *,
    level: str,
    alpha: Times | None = None,
    n: Array | None = None,
    key: Key[Array, ""] | None = None,
    stats: dict[str, Array] | None = None,
) -> Trajectory:
    """The trajectory with eg of every task at every saved time, NaN where it had `stopped`."""
    shares = jax.vmap(asked.schedule.at)(asked.ts)
    errors = _errors(asked, rows)
    first, layers = asked.tasks[0], asked.start.layers
    run = Run(
        level, first.problem, asked.rule, asked.start.T, layers, asked.averages[0], asked.ts, n, key
    )  # fmt: skip
    active = _active(asked.tasks, rows.heads, shares)
    seen = Rows(rows.Q, rows.R, active, rows.b)
    found = record(
        run, seen, stopped, result, alpha=alpha, stats=stats, eg=jnp.sum(shares * errors, axis=1)
    )
    lessons = Lessons(asked.tasks, asked.schedule, asked.drift)
    gone = lambda x: jnp.where(stopped.reshape(-1, *[1] * (x.ndim - 1)), jnp.nan, x)
    return dataclasses.replace(
        found,
        given=Given.of(first.problem, asked.rule, key, lessons=lessons),
        T=asked.start.T if rows.T is None else gone(rows.T),
        eg_tasks=gone(errors),
        heads=gone(rows.heads),
        shares=shares,
    )


def _errors(asked: Asked, rows: TaskRows) -> Float[Array, "times tasks"]:
    """eg of each task, with its own head, at each row."""

    def at(row: TaskRows) -> Float[Array, " tasks"]:
        state = _state(asked.start, row)
        found = [
            ready.generalisation_error(
                task.problem, tested(asked.rule, of_task(task, state, row.heads))
            )
            for task, ready in zip(asked.tasks, asked.averages, strict=True)
        ]
        return jnp.stack(found)

    return jax.lax.map(at, rows)


def _state(start: Overlaps, row: TaskRows) -> Overlaps:
    t = start.T if row.T is None else row.T
    return eqx.tree_at(
        lambda s: (s.Q, s.R, s.T, s.b), start, (row.Q, row.R, t, row.b), is_leaf=lambda x: x is None
    )


def _active(
    tasks: Sequence[Task], heads: Float[Array, "times heads k"], shares: Float[Array, "times tasks"]
) -> Float[Array, "times k"]:
    """The head of the one task that is learned at each time; NaN where there are several."""
    number = jnp.asarray([task.head for task in tasks])[jnp.argmax(shares, axis=1)]
    own = jnp.take_along_axis(heads, number[:, None, None], axis=1)[:, 0]
    return jnp.where(jnp.max(shares, axis=1)[:, None] == 1.0, own, jnp.nan)
