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
from learndyn.dynamics._overlap_flow import OverlapFlow, Velocity, triu_positions
from learndyn.states import Overlaps
from learndyn.tasks._rows import TaskRows, of_task
from learndyn.tasks._types import Drift, Schedule, Task


class TaskFlow(eqx.Module):
    """dy/dalpha = f(alpha, y): Q, R, all heads, biases and, where teachers drift, T.

    Equation: with p_t the share of task t, dm = sum_t p_t f_t(m). All of f_t is linear in the
      averages G, Phi and <F> of its task, lr^2 Phi included, so that f is the drift at their mean
      (the mean of the squares, not the square of the mean); dv^h = -lr_second sum_t p_t <H^t> over
      the tasks with head h. A drift of rate delta adds -delta_n R_in to dR_in and
      -(delta_n + delta_m)(T_nm - [n = m] norms_n) to dT_nm. Momentum is that of all heads: one that
      no task trains goes on by its velocity.
    flows: the flow of each task alone, with its averages. start: T, Q, R and biases.
    """

    flows: tuple[OverlapFlow, ...]
    tasks: tuple[Task, ...]
    schedule: Schedule
    start: Overlaps
    heads: Float[Array, "heads k"]
    drift: Drift | None

    def __call__(self, t: Any, y: Any, args: Any) -> Float[Array, " p"]:
        rows, velocity = self._unpack(y)
        state = self.state(rows)
        shares = self.schedule.at(t)
        found = [
            flow.averages_of(flow.averages, of_task(task, state, rows.heads))
            for flow, task in zip(self.flows, self.tasks, strict=True)
        ]
        mean = _mean(shares, found, state.covariance)
        rates = self._rule.effective_rates(jnp.asarray(t, float))
        pull = jnp.zeros_like(rows.heads)  # sum_t p_t <H^t> over the tasks with each head
        if rates.v is not None:
            for share, task, one in zip(shares, self.tasks, found, strict=True):
                pull = pull.at[task.head].add(share * one.h)
        if velocity is None:
            dq, dr, _, db = self.flows[0].overlap_drift(rates, state, mean)
            return self.pack(self._drifting(state, TaskRows(dq, dr, -_of(rates.v) * pull, db)))
        dq, dr, ds, du, dv = self.flows[0].matrix_drift(rates, state, velocity, mean)
        moved = TaskRows(dq, dr, -_of(rates.v) * velocity.v, -_of(rates.b) * velocity.b)
        gamma = self._rule.momentum.gamma
        # Averages of biases that stay are not there: NaN.
        force = mean.f if self._rule.trains_biases else jnp.zeros_like(velocity.b)
        pushes = gamma * (pull - velocity.v), gamma * (force - velocity.b)
        pushed = Velocity(ds, du, dv - self._rates_of_drift * velocity.V, *pushes)
        return self.pack(self._drifting(state, moved), pushed)

    def _drifting(self, state: Overlaps, rows: TaskRows) -> TaskRows:
        """Time derivatives, with those that come from the drift of the teachers."""
        if self.drift is None:
            return rows
        delta = self._rates_of_drift
        norms = jnp.broadcast_to(self.drift.norms, (self.start.m,))
        dt = -(delta[:, None] + delta) * (state.T - jnp.diag(norms))
        return rows._replace(R=rows.R - delta * state.R, T=dt)

    @property
    def _rates_of_drift(self) -> Float[Array, " m"]:
        rate = 0.0 if self.drift is None else self.drift.rate
        return jnp.broadcast_to(rate, (self.start.m,))

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

    def pack(self, rows: TaskRows, velocity: Velocity | None = None) -> Float[Array, " p"]:
        """The coordinates y. velocity: None: at rest, where momentum is slow."""
        parts = [triu(rows.Q), rows.R.ravel(), rows.heads.ravel()]
        if self._rule.trains_biases and rows.b is not None:
            parts.append(rows.b)
        if self.drift is not None and rows.T is not None:
            parts.append(triu(rows.T))
        if self._rule.has_slow_momentum:
            own = self._at_rest() if velocity is None else velocity
            parts += [own.S.ravel(), triu(own.U), own.V.ravel(), own.v.ravel(), own.b]
        return jnp.concatenate(parts)

    def unpack(self, y: Float[Array, " p"]) -> TaskRows:
        """What `pack` put together."""
        return self._unpack(y)[0]

    def _unpack(self, y: Float[Array, " p"]) -> tuple[TaskRows, Velocity | None]:
        k, m, heads = self.start.k, self.start.m, len(self.heads)
        sizes = [k * (k + 1) // 2, k * m, heads * k, k * self._rule.trains_biases]
        sizes.append(m * (m + 1) // 2 * (self.drift is not None))
        q, r, v, b, t, y = jnp.split(y, np.cumsum(sizes))
        rows = TaskRows(
            q[triu_positions(k)],
            r.reshape(k, m),
            v.reshape(heads, k),
            b if self._rule.trains_biases else self.start.b,
            None if self.drift is None else t[triu_positions(m)],
        )
        if not self._rule.has_slow_momentum:
            return rows, None
        sizes = [k * k, k * (k + 1) // 2, k * m, heads * k]
        s, u, big_v, v, b = jnp.split(y, np.cumsum(sizes))
        square = s.reshape(k, k), u[triu_positions(k)]
        return rows, Velocity(*square, big_v.reshape(k, m), v.reshape(heads, k), b)

    def _at_rest(self) -> Velocity:
        k, m = self.start.k, self.start.m
        nothing = jnp.zeros_like(self.heads), jnp.zeros(k)
        return Velocity(jnp.zeros((k, k)), jnp.zeros((k, k)), jnp.zeros((k, m)), *nothing)


def _of(rate: Array | None) -> Any:
    """A rate; 0 where the layer is not trained."""
    return 0.0 if rate is None else rate


def _mean(
    shares: Float[Array, " tasks"], found: list[FieldAverages], covariance: Array
) -> FieldAverages:
    """The averages of one sample of the mixture of tasks; h, which differs by head, aside."""
    whole = [one._replace(fields=one.with_fields(covariance)) for one in found]
    weighted = [
        jax.tree.map(lambda x, s=s: s * x, one) for s, one in zip(shares, whole, strict=True)
    ]
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), weighted)
