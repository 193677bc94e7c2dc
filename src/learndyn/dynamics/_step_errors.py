"""What the step of Euler's method does to eg: its error, a step that is small enough, a warning."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn._checks import is_concrete
from learndyn._types import Scalar, Times
from learndyn.dynamics._integrate import has_diverged
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._trajectory import Trajectory

_TOLERANCE = 1e-2
"""Error of eg, over eg, up to which a step is chosen: nobody sees it in a figure."""

_TOLD = 2e-2
"""The same, beyond which a step that was given is told to be too long."""

_FLOOR = 1e-3
"""Where eg is below this fraction of its largest value, it counts as that: an eg that falls to 0
exponentially has relative errors that grow with time."""

_LONGEST, _PARTS, _HALVINGS = 1.0, 64, 14
"""The first step that is tried: 1, or 1/64 of the time; and how often it is halved, at most."""


def step_errors(flow: OverlapFlow, ts: Times, dt: Scalar) -> tuple[Times, Times]:
    """eg at ts by Euler's steps dt without noise, and its error.

    Richardson: the error is proportional to dt, so that half and quarter steps extrapolate to no
    step at all. Told is the difference from there, or twice that from half steps where it is
    larger. It does not depend on the key. An error is infinite where the longest steps alone have
    left every bound, and 0 where others have, too, or the flow.
    """

    def errors_at(step: Scalar) -> Times:
        ys = _euler(flow, ts, step)
        return jax.lax.map(lambda y: flow.error_by(flow.averages, flow.unpack(y)), ys)

    whole, half, quarter = jax.lax.map(errors_at, dt * jnp.array([1.0, 0.5, 0.25]))
    # Richardson's extrapolation
    limit = 2.0 * quarter - half
    error = jnp.maximum(2.0 * jnp.abs(whole - half), jnp.abs(whole - limit))
    error = jnp.where(jnp.isnan(whole), jnp.inf, error)
    return half, jnp.where(jnp.isnan(half) | jnp.isnan(quarter), 0.0, error)


def _euler(flow: OverlapFlow, ts: Times, dt: Scalar) -> Float[Array, "times p"]:
    """The flow by Euler's method with steps dt, linear between them; NaN once out of bounds.

    The loop is written here, because Diffrax's takes three times as long to compile.
    """
    y0 = flow.pack(flow.start)

    def goes_on(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        count, y, _ = state
        return (ts[0] + count * dt < ts[-1]) & ~has_diverged(count, y, None)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, y, rows = state
        # One step's end is the next one's beginning, to the last bit: no time falls in between.
        t, end = ts[0] + count * dt, ts[0] + (count + 1) * dt
        # Euler's step
        slope = flow(t, y, None)
        inside = (ts > t) & (ts <= end)
        between = y + (ts - t)[:, None] * slope
        y = y + dt * slope
        fine = ~has_diverged(t, y, None)
        rows = jnp.where((inside & fine)[:, None], between, rows)
        return count + 1, y, rows

    rows = jnp.full((len(ts), len(y0)), jnp.nan).at[0].set(y0)
    return jax.lax.while_loop(goes_on, step, (jnp.zeros((), int), y0, rows))[2]


def chosen_step(flow: OverlapFlow, ts: Times) -> Scalar:
    """The longest of steps that are halved again and again whose error is below 1 % of eg.

    It depends on the first and the last time alone: others may be added without any change.
    """
    span = ts[-1] - ts[0]
    looks = ts[0] + span * jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-3, 1.0, _PARTS)])

    def too_long(state: tuple[Scalar, Array]) -> Bool[Array, ""]:
        dt, halvings = state
        error = relative_errors(*step_errors(flow, looks, dt))
        return (halvings < _HALVINGS) & jnp.any(error > _TOLERANCE)

    first = jnp.minimum(_LONGEST, span / _PARTS)
    halved = jax.lax.while_loop(
        too_long, lambda state: (0.5 * state[0], state[1] + 1), (first, jnp.zeros((), int))
    )
    return halved[0]


def relative_errors(
    eg: Float[Array, " times"], error: Float[Array, " times"]
) -> Float[Array, " times"]:
    """Errors of eg over eg, or over a thousandth of its largest value where it is smaller."""
    largest = jnp.max(jnp.where(jnp.isfinite(eg), eg, 0.0))
    size = jnp.maximum(jnp.nan_to_num(eg), _FLOOR * largest)
    return error / jnp.where(size > 0, size, 1.0)


def warn_of_step(run: Trajectory) -> None:
    """A warning where the step of a run that is not traced changes eg too much."""
    if not is_concrete(run.stats) or "step_error" not in run.stats:
        return
    error = np.asarray(run.stats["step_error_relative"])
    if error.size and np.max(error) > _TOLD:
        worst = int(np.argmax(error))
        warnings.warn(
            f"the step dt = {float(run.stats['dt']):.4g} changes eg by "
            f"{100 * error[worst]:.2g} % at alpha = {float(np.asarray(run.alpha)[worst]):.4g}: "
            "give a smaller dt, or dt=None, which chooses one.",
            RuntimeWarning,
            stacklevel=3,
        )
