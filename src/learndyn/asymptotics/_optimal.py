"""Learning-rate schedules that are best at a horizon, by differentiating through the ODE."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, is_concrete, require_at_least
from learndyn._problem import Problem
from learndyn._rules import SGD
from learndyn._states import Overlaps
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics._descent import Optimised, descend, require_optax
from learndyn.asymptotics._schedules import (
    ConstantRate,
    Family,
    InverseTimeRate,
    PiecewiseRate,
)
from learndyn.averages import AbstractAverages, AbstractNodes
from learndyn.dynamics import solve_ode

_GRID, _ZOOMS = 25, 3
_RTOL, _ATOL = 1e-8, 1e-11
_POINTS = 64
"""Gauss-Legendre nodes of the mean over time."""


class OptimalSchedule(eqx.Module):
    """The best schedule, and the best of two simpler families at the same horizon.

    schedule: log-linear between its knots; value: its objective. constant, inverse_time: the
    best constant rate and the best lr / (1 + alpha/time), likewise. gain: value of the constant
    over that of the schedule, at least 1.
    """

    schedule: PiecewiseRate
    value: Float[Array, ""]
    history: Float[Array, " steps"]
    constant: Optimised
    inverse_time: Optimised

    @property
    def gain(self) -> Float[Array, ""]:
        return self.constant.value / self.value


def optimal_schedule(
    problem: Problem,
    rule: SGD,
    start: Overlaps,
    horizon: RealLike,
    *,
    objective: str = "final",
    knots: CountLike = 17,
    steps: CountLike = 200,
    step_size: RealLike = 0.05,
    range_lr: tuple[RealLike, RealLike] = (0.01, 10.0),
    averages: AbstractNodes | AbstractAverages | str | None = None,
) -> OptimalSchedule:
    """The learning rate lr(alpha) that minimises eg at alpha = horizon, or its integral.

    Gradients go through the ODE (Diffrax's checkpointed adjoint) into log lr at `knots` equally
    spaced times; Adam (Optax) follows them from the best 1/alpha schedule or constant rate,
    whichever is better, and the best schedule met is returned.
    rule: its lr is replaced; lr_second and lr_bias stay what they are.
    objective: "final" or "integral" (the mean of eg over time). steps, step_size: of Adam in
        log lr. range_lr: rates among which the best constant is searched.
    Returns: an `OptimalSchedule`; its schedule goes into `ld.SGD(lr=...)`. A local optimum, of
        a smooth problem: more knots or steps can only improve it. Concrete values only.
    Raises: ValueError for bad values, traced ones, or where every constant rate diverges;
        ImportError without Optax.
    Source: Saad & Rattray, PRL 79, 2578 (1997), globally optimal rates, by Lagrange's method.
    """
    if not is_concrete(problem, rule, start, horizon):
        raise ValueError("optimal_schedule searches: call it outside jit, vmap and grad.")
    if objective not in ("final", "integral"):
        raise ValueError(f'objective must be "final" or "integral"; got {objective!r}.')
    horizon, step_size = as_float(horizon, "horizon"), as_float(step_size, "step_size")
    require_at_least(horizon, 0.0, "horizon", "a time alpha", strict=True)
    require_at_least(step_size, 0.0, "step_size", "of Adam in log lr", strict=True)
    knots = as_count(knots, "knots", "times at which the rate is free", 2)
    steps = as_count(steps, "steps", "of the optimiser")
    low, high = (as_float(x, "range_lr") for x in range_lr)
    require_at_least(low, 0.0, "range_lr[0]", "a learning rate", strict=True)
    require_at_least(high - low, 0.0, "range_lr[1] - range_lr[0]", "a range", strict=True)
    require_optax()
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    ts = horizon * jnp.concatenate([jnp.zeros(1), (1 + nodes) / 2, jnp.ones(1)])
    weights = jnp.concatenate([jnp.zeros(1), weights / 2, jnp.zeros(1)])
    if objective == "final":
        weights = jnp.zeros(_POINTS + 2).at[-1].set(1.0)
    learning = _Learning(problem, rule, start, ts, averages, weights)
    constant = _best_constant(learning, low, high)
    if not bool(jnp.isfinite(constant.value)):
        raise ValueError(
            f"optimal_schedule found no constant rate in range_lr = {range_lr} at which learning "
            "does not diverge. Lower range_lr."
        )
    lr = constant.schedule(0.0)
    inverse = descend(learning, InverseTimeRate(lr, horizon), steps, step_size)
    better = inverse if bool(inverse.value < constant.value) else constant
    times = jnp.linspace(0.0, horizon, knots)
    first = PiecewiseRate(times, jax.vmap(better.schedule)(times))
    best = descend(learning, first, steps, step_size)
    assert isinstance(best.schedule, PiecewiseRate)
    return OptimalSchedule(best.schedule, best.value, best.history, constant, inverse)


class _Learning(eqx.Module):
    """log of a weighted mean of eg over times, of a schedule; NaN where a run diverged."""

    problem: Problem
    rule: SGD
    start: Overlaps
    ts: Float[Array, " times"]
    averages: Any
    weights: Float[Array, " times"]

    def __call__(self, schedule: Family) -> Float[Array, ""]:
        rule = eqx.tree_at(lambda r: r.lr, self.rule, schedule)
        options = {"averages": self.averages, "rtol": _RTOL, "atol": _ATOL, "max_steps": 8192}
        eg = solve_ode(self.problem, rule, self.start, self.ts, **options).eg
        return jnp.log(self.weights @ eg)


def _best_constant(learning: _Learning, low: Array, high: Array) -> Optimised:
    """By a grid of rates that closes in: the objective need not have a single minimum."""
    grid = jnp.geomspace(low, high, _GRID)
    lr, value, history = grid[0], jnp.asarray(jnp.inf), []
    for _ in range(_ZOOMS):
        values = _over_rates(learning, grid)
        i = int(jnp.nanargmin(values)) if bool(jnp.isfinite(values).any()) else 0
        history.append(values[i])
        lr, value = grid[i], values[i]
        grid = jnp.geomspace(grid[max(i - 1, 0)], grid[min(i + 1, _GRID - 1)], _GRID)
    return Optimised(ConstantRate(lr), jnp.exp(value), jnp.exp(jnp.stack(history)))


@eqx.filter_jit
def _over_rates(learning: _Learning, rates: Array) -> Array:
    return jax.vmap(lambda lr: learning(ConstantRate(lr)))(rates)
