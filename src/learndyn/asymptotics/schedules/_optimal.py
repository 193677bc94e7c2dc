"""Learning-rate schedules that are best at a horizon, by differentiating through the ODE."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, is_concrete, require_at_least
from learndyn._progress import is_shown, progress_bar
from learndyn._readable import ReadableResult
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics.schedules._descent import Optimised, descend, require_optax
from learndyn.averages import AbstractAverages, AbstractNodes
from learndyn.dynamics import generalisation_error, solve_ode
from learndyn.problems import Problem
from learndyn.rules import (
    AbstractRule,
    ConstantRate,
    Family,
    InverseTimeRate,
    PiecewiseRate,
)
from learndyn.states import (
    Overlaps,
    ProblemLike,
    RuleLike,
    StateLike,
    as_overlaps,
    require_arguments,
)

_GRID, _ZOOMS = 25, 3
"""Rates on a grid, and how many grids close in on the best one. Each is 12 times finer, so that
from three decades the best rate is known to 0.2 %, and its objective, flat there, far better."""

_DECADES = 3
"""How many decades beyond `range_lr` the best constant rate is searched, as the docstring says."""

_RTOL, _ATOL = 1e-8, 1e-11
"""Tolerances of the solves. The relative one is ten times coarser than the ODE's own, since a
search takes hundreds of solves and distinguishes schedules by more than that."""

_POINTS = 64
"""Gauss-Legendre nodes of the mean over time: an exit that takes a tenth of it has a few."""


class OptimalSchedule(ReadableResult):
    """The best schedule, and the best of two simpler families at the same horizon.

    Attributes:
        schedule: log-linear between its knots.
        value: its objective.
        history: (steps,) the objective at each step of Adam.
        constant, inverse_time: the best constant rate and the best lr / (1 + alpha/time), likewise.
        gain: value of the constant over that of the schedule, at least 1.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> given = {"horizon": 4.0, "knots": 3, "steps": 3, "progress": False}
        >>> best = asymptotics.optimal_schedule(problem, rule, start, **given)
        >>> rule = ld.SGD(lr=best.schedule)
        >>> round(float(rule.rates(0.0).w), 1), round(float(rule.rates(4.0).w), 1)
        (1.9, 1.6)
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
    problem: ProblemLike,
    rule: RuleLike,
    start: StateLike,
    horizon: RealLike,
    *,
    objective: str = "final",
    knots: CountLike = 17,
    steps: CountLike = 200,
    step_size: RealLike = 0.05,
    range_lr: RealLike = (0.01, 10.0),
    averages: AbstractNodes | AbstractAverages | str | None = None,
    progress: bool | None = None,
) -> OptimalSchedule:
    """The learning rate lr(alpha) that minimises eg at alpha = horizon, or its integral.

    Gradients go through the ODE (Diffrax's checkpointed adjoint) into log lr at `knots` equally
    spaced times; Adam (Optax) follows them from the best 1/alpha schedule or constant rate,
    whichever is better, and the best schedule met is returned.

    Args:
        problem: the teacher-student problem.
        rule: its lr is replaced; lr_second and lr_bias stay what they are.
        start: the overlaps, or weights that have them, at alpha = 0.
        horizon: the alpha at which learning ends.
        objective: "final" or "integral" (the mean of eg over time).
        knots: how many times the schedule has a rate at.
        steps, step_size: how many steps Adam takes in log lr, and how long the first ones are.
        range_lr: two rates between which the best constant is searched at first; where it is the
            lowest or the highest there, up to three decades beyond that, too.
        averages: how to average over the fields, as for `solve_ode`; None chooses.
        progress: a bar on stderr; None: where stderr is a terminal.

    Returns:
        An `OptimalSchedule`; its schedule goes into `ld.SGD(lr=...)`. A local optimum, of a smooth
        problem: more knots or steps can only improve it. Concrete values only.

    Raises:
        ValueError: for bad values or traced ones; where eg is 0 at the start, so that nothing can
            be gained; where every constant rate diverges, or the best one lies beyond what was
            searched, as it does where learning only does harm.
        ImportError: without Optax.

    Source:
        Saad & Rattray, PRL 79, 2578 (1997), globally optimal rates, by Lagrange's method.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> given = {"horizon": 4.0, "knots": 3, "steps": 3, "progress": False}
        >>> best = asymptotics.optimal_schedule(problem, rule, start, **given)
        >>> bool(best.gain >= 1.0), best.schedule.alpha.shape
        (True, (3,))
    """
    require_arguments("optimal_schedule", problem=problem, rule=rule, start=start)
    start = as_overlaps(start)
    if not is_concrete(problem, rule, start, horizon):
        raise ValueError("optimal_schedule searches: call it outside jit, vmap and grad.")
    if objective not in ("final", "integral"):
        raise ValueError(f'objective must be "final" or "integral"; got {objective!r}.')
    horizon, step_size = as_float(horizon, "horizon"), as_float(step_size, "step_size")
    require_at_least(horizon, 0.0, "horizon", "a time alpha", strict=True)
    require_at_least(step_size, 0.0, "step_size", "of Adam in log lr", strict=True)
    knots = as_count(knots, "knots", "times at which the rate is free", 2)
    steps = as_count(steps, "steps", "of the optimiser")
    low, high = _checked_range(range_lr)
    _require_error(problem, start, averages)
    require_optax()
    # Gauss-Legendre quadrature over (0, horizon), with its ends as points without weight
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    ts = horizon * jnp.concatenate([jnp.zeros(1), (1 + nodes) / 2, jnp.ones(1)])
    weights = jnp.concatenate([jnp.zeros(1), weights / 2, jnp.zeros(1)])
    if objective == "final":
        weights = jnp.zeros(_POINTS + 2).at[-1].set(1.0)
    learning = _Learning(problem, rule, start, ts, averages, weights)
    with progress_bar(progress, total=2 * steps, unit="step", title="optimal schedule") as bar:
        report = bar.update if is_shown(progress) else None
        bar.set_postfix_str("constant rate")
        constant = _best_constant(learning, low, high)
        bar.set_postfix_str("inverse time")
        first = InverseTimeRate(constant.schedule(0.0), horizon)
        inverse = descend(learning, first, steps, step_size, report)
        better = inverse if bool(inverse.value < constant.value) else constant
        bar.set_postfix_str(f"{knots} knots")
        times = jnp.linspace(0.0, horizon, knots)
        first = PiecewiseRate(times, jax.vmap(better.schedule)(times))
        best = descend(learning, first, steps, step_size, report)
    assert isinstance(best.schedule, PiecewiseRate)
    return OptimalSchedule(best.schedule, best.value, best.history, constant, inverse)


class _Learning(eqx.Module):
    """schedule -> the log of a weighted mean of eg over times; NaN where the run diverged."""

    problem: Problem
    rule: AbstractRule
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
    """The best constant rate, by a grid that closes in: there may be more than one minimum."""
    grid, values, i = _with_best_inside(learning, low, high)
    history = [values[i]]
    for _ in range(_ZOOMS - 1):
        # Zoom: the best point's neighbours are the ends of the next grid.
        closer = jnp.geomspace(grid[max(i - 1, 0)], grid[min(i + 1, _GRID - 1)], _GRID)
        grid, values, i = _evaluated(learning, closer)
        history.append(values[i])
    return Optimised(ConstantRate(grid[i]), jnp.exp(values[i]), jnp.exp(jnp.stack(history)))


def _with_best_inside(learning: _Learning, low: Array, high: Array) -> tuple[Array, Array, int]:
    """A grid of rates whose best is not at its end, a decade further as often as needed."""
    ends = (low, high)
    grid, values, i = _evaluated(learning, jnp.geomspace(low, high, _GRID))
    for _ in range(_DECADES):
        if 0 < i < _GRID - 1:
            break
        # The old end stays inside, one point from the new grid's other end.
        low, high = (low / 10, grid[1]) if i == 0 else (grid[-2], 10 * high)
        grid, values, i = _evaluated(learning, jnp.geomspace(low, high, _GRID))
    if 0 < i < _GRID - 1:
        return grid, values, i
    side = "lowest" if i == 0 else "highest"
    raise ValueError(
        f"optimal_schedule found the best constant rate at the {side} of those searched, "
        f"{grid[i]:g}, {_DECADES} decades beyond range_lr = ({ends[0]:g}, {ends[1]:g}). Shift "
        "range_lr; where the lowest rate is the best, learning from this start does only harm."
    )


def _evaluated(learning: _Learning, grid: Array) -> tuple[Array, Array, int]:
    """The rates, the objective at each, and which is the best."""
    values = _over_rates(learning, grid)
    if not bool(jnp.isfinite(values).any()):
        raise ValueError(
            "optimal_schedule found no constant rate in range_lr = "
            f"({grid[0]:g}, {grid[-1]:g}) at which learning does not diverge. Lower range_lr."
        )
    return grid, values, int(jnp.nanargmin(values))


def _checked_range(range_lr: RealLike) -> tuple[Array, Array]:
    try:
        low, high = range_lr
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"range_lr must be two rates, (lowest, highest); got {range_lr!r}."
        ) from error
    low, high = as_float(low, "range_lr[0]"), as_float(high, "range_lr[1]")
    require_at_least(low, 0.0, "range_lr[0]", "a learning rate", strict=True)
    require_at_least(high - low, 0.0, "range_lr[1] - range_lr[0]", "a range", strict=True)
    return low, high


def _require_error(problem: Problem, start: Overlaps, averages: Any) -> None:
    """Below the ODE's own tolerance no schedule can be told from another."""
    eg = generalisation_error(problem, start, averages=averages)
    if not bool(eg > _ATOL):
        raise ValueError(
            f"optimal_schedule needs a start with eg > {_ATOL:g}: nothing can be gained from one "
            f"without error. Got eg = {float(eg):.3g}. Start from weights that have yet to learn."
        )


@eqx.filter_jit
def _over_rates(learning: _Learning, rates: Array) -> Array:
    return jax.vmap(lambda lr: learning(ConstantRate(lr)))(rates)
