"""The limit n -> infinity: the drift of the overlaps and heads under several tasks."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.linear_algebra import triu
from learndyn.averages import FieldAverages
from learndyn.dynamics._overlap_flow import OverlapFlow, triu_positions
from learndyn.states import Overlaps
from learndyn.tasks._rows import TaskRows, of_task
from learndyn.tasks._types import Drift, Schedule, Task


class TaskFlow(eqx.Module):
    """dy/dalpha = f(alpha, y): Q, R, all heads, biases and, where teachers drift, T.

    Equation: with p_t the share of task t, dm = sum_t p_t f_t(m). All of f_t is linear in the
      averages G, Phi and <F> of its task, lr^2 Phi included, so that f is the drift at their mean
      (the mean of the squares, not the square of the mean); dv^h = -lr_second sum_t p_t <H^t> over
      the tasks with head h. A drift of rate delta adds -delta_n R_in to dR_in and
      -(delta_n + delta_m)(T_nm - [n = m] norms_n) to dT_nm.
    flows: the flow of each task alone, with its averages. start: T, Q, R and biases.
    """

    flows: tuple[OverlapFlow, ...]
    tasks: tuple[Task, ...]
    schedule: Schedule
    start: Overlaps
    heads: Float[Array, "heads k"]
    drift: Drift | None

    def __call__(self, t: Any, y: Any, args: Any) -> Float[Array, " p"]:
        rows = self.unpack(y)
        state = self.state(rows)
        shares = self.schedule.at(t)
        found = [
            flow.averages_of(flow.averages, of_task(task, state, rows.heads))
            for flow, task in zip(self.flows, self.tasks, strict=True)
        ]
        mean = _mean(shares, found, state.covariance)
        rates = self._rule.effective_rates(jnp.asarray(t, float))
        dq, dr, _, db = self.flows[0].overlap_drift(rates, state, mean)
        dheads = jnp.zeros_like(rows.heads)
        if rates.v is not None:
            for share, task, one in zip(shares, self.tasks, found, strict=True):
                dheads = dheads.at[task.head].add(-rates.v * share * one.h)
        if self.drift is None:
            return self.pack(TaskRows(dq, dr, dheads, db))
        delta = jnp.broadcast_to(self.drift.rate, (self.start.m,))
        norms = jnp.broadcast_to(self.drift.norms, (self.start.m,))
        free = state.T - jnp.diag(norms)
        dt = -(delta[:, None] + delta) * free
        return self.pack(TaskRows(dq, dr - delta * state.R, dheads, db, dt))

    @property
    def _rule(self) -> Any:
        return self.flows[0].rule

    def state(self, rows: TaskRows) -> Overlaps:
        """The overlaps, with the second layer of the start, which no task reads."""
        t = self.start.T if rows.T is None else rows.T
        b = self.start.b if rows.b is None else rows.b
        given = (rows.Q, rows.R, t, b)
        return eqx.tree_at(
            lambda s: (s.Q, s.R, s.T, s.b), self.start, given, is_leaf=lambda x: x is None
        )

    def pack(self, rows: TaskRows) -> Float[Array, " p"]:
        """The coordinates y."""
        parts = [triu(rows.Q), rows.R.ravel(), rows.heads.ravel()]
        if self._rule.trains_biases and rows.b is not None:
            parts.append(rows.b)
        if self.drift is not None and rows.T is not None:
            parts.append(triu(rows.T))
        return jnp.concatenate(parts)

    def unpack(self, y: Float[Array, " p"]) -> TaskRows:
        """What `pack` put together."""
        k, m, heads = self.start.k, self.start.m, len(self.heads)
        sizes = [k * (k + 1) // 2, k * m, heads * k, k * self._rule.trains_biases]
        q, r, v, b, t = jnp.split(y, np.cumsum(sizes))
        return TaskRows(
            q[triu_positions(k)],
            r.reshape(k, m),
            v.reshape(heads, k),
            b if self._rule.trains_biases else self.start.b,
            None if self.drift is None else t[triu_positions(m)],
        )


def _mean(
    shares: Float[Array, " tasks"], found: list[FieldAverages], covariance: Array
) -> FieldAverages:
    """The averages of one sample of the mixture of tasks; h, which differs by head, aside."""
    whole = [one._replace(fields=one.with_fields(covariance)) for one in found]
    weighted = [
        jax.tree.map(lambda x, s=s: s * x, one) for s, one in zip(shares, whole, strict=True)
    ]
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), weighted)
