"""Gradient flow: d theta_l/dt = -lr_l dL/d theta_l, for every layer l."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learndyn._checks import as_count, as_float, checked_times, require_at_least, require_x64
from learndyn._outcome import warn_if_failed
from learndyn._types import CountLike, RealLike, Scalar, Times
from learndyn.flow._coordinates import Coordinates, dual, heavy_ball, parameters
from learndyn.flow._data import DataLike
from learndyn.flow._objective import Objective, objective_of, require_moving
from learndyn.flow._parameters import Rates
from learndyn.flow._run import Run, record
from learndyn.flow._solve import solve
from learndyn.flow.models import AbstractLinearModel, DiagonalNetwork
from learndyn.problems import regularity
from learndyn.states import TwoLayer

RTOL = 1e-10
"""Default relative tolerance. Measured errors of parameters are up to a few times as large, from
starts of 1e-8 as well; `docs/reference/flow.md` has the numbers."""

RTOL_KINKED = 1e-6
"""Default for activations that bend, where a flow slides along kinks: there 1e-8 took more than
100 000 steps, 1e-6 took 6000 and moved the loss by 1e-4 of itself."""

MAX_STEPS = 200_000
"""Default limit of solver steps: a run of ten plateaus takes some thousands."""

EventOption = Any
"""A function of (model, loss, speed) or None, checked by `gradient_flow`."""

SolverOption = Any
"""An adaptive Diffrax solver or None, checked by `gradient_flow`."""


def gradient_flow(
    model: Any,
    data: DataLike,
    ts: RealLike,
    lr: Rates = 1.0,
    rtol: RealLike | None = None,
    atol: RealLike | None = None,
    solver: SolverOption = None,
    max_steps: CountLike = MAX_STEPS,
    *,
    decay: RealLike = 0.0,
    mass: RealLike | None = None,
    until: EventOption = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Run:
    """The model along d theta_l/dt = -lr_l dL/d theta_l - decay theta_l, at the times ts.

    A diagonal network without decay and mass is integrated in the dual variable s, s_i' =
    -sqrt(lr_u lr_v) dL/dbeta_i; for equal rates u + v and u - v grow and shrink as exp(s). That is
    exact at starts down to 1e-150. There rtol is the tolerance of s, absolute, so of beta,
    relative, and atol is not used. A start at which the gradient is exactly zero while the loss is
    not (all weights zero, dead units) would stay for ever: ValueError; traced, `Result.STALLED`. A
    start near a saddle leaves it after the time that the flow takes, whatever the solver; one
    exactly on a saddle's stable manifold leaves it by rounding alone, at a time that means nothing.

    Args:
        model: any Equinox module that maps one input to its output; the state at ts[0]. Its float
            arrays are trained, except those of activations; NumPy arrays count as arrays.
        data: `Data`, or `Moments` for a model with an end-to-end matrix.
        ts: (times,) increasing times >= 0, in units of 1/(lr times the loss's curvature).
        lr: a number; a mapping {field: rate}; a sequence with one rate per layer, in the order of
            the constructor's arguments; or a model of the same class with numbers for arrays. 0
            freezes.
        rtol: tolerance of the adaptive solver relative to each number. None: 1e-10, or 1e-6 for a
            `ld.TwoLayer` whose activation bends or jumps (ReLU); pass 1e-6 for models of your own
            with such activations, which are not looked into.
        atol: absolute tolerance. None: rtol times the size (root mean square) at the start of the
            layer that a number belongs to, so that small starts are followed as exactly as large
            ones; a layer that starts at zero takes the smallest size among the others.
        solver: an adaptive Diffrax solver; None: the fastest measured, Dopri8 for linear networks
            in their parameters, Tsit5 for all else.
        max_steps: steps after which a run stops with `Result.MAX_STEPS`.
        decay: of all trained numbers, per unit of time; >= 0.
        mass: > 0: a heavy ball from rest, mass theta'' + theta' = -lr dL/d theta - decay theta;
            `run.velocity` is theta'. None: gradient flow.
        until: a function of (model, loss, speed) at the end of whose first change of sign the run
            ends with success, such as `flow.AtLoss(0.1)` or `flow.AtPlateau(1e-3)`: `run.end` is
            that time, found to rounding, `run.last` the model there, and rows of later times are
            NaN.
        adjoint: how Diffrax differentiates; `diffrax.ForwardMode()` for forward derivatives.

    Returns:
        A `Run`. A run that fails keeps a result code and NaN in later rows, warns outside jit and
        leaves the rest of a vmapped batch untouched.

    Raises:
        ValueError: for bad values, shapes, times, rates or options, or in float32.

    Source:
        Kunin et al. (2024), Get rich quick.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> run.ok, round(float(run.last.a), 4)
        (True, 1.0)
    """
    objective = objective_of(model, data, lr, decay)
    ts = checked_times(ts)
    require_x64("gradient_flow", objective)
    rtol = _default_rtol(objective.model) if rtol is None else rtol
    tolerances = _checked_tolerances(rtol, atol)
    _require_adaptive(solver)
    _require_event(until)
    max_steps = as_count(max_steps, "max_steps", "the solver stops after so many")
    if mass is not None:
        mass = as_float(mass, "mass")
        require_at_least(mass, 0.0, "mass", "None is gradient flow", strict=True)
    require_moving(objective)
    options = (solver, max_steps, until, adjoint)
    return warn_if_failed(_flow(objective, mass, ts, tolerances, *options))


@eqx.filter_jit
def _flow(
    objective: Objective,
    mass: Array | None,
    ts: Times,
    tolerances: tuple[Array, Array | None],
    solver: diffrax.AbstractAdaptiveSolver | None,
    max_steps: int,
    until: Callable | None,
    adjoint: diffrax.AbstractAdjoint | None,
) -> Run:
    objective = objective.prepared()
    coordinates = _coordinates(objective, mass)
    chosen = _default_solver(objective, coordinates) if solver is None else solver
    valid = _is_valid(objective, ts, tolerances) & (True if mass is None else mass > 0)
    solved = solve(
        coordinates.drift,
        coordinates.start,
        ts,
        _tolerances(coordinates, *tolerances),
        valid,
        solver=chosen,
        max_steps=max_steps,
        until=None if until is None else _event(until, objective, coordinates),
        rising=getattr(until, "rising", None),
        adjoint=adjoint,
    )
    rows = jax.vmap(coordinates.numbers)(solved.ys)
    velocity = coordinates.velocity and jax.vmap(coordinates.velocity)(solved.ys)
    stats = {"steps": solved.steps, "rtol": tolerances[0]}
    last = coordinates.numbers(solved.last)
    outcome = (last, solved.result, solved.end, stats, coordinates.kind)
    return record(objective, ts, rows, *outcome, velocity)


def _coordinates(objective: Objective, mass: Array | None) -> Coordinates:
    if mass is not None:
        return heavy_ball(objective, mass)
    if isinstance(objective.model, DiagonalNetwork) and objective.decay is None:
        return dual(objective)
    return parameters(objective)


def _tolerances(
    coordinates: Coordinates, rtol: Array, atol: Array | None
) -> tuple[Array, Float[Array, " p"]]:
    if coordinates.kind == "dual":
        return jnp.zeros_like(rtol), rtol * coordinates.sizes
    if atol is None:
        return rtol, rtol * coordinates.sizes
    return rtol, jnp.broadcast_to(atol, coordinates.sizes.shape)


def _event(until: Callable, objective: Objective, coordinates: Coordinates) -> Callable:
    def asked(y: Array) -> Scalar:
        numbers = coordinates.numbers(y)
        return until(objective.at(numbers), objective.loss(numbers), objective.speed(numbers))

    return asked


def _is_valid(
    objective: Objective, ts: Times, tolerances: tuple[Array, Array | None]
) -> Bool[Array, ""]:
    """Whether traced input is sound, where no exception can be raised."""
    rtol, atol = tolerances
    ordered = jnp.all(jnp.isfinite(ts)) & jnp.all(jnp.diff(ts) > 0) & (ts[0] >= 0)
    tolerable = jnp.isfinite(rtol) & (rtol > 0) & (True if atol is None else atol >= 0)
    return objective.is_valid() & ordered & tolerable


def _default_rtol(model: Any) -> float:
    if isinstance(model, TwoLayer):
        found = regularity(model.activation)
        return RTOL_KINKED if found.jumps or found.kinks else RTOL
    return RTOL


def _checked_tolerances(rtol: RealLike, atol: RealLike | None) -> tuple[Array, Array | None]:
    rtol = as_float(rtol, "rtol")
    require_at_least(rtol, 0.0, "rtol", "a relative tolerance", strict=True)
    if atol is None:
        return rtol, None
    atol = as_float(atol, "atol")
    require_at_least(atol, 0.0, "atol", "an absolute tolerance")
    return rtol, atol


def _default_solver(objective: Objective, coordinates: Coordinates) -> diffrax.AbstractSolver:
    """The fastest measured: see the table in `docs/reference/flow.md`."""
    is_linear = isinstance(objective.model, AbstractLinearModel)
    return diffrax.Dopri8() if is_linear and coordinates.kind != "dual" else diffrax.Tsit5()


def _require_event(until: Any) -> None:
    if until is not None and not callable(until):
        raise ValueError(
            "until must be a function of (model, loss, speed) that changes its sign where the run "
            f"should end, such as flow.AtLoss(0.1), or None; got {until!r}."
        )


def _require_adaptive(solver: SolverOption) -> None:
    if solver is not None and not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            "solver must be an adaptive Diffrax solver, such as diffrax.Dopri8() or "
            f"diffrax.Kvaerno5(), or None; got {solver!r}."
        )
