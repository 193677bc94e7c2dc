"""The trajectory that the saved rows of a run of SGD make."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import Times
from learndyn.averages import AbstractAverages, ClosedForm
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.sgd._measure import Row
from learndyn.problems import Problem
from learndyn.states import Overlaps, Weights, overlaps


def trajectory_of_rows(
    problem: Problem,
    weights: Weights,
    averages: AbstractAverages,
    alpha: Times,
    rows: Row,
    valid: Bool[Array, ""],
) -> Trajectory:
    """The trajectory of these rows, NaN from the first that is out of bounds."""
    k, fields = weights.k, rows.fields
    t_field = None if fields is None else fields[0, k:, k:]
    diverged = jnp.cumsum(~_is_bounded(rows)) > 0
    rows = jax.tree.map(lambda values: _nan_where(diverged | ~valid, values), rows)
    fields = rows.fields
    eg = rows.eg
    if eg is None:
        eg = _gaussian_errors(problem, weights, averages, rows)
    result = jnp.where(jnp.any(diverged), Result.DIVERGED.value, Result.SUCCESS.value)
    return Trajectory(
        alpha=alpha,
        Q=rows.overlaps[:, :k, :k],
        R=rows.overlaps[:, :k, k:],
        T=overlaps(weights).T,
        v=rows.v,
        v_teacher=weights.v_teacher,
        b=rows.b,
        b_teacher=weights.b_teacher,
        eg=eg,
        result=jnp.where(valid, result, Result.INVALID_INPUT.value),
        stats={} if rows.train_error is None else {"train_error": rows.train_error},
        Q_field=None if fields is None else fields[:, :k, :k],
        R_field=None if fields is None else fields[:, :k, k:],
        T_field=t_field,
    )


def _gaussian_errors(
    problem: Problem, weights: Weights, averages: AbstractAverages, rows: Row
) -> Times:
    """eg at each row, for inputs with Gaussian fields."""
    k = weights.k

    def error(row: Row) -> Array:
        c = row.overlaps if row.fields is None else row.fields
        state = Overlaps(
            c[:k, :k], c[:k, k:], c[k:, k:], row.v, weights.v_teacher, row.b, weights.b_teacher
        )
        value = averages.generalisation_error(problem, state)
        return jnp.where(jnp.isnan(c[0, 0]), jnp.nan, value)

    if isinstance(averages, ClosedForm):
        return jax.vmap(error)(rows)
    return jax.lax.map(error, rows)  # one state at a time: there are thousands of nodes


def _nan_where(gone: Bool[Array, " times"], values: Array) -> Array:
    return jnp.where(gone.reshape(-1, *[1] * (values.ndim - 1)), jnp.nan, values)


def _is_bounded(rows: Row) -> Bool[Array, " times"]:
    """Whether everything is finite and no squared norm per dimension is beyond the limit."""
    leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    return jnp.all(jnp.abs(jnp.concatenate(leaves, axis=1)) < DIVERGENCE_LIMIT, axis=1)
