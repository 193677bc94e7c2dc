"""The ODE and its fluctuations, by programs that claims share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, compiled
from validation.measure.sharing import cut, filled

import learndyn as ld

SLOW = 1e-6
"""Of a rate: its square is then nothing beside it."""


def solve_ode(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: Any,
    *,
    averages: Any = None,
    jump_ts: Any = None,
    **options: float,
) -> ld.Trajectory:
    """`ld.solve_ode`, by a program that is shared with other lists of times."""
    jumps = None if jump_ts is None else jnp.asarray(jump_ts, float)
    data = problem, rule, start, filled(ts), jumps
    closed = averages is None and ld.averages.has_closed_form(problem, biases=start.b is not None)
    solve = _solve_closed if closed else _solve_by_nodes
    return cut(solve(*data, averages=averages, options=tuple(options.items())), len(ts))


def _solve(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: jax.Array,
    jump_ts: jax.Array | None,
    averages: Any,
    options: tuple[tuple[str, float], ...],
) -> ld.Trajectory:
    settings = {"averages": averages, "jump_ts": jump_ts} | dict(options)
    return ld.solve_ode(problem, rule, start, ts, **settings)


_solve_closed, _solve_by_nodes = (
    compiled(_solve, options, static_argnames=("averages", "options"))
    for options in (FOR_ODES, FOR_CHAINS)
)
"""With thousands of nodes an ODE takes time to run."""


def fluctuations(problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps, ts: Any) -> ld.Fluctuations:
    """`ld.fluctuations`, by a program that is shared with other lists of times."""
    return cut(_fluctuations(problem, rule, start, filled(ts)), len(ts))


_fluctuations = compiled(ld.fluctuations)


def gradient_flow(
    problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps, ts: Any, **options: Any
) -> jax.Array:
    """eg of the ODE without the lr^2 term of dQ/dalpha: the limit of small rates, by that limit."""
    rates = (rule.lr, rule.lr_second, rule.lr_bias)
    slow = [None if rate is None else rate * SLOW for rate in rates]
    decay = rule.weight_decay
    rule = ld.SGD(*slow, decay, batch_size=rule.batch_size, momentum=rule.momentum)
    return solve_ode(problem, rule, start, np.asarray(ts) / SLOW, **options).eg


@functools.partial(compiled, options=FOR_ODES)
def odes_from(problem: ld.Problem, rule: ld.SGD, starts: ld.Overlaps, ts: jax.Array) -> jax.Array:
    """eg of the ODE from each of many starts, (starts, times)."""

    def solve(start: ld.Overlaps) -> jax.Array:
        return ld.solve_ode(problem, rule, start, ts, rtol=1e-7, atol=1e-9).eg

    return jax.vmap(solve)(starts)


@functools.partial(compiled, options=FOR_ODES)
def drift_at(problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps) -> jax.Array:
    """dy/dalpha of the ODE at alpha = 0, in the coordinates of `ld.ode_term`."""
    flow = ld.ode_term(problem, rule, start).vector_field
    return flow(0.0, flow.pack(start), None)
