"""The ODE of several tasks."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from learndyn.averages import AbstractAverages
from learndyn.dynamics._averages_errors import errors_along, refined
from learndyn.dynamics._integrate import capped, integrate_field, is_valid, tolerance_numbers
from learndyn.dynamics._ode import (
    ATOL,
    MAX_STEPS,
    RTOL,
    checked_max_steps,
    checked_tolerances,
    overlap_flow,
)
from learndyn.dynamics._trajectory import Trajectory
from learndyn.tasks._flow import TaskFlow
from learndyn.tasks._rows import Asked, TaskRows, of_task, trajectory


def solve(
    asked: Asked,
    *,
    averages: Any = None,
    rtol: Any = None,
    atol: Any = ATOL,
    max_steps: Any = MAX_STEPS,
) -> Trajectory:
    """The limit n -> infinity. Options as those of `solve_ode`."""
    flows = tuple(
        overlap_flow(
            task.problem, asked.rule, of_task(task, asked.start, asked.heads), averages=averages
        )
        for task in asked.tasks
    )
    steps = checked_max_steps(max_steps)

    def solve_by(found: tuple[AbstractAverages, ...]) -> Trajectory:
        own = tuple(
            eqx.tree_at(lambda flow: flow.averages, flow, one)
            for flow, one in zip(flows, found, strict=True)
        )
        coarsest = max(RTOL, *(one.rtol for one in found))
        tolerances = checked_tolerances(coarsest if rtol is None else rtol, atol)
        flow = TaskFlow(own, asked.tasks, asked.schedule, asked.start, asked.heads, asked.drift)
        told = eqx.tree_at(lambda asked: asked.averages, asked, found)
        return _solve(flow, told, tolerances, steps)

    return refined(solve_by, tuple(flow.averages for flow in flows), averages is None)


@eqx.filter_jit
def _solve(
    flow: TaskFlow, asked: Asked, tolerances: tuple[Array, Array], max_steps: int
) -> Trajectory:
    start, ts = asked.start, asked.ts
    moving = None if flow.drift is None else start.T
    y0 = flow.pack(TaskRows(start.Q, start.R, asked.heads, start.b, moving))
    sound = [is_valid(one, ts, tolerance_numbers(*tolerances)) for one in flow.flows]
    each = [capped(tolerances, one) for one in flow.flows]
    rtol, atol = (jnp.max(jnp.stack(values)) for values in zip(*each, strict=True))
    # The drift jumps at a switch: no step of the solver may straddle it.
    solved = integrate_field(
        diffrax.ODETerm(flow),
        y0,
        ts,
        (rtol, atol),
        jnp.all(jnp.stack([*sound, asked.drift_holds()])),
        max_steps=max_steps,
        jump_ts=asked.schedule.ends,
    )
    rows = jax.vmap(flow.unpack)(solved.ys)
    stats = {"rtol": rtol, "atol": atol, **_errors(flow, asked, rows)}
    return trajectory(
        asked,
        rows,
        jnp.isnan(solved.ys[:, 0]),
        solved.result,
        level="ode",
        stats=solved.stats | stats,
    )


def _errors(flow: TaskFlow, asked: Asked, rows: TaskRows) -> dict[str, Array]:
    """Errors of the averages, the largest over the tasks."""
    found = []
    for one, task in zip(flow.flows, asked.tasks, strict=True):
        at = lambda row, one=one, task=task: one.pack(of_task(task, flow.state(row), row.heads))
        found.append(errors_along(one, asked.ts, jax.vmap(at)(rows)))
    names = set.intersection(*(set(errors) for errors in found))
    worst = {name: jnp.stack([errors[name] for errors in found]) for name in sorted(names)}
    return {
        name: jnp.all(x) if x.dtype == bool else jnp.max(x, axis=0) for name, x in worst.items()
    }
