"""Reduced dynamics: a handful of ODEs for committees of any size, at a cost that does not grow."""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from learndyn._checks import (
    as_count,
    checked_times,
    is_concrete,
    require_at_least,
    require_unbatched,
    require_x64,
)
from learndyn._readable import ReadableResult
from learndyn._types import CountLike, RealLike, Times
from learndyn.asymptotics.reduced import _ansatz
from learndyn.asymptotics.reduced._ansatz import Ansatz, Plan, Terms
from learndyn.asymptotics.reduced._states import SpecialisedOverlaps, SymmetricOverlaps
from learndyn.averages import not_negative
from learndyn.dynamics._integrate import integrate_field
from learndyn.problems import Problem, declared, is_squared
from learndyn.rules import AbstractRule, require_gradient


class ReducedTrajectory(ReadableResult):
    """Overlaps and eg of a reduced run at the requested times; NaN after a run stopped.

    Attributes:
        alpha: (times,) the requested times, dimensionless.
        state: the overlaps, each (times,).
        eg: (times,) the generalisation error; NaN after a run stopped.
        result: a `Result` code, 0 for success.
        steps: how many the solver took.

    Example:
        >>> start = asymptotics.SymmetricOverlaps(3, 3, Q=0.2, C=0.0, R=0.01)
        >>> run = asymptotics.solve_reduced(ld.Problem(), ld.SGD(lr=0.1), start, [0.0, 10.0])
        >>> run.state.R.shape, ld.Result(int(run.result)).name
        ((2,), 'SUCCESS')
    """

    alpha: Float[Array, "*batch times"]
    state: SpecialisedOverlaps | SymmetricOverlaps
    eg: Float[Array, "*batch times"]
    result: Int[Array, "*batch"]
    steps: Int[Array, "*batch"]


class ReducedFlow(eqx.Module):
    """dy/dalpha within an ansatz, y the coordinates in the order of its `places`.

    Equation: as `OverlapFlow`, with the sums over units taken class by class; for the specialised
    ansatz the eight equations of Goldt et al. (2020), supplement C.

    Attributes:
        problem: erf or linear units with squared loss.
        rule: SGD of the first layer.
        start: the overlaps whose sizes and second layers the flow has.

    Example:
        >>> start = asymptotics.SymmetricOverlaps(3, 3, Q=0.1, C=0.0, R=0.01)
        >>> field = asymptotics.reduced_flow(ld.Problem(), ld.SGD(lr=0.1), start)
        >>> float(field.unpack(field.pack(start)).R)
        0.01
    """

    problem: Problem
    rule: AbstractRule
    start: SpecialisedOverlaps | SymmetricOverlaps

    def __call__(self, t: Any, y: Any, args: Any) -> Array:
        return self._at(jnp.asarray(t, float), y)

    @eqx.filter_jit  # traced once: Diffrax asks for it five times in a solve
    def _at(self, t: Array, y: Any) -> Array:
        sums, integrals = _plan(type(self.start)), self._integrals
        rates, kappa = self.rule.effective_rates(t), self.rule.weight_decay
        u, sizes = self.start.layers, self.start.sizes
        x = _with_constants(y)
        pull = u[sums.first] * _total(sums.pulls, integrals.I3, x, u, sizes, len(y))
        back = u[sums.second] * _total(sums.pulls_back, integrals.I3, x, u, sizes, len(y))
        product = _total(sums.products, integrals.I4, x, u, sizes, len(y))
        noise = product + self.problem.noise**2 * integrals.J2(*x[sums.own])
        noise = rates.w**2 / self.rule.batch_size * u[sums.first] * u[sums.second] * noise
        dq = noise - rates.w * (pull + back + 2 * kappa * y)
        dr = -rates.w * (pull + kappa * y)
        # Overlaps between units that a small committee does not have stay where they are.
        exists = jnp.all(sizes[:, None] >= sums.needed, axis=0)
        return jnp.where(exists, jnp.where(sums.is_student, dq, dr), 0.0)

    def generalisation_error(self, y: Float[Array, " c"]) -> Float[Array, ""]:
        """eg at coordinates y."""
        terms, u = _plan(type(self.start)).errors, self.start.layers
        x = _with_constants(y)
        eg = 0.5 * _total(terms, self._integrals.I2, x, u, self.start.sizes, 1)[0]
        return not_negative(eg, jnp.sum(self.start.sizes) * jnp.max(u**2))

    def pack(self, state: SpecialisedOverlaps | SymmetricOverlaps) -> Float[Array, " c"]:
        """The coordinates of `state`."""
        return jnp.stack([getattr(state, name) for name in state.ansatz.places])

    def unpack(self, y: Float[Array, " c"]) -> SpecialisedOverlaps | SymmetricOverlaps:
        """The state at coordinates y."""
        names = tuple(self.start.ansatz.places)
        return eqx.tree_at(lambda s: [getattr(s, n) for n in names], self.start, list(y))

    @property
    def _integrals(self) -> ModuleType:
        return declared(self.problem.student, "elementary")


def reduced_flow(
    problem: Problem, rule: AbstractRule, start: SpecialisedOverlaps | SymmetricOverlaps
) -> ReducedFlow:
    """The vector field of the reduced dynamics, for Diffrax and for root finding.

    Args:
        problem: erf or linear units with squared loss.
        rule: SGD of the first layer.
        start: `SymmetricOverlaps` or `SpecialisedOverlaps`.

    Raises:
        ValueError: for anything but erf or linear committees with squared loss whose second layer
            is fixed, for slow momentum, a batch of states, rates or noises, or in float32.

    Example:
        >>> start = asymptotics.SymmetricOverlaps(3, 3, Q=0.1, C=0.0, R=0.01)
        >>> field = asymptotics.reduced_flow(ld.Problem(), ld.SGD(lr=0.1), start)
        >>> field.pack(start)
        Array([0.1 , 0.  , 0.01], dtype=float64)
        >>> field(0.0, field.pack(start), None).shape
        (3,)
    """
    require_x64("reduced dynamics", problem, rule, start)
    require_gradient(problem, rule, "reduced dynamics")
    same = type(problem.teacher) is type(problem.student)
    if not same or declared(problem.student, "elementary") is None:
        raise ValueError(
            "reduced dynamics need erf or linear units, the same in student and teacher; got "
            f"student={problem.student}, teacher={problem.teacher}. Use solve_ode."
        )
    if not is_squared(problem.loss):
        raise ValueError(f"reduced dynamics need squared loss; got {problem.loss}. Use solve_ode.")
    if rule.lr_second is not None or rule.lr_bias is not None or rule.has_slow_momentum:
        raise ValueError(
            "reduced dynamics train the first layer alone, without slow momentum; got "
            f"lr_second={rule.lr_second}, lr_bias={rule.lr_bias}, momentum={rule.momentum}. Use "
            "solve_ode."
        )
    if start.Q.ndim:
        raise ValueError(
            f"reduced dynamics take one state at a time; got a batch of shape {start.Q.shape}. "
            "Use jax.vmap or equinox.filter_vmap."
        )
    lr = None if callable(rule.lr) else rule.lr
    single = [("lr", lr), ("weight_decay", rule.weight_decay), ("momentum", rule.momentum)]
    single += [("noise", problem.noise)]
    require_unbatched([(name, value, 0) for name, value in single], "solve_reduced")
    return ReducedFlow(problem, rule, start)


def solve_reduced(
    problem: Problem,
    rule: AbstractRule,
    start: SpecialisedOverlaps | SymmetricOverlaps,
    ts: RealLike,
    *,
    rtol: RealLike = 1e-9,
    atol: RealLike = 1e-11,
    solver: diffrax.AbstractSolver | None = None,
    max_steps: CountLike = 100_000,
) -> ReducedTrajectory:
    """Overlaps and eg of a committee whose units are alike, as n -> infinity.

    The dynamics keep the ansatz: this is the full ODE from `start.expanded()`, at a cost that does
    not depend on k and m.

    Error: rtol, and atol in an overlap of two units, divided by the number of such units that add
    up; in eg about atol per unit, and rounding, about 1e-16 (m + k)**2.

    Args:
        problem: erf or linear units with squared loss.
        rule: SGD of the first layer.
        start: the state at ts[0]; its sizes are data, so one compiled program serves all of them.
        ts: (times,) increasing times alpha = steps / n, dimensionless.
        rtol: relative tolerance of the solver.
        atol: absolute tolerance of the solver.
        solver: None for Tsit5. In large committees the slowest and the fastest rates differ by a
            factor m: diffrax.Kvaerno5(), with tolerances of 1e-6, reaches the end in a few steps.
        max_steps: steps after which a run stops with `Result.MAX_STEPS`.

    Raises:
        ValueError: as `reduced_flow`, and for bad times, tolerances or max_steps.

    Source:
        Goldt et al. (2020), supplement C; Saad & Solla (1995) for the symmetric ansatz.

    Example:
        >>> start = asymptotics.SymmetricOverlaps(3, 3, Q=0.2, C=0.0, R=0.01)
        >>> run = asymptotics.solve_reduced(ld.Problem(), ld.SGD(lr=0.1), start, [0.0, 10.0])
        >>> run.eg.shape, bool(run.eg[-1] < run.eg[0])
        ((2,), True)
    """
    ts = checked_times(ts)
    flow = reduced_flow(problem, rule, start)
    rtol, atol = jnp.asarray(rtol, float), jnp.asarray(atol, float)
    require_at_least(rtol, 0.0, "rtol", "a relative tolerance", strict=True)
    require_at_least(atol, 0.0, "atol", "an absolute tolerance")
    max_steps = as_count(max_steps, "max_steps", "of the solver")
    if is_concrete(start):
        _require_valid(start)
    # An overlap that thousands of pairs share adds up in eg.
    pairs = start.sizes.sum() / jnp.where(_is_own(start), start.sizes.sum(), 1.0)
    return _solve(flow, ts, rtol, atol / pairs, solver or diffrax.Tsit5(), max_steps)


@eqx.filter_jit
def _solve(
    flow: ReducedFlow,
    ts: Times,
    rtol: Float[Array, ""],
    atol: Float[Array, " c"],
    solver: diffrax.AbstractSolver,
    max_steps: int,
) -> ReducedTrajectory:
    valid = jnp.asarray(True)  # what can be checked was, before tracing
    solved = integrate_field(
        diffrax.ODETerm(flow),
        flow.pack(flow.start),
        ts,
        (rtol, atol),
        valid,
        max_steps=max_steps,
        first_step=None,  # rates grow with the number of units
        solver=solver,
    )
    return ReducedTrajectory(
        alpha=ts,
        state=jax.vmap(flow.unpack)(solved.ys),
        eg=jax.vmap(flow.generalisation_error)(solved.ys),
        result=solved.result,
        steps=solved.stats["steps"],
    )


def _is_own(start: SpecialisedOverlaps | SymmetricOverlaps) -> Bool[np.ndarray, " c"]:
    """Which coordinates are overlaps of a unit with itself or with its own teacher."""
    group, pairs = start.ansatz.groups, start.ansatz.places.values()
    return np.array([i[1] == j[1] and group[i[0]] == group[j[0]] for i, j in pairs])


def _require_valid(start: SpecialisedOverlaps | SymmetricOverlaps) -> None:
    """The overlaps of few units of each class decide whether those of all are possible."""
    smallest = start.smallest_eigenvalue()
    # Rounding of overlaps that another run has reached
    if not smallest >= -1e-9:
        raise ValueError(
            "the overlaps must be those of real weights (positive semi-definite); got a smallest "
            f"eigenvalue of {smallest:.3g} for {start}."
        )


def _total(
    terms: Terms, integral: Callable[..., Array], x: Array, u: Array, sizes: Array, rows: int
) -> Float[Array, " rows"]:
    """Sums over units: u u count integral(overlaps), added up by coordinate."""
    # All terms of all sums at once: one vectorised call of the integral
    values = integral(*x[terms.overlaps])
    for kind in terms.kinds:
        values = values * u[kind]
    for count in terms.counts:
        values = values * (jnp.append(sizes, 1.0)[count.group] - count.used)
    return jnp.zeros(rows).at[terms.row].add(values)


def _with_constants(y: Float[Array, " c"]) -> Float[Array, " c2"]:
    return jnp.concatenate([y, jnp.array([1.0, 0.0])])


@lru_cache  # enumerated once for each ansatz
def _plan(kind: type) -> Plan:
    ansatz: Ansatz = kind.ansatz
    return _ansatz.plan(ansatz)
