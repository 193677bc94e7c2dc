"""Solving a flow without ever raising: what may fail at run time becomes a result code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Bool, Float

from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import Scalar, Times

_SMALLEST_STEP = 1e-14
"""The shortest step in units of the last time: floats do not resolve shorter ones."""

_ROOT = 1e-12
"""Relative and absolute tolerance of the time at which an event happens: below it, the solver's own
interpolation is no better."""

_AT_EVENT = 1e-6
"""Over the event's function at the start: below it the event is found, whether or not Newton's
method says that it has converged. 64-bit times of 1e8 round by 1e-8, a
visible part of a jump that takes a time of 1."""


class Solved(NamedTuple):
    """Rows of a solve, NaN after it stopped, and y where it did; why and when it did, and how many
    steps it took."""

    ys: Float[Array, "times p"]
    last: Float[Array, " p"]
    result: Array
    end: Scalar
    steps: Array


def solve(
    drift: Callable[[Array], Array],
    start: Float[Array, " p"],
    ts: Times,
    tolerances: tuple[Array, Float[Array, " p"]],
    valid: Bool[Array, ""],
    *,
    solver: diffrax.AbstractSolver,
    max_steps: int,
    until: Callable[[Array], Scalar] | None = None,
    rising: bool | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Solved:
    """y' = drift(y) from `start` at ts[0], at the times ts.

    tolerances: rtol and atol. valid: whether the input is sound; else all rows are NaN. until: a
    function of y at whose change of sign the solve ends with success; rising: only where it rises
    (True) or falls (False).
    """
    # Bad input must not reach the solver, which would raise or never end.
    start = jnp.where(valid, start, 0.0)
    ts = jnp.where(valid, ts, jnp.arange(len(ts), dtype=ts.dtype))
    if len(ts) == 1:
        code = jnp.where(valid, Result.SUCCESS.value, Result.INVALID_INPUT.value)
        rows = jnp.where(valid, start, jnp.nan)[None]
        return Solved(rows, rows[0], code, ts[0], jnp.zeros((), int))
    rtol, atol = (jnp.where(valid, tolerance, 1.0) for tolerance in tolerances)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: drift(y)),
        solver,
        t0=ts[0],
        t1=ts[-1],
        dt0=None,
        y0=start,
        saveat=diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=ts), diffrax.SubSaveAt(t1=True)]),
        stepsize_controller=diffrax.PIDController(
            rtol=rtol, atol=atol, dtmin=_SMALLEST_STEP * ts[-1], force_dtmin=False
        ),
        max_steps=max_steps,
        event=_events(until, rising),
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        throw=False,
    )
    times, end = _saved(solution.ts)
    ys, last = _saved(solution.ys)
    reached = valid & jnp.isfinite(times)
    rows = jnp.where(reached[:, None], ys, jnp.nan)
    found = (
        False if until is None else jnp.abs(until(last[-1])) <= _AT_EVENT * jnp.abs(until(start))
    )
    code = _code(solution, until is not None, found, valid)
    # The last row is interpolated: the same bits for whoever asks for either.
    last = jnp.where(reached[-1], rows[-1], jnp.where(valid, last[-1], jnp.nan))
    return Solved(rows, last, code, end[-1], solution.stats["num_steps"])


def _saved(pair: Any) -> tuple[Array, Array]:
    """What Diffrax keeps for two ways of saving, or of two events."""
    first, second = pair
    return first, second


def _events(until: Callable | None, rising: bool | None) -> diffrax.Event:
    diverged = lambda t, y, args, **kwargs: ~jnp.all(jnp.abs(y) < DIVERGENCE_LIMIT)
    if until is None:
        return diffrax.Event([diverged])
    asked = lambda t, y, args, **kwargs: until(y)
    newton = optimistix.Newton(rtol=_ROOT, atol=_ROOT)
    return diffrax.Event([diverged, asked], newton, direction=[None, rising])


def _code(
    solution: diffrax.Solution, asked: bool, found: Bool[Array, ""] | bool, valid: Array
) -> Array:
    """Diffrax's outcome as a `Result` code. found: whether the end is where the event is."""
    stopped = Result.DIVERGED.value
    code = jnp.asarray(Result.SOLVER_FAILED.value)
    if asked:
        diverged, happened = _saved(solution.event_mask)
        stopped = jnp.where(diverged, Result.DIVERGED.value, Result.SUCCESS.value)
        # Where a late jump is short, its time rounds too coarsely for Newton's method to settle.
        code = jnp.where(happened & found, Result.SUCCESS.value, code)
    for theirs, ours in (
        (diffrax.RESULTS.successful, Result.SUCCESS.value),
        (diffrax.RESULTS.event_occurred, stopped),
        # A step shrinks below rounding where a state runs to infinity at a finite time.
        (diffrax.RESULTS.dt_min_reached, Result.DIVERGED.value),
        (diffrax.RESULTS.max_steps_reached, Result.MAX_STEPS.value),
    ):
        code = jnp.where(solution.result == theirs, ours, code)
    return jnp.where(valid, code, Result.INVALID_INPUT.value)
