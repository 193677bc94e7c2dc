"""The trajectory that the saved states of a run make, the same way for every level."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import Times
from learndyn.averages import AbstractAverages, ClosedForm
from learndyn.dynamics._trajectory import Given, Trajectory
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule
from learndyn.states import GroupedOverlaps, Overlaps, of_fields, tested

_LOOKS = 257
"""Times between two saved ones at which schedules are looked at, to say why a run stopped. One that
is negative for less than 1/256 of that time may pass for a run that diverged."""


class Rows(NamedTuple):
    """The states at the saved times.

    b: None where there are no biases. fields: (d, d) covariances of the fields (lambda, rho), where
    the inputs' covariance is not 1; else None.
    """

    Q: Float[Array, "times k k"]
    R: Float[Array, "times k m"]
    v: Float[Array, "times k"]
    b: Float[Array, "times k"] | None
    fields: Float[Array, "times d d"] | None = None


class Run(NamedTuple):
    """What a run was asked to do. averages: for eg. n: None where it is infinite. key: None where
    nothing is drawn. inputs: the kind of distribution; "" for the default one. dtype: in which they
    are drawn."""

    level: str
    problem: Problem
    rule: AbstractRule
    T: Float[Array, "m m"]
    layers: Layers
    averages: AbstractAverages
    ts: Times
    n: Array | None = None
    key: Key[Array, ""] | None = None
    inputs: str = ""
    dtype: str = ""


def record(
    run: Run,
    rows: Rows,
    stopped: Bool[Array, " times"],
    result: Array,
    *,
    alpha: Times | None = None,
    stats: dict[str, Array] | None = None,
    eg: Times | None = None,
) -> Trajectory:
    """The trajectory of these rows, NaN in those that are marked as `stopped`.

    alpha: true times; None: the requested ones. eg: None: by Gaussian averages at each row.
    """
    layers = run.layers
    k, t_field = rows.Q.shape[1], None
    if rows.fields is not None:
        t_field = rows.fields[0, k:, k:]
    rows = jax.tree.map(lambda x: _nan_where(stopped, x), rows)
    fields = rows.fields
    eg = _gaussian_errors(run, rows, t_field) if eg is None else eg
    result = _told_of_rates(run, stopped, result)
    return Trajectory(
        alpha=run.ts if alpha is None else alpha,
        Q=rows.Q,
        R=rows.R,
        T=run.T,
        v=rows.v,
        v_teacher=layers.v_teacher,
        b=rows.b,
        b_teacher=layers.b_teacher,
        eg=_nan_where(stopped, eg),
        result=result,
        stats=stats or {},
        Q_field=None if fields is None else fields[:, :k, :k],
        R_field=None if fields is None else fields[:, :k, k:],
        T_field=t_field,
        level=run.level,
        n=run.n,
        ts=run.ts,
        given=Given.of(run.problem, run.rule, run.key, run.inputs, run.dtype),
    )


def record_groups(
    run: Run,
    groups: tuple[GroupedOverlaps, Float[Array, "times g k k"], Float[Array, "times g k m"]],
    layers: tuple[Array, Array | None],
    stopped: Bool[Array, " times"],
    result: Array,
    **kept: Any,
) -> Trajectory:
    """The trajectory of overlaps in groups of directions.

    groups: the start, and Q and R of all groups at the saved times. layers: v and b at these.
    kept: as for `record`.
    """
    start, q, r = groups
    fields = jax.vmap(lambda q, r: of_fields(start, q, r).covariance)(q, r)
    rows = Rows(q.sum(axis=1), r.sum(axis=1), *layers, fields)
    found = record(run, rows, stopped, result, **kept)
    return dataclasses.replace(
        found,
        Q_groups=_nan_where(stopped, q),
        R_groups=_nan_where(stopped, r),
        T_groups=start.T,
        spectrum=start.spectrum,
        T_unseen=start.T_unseen,
        T_field=start.fields.T,
    )


def ending(rows: Rows | Any, valid: Bool[Array, ""]) -> tuple[Bool[Array, " times"], Array]:
    """Which rows of a simulation come after it left every bound, and the result code.

    rows: any tuple of arrays with the times first.
    A row counts where everything is finite and no squared norm per dimension is too large.
    """
    leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    # A comparison with NaN is False: such rows count as out of bounds.
    bounded = jnp.all(jnp.abs(jnp.concatenate(leaves, axis=1)) < DIVERGENCE_LIMIT, axis=1)
    # Once out of bounds, a run has ended, even if later rows look harmless.
    diverged = jnp.cumsum(~bounded) > 0
    result = jnp.where(jnp.any(diverged), Result.DIVERGED.value, Result.SUCCESS.value)
    return diverged | ~valid, jnp.where(valid, result, Result.INVALID_INPUT.value)


def _told_of_rates(run: Run, stopped: Bool[Array, " times"], result: Array) -> Array:
    """`result`, with its own code where a run stopped because a schedule became negative or NaN."""
    if not run.rule.schedules or len(run.ts) == 1:
        return result
    # The first time that was not reached, and the one before it
    end = jnp.clip(jnp.argmax(stopped), 1, len(run.ts) - 1)
    times = jnp.linspace(run.ts[end - 1], run.ts[end], _LOOKS)
    rates = jax.vmap(run.rule.rates)(times)
    bad = jnp.any(jnp.stack([jnp.any(jnp.isnan(x)) for x in rates if x is not None]))
    ended = (result == Result.DIVERGED.value) | (result == Result.SOLVER_FAILED.value)
    return jnp.where(ended & jnp.any(stopped) & bad, Result.BAD_RATE.value, result)


def _gaussian_errors(run: Run, rows: Rows, t_field: Array | None) -> Times:
    """eg at each row, for inputs with Gaussian fields."""

    def error(row: Rows) -> Array:
        state = tested(run.rule, _state(run, row, t_field))
        value = run.averages.generalisation_error(run.problem, state)
        return jnp.where(jnp.isnan(row.Q[0, 0]), jnp.nan, value)

    if isinstance(run.averages, ClosedForm):
        return jax.vmap(error)(rows)
    return jax.lax.map(error, rows)  # one state at a time: there are thousands of nodes


def _state(run: Run, row: Any, t_field: Array | None) -> Overlaps:
    """A row as overlaps: the second moments of the fields, where they differ."""
    k, (q, r, t) = row.Q.shape[0], (row.Q, row.R, run.T)
    if row.fields is not None:
        q, r, t = row.fields[:k, :k], row.fields[:k, k:], t_field
    return Overlaps(q, r, t, row.v, run.layers.v_teacher, row.b, run.layers.b_teacher)


def _nan_where(gone: Bool[Array, " times"], values: Array) -> Array:
    return jnp.where(gone.reshape(-1, *[1] * (values.ndim - 1)), jnp.nan, values)
