"""Where a loss curve rests and where it jumps, given the levels that theory predicts."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete
from learndyn._types import RealLike
from learndyn.flow._run import Run


def jump_times(run: Run, levels: RealLike, done: RealLike = 0.5) -> Float[Array, " jumps"]:
    """When the share `done` of the drop from one level to the next is behind, for the first time.

    Between saved times the loss is taken as linear, so the error is a part of their spacing;
    `until=flow.AtLoss(level)` finds a jump of the flow to rounding.

    Args:
        run: a `flow.Run`, not a batch.
        levels: (jumps + 1,) decreasing levels of the loss.
        done: in (0, 1), for example 0.75 for the times of `linear_jump_times`: a mode that is half
            learned has taken 3/4 of its drop.

    Returns:
        NaN for a jump that the run does not reach.

    Raises:
        ValueError: for a batch of runs, fewer than two levels, levels that do not decrease, or a
            share outside (0, 1).

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, np.linspace(0.0, 20.0, 101))
        >>> np.round(flow.jump_times(run, [0.5, 0.0]), 1)
        Array([4.2], dtype=float64)
    """
    t, loss, levels = _curve(run, levels)
    done = as_float(done, "done")
    # By NumPy: within jit, JAX traces what it compares, of known numbers, too.
    if done.ndim > 0 or (is_concrete(done) and not 0 < np.asarray(done) < 1):
        raise ValueError(f"done is a share of a drop and must be in (0, 1); got {done}.")
    passed = levels[:-1] + done * (levels[1:] - levels[:-1])
    return jnp.stack([_first_fall(t, loss, level) for level in passed])


def dwell_times(run: Run, levels: RealLike, share: RealLike = 0.05) -> Float[Array, " levels"]:
    """How long the loss stays near each level: the time with |loss - level| <= share * drop.

    The drop is the smaller of the two drops next to a level. The loss counts as linear between
    saved times, and times after a run stopped count as none.

    Args:
        run: a `flow.Run`, not a batch.
        levels: (jumps + 1,) decreasing levels of the loss.
        share: how near, as a share of the drop.

    Returns:
        In the run's unit of time; divide by log(1/alpha), or multiply by alpha for networks of
        degree 3, to compare small starts.

    Raises:
        ValueError: for a batch of runs, fewer than two levels, or levels that do not decrease.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, np.linspace(0.0, 20.0, 101))
        >>> np.round(flow.dwell_times(run, [0.5, 0.0]), 1)
        Array([ 2.8, 14.8], dtype=float64)
    """
    t, loss, levels = _curve(run, levels)
    drops = levels[:-1] - levels[1:]
    before = jnp.concatenate([jnp.full(1, jnp.inf), drops])
    after = jnp.concatenate([drops, jnp.full(1, jnp.inf)])
    width = as_float(share, "share") * jnp.minimum(before, after)
    low, high = levels - width, levels + width
    return jnp.stack([_time_between(t, loss, a, b) for a, b in zip(low, high, strict=True)])


def _curve(run: Run, levels: RealLike) -> tuple[Array, Array, Array]:
    if run.t.ndim != 1:
        raise ValueError("one run at a time: take it out of the batch, run[i], or use jax.vmap.")
    levels = as_float(levels, "levels")
    if levels.ndim != 1 or levels.shape[0] < 2:
        raise ValueError(f"levels must have shape (jumps + 1,), jumps >= 1; got {levels.shape}.")
    if is_concrete(levels) and not (np.asarray(levels)[1:] < np.asarray(levels)[:-1]).all():
        raise ValueError(f"levels must decrease, as the loss does; got {levels.tolist()}.")
    return run.t, run.loss, levels


def _first_fall(t: Array, loss: Array, level: Array) -> Array:
    falls = (loss[:-1] > level) & (loss[1:] <= level)
    i = jnp.argmax(falls)
    part = (loss[i] - level) / (loss[i] - loss[i + 1])
    return jnp.where(jnp.any(falls), t[i] + part * (t[i + 1] - t[i]), jnp.nan)


def _time_between(t: Array, loss: Array, low: Array, high: Array) -> Array:
    """The time that the polygon through (t, loss) spends between two values."""
    bottom, top = jnp.minimum(loss[:-1], loss[1:]), jnp.maximum(loss[:-1], loss[1:])
    flat = top == bottom
    inside = jnp.minimum(top, high) - jnp.maximum(bottom, low)
    part = jnp.clip(inside, 0.0) / jnp.where(flat, 1.0, top - bottom)
    part = jnp.where(flat, (low <= bottom) & (top <= high), part)
    return jnp.sum(jnp.where(jnp.isfinite(part), part, 0.0) * jnp.diff(t))
