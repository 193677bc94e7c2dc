"""The ODE and its fluctuations, by programs that claims share.

Nothing here saves compilations by itself. fill_times: fill up the list of times, so that it shares
a program with others. xla: how to compile; None: as XLA does.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import XlaOptions, compiled
from validation.measure.sharing import cut, filled

import learndyn as ld
from learndyn.rules import AbstractRule

SLOW = 1e-6
"""Rates are scaled by this factor for gradient flow, so that lr^2 terms are negligible."""


def solve_ode(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: Any,
    *,
    averages: Any = None,
    fill_times: bool = False,
    xla: XlaOptions | None = None,
    **options: float,
) -> ld.Trajectory:
    """`ld.solve_ode`, compiled."""
    data = problem, rule, start, _times(ts, fill_times)
    found = _program(xla)(*data, averages=averages, options=tuple(options.items()))
    return cut(found, len(ts))


def _times(ts: Any, fill: bool) -> jax.Array:
    return filled(ts) if fill else jnp.asarray(ts, float)


@functools.cache
def _program(xla: XlaOptions | None) -> Callable:
    """The program of `solve_ode`, the same for all claims that compile it alike."""
    return compiled(_solve, xla, static_argnames=("averages", "options"))


def _solve(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: jax.Array,
    averages: Any,
    options: tuple[tuple[str, float], ...],
) -> ld.Trajectory:
    return ld.solve_ode(problem, rule, start, ts, averages=averages, **dict(options))


def fluctuations(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: Any,
    *,
    fill_times: bool = False,
    xla: XlaOptions | None = None,
) -> ld.Fluctuations:
    """`ld.fluctuations`, compiled."""
    return cut(_fluctuations(xla)(problem, rule, start, _times(ts, fill_times)), len(ts))


@functools.cache
def _fluctuations(xla: XlaOptions | None) -> Callable:
    return compiled(ld.fluctuations, xla)


def gradient_flow(
    problem: ld.Problem, rule: AbstractRule, start: ld.Overlaps, ts: Any, **options: Any
) -> jax.Array:
    """eg of the ODE without the lr^2 term of dQ/dalpha: the limit of small rates, by that limit.

    options: those of `solve_ode`.
    """
    rates = lambda rule: (rule.lr, rule.lr_second, rule.lr_bias)
    slow = [None if rate is None else rate * SLOW for rate in rates(rule)]
    rule = eqx.tree_at(rates, rule, slow, is_leaf=lambda x: x is None)
    return solve_ode(problem, rule, start, np.asarray(ts) / SLOW, **options).eg


def odes_from(
    problem: ld.Problem,
    rule: AbstractRule,
    starts: ld.Overlaps,
    ts: jax.Array,
    *,
    xla: XlaOptions | None = None,
) -> jax.Array:
    """eg of the ODE from each of many starts, (starts, times)."""
    return _program_from(xla)(problem, rule, starts, ts)


@functools.cache
def _program_from(xla: XlaOptions | None) -> Callable:
    """The program of `odes_from`."""
    return compiled(_from, xla)


def _from(problem: ld.Problem, rule: AbstractRule, starts: ld.Overlaps, ts: jax.Array) -> jax.Array:
    def solve(start: ld.Overlaps) -> jax.Array:
        return ld.solve_ode(problem, rule, start, ts, rtol=1e-7, atol=1e-9).eg

    return jax.vmap(solve)(starts)


def drift_at(
    problem: ld.Problem, rule: AbstractRule, start: ld.Overlaps, *, xla: XlaOptions | None = None
) -> jax.Array:
    """dy/dalpha of the ODE at alpha = 0, in the coordinates of `ld.ode_term`."""
    return _drift(xla)(problem, rule, start)


@functools.cache
def _drift(xla: XlaOptions | None) -> Callable:
    return compiled(_field, xla)


def _field(problem: ld.Problem, rule: AbstractRule, start: ld.Overlaps) -> jax.Array:
    flow = ld.ode_term(problem, rule, start).vector_field
    return flow(0.0, flow.pack(start), None)


STEP = 0.04
"""The step of `solved_by_steps` in alpha: at rates of order 1 its error is 1e-6."""


def solved_by_steps(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: Any,
    *,
    xla: XlaOptions | None = None,
) -> list[ld.Overlaps]:
    """The states of the ODE at these times, multiples of `STEP`, at constant rates.

    The right-hand side alone is compiled, in a quarter of the time that `solve_ode` needs.
    """
    at, flow = _right_side(xla), ld.ode_term(problem, rule, start).vector_field
    slope = lambda y: np.asarray(at(problem, rule, start, y))
    y, found, done = np.asarray(flow.pack(start)), [], 0
    for steps in np.round(np.asarray(ts) / STEP).astype(int):
        for _ in range(done, steps):
            y = runge_kutta(slope, y)
        done = steps
        found.append(flow.unpack(jnp.asarray(y)))
    return found


def runge_kutta(slope: Callable[[np.ndarray], np.ndarray], y: np.ndarray) -> np.ndarray:
    """One step of the classical Runge-Kutta method."""
    first = slope(y)
    second = slope(y + 0.5 * STEP * first)
    third = slope(y + 0.5 * STEP * second)
    last = slope(y + STEP * third)
    return y + STEP / 6 * (first + 2 * second + 2 * third + last)


@functools.cache
def _right_side(xla: XlaOptions | None) -> Callable:
    return compiled(_slope, xla)


def _slope(problem: ld.Problem, rule: AbstractRule, start: ld.Overlaps, y: jax.Array) -> jax.Array:
    return ld.ode_term(problem, rule, start).vector_field(0.0, y, None)
