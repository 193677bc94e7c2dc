"""Faults in what learns several tasks."""

import jax.numpy as jnp
from validation.mutants import mutant, replace

from learndyn.tasks import _chain, _flow, _rows
from learndyn.tasks._flow import TaskFlow
from learndyn.tasks._types import Schedule

MEANS, LAW = "test_tasks.py::test_means", "test_tasks.py::test_law[replay]"


@mutant("several tasks: the ODE goes on with the first task after the switch", f"{MEANS}[switch]")
def tasks_without_switch() -> None:
    @replace(Schedule, "at")
    def _(old, self, alpha):
        return self.shares[0]


@mutant("interleaving: the lr² term has the squares of the shares", f"{MEANS}[interleaved]")
def tasks_squared_shares() -> None:
    @replace(_flow, "_mean")
    def _(old, shares, found, covariance):
        squares = [share**2 * one.Phi for share, one in zip(shares, found, strict=True)]
        return old(shares, found, covariance)._replace(Phi=sum(squares[1:], squares[0]))


def _changed(change) -> None:
    """The ODE whose right-hand side is `change(flow, alpha, rows)` in place of its rows."""

    @replace(TaskFlow, "__call__")
    def _(old, self, t, y, args):
        return self.pack(change(self, t, self.unpack(old(self, t, y, args))))


@mutant("replay: a head moves as fast as if its task were learned alone", f"{MEANS}[replay]")
def tasks_heads_at_full_rate() -> None:
    def change(flow, t, rows):
        shares = flow.schedule.at(t)
        return rows._replace(heads=rows.heads / jnp.where(shares > 0, shares, 1.0)[:, None])

    _changed(change)


@mutant("several tasks: overlaps with the units of other tasks stay", f"{MEANS}[switch]")
def tasks_without_probes() -> None:
    def change(flow, t, rows):
        seen = flow.schedule.at(t) @ jnp.abs(jnp.stack([task.v_teacher for task in flow.tasks]))
        return rows._replace(R=rows.R * (seen > 0))

    _changed(change)


@mutant("drift: T decays at the rate of one teacher, not of two", f"{MEANS}[drift]")
def drift_of_one_teacher() -> None:
    _changed(lambda flow, t, rows: rows._replace(T=rows.T if rows.T is None else 0.5 * rows.T))


@mutant("several tasks: every error is read with the first head", f"{MEANS}[switch]")
def tasks_errors_with_first_head() -> None:
    @replace(_rows, "of_task")
    def _(old, task, state, heads):
        return old(task, state, jnp.broadcast_to(heads[:1], heads.shape))


@mutant("chain: the task is the likeliest one, not drawn", LAW)
def tasks_without_draws() -> None:
    @replace(_chain, "choose")
    def _(old, shares, uniform):
        return jnp.argmax(shares) + 0 * old(shares, uniform)


@mutant("chain: each switch comes a tenth too late", LAW)
def tasks_late_switch() -> None:
    @replace(Schedule, "at_step")
    def _(old, self, step, n):
        return old(self, jnp.floor(step / 1.1), n)
