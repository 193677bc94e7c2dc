"""Solving a theory without ever raising: what may fail at run time becomes a result code."""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import Times
from learndyn.averages import ClosedForm, NodeAverages, averages_error
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._trajectory import Trajectory
from learndyn.rules import SGD, SlowMomentum
from learndyn.states import Overlaps, concrete_covariance

_CAP = 0.01
"""Measured over alpha <= 20: a solve's error is up to a hundred times its tolerance, so
this fraction of the averages' error keeps both alike. Finer only counts single nodes."""

_FIRST_STEP = 0.1
"""Any will do: too long a step is rejected, and diffrax's own choice costs two drifts."""

_SMALLEST_STEP = 1e-14
"""In units of the last time: time does not resolve shorter ones."""


class Solved(NamedTuple):
    """A solve, with NaN rows after it stopped, and why it did."""

    ys: Float[Array, "times p"]
    result: Array
    stats: dict[str, Array]


def integrate(
    term: diffrax.AbstractTerm,
    flow: OverlapFlow,
    y0: Float[Array, " p"],
    ts: Times,
    tolerances: tuple[Array, Array],
    *,
    max_steps: int,
    jump_ts: Array | None = None,
    solver: diffrax.AbstractSolver | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    smallest: Array | None = None,
) -> Solved:
    """Solve `term` from y0 over ts without ever raising; `flow` tells what input is valid.

    smallest: the smallest eigenvalue of the start's covariance, where it is known.
    """
    valid = is_valid(flow, ts, smallest) & (tolerances[0] > 0) & (tolerances[1] >= 0)
    error = averages_error(flow.problem, flow.start, flow.averages)
    rtol, atol = _capped(tolerances, error, flow)
    stats = {"steps": jnp.zeros((), int), "rtol": rtol, "atol": atol, "averages_error": error}
    y0 = jnp.where(valid, y0, 0.0)
    ts = jnp.where(valid, ts, jnp.arange(len(ts), dtype=ts.dtype))
    if len(ts) == 1:
        result = jnp.where(valid, Result.SUCCESS.value, Result.INVALID_INPUT.value)
        return Solved(jnp.where(valid, y0, jnp.nan)[None], result, stats)
    controller = diffrax.PIDController(
        rtol=rtol, atol=atol, dtmin=_SMALLEST_STEP * ts[-1], force_dtmin=False
    )
    if jump_ts is not None:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=jump_ts)
    solution = diffrax.diffeqsolve(
        term,
        diffrax.Tsit5() if solver is None else solver,
        t0=ts[0],
        t1=ts[-1],
        dt0=jnp.asarray(_FIRST_STEP),
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=controller,
        max_steps=max_steps,
        event=diffrax.Event(has_diverged),
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        throw=False,
    )
    ys = reached_rows(solution, valid)
    result = result_code(solution.result, valid)
    return Solved(ys, result, stats | {"steps": solution.stats["num_steps"]})


def reached_rows(solution: diffrax.Solution, valid: Array) -> Float[Array, "times p"]:
    """The saved rows, NaN from where the solve stopped."""
    reached = valid & jnp.isfinite(jnp.asarray(solution.ts))
    return jnp.where(reached[:, None], jnp.asarray(solution.ys), jnp.nan)


def trajectory_from(
    flow: OverlapFlow, ts: Times, ys: Float[Array, "times p"], solved: Solved
) -> Trajectory:
    """The trajectory whose coordinates at ts are ys."""
    states = jax.vmap(flow.unpack)(ys)
    stopped = jnp.isnan(ys[:, :1])
    return Trajectory(
        alpha=ts,
        Q=states.Q,
        R=states.R,
        T=flow.start.T,
        v=jnp.where(stopped, jnp.nan, states.v),
        v_teacher=flow.start.v_teacher,
        b=None if states.b is None else jnp.where(stopped, jnp.nan, states.b),
        b_teacher=flow.start.b_teacher,
        eg=jnp.where(stopped[:, 0], jnp.nan, _errors(flow, states)),
        result=solved.result,
        stats=solved.stats,
    )


def _errors(flow: OverlapFlow, states: Overlaps) -> Times:
    def error(state: Overlaps) -> Array:
        return flow.averages.generalisation_error(flow.problem, state)

    if isinstance(flow.averages, ClosedForm):
        return jax.vmap(error)(states)
    return jax.lax.map(error, states)  # one state at a time: there are thousands of nodes


def _capped(
    tolerances: tuple[Array, Array], error: Array, flow: OverlapFlow
) -> tuple[Array, Array]:
    """Tolerances no finer than the averages where those make the drift discontinuous."""
    rtol, atol = tolerances
    if not (isinstance(flow.averages, NodeAverages) and flow.averages.score):
        return rtol, atol
    averages = flow.averages.field_averages(flow.problem, flow.start)
    scale = jnp.max(jnp.stack([jnp.max(jnp.abs(average)) for average in averages]))
    floor = _CAP * jnp.nan_to_num(error / jnp.where(scale > 0, scale, 1.0))
    return jnp.maximum(rtol, floor), jnp.maximum(atol, floor)


def smallest_eigenvalue(start: Overlaps) -> Float[Array, ""]:
    """The smallest eigenvalue of the covariance C of `start`; entries that are not finite count 0.

    NumPy finds it where the overlaps are concrete: LAPACK in a compiled program makes JAX load
    scipy.linalg, 0.2 s before the first curve, and compile the call.
    """
    if is_concrete(start):
        c = np.nan_to_num(concrete_covariance(start.Q, start.R, start.T), posinf=0.0, neginf=0.0)
        return jnp.asarray(np.linalg.eigvalsh(c)[0])
    c = jax.lax.stop_gradient(start.covariance)
    return jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(c), c, 0.0))[0]


def is_valid(flow: OverlapFlow, ts: Times, smallest: Array | None = None) -> Array:
    """Whether traced input is sound, where no exception can be raised.

    smallest: the smallest eigenvalue of the start's covariance; None: it is found here.
    """
    c, finite = flow.start.covariance, jnp.isfinite
    smallest = smallest_eigenvalue(flow.start) if smallest is None else smallest
    numbers = {**rule_numbers(flow.rule), "noise": flow.problem.noise}
    momentum = numbers.get("momentum", 0.0)
    leaves = jax.tree_util.tree_leaves((flow.start, ts, eqx.filter(flow.rule, eqx.is_array)))
    return (
        jnp.all(jnp.stack([jnp.all(finite(leaf)) for leaf in leaves]))
        & (smallest >= -1e-10 * jnp.trace(c))
        & jnp.all(jnp.abs(c - c.T) <= 1e-8 * (1 + jnp.max(jnp.abs(c))))
        & jnp.all(jnp.stack([number >= 0 for number in numbers.values()]))
        & (momentum < 1)
        & (numbers.get("gamma", 1.0) > 0)
        & jnp.all(jnp.diff(ts) > 0)
        & (ts[0] >= 0)
    )


def rule_numbers(rule: SGD) -> dict[str, Array]:
    """The rule's numbers by name; schedules are left out."""
    named = {name: getattr(rule, name) for name in ("lr", "lr_second", "lr_bias", "weight_decay")}
    key, momentum = "momentum", rule.momentum
    if isinstance(momentum, SlowMomentum):
        key, momentum = "gamma", momentum.gamma
    named[key] = momentum
    return {name: number for name, number in named.items() if eqx.is_array(number)}


def has_diverged(t: Array, y: Array, args: object, **kwargs: object) -> Array:
    """A Diffrax event: the state left every bound, or is NaN."""
    return ~jnp.all(jnp.abs(y) < DIVERGENCE_LIMIT)


def result_code(result: diffrax.RESULTS, valid: Array) -> Array:
    """Diffrax's outcome as a `Result` code."""
    code = jnp.asarray(Result.SOLVER_FAILED.value)
    for theirs, ours in (
        (diffrax.RESULTS.successful, Result.SUCCESS),
        (diffrax.RESULTS.event_occurred, Result.DIVERGED),
        (diffrax.RESULTS.dt_min_reached, Result.DIVERGED),
        (diffrax.RESULTS.max_steps_reached, Result.MAX_STEPS),
    ):
        code = jnp.where(result == theirs, ours.value, code)
    return jnp.where(valid, code, Result.INVALID_INPUT.value)
