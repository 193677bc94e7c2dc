"""The dynamics as a fixed vector field: what every function of fixed points starts from."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete, require_unbatched
from learndyn.asymptotics.fixed_points._singular import averages_at, is_singular
from learndyn.averages import AbstractAverages, AbstractNodes
from learndyn.dynamics import OverlapFlow, ode_term
from learndyn.problems import Problem, regularity
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps, OverlapsLike, ProblemLike, RuleLike, require_arguments

AveragesOption = AbstractNodes | AbstractAverages | str | None

AT_REST = 1e-6
"""Largest speed, over the learning rate, of what counts as a fixed point: ODE runs with the default
tolerances end this close to one."""

_VANISHING = 1e-12
"""A ReLU unit with a smaller Q_ii counts as one without weights: its step function jumps nearby."""

_SHIFT = 1e-8
"""Relative increase of Q_ii that makes singular overlaps regular: derivatives by nodes then have an
error of 1e-8 or so, and rounding, 1e-16 over this, is no larger."""


def fixed_flow(
    problem: ProblemLike,
    rule: RuleLike,
    state: OverlapsLike,
    *,
    function: str,
    averages: AveragesOption = None,
    moving: bool = False,
    per_unit: bool = False,
) -> OverlapFlow:
    """The vector field f(0, y, None) of an autonomous problem, with `state` packed by .pack.

    moving: False for what stays at `state`: value and derivatives are right there also where
    overlaps are singular, but averages over nodes then are wrong elsewhere. True for what goes
    elsewhere: then they have no derivatives where overlaps are singular (see `regularised`).
    per_unit: whether there may be one rate for each student unit.
    Raises: ValueError for a learning rate that is a schedule (then nothing is fixed), a batch
    of states or floats, and whatever `ode_term` refuses.
    """
    require_arguments(function, problem=problem, rule=rule, overlaps=state)
    for name in ("lr", "lr_second", "lr_bias"):
        rate = getattr(rule, name)
        if callable(rate):
            raise ValueError(
                f"{function} needs constant learning rates, since a schedule has no fixed "
                f"points; got {name}={rate!r}. Use its value at the time of interest."
            )
        own = per_unit and rate is not None and jnp.shape(rate) == (state.k,)
        if not own:
            require_unbatched([(name, rate, 0)], function)
    require_unbatched([("Q", state.Q, 2), ("noise", problem.noise, 0)], function)
    flow = ode_term(problem, rule, state, averages=averages).vector_field
    assert isinstance(flow, OverlapFlow)
    if averages is None:  # a fixed point takes few evaluations, so they may be dearer
        finer = flow.averages.finer(state.k, state.m) or flow.averages
        flow = eqx.tree_at(lambda f: f.averages, flow, finer)
    if moving or flow.averages.holds_at_singular:
        return flow
    better = averages_at(problem, rule, state, flow.averages)
    return eqx.tree_at(lambda f: f.averages, flow, better)


def regularised(flow: OverlapFlow, state: Overlaps) -> Overlaps:
    """`state`, with Q_ii a little larger where its overlaps are singular and averages use nodes.

    There averages over nodes have derivatives; the change is far below any that matters.
    """
    if flow.averages.holds_at_singular or not is_singular(state):
        return state
    norms = jnp.diagonal(state.Q)
    return eqx.tree_at(lambda s: s.Q, state, state.Q + jnp.diag(_SHIFT * (1 + norms)))


def require_regular_relu(problem: ProblemLike, state: OverlapsLike, function: str) -> None:
    """A unit with a kink at 0 has no derivatives without weights: its slope jumps there."""
    require_arguments(function, problem=problem, overlaps=state)
    at_origin = any(abs(place) <= _VANISHING for place in regularity(problem.student).kinks)
    if not at_origin or not is_concrete(state.Q):
        return
    norms = np.diagonal(np.asarray(state.Q))
    if np.any(norms <= _VANISHING):
        raise ValueError(
            f"{function} needs Q_ii > 0 for every unit with a kink at 0, such as ReLU: at zero "
            f"weights its averages have no derivatives; got diag(Q) = {norms}. Remove such units, "
            "or share a learned unit among several (denoising_state)."
        )


def drift(flow: OverlapFlow, y: Float[Array, " p"]) -> Float[Array, " p"]:
    """f(y)."""
    return flow(jnp.zeros(()), y, None)


def jacobian(flow: OverlapFlow, y: Float[Array, " p"]) -> Float[Array, "p p"]:
    """df/dy at y."""
    return flow.jacobian(jnp.zeros(()), y)


def error_of(flow: OverlapFlow, state: Overlaps) -> Float[Array, ""]:
    """eg by the flow's own averages."""
    return flow.error_by(flow.averages, state)


def require_fixed_point(flow: OverlapFlow, y: Float[Array, " p"], function: str) -> None:
    """Concrete y must be at rest, to within the accuracy of a converged ODE run."""
    speed = relative_speed(flow, y)
    if is_concrete(speed) and not bool(speed <= AT_REST):
        raise ValueError(
            f"{function} needs a fixed point: at the given state max |dy/dalpha| / lr = "
            f"{float(speed):.3g} > {AT_REST:g}. Check noise and decay (label noise moves the "
            "fixed point), or find the fixed point nearby with fixed_point."
        )


@eqx.filter_jit
def relative_speed(flow: OverlapFlow, y: Float[Array, " p"]) -> Float[Array, ""]:
    """max |dy/dalpha| in units of the first layer's effective rate."""
    rate = jnp.max(flow.rule.effective_rates(0.0).w)
    return jnp.max(jnp.abs(drift(flow, y))) / jnp.where(rate > 0, rate, 1.0)


def with_rates(rule: AbstractRule, lr: Array) -> AbstractRule:
    """`rule` at first-layer rate lr, its other rates scaled along."""
    ratio = lr / rule.lr
    scaled = {
        name: getattr(rule, name) * ratio
        for name in ("lr_second", "lr_bias")
        if getattr(rule, name) is not None
    }
    for name, value in scaled.items():
        rule = eqx.tree_at(lambda r, name=name: getattr(r, name), rule, value)
    return eqx.tree_at(lambda r: r.lr, rule, jnp.asarray(lr, float))


def without_noise(problem: Problem) -> Problem:
    """`problem` with noise-free labels. A multi-index teacher's own noise stays."""
    return eqx.tree_at(lambda p: p.noise, problem, jnp.zeros_like(problem.noise))
