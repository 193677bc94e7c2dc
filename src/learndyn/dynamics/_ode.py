"""The ODE of the overlaps, n = infinity: an adaptive solve for any problem and rule."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_count,
    as_float,
    checked_times,
    is_concrete,
    require_finite,
    require_unbatched,
    require_x64,
)
from learndyn._outcome import warn_if_failed
from learndyn._results import Result
from learndyn._types import CountLike, RealLike, Times
from learndyn.averages import (
    AbstractAverages,
    AbstractNodes,
    choose_averages,
    has_biases,
    reach_of,
    teacher_of,
)
from learndyn.dynamics._aligned_flow import aligned_flow
from learndyn.dynamics._averages_errors import refined, warn_of_averages
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._integrate import Solved, integrate, tolerance_numbers, trajectory_from
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._prepare import (
    require_along_inputs,
    require_fields,
    require_number,
    require_of_fields,
    require_run,
    require_without_input_noise,
    run_numbers,
    smallest_eigenvalue,
)
from learndyn.dynamics._stiff_groups import StiffGroups, chosen_solver, misfit
from learndyn.dynamics._trajectory import Trajectory
from learndyn.problems import Problem
from learndyn.rules import AbstractRule, Sized, reads_size
from learndyn.states import (
    GroupedOverlaps,
    Overlaps,
    ProblemLike,
    RuleLike,
    StateLike,
    Weights,
    as_overlaps,
    as_state,
    require_arguments,
)

RTOL, ATOL, MAX_STEPS = 1e-9, 1e-11, 100_000
"""Tolerances at which eg is right to about 1e-8 over alpha = 1000, and a hundred times the steps
that such a solve takes."""

_ONE = 1e-9
"""A mean eigenvalue that is as near to 1 as shares are to their sum keeps closed forms."""

AveragesOption = AbstractNodes | AbstractAverages | str | Any
SolverOption = diffrax.AbstractAdaptiveSolver | Any
"""`Any`, so that whatever else arrives meets the ValueError that explains it."""


def ode_term(
    problem: ProblemLike, rule: RuleLike, start: StateLike, *, averages: AveragesOption = None
) -> diffrax.ODETerm:
    """The ODE as a `diffrax.ODETerm`, for users of Diffrax.

    Its `vector_field` is an `OverlapFlow`: `vector_field.pack(start)` is the initial y and
    `vector_field.unpack(y)` the overlaps. Options and errors as for `solve_ode`.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start: overlaps, or weights, whose overlaps are then used.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> term = ld.ode_term(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start)
        >>> flow_of_overlaps = term.vector_field
        >>> np.round(flow_of_overlaps(0.0, flow_of_overlaps.pack(start), None), 4)
        Array([-0.0069,  0.1818], dtype=float64)
    """
    require_arguments("ode_term", problem=problem, rule=rule, start=start)
    return diffrax.ODETerm(overlap_flow(problem, rule, start, averages=averages))


def overlap_flow(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | Weights | GroupedOverlaps,
    *,
    averages: AveragesOption = None,
) -> OverlapFlow:
    """The vector field of `ode_term`, checked and with its averages chosen."""
    start = as_state(start)
    require_x64("the theory", problem, rule, start)
    require_run(problem, rule, start, run_numbers(problem, rule), "the theory")
    if isinstance(start, GroupedOverlaps):
        require_without_input_noise(rule, start)
        require_along_inputs(rule, start)
        require_of_fields(rule, start)
        fields, averaged = start.fields, _meeting(problem, rule, start)
    else:
        fields, averaged = start, rule
    ready = choose_averages(
        problem,
        start.k,
        start.m,
        rule=averaged,
        biases=has_biases(start, rule),
        averages=averages,
        reach=reach_of(fields),
        teacher=teacher_of(fields),
    )
    if isinstance(start, GroupedOverlaps):
        return GroupedFlow(problem, rule, ready, fields, start, averaged)
    return OverlapFlow(problem, rule, ready, fields)


def _meeting(problem: Problem, rule: AbstractRule, start: GroupedOverlaps) -> AbstractRule:
    """The rule as it meets inputs with |x|**2/n = the mean eigenvalue, as n -> infinity."""
    mean = start.spectrum.mean
    if is_concrete(start.spectrum):  # by NumPy, which jit does not trace
        mean = np.sum(np.asarray(start.spectrum.eigenvalues) * np.asarray(start.spectrum.shares))
    is_one = is_concrete(mean) and abs(float(mean) - 1.0) < _ONE
    if is_one or not reads_size(problem, rule, start.k, start.m):
        return rule
    return Sized(rule, jnp.asarray(mean))


def solve_ode(
    problem: ProblemLike,
    rule: RuleLike,
    start: StateLike,
    ts: RealLike,
    *,
    averages: AveragesOption = None,
    rtol: RealLike | None = None,
    atol: RealLike = ATOL,
    solver: SolverOption = None,
    max_steps: CountLike = MAX_STEPS,
    jump_ts: RealLike | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Trajectory:
    """Overlaps and generalisation error in the limit n -> infinity.

    Where averages=None and they are too coarse, the run is repeated with finer ones, but not inside
    jit. What stays coarser than a fiftieth of the drift is told by a RuntimeWarning.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start: the state at ts[0]: overlaps, or weights, whose overlaps are then used.
        ts: (times,) increasing times alpha = steps / n, dimensionless.
        averages: how to average over the fields (see `learndyn.averages`); None chooses.
        rtol, atol: tolerances of the adaptive solver. rtol = None: 1e-9, or, where averages are
            smooth but not exact, a hundredth of their relative error: 1e-7 at the default level.
            With one student unit, one teacher field and labels that are signs, S = Q - R**2/T, from
            which eg follows, is held to rtol alone, so that eg keeps its digits however small it
            gets. Where the averages are over nodes and the integrand jumps, both are raised to a
            five-hundredth of the bound on the averages' relative error, where both errors are
            alike; finer, a solver would chase single nodes. `stats` has the values used.
        solver: an adaptive Diffrax solver; None: `Tsit5`, the fastest measured for errors of 1e-6,
            or `StiffGroups` for groups of directions whose spectrum is stiff.
        max_steps: accepted and rejected steps after which a run stops with `Result.MAX_STEPS`.
        jump_ts: times at which a learning-rate schedule jumps, in any order.
        adjoint: how Diffrax differentiates; `diffrax.ForwardMode()` for forward derivatives.

    Returns:
        A `Trajectory` whose `stats` hold `steps`, `rtol`, `atol`, and the errors of the averages at
        every saved time: `averages_error`, the largest over all averages (0 for closed forms);
        where they are not exact, too, `averages_error_relative`, over the largest average,
        `averages_error_eg`, that of eg, and `averages_error_drift`, that of the drift over the
        drift. `averages_resolved` is False where they have not begun to converge.

    Raises:
        ValueError: for bad values, shapes, times or options, or in float32.

    Source:
        Goldt et al. (2020), Eq. (9); `OverlapFlow` has the equations.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> run
        Trajectory(3 times, alpha 0 … 2, k=1, m=1, eg 0.179 → 0.0763, success)
        >>> np.round(run.eg, 4)
        Array([0.1788, 0.1162, 0.0763], dtype=float64)
    """
    require_arguments("solve_ode", problem=problem, rule=rule, start=start, ts=ts)
    ts = checked_times(ts)
    flow = overlap_flow(problem, rule, start, averages=averages)
    options = (
        _checked_jumps(jump_ts),
        _checked_solver(solver, flow, ts),
        checked_max_steps(max_steps),
        adjoint,
        smallest_eigenvalue(flow.start),
    )

    def solve(found: tuple[AbstractAverages, ...]) -> Trajectory:
        own = eqx.tree_at(lambda flow: flow.averages, flow, found[0])
        return _solve(own, ts, _tolerances(own, rtol, atol), *options)

    run = refined(solve, (flow.averages,), averages is None)
    warn_of_averages(run)
    return warn_if_failed(run)


def generalisation_error(
    problem: ProblemLike, state: StateLike, *, averages: AveragesOption = None
) -> Float[Array, ""]:
    """eg at `state`: half the mean squared difference from the noiseless teacher, or, for
    classification losses, the probability that student and teacher have opposite signs.

    Args:
        problem: the teacher-student problem.
        state: overlaps, or weights, whose overlaps are then used: the inputs are white and
            Gaussian.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Raises:
        ValueError: for a batch of states (use vmap), a bad option, or in float32.

    Source:
        Goldt et al. (2020), Eq. (4).

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> round(float(ld.generalisation_error(ld.Problem(), start)), 6)
        0.178845
    """
    require_arguments("generalisation_error", problem=problem, state=state)
    state = as_overlaps(state.fields if isinstance(state, GroupedOverlaps) else state)
    require_x64("generalisation_error", problem, state)
    require_unbatched([("Q", state.Q, 2), ("noise", problem.noise, 0)], "the theory")
    require_fields(problem, state.k, state.m)
    given = {"biases": has_biases(state), "averages": averages}
    near = {"reach": reach_of(state), "teacher": teacher_of(state)}
    ready = choose_averages(problem, state.k, state.m, **given, **near)
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
    smallest: Float[Array, ""],
) -> Trajectory:
    options = {
        "max_steps": max_steps,
        "jump_ts": jump_ts,
        "solver": solver,
        "adjoint": adjoint,
        "smallest": smallest,
    }
    aligned = aligned_flow(flow)
    if aligned is None:
        y0 = flow.pack(flow.start)
        solved = integrate(diffrax.ODETerm(flow), flow, y0, ts, tolerances, **options)
        return trajectory_from(flow, ts, solved)
    options |= {"is_relative": aligned.is_relative, "translate": aligned.overlap_coordinates}
    y0 = aligned.pack(flow.start)
    solved = integrate(diffrax.ODETerm(aligned), flow, y0, ts, tolerances, **options)
    solved = _until_it_vanishes(solved, y0[0])
    ys = jax.vmap(aligned.overlap_coordinates)(solved.ys)
    return trajectory_from(flow, ts, solved, ys=ys, eg=jax.lax.map(aligned.error, solved.ys))


_VANISHED = 1e-240
"""A norm S below which the angle is no longer resolved: a factor above the solver's absolute
tolerance and the smallest numbers that S and R**2 may be."""


def _until_it_vanishes(solved: Solved, outside: Float[Array, ""]) -> Solved:
    """`solved`, NaN from where a student that started with the norm `outside` beyond its teacher
    has none left: AdaTron with wrong labels shrinks by 10**-32 in a time of 1000."""
    shrunk = (solved.ys[:, 0] < _VANISHED) & (outside > _VANISHED)
    gone = jnp.cumsum(shrunk) > 0
    succeeded = solved.result == Result.SUCCESS.value
    result = jnp.where(gone[-1] & succeeded, Result.SOLVER_FAILED.value, solved.result)
    return solved._replace(ys=jnp.where(gone[:, None], jnp.nan, solved.ys), result=result)


def _tolerances(flow: OverlapFlow, rtol: RealLike | None, atol: RealLike) -> tuple[Array, Array]:
    """rtol: None: the default one, or that of the averages where those are less exact."""
    return checked_tolerances(max(RTOL, flow.averages.rtol) if rtol is None else rtol, atol)


def checked_tolerances(rtol: RealLike, atol: RealLike) -> tuple[Array, Array]:
    """Two numbers that a solver can hold. Raises: ValueError for others."""
    rtol, atol = as_float(rtol, "rtol"), as_float(atol, "atol")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value.ndim:
            raise ValueError(f"{name} must be one number; got shape {value.shape}.")
    for number in tolerance_numbers(rtol, atol):
        require_number(number)
    return rtol, atol


def checked_max_steps(max_steps: CountLike) -> int:
    """Raises: ValueError for anything but an integer >= 1."""
    return as_count(max_steps, "max_steps", "the solver stops after so many")


def _checked_jumps(jump_ts: RealLike | None) -> Array | None:
    if jump_ts is None:
        return None
    jump_ts = jnp.atleast_1d(as_float(jump_ts, "jump_ts"))
    if jump_ts.ndim > 1:
        raise ValueError(f"jump_ts must be a list of times; got shape {jump_ts.shape}.")
    require_finite(jump_ts=jump_ts)
    return jump_ts


def _checked_solver(
    solver: SolverOption, flow: OverlapFlow, ts: Times
) -> diffrax.AbstractAdaptiveSolver:
    if solver is None:
        return chosen_solver(flow, ts)
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            "solver must be a Diffrax solver with an error estimate, such as diffrax.Tsit5(), "
            f"Dopri8() or Kvaerno5(); got {solver!r}. For fixed steps use ode_term and "
            "diffrax.diffeqsolve."
        )
    if isinstance(solver, StiffGroups) and (reason := misfit(flow)) is not None:
        raise ValueError(
            "StiffGroups needs overlaps in groups, one learning rate for all units, no slow "
            f"momentum, no sphere and averages that do not jump; got {reason}. Leave solver=None."
        )
    return solver
