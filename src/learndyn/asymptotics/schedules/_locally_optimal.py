"""The learning rate that lowers eg fastest right now, in closed form from the drift."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float, checked_times, require_at_least
from learndyn._types import RealLike
from learndyn.asymptotics.fixed_points._flow import (
    AveragesOption,
    drift,
    error_of,
    fixed_flow,
    regularised,
    with_rates,
)
from learndyn.dynamics import OverlapFlow
from learndyn.dynamics._integrate import integrate_field
from learndyn.dynamics._ode import MAX_STEPS
from learndyn.problems import Problem
from learndyn.rules import AbstractRule, PiecewiseRate
from learndyn.states import Overlaps

_RTOL, _ATOL = 1e-10, 1e-12
"""Tolerances of the solve, ten times finer than the ODE's own: where eg hardly depends on the
rate, the best rate follows small errors of the state closely."""


def locally_optimal_lr(
    problem: Problem, rule: AbstractRule, state: Overlaps, *, averages: AveragesOption = None
) -> Float[Array, ""]:
    """The learning rate at which eg falls fastest at `state`.

    Equation: the drift is lr a + lr**2 b, hence d eg/dalpha = lr (grad eg . a) + lr**2 (grad eg .
    b), least at lr = -(grad eg . a) / (2 grad eg . b).

    Error: none.

    On a symmetric plateau it is the rate of the plateau's own equilibrium, which never leaves it:
    use `optimal_schedule` there. Under jit, vmap, grad.

    Args:
        problem: the teacher-student problem.
        rule: its rates matter only by their ratios: lr_second and lr_bias scale along with lr.
        state: the overlaps at which the rate is asked for.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Returns:
        The rate; 0 where no rate lowers eg; inf where a larger one always lowers it more.

    Raises:
        ValueError: for slow momentum, schedules, lr = 0, or whatever `solve_ode` refuses.

    Source:
        Saad & Rattray, PRL 79, 2578 (1997), the locally optimal rate, for any problem.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> lr = asymptotics.locally_optimal_lr(ld.Problem(noise=0.1), ld.SGD(lr=1.0), start)
        >>> round(float(lr), 4)
        1.8865
    """
    flow = _checked_flow(problem, rule, state, "locally_optimal_lr", averages, moving=False)
    lr = _best_rate(flow, flow.pack(state))[0]
    return jnp.where(jnp.isfinite(lr), lr * _first_rate(rule), lr)


def locally_optimal_schedule(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps,
    ts: RealLike,
    *,
    max_lr: RealLike = 1e3,
    averages: AveragesOption = None,
) -> tuple[PiecewiseRate, Float[Array, " times"]]:
    """The schedule that takes the locally optimal rate at every time, and its eg at ts.

    Args:
        problem: the teacher-student problem.
        rule: as for `locally_optimal_lr`.
        start: the overlaps, or weights that have them, at ts[0].
        ts: (times,) increasing times alpha = steps / n, dimensionless.
        max_lr: the largest rate used.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Returns:
        A schedule of the first layer's rate with knots at ts, and eg (times,).

    Raises:
        ValueError: as `locally_optimal_lr`.

    Example:
        >>> problem, rule, ts = ld.Problem(noise=0.1), ld.SGD(lr=1.0), [0.0, 1.0, 2.0]
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> schedule, eg = asymptotics.locally_optimal_schedule(problem, rule, start, ts)
        >>> bool(eg[-1] < eg[0]), bool(schedule(2.0) < schedule(0.0))
        (True, True)
    """
    ts = checked_times(ts)
    max_lr = as_float(max_lr, "max_lr")
    require_at_least(max_lr, 0.0, "max_lr", "a learning rate", strict=True)
    flow = _checked_flow(problem, rule, start, "locally_optimal_schedule", averages, moving=True)
    flow = eqx.tree_at(lambda f: f.start, flow, regularised(flow, start))
    lr, eg = _follow_best_rate(flow, ts, max_lr / _first_rate(rule))
    # A schedule holds logarithms: the smallest rate stands for 0.
    return PiecewiseRate(ts, jnp.maximum(lr * _first_rate(rule), 1e-300)), eg


@eqx.filter_jit
def _follow_best_rate(flow: OverlapFlow, ts: Array, cap: Array) -> tuple[Array, Array]:
    def field(t: Any, y: Any, args: Any) -> Array:
        lr, first, second = _best_rate(flow, y)
        lr = jnp.minimum(lr, cap)
        return lr * first + lr**2 * second

    solved = integrate_field(
        diffrax.ODETerm(field),
        flow.pack(flow.start),
        ts,
        (jnp.asarray(_RTOL), jnp.asarray(_ATOL)),
        jnp.asarray(True),
        max_steps=MAX_STEPS,
        first_step=None,  # the best rate, and with it the time scale, may be of any size
    )
    ys = solved.ys
    lr = jax.vmap(lambda y: jnp.minimum(_best_rate(flow, y)[0], cap))(ys)
    return lr, jax.vmap(lambda y: error_of(flow, flow.unpack(y)))(ys)


def _best_rate(flow: OverlapFlow, y: Float[Array, " p"]) -> tuple[Array, Array, Array]:
    """The best rate in units of the flow's, and a, b of the drift lr a + lr**2 b in those units."""
    # A drift that is quadratic in lr follows from its values at two rates.
    one = drift(flow, y)
    twice = drift(eqx.tree_at(lambda f: f.rule, flow, with_rates(flow.rule, 2 * flow.rule.lr)), y)
    first, second = 2 * one - twice / 2, twice / 2 - one
    slope = jax.grad(lambda y: error_of(flow, flow.unpack(y)))(y)
    gain, cost = -slope @ first, slope @ second
    # The vertex of the parabola -gain lr + cost lr**2; without cost, more is always better.
    best = jnp.where(cost > 0, 0.5 * gain / jnp.where(cost > 0, cost, 1.0), jnp.inf)
    return jnp.where(gain > 0, best, 0.0), first, second


def _checked_flow(
    problem: Problem,
    rule: AbstractRule,
    state: Overlaps,
    function: str,
    averages: AveragesOption,
    *,
    moving: bool,
) -> OverlapFlow:
    if rule.has_slow_momentum:
        raise ValueError(
            f"{function} needs a drift that is quadratic in lr; slow momentum remembers earlier "
            "rates. Use momentum=None or a constant one."
        )
    setting = {"function": function, "averages": averages, "moving": moving}
    flow = fixed_flow(problem, rule, state, **setting)
    require_at_least(rule.lr, 0.0, "lr", "the other rates scale with it", strict=True)
    return flow


def _first_rate(rule: AbstractRule) -> Array:
    return jnp.asarray(rule.lr, float)
