"""Solving a theory without ever raising: what may fail at run time becomes a result code."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import Times
from learndyn.averages import estimated, sampled, term_sizes
from learndyn.dynamics._averages_errors import errors_along
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._prepare import (
    Number,
    are_finite,
    groups_hold,
    numbers_hold,
    overlaps_hold,
    run_numbers,
    sphere_holds,
    times_hold,
)
from learndyn.dynamics._record import Rows, Run, record, record_groups
from learndyn.dynamics._stiff_groups import StiffGroups
from learndyn.dynamics._trajectory import Trajectory
from learndyn.states import Overlaps

_CAP = 2e-3
"""Measured over alpha <= 20: a solve's error is up to a hundred times its tolerance, so this
fraction of the bound on the averages' error, six standard errors, keeps both alike. Finer only
counts single nodes."""

_CAP_OF_SLOPES = 2e-6
"""The largest such tolerance where only derivatives jump, in covariances of fluctuations: the
standard deviation of eg, a small difference of large ones, is then right to 1e-3 at eg = 5e-6
(one unit whose gradient is clipped per episode), with a sixth of the steps that 1e-7 takes."""

_NOTHING = 1e-250
"""Absolute tolerance of what is held to a relative one alone. Not 0: a coordinate that stays 0 has
no error, and 0/0 would be NaN. Overlaps of real runs stay far above."""

_FIRST_STEP = 0.1
"""Any will do: too long a step is rejected, and diffrax's own choice costs two drifts."""

_RMS = diffrax.PIDController(rtol=0.0, atol=0.0).norm
"""Diffrax's own norm of a step's errors."""

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
    is_relative: Bool[Array, " p"] | None = None,
    translate: Callable[[Array], Array] | None = None,
    slopes: bool = False,
) -> Solved:
    """Solve `term` from y0 over ts without ever raising; `flow` says what input is valid.

    smallest: the smallest eigenvalue of the start's covariance; None: it is found here.
    is_relative: which coordinates are held to rtol alone; None: none. translate: from the solved
    coordinates to those of `flow`; None: the first ones are those. slopes: whether derivatives of
    the averages enter `term`.
    """
    valid = is_valid(flow, ts, tolerance_numbers(*tolerances), smallest)
    rtol, atol = capped(tolerances, flow, slopes=slopes)
    each = atol if is_relative is None else jnp.where(is_relative, _NOTHING, atol)
    solved = integrate_field(
        term,
        y0,
        ts,
        (rtol, each),
        valid,
        max_steps=max_steps,
        jump_ts=jump_ts,
        solver=solver,
        adjoint=adjoint,
    )
    size = len(flow.pack(flow.start))
    ys = solved.ys[:, :size] if translate is None else jax.vmap(translate)(solved.ys)
    errors = errors_along(flow, ts, ys)
    stats = {"rtol": rtol, "atol": atol, **errors}
    return solved._replace(stats=solved.stats | stats)


def integrate_field(
    term: diffrax.AbstractTerm,
    y0: Float[Array, " p"],
    ts: Times,
    tolerances: tuple[Array, Array],
    valid: Bool[Array, ""],
    *,
    max_steps: int,
    first_step: float | None = _FIRST_STEP,
    jump_ts: Array | None = None,
    solver: diffrax.AbstractSolver | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Solved:
    """Solve `term`, of any vector field, from y0 over ts without ever raising.

    valid: whether the input is sound; where it is not, all rows are NaN. first_step: None for
    Diffrax's own choice, where time scales differ by orders of magnitude from case to case.
    """
    # Bad input must not reach the solver, which would raise or never end.
    y0 = jnp.where(valid, y0, 0.0)
    ts = jnp.where(valid, ts, jnp.arange(len(ts), dtype=ts.dtype))
    if len(ts) == 1:
        result = jnp.where(valid, Result.SUCCESS.value, Result.INVALID_INPUT.value)
        rows = jnp.where(valid, y0, jnp.nan)[None]
        return Solved(rows, result, {"steps": jnp.zeros((), int)})
    # Where a schedule jumps, the solver must meet its times to their last bit, and StiffGroups
    # looks into the field: there time is alpha.
    scaled = jump_ts is None and not isinstance(solver, StiffGroups)
    clock = _Clock(ts[0], ts[-1] - ts[0]) if scaled else _Clock(jnp.zeros(()), jnp.ones(()))
    begin, end = (0.0, 1.0) if scaled else (ts[0], ts[-1])
    # Diffrax's default coefficients make this an I controller of the step size.
    controller = diffrax.PIDController(
        rtol=tolerances[0],
        atol=tolerances[1],
        dtmin=_SMALLEST_STEP * end,
        force_dtmin=False,
        norm=_step_error,
    )
    if jump_ts is not None:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=jump_ts)
    solution = diffrax.diffeqsolve(
        clock.term(term) if scaled else term,
        diffrax.Tsit5() if solver is None else solver,
        t0=begin,
        t1=end,
        dt0=clock.step(first_step),
        y0=y0,
        saveat=diffrax.SaveAt(ts=clock.reads(ts)),
        stepsize_controller=controller,
        max_steps=max_steps,
        event=diffrax.Event(has_diverged),
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        throw=False,
    )
    ys = reached_rows(solution, y0, valid)
    result = result_code(solution.result, valid)
    return Solved(ys, result, {"steps": solution.stats["num_steps"]})


class _Clock(eqx.Module):
    """Time that runs from 0 to 1 while alpha runs from `begin` over `length`.

    Then the end is known to the compiler, which computes in advance what Diffrax makes of it, the
    end minus a hundred roundings; of an end that is data this would be a fifth of all it compiles.
    """

    begin: Float[Array, ""]
    length: Float[Array, ""]

    def term(self, term: diffrax.AbstractTerm) -> diffrax.ODETerm:
        """`term` per unit of this time."""

        def field(t: Any, y: Any, args: Any) -> Array:
            return self.length * term.vf(self.begin + self.length * t, y, args)

        return diffrax.ODETerm(field)

    def reads(self, ts: Times) -> Times:
        """This time at the times alpha, the last of which is exactly 1."""
        return (ts - self.begin) / self.length

    def step(self, first_step: float | None) -> Array | None:
        return None if first_step is None else first_step / self.length


def tolerance_numbers(rtol: Array, atol: Array) -> list[Number]:
    """The solver's tolerances, with their bounds."""
    return [
        Number("rtol", rtol, "a relative tolerance", strict=True),
        Number("atol", atol, "an absolute tolerance"),
    ]


def reached_rows(
    solution: diffrax.Solution, y0: Float[Array, " p"], valid: Array
) -> Float[Array, "times p"]:
    """The saved rows, NaN from where the solve stopped; the first one is the start y0."""
    # A run that stops within its first step has not saved its start.
    reached = jnp.isfinite(jnp.asarray(solution.ts)).at[0].set(True)
    ys = jnp.asarray(solution.ys).at[0].set(y0)
    return jnp.where((valid & reached)[:, None], ys, jnp.nan)


def _step_error(scaled: Any) -> Array:
    """Root mean square of a step's scaled errors; infinite where one is NaN, so that the step is
    made smaller. Of a NaN the controller makes steps of length NaN, without end."""
    size = _RMS(scaled)
    return jnp.where(jnp.isnan(size), jnp.inf, size)


def trajectory_from(
    flow: OverlapFlow,
    ts: Times,
    solved: Solved,
    *,
    level: str = "ode",
    ys: Float[Array, "times p"] | None = None,
    n: Array | None = None,
    eg: Times | None = None,
    key: Key[Array, ""] | None = None,
) -> Trajectory:
    """The trajectory of a solve.

    ys: the coordinates at ts; None: all that was solved for. eg: None: from the overlaps at ts.
    key: None where nothing is drawn.
    """
    ys = solved.ys if ys is None else ys
    states = jax.vmap(flow.unpack)(ys)
    if isinstance(flow, GroupedFlow):
        return _grouped_trajectory(flow, ts, solved, ys, states, level=level, n=n, key=key)
    given = (flow.problem, flow.rule, flow.start.T, flow.start.layers, flow.averages, ts, n, key)
    run = Run(level, *given)
    rows = Rows(states.Q, states.R, states.v, states.b)
    return record(run, rows, jnp.isnan(ys[:, 0]), solved.result, stats=solved.stats, eg=eg)


def _grouped_trajectory(
    flow: GroupedFlow,
    ts: Times,
    solved: Solved,
    ys: Float[Array, "times p"],
    states: Overlaps,
    **kept: Any,
) -> Trajectory:
    """The trajectory of grouped overlaps. states: the covariances of the fields."""
    matrices, _ = jax.vmap(flow.parts)(ys)
    groups, layers = flow.groups, flow.start.layers
    run = Run(
        kept["level"], flow.problem, flow.rule, groups.T.sum(axis=0), layers, flow.averages, ts,
        kept["n"], kept["key"],
    )  # fmt: skip
    stopped, own = jnp.isnan(ys[:, 0]), (groups, matrices.Q, matrices.R)
    vectors = states.v, states.b
    return record_groups(run, own, vectors, stopped, solved.result, stats=solved.stats)


def capped(
    tolerances: tuple[Array, Array], flow: OverlapFlow, *, slopes: bool = False
) -> tuple[Array, Array]:
    """Tolerances no finer than the averages where those make the vector field discontinuous.

    slopes: whether the field has derivatives of the averages in it, which jump where an integrand
    bends.
    """
    rtol, atol = tolerances
    start, averages = flow.start, flow.averages
    if not (averages.has_stepwise_slopes if slopes else averages.is_stepwise):
        return rtol, atol
    of = lambda a: sampled(flow.averages_of(a, start), start)
    terms = lambda values: term_sizes(values, start)
    values, errors, _ = estimated(averages, of, terms=terms)
    error = jnp.max(jnp.stack(errors))
    scale = jnp.max(jnp.stack([jnp.max(jnp.abs(value)) for value in values]))
    floor = _CAP * jnp.nan_to_num(error / jnp.where(scale > 0, scale, 1.0))
    if averages.is_stepwise:
        return jnp.maximum(rtol, floor), jnp.maximum(atol, floor)
    # The drift is continuous, and small covariances would not bear a larger atol.
    return jnp.maximum(rtol, jnp.minimum(floor, _CAP_OF_SLOPES)), atol


def is_valid(
    flow: OverlapFlow,
    ts: Times,
    numbers: Sequence[Number] = (),
    smallest: Float[Array, ""] | None = None,
) -> Array:
    """Whether traced input is sound, where no exception can be raised.

    numbers: numbers to check in addition to those of problem and rule. smallest: the smallest
    eigenvalue of the start's covariance; None: it is found here.
    """
    known = [*run_numbers(flow.problem, flow.rule), *numbers]
    finite = are_finite(flow.start, ts, flow.rule)
    good = overlaps_hold(flow.start, smallest)
    if isinstance(flow, GroupedFlow):
        good = good & groups_hold(flow.groups) & sphere_holds(flow.rule, flow.groups)
    else:
        good = good & sphere_holds(flow.rule, flow.start)
    return finite & good & numbers_hold(known) & times_hold(ts)


def has_diverged(t: Array, y: Array, args: object, **kwargs: object) -> Array:
    """A Diffrax event: the state left every bound, or is NaN."""
    return ~jnp.all(jnp.abs(y) < DIVERGENCE_LIMIT)


def result_code(result: diffrax.RESULTS, valid: Array) -> Array:
    """Diffrax's outcome as a `Result` code."""
    code = jnp.asarray(Result.SOLVER_FAILED.value)
    for theirs, ours in (
        (diffrax.RESULTS.successful, Result.SUCCESS),
        (diffrax.RESULTS.event_occurred, Result.DIVERGED),
        # A step shrinks below rounding where a state runs to infinity at a finite time.
        (diffrax.RESULTS.dt_min_reached, Result.DIVERGED),
        (diffrax.RESULTS.max_steps_reached, Result.MAX_STEPS),
    ):
        code = jnp.where(result == theirs, ours.value, code)
    return jnp.where(valid, code, Result.INVALID_INPUT.value)
