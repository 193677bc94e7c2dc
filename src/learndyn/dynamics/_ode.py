"""The ODE of the overlaps, n = infinity: an adaptive solve for any problem and rule."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import (
    as_count,
    as_float,
    checked_times,
    require_at_least,
    require_finite,
    require_unbatched,
    require_x64,
)
from learndyn._problem import Problem
from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._rules import SGD, SlowMomentum
from learndyn._states import Overlaps, require_compatible
from learndyn._types import CountLike, RealLike, Times
from learndyn.averages import (
    AbstractAverages,
    AbstractNodes,
    ClosedForm,
    NodeAverages,
    averages_error,
    choose_averages,
)
from learndyn.dynamics._drift import OverlapFlow
from learndyn.dynamics._trajectory import Trajectory

RTOL, ATOL, MAX_STEPS = 1e-9, 1e-11, 100_000

_CAP = 0.01
"""Measured over alpha <= 20: a solve's error is up to a hundred times its tolerance, so
this fraction of the averages' error keeps both alike. Finer only counts single nodes."""

_FIRST_STEP = 0.1
"""Any will do: too long a step is rejected, and diffrax's own choice costs two drifts."""

_SMALLEST_STEP = 1e-14
"""In units of the last time: time does not resolve shorter ones."""

AveragesOption = AbstractNodes | AbstractAverages | str | Any
SolverOption = diffrax.AbstractAdaptiveSolver | Any
"""`Any`, so that whatever else arrives meets the ValueError that explains it."""


def ode_term(
    problem: Problem, rule: SGD, start: Overlaps, *, averages: AveragesOption = None
) -> diffrax.ODETerm:
    """The ODE as a `diffrax.ODETerm`, for users of Diffrax.

    Its `vector_field` is an `OverlapFlow`: `vector_field.pack(start)` is the initial y and
    `vector_field.unpack(y)` the overlaps. Options and errors as for `solve_ode`.
    """
    return diffrax.ODETerm(overlap_flow(problem, rule, start, averages=averages))


def overlap_flow(
    problem: Problem, rule: SGD, start: Overlaps, *, averages: AveragesOption = None
) -> OverlapFlow:
    """The vector field of `ode_term`, checked and with its averages chosen."""
    require_x64("the theory", problem, rule, start)
    _require_one_run(problem, start, rule)
    require_compatible(problem, rule.lr_bias is not None, start)
    ready = choose_averages(
        problem, start.k, start.m, biases=start.b is not None, averages=averages
    )
    return OverlapFlow(problem, rule, ready, start)


def solve_ode(
    problem: Problem,
    rule: SGD,
    start: Overlaps,
    ts: RealLike,
    *,
    averages: AveragesOption = None,
    rtol: RealLike = RTOL,
    atol: RealLike = ATOL,
    solver: SolverOption = None,
    max_steps: CountLike = MAX_STEPS,
    jump_ts: RealLike | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Trajectory:
    """Overlaps and generalisation error in the limit n -> infinity.

    start: the state at ts[0]. ts: (times,) increasing times alpha = steps / n, dimensionless.
    averages: how to average over the fields (see `learndyn.averages`); None chooses.
    rtol, atol: tolerances of the adaptive solver. Where the averages are over nodes and the
        integrand jumps, both are raised to a hundredth of the averages' relative error, where
        both errors are alike; finer, a solver would chase single nodes. `stats` tells the
        values used.
    solver: an adaptive Diffrax solver; None: `Tsit5`, the fastest measured for errors of 1e-6.
    max_steps: accepted and rejected steps after which a run stops with `Result.MAX_STEPS`.
    jump_ts: times at which a learning-rate schedule jumps, in any order.
    adjoint: how Diffrax differentiates; `diffrax.ForwardMode()` for forward derivatives.

    Returns: a `Trajectory` whose `stats` hold `steps`, `rtol`, `atol`, and `averages_error`, the
    standard error of the averages at the start (0 for closed forms).
    Raises: ValueError for bad values, shapes, times or options, or in float32.
    Source: Goldt et al. (2020), Eq. (9); `OverlapFlow` has the equations.
    """
    ts = checked_times(ts)
    flow = overlap_flow(problem, rule, start, averages=averages)
    return _solve(
        flow,
        ts,
        _checked_tolerances(rtol, atol),
        _checked_jumps(jump_ts),
        _checked_solver(solver),
        as_count(max_steps, "max_steps", "the solver stops after so many"),
        adjoint,
    )


def generalisation_error(
    problem: Problem, state: Overlaps, *, averages: AveragesOption = None
) -> Float[Array, ""]:
    """eg at `state`: half the mean squared difference from the noiseless teacher, or, for
    classification losses, the probability that student and teacher have opposite signs.

    Raises: ValueError for a batch of states (use vmap), a bad option, or in float32.
    Source: Goldt et al. (2020), Eq. (4).
    """
    require_x64("generalisation_error", problem, state)
    _require_one_run(problem, state)
    ready = choose_averages(
        problem, state.k, state.m, biases=state.b is not None, averages=averages
    )
    return _generalisation_error(problem, state, ready)


@eqx.filter_jit
def _generalisation_error(
    problem: Problem, state: Overlaps, averages: AbstractAverages
) -> Float[Array, ""]:
    return averages.generalisation_error(problem, state)


@eqx.filter_jit
def _solve(
    flow: OverlapFlow,
    ts: Times,
    tolerances: tuple[Array, Array],
    jump_ts: Array | None,
    solver: diffrax.AbstractSolver | None,
    max_steps: int,
    adjoint: diffrax.AbstractAdjoint | None,
) -> Trajectory:
    y0 = flow.pack(flow.start)
    solved = integrate(
        diffrax.ODETerm(flow),
        flow,
        y0,
        ts,
        tolerances,
        max_steps=max_steps,
        jump_ts=jump_ts,
        solver=solver,
        adjoint=adjoint,
    )
    return trajectory_from(flow, ts, solved.ys, solved)


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
) -> Solved:
    """Solve `term` from y0 over ts without ever raising; `flow` tells what input is valid."""
    valid = is_valid(flow, ts) & (tolerances[0] > 0) & (tolerances[1] >= 0)
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


def is_valid(flow: OverlapFlow, ts: Times) -> Array:
    """Whether traced input is sound, where no exception can be raised."""
    c, finite = flow.start.covariance, jnp.isfinite
    smallest = jnp.linalg.eigvalsh(jnp.where(finite(c), c, 0.0))[0]
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


def _require_one_run(problem: Problem, state: Overlaps, rule: SGD | None = None) -> None:
    named = [("Q", state.Q, 2), ("noise", problem.noise, 0)]
    if rule is not None:
        named += [(name, number, 0) for name, number in rule_numbers(rule).items()]
    require_unbatched(named, "the theory")


def _checked_tolerances(rtol: RealLike, atol: RealLike) -> tuple[Array, Array]:
    rtol, atol = as_float(rtol, "rtol"), as_float(atol, "atol")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value.ndim:
            raise ValueError(f"{name} must be one number; got shape {value.shape}.")
    require_at_least(rtol, 0.0, "rtol", "a relative tolerance", strict=True)
    require_at_least(atol, 0.0, "atol", "an absolute tolerance")
    return rtol, atol


def _checked_jumps(jump_ts: RealLike | None) -> Array | None:
    if jump_ts is None:
        return None
    jump_ts = jnp.atleast_1d(as_float(jump_ts, "jump_ts"))
    if jump_ts.ndim > 1:
        raise ValueError(f"jump_ts must be a list of times; got shape {jump_ts.shape}.")
    require_finite(jump_ts=jump_ts)
    return jump_ts


def _checked_solver(solver: SolverOption) -> diffrax.AbstractAdaptiveSolver:
    if solver is None:
        return diffrax.Tsit5()
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            "solver must be a Diffrax solver with an error estimate, such as diffrax.Tsit5(), "
            f"Dopri8() or Kvaerno5(); got {solver!r}. For fixed steps use ode_term and "
            "diffrax.diffeqsolve."
        )
    return solver
