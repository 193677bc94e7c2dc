"""Fixed points of the ODE by root finding, differentiable, whatever directions are neutral."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learndyn._checks import as_count, is_concrete, require_at_least
from learndyn._numerics.pseudo_inverse import NEUTRAL, decompose, pseudo_solve
from learndyn._readable import ReadableResult
from learndyn._results import Result
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics.fixed_points._flow import (
    AveragesOption,
    drift,
    error_of,
    fixed_flow,
    regularised,
    require_regular_relu,
)
from learndyn.asymptotics.fixed_points._linearise import Direction, as_direction
from learndyn.dynamics import OverlapFlow
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps

_STEP = 1e-10
"""A search ends only with a step shorter than this, relative to the largest overlap: as Newton's
steps converge quadratically, the next one would be below rounding."""

_TINY = 1e-300
"""Keeps a division by zero away where f and a singular value both vanish."""

_WELL_BELOW = 1e-3
"""A search whose steps no longer help ends if |f| is below this times the tolerance: whether its
last step was short does not matter any more."""

_LEAST_DAMPING, _MOST_DAMPING = 1e-12, 1e6
"""Damping grows from the first, so that it can leave 0. At the second the steps are so short that
a search which still finds nothing better is at rounding, or nowhere near a root."""

_NEAR = 1e-9
"""Largest distance between overlaps that are called the same state: the search's own accuracy."""

_WIDENINGS = 6
"""Most restarts from wider weights; each adds at least four times as much to Q as the last."""

_OUTSIDE = 1e-7
"""No weights have overlaps with an eigenvalue of C below minus this times its trace. Smaller ones
are within the accuracy with which a search reaches singular overlaps."""


class FixedPoint(ReadableResult):
    """Where the ODE rests.

    Attributes:
        state: the overlaps, NaN where none was found.
        eg: their generalisation error.
        residual: max |dy/dalpha| / lr there.
        result: a `Result` code.
        steps: iterations taken.
        neutral: how many directions the dynamics does not move along, to first order.
        singular_values: (p,) of df/dy / lr, ascending.
        directions: (p, p), column i belongs to value i, so that the first `neutral` columns span
            what is neutral.
        flow: the vector field that rests there, an `OverlapFlow`.

    Example:
        >>> start = asymptotics.specialised_state(2)
        >>> end = asymptotics.fixed_point(ld.Problem(noise=0.1), ld.SGD(lr=0.4), start)
        >>> bool(end.residual < 1e-10), int(end.neutral)
        (True, 0)
    """

    state: Overlaps
    eg: Float[Array, ""]
    residual: Float[Array, ""]
    result: Int[Array, ""]
    steps: Int[Array, ""]
    neutral: Int[Array, ""]
    singular_values: Float[Array, " p"]
    directions: Float[Array, "p p"]
    flow: OverlapFlow

    unshown: ClassVar[tuple[str, ...]] = ("singular_values", "directions", "flow")

    def neutral_directions(self) -> list[Direction]:
        """The neutral directions as changes of Q, R, v, b. Not under jit: they are counted."""
        return [as_direction(self.flow, self.directions[:, i]) for i in range(int(self.neutral))]


def fixed_point(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps,
    *,
    averages: AveragesOption = None,
    neutral_tolerance: RealLike = NEUTRAL,
    tolerance: RealLike = 1e-12,
    max_steps: CountLike = 200,
) -> FixedPoint:
    """A fixed point of the ODE near `start`, stable or not.

    Levenberg-Marquardt on the singular values of df/dy: along neutral directions (hidden units that
    may be exchanged, rotated or share a weight vector) nothing moves, so the fixed point found is
    one of many, near `start`. From a symmetric start it is symmetric.
    Derivatives with respect to every float of problem and rule: by the implicit function theorem
    with a pseudo-inverse; along neutral directions they are 0. `start` has none.

    Range: near enough to `start` for Newton steps; averages over nodes have no derivatives at
    singular overlaps, so a singular fixed point (student = teacher) is found from itself only.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start: the overlaps at which the search begins.
        averages: how to average over the fields, as for `solve_ode`; None chooses.
        neutral_tolerance: singular values below this times the largest count as neutral. Weak noise
            turns neutral directions into very slow ones; a larger value, 1e-4, say, leaves those
            where they are and gives the quasi-stationary point.
        tolerance: the largest |dy/dalpha| / lr of a fixed point.
        max_steps: iterations after which the search ends with `Result.MAX_STEPS`.

    Returns:
        A `FixedPoint`; check its `result`, since a search can end without finding one. A search
        that ends at overlaps that no weights have begins again with some Q added on the diagonal;
        under jit, grad and vmap it does not, and fails.

    Raises:
        ValueError: for schedules, a ReLU unit without weights, bad values.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.4)
        >>> end = asymptotics.fixed_point(problem, rule, asymptotics.specialised_state(2))
        >>> ld.Result(int(end.result)).name, round(float(end.eg), 6)
        ('SUCCESS', 0.000886)
    """
    require_regular_relu(problem, start, "fixed_point")
    setting = {"function": "fixed_point", "averages": averages}
    flow = fixed_flow(problem, rule, start, moving=True, per_unit=True, **setting)
    max_steps = as_count(max_steps, "max_steps", "the search ends after so many")
    limits = jnp.asarray(tolerance, float), jnp.asarray(neutral_tolerance, float)
    for limit, name in zip(limits, ("tolerance", "neutral_tolerance"), strict=True):
        require_at_least(limit, 0.0, name, "a tolerance", strict=True)
    if is_concrete(rule.lr):
        require_at_least(rule.lr, 0.0, "lr", "nothing moves without it", strict=True)
    nearby = regularised(flow, start)
    if nearby is not start:
        # Is it `start` itself, where only averages made for it have derivatives?
        here = fixed_flow(problem, rule, start, per_unit=True, **setting)
        found, _ = _fixed_point(here, here.pack(start), *limits, max_steps)
        if found.result == Result.SUCCESS.value and _is_near(found.state, start):
            return found
    return _search_with_restarts(flow, nearby, *limits, max_steps)


def _search_with_restarts(flow: OverlapFlow, start: Overlaps, *options: Any) -> FixedPoint:
    """The search from `start`, begun again where it ends at overlaps that no weights have.

    Each restart adds more to the diagonal of Q (Q + room I): weights whose own, independent parts
    are larger. The search goes to one of many roots along neutral directions; from far enough
    inside, it ends inside.
    """
    found, lacking = _fixed_point(flow, flow.pack(start), *options)
    room = 0.0
    for _ in range(_WIDENINGS if is_concrete(lacking) else 0):
        if not lacking > 0:
            break
        # As much as was lacking, and room to spare
        room = 4.0 * (room + float(lacking))
        wider = start.Q + room * jnp.eye(start.Q.shape[-1])
        wider = eqx.tree_at(lambda state: state.Q, start, wider)
        found, lacking = _fixed_point(flow, flow.pack(wider), *options)
    return found


def _is_near(state: Overlaps, start: Overlaps) -> bool:
    gaps = (jnp.max(jnp.abs(a - b)) for a, b in ((state.Q, start.Q), (state.R, start.R)))
    return all(bool(gap < _NEAR) for gap in gaps)


@eqx.filter_jit
def _fixed_point(
    flow: OverlapFlow,
    y: Float[Array, " p"],
    tolerance: Float[Array, ""],
    neutral: Float[Array, ""],
    max_steps: int,
) -> tuple[FixedPoint, Float[Array, ""]]:
    """What the search found and, where those are no overlaps of weights, by how much."""
    y, search = root(flow, y, tolerance, neutral, max_steps)
    parts = decompose(search.matrix, neutral)
    state = flow.unpack(y)
    covariance = state.covariance
    # A root of the equations need not be a covariance.
    smallest = jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(covariance), covariance, 0.0))[0]
    inside = smallest >= -jnp.maximum(_OUTSIDE, neutral) * jnp.trace(covariance)
    found = search.size <= tolerance
    result = jnp.where(found & inside, Result.SUCCESS.value, Result.SOLVER_FAILED.value)
    result = jnp.where(found | search.stuck, result, Result.MAX_STEPS.value)
    success = result == Result.SUCCESS.value
    lacking = jnp.where(found & ~inside, -smallest, 0.0)
    point = FixedPoint(
        state=flow.unpack(jnp.where(success, y, jnp.nan)),
        eg=jnp.where(success, error_of(flow, state), jnp.nan),
        residual=jnp.max(jnp.abs(search.value)),
        result=result,
        steps=search.steps,
        neutral=jnp.sum(parts.neutral),
        singular_values=parts.values[::-1],
        directions=parts.right[:, ::-1],
        flow=flow,
    )
    return point, lacking


def scaled_drift(flow: OverlapFlow):
    """y -> f(y) / lr, so that tolerances mean the same at every rate."""
    rate = jnp.max(flow.rule.effective_rates(0.0).w)
    return lambda y: drift(flow, y) / rate


class Search(NamedTuple):
    """The best point so far, f and df/dy there, and how the search stands."""

    y: Float[Array, " p"]
    value: Float[Array, " p"]
    matrix: Float[Array, "p p"]
    size: Float[Array, ""]
    damping: Float[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    stuck: Bool[Array, ""]


def root(
    flow: OverlapFlow,
    y: Float[Array, " p"],
    tolerance: Float[Array, ""],
    neutral: Float[Array, ""],
    max_steps: int,
    damping: float = 1.0,
) -> tuple[Float[Array, " p"], Search]:
    """A root of f / lr near y, with implicit derivatives, and how the search ended.

    damping: in the first step; a small one where y is known to be close.
    """

    def stopped(x: Any) -> Any:
        return jax.lax.stop_gradient(x) if eqx.is_array(x) else x

    # Derivatives come from `tangent_solve`, none from the iterations.
    still = jax.tree_util.tree_map(stopped, flow)
    f, y = scaled_drift(still), jax.lax.stop_gradient(y)
    ended = _search(f, y, tolerance, neutral, max_steps, damping)

    def tangent_solve(linear, rhs: Array) -> Array:
        matrix = jax.jacfwd(linear)(jnp.zeros_like(rhs))
        # Implicit function theorem, with the pseudo-inverse along neutral directions
        return pseudo_solve(decompose(matrix, neutral), rhs)

    found = jax.lax.custom_root(scaled_drift(flow), ended.y, lambda _, y: y, tangent_solve)
    return found, ended


def _search(
    f: Callable[[Array], Array],
    y: Float[Array, " p"],
    tolerance: Array,
    neutral: Array,
    max_steps: int,
    damping: float,
) -> Search:
    """Levenberg-Marquardt with damping in proportion to |f|, quadratic also at singular roots.

    Sizes leave out what pushes along neutral directions. That is why the method is written here:
    Optimistix's Levenberg-Marquardt (0.1, tolerances 1e-10, 1e-12), tried on 17 searches, solved
    as many in 438 steps against about 110, but it knows no neutral directions. With denoising
    units and label noise 0.01 it took 115 steps (5 here) and moved 2.8e-4 along them (1.4e-8
    here), away from the quasi-stationary point. Its Newton method with Lineax's SVD failed in 4
    of the 17, on neutral directions and at a double root. And where there is no fixed point,
    least squares call the minimum of |f| a success.
    """
    p, initial = len(y), damping

    def step(search: Search) -> Search:
        change, left = _levenberg_marquardt(search, neutral)
        pushed = left.T @ search.value
        # One linearisation gives f at the new point, and df/dy for the next step.
        value, linear = jax.linearize(f, search.y + change)
        # Acceptance: |f| must fall, neutral directions left out.
        better = jnp.linalg.norm(left.T @ value) < jnp.linalg.norm(pushed)
        first = search.steps == 0
        # Stopping: f is small, and the step too, without which slow directions are not converged.
        size = jnp.where(first, jnp.inf, jnp.max(jnp.abs(left @ pushed)))
        small = jnp.max(jnp.abs(change)) <= _STEP * (1 + jnp.max(jnp.abs(search.y)))
        done = (size <= tolerance) & small
        # At rounding level no step helps any more: that is as converged as it gets.
        at_rounding = (size <= _WELL_BELOW * tolerance) | (search.damping > _MOST_DAMPING)
        accept = first | (better & ~done)
        moved = (search.y + change, value, jax.vmap(linear, out_axes=1)(jnp.eye(p)))
        y, value, matrix = (
            jnp.where(accept, new, old) for new, old in zip(moved, search[:3], strict=True)
        )
        stuck = (~first & ~better & at_rounding) | ~jnp.all(jnp.isfinite(matrix))
        # Damping falls after a good step and grows after a bad one.
        damping = jnp.where(better, search.damping / 8, search.damping * 4 + _LEAST_DAMPING)
        damping = jnp.where(first, initial, damping)
        return Search(y, value, matrix, size, damping, search.steps + 1, done | stuck, stuck)

    # The first step goes nowhere: it evaluates f and its derivatives at the start.
    zero, no = jnp.zeros(()), jnp.asarray(False)
    start = Search(y, jnp.zeros(p), jnp.eye(p), zero + jnp.inf, zero, jnp.asarray(0), no, no)
    return jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), step, start)


def _levenberg_marquardt(
    search: Search, neutral: Array
) -> tuple[Float[Array, " p"], Float[Array, "p p"]]:
    """A step, and the left singular vectors of df/dy, 0 in place of those of neutral directions."""
    parts = decompose(search.matrix, neutral)
    left = jnp.where(parts.neutral, 0.0, parts.left)
    pushed = left.T @ search.value
    # Levenberg-Marquardt: along a singular vector f is divided by s + damping |f| / s.
    strength = search.damping * jnp.linalg.norm(pushed)
    inverse = parts.values / (parts.values**2 + strength + _TINY)
    return -parts.right @ (inverse * pushed), left
