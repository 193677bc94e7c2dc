"""First-order response of a fixed point to a parameter: label noise, weight decay, ..."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learndyn._checks import is_concrete
from learndyn._numerics.pseudo_inverse import decompose, pseudo_solve, secular_part
from learndyn._readable import ReadableResult
from learndyn.asymptotics.fixed_points._flow import (
    AT_REST,
    AveragesOption,
    drift,
    error_of,
    fixed_flow,
    jacobian,
    relative_speed,
    require_fixed_point,
    require_regular_relu,
    without_noise,
)
from learndyn.asymptotics.fixed_points._linearise import Direction, as_direction
from learndyn.averages import is_linear_in_error
from learndyn.dynamics import OverlapFlow
from learndyn.problems import Problem, is_squared
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps

Change = Callable[[Array], tuple[Problem, AbstractRule]]

_NAMED = ("noise_variance", "weight_decay", "lr", "lr_second", "lr_bias")
_UNBALANCED = 1e-6
"""Largest relative residual of J m1 = -s that counts as rounding: singular values are cut at 1e-10,
and what the cut leaves is well below this."""

_TINY = 1e-300
"""Keeps a division by zero away where the parameter changes nothing."""


class Response(ReadableResult):
    """d/dp of a fixed point and of functions of it, with p the parameter.

    Attributes:
        Q, R, v, b: responses of the overlaps, of least norm where directions are neutral.
        eg: response of the generalisation error.
        observable: that of the given observable, or None.
        drift: the part of the push along neutral directions that nothing balances: the state moves
            on along them at this rate per unit alpha and unit p (0 in symmetric states).
        neutral: how many directions are neutral.

    Example:
        >>> problem, rule, state = ld.Problem(), ld.SGD(lr=0.4), asymptotics.specialised_state(2)
        >>> response = asymptotics.perturb(problem, rule, state, "noise_variance")
        >>> response.Q.shape, int(response.neutral)
        ((2, 2), 0)
    """

    Q: Float[Array, "k k"]
    R: Float[Array, "k m"]
    v: Float[Array, " k"]
    b: Float[Array, " k"] | None
    eg: Float[Array, ""]
    observable: Array | None
    drift: Direction
    neutral: Int[Array, ""]


def perturb(
    problem: Problem,
    rule: AbstractRule,
    state: Overlaps,
    parameter: str | Change = "noise_variance",
    *,
    observable: Callable[[Overlaps], Array] | None = None,
    averages: AveragesOption = None,
) -> Response:
    """First-order response of the fixed point `state` of (problem, rule) to a parameter p.

    Equation: J m1 = -(s - P s), J = df/dy, s = df/dp, P the projector on neutral directions; the
    solution of least norm.

    Error: O(p**2) in each answer; O(p**1.5) in the noise variance for ReLU.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        state: a fixed point of (problem, rule).
        parameter: "noise_variance" (sigma**2), "weight_decay", "lr", "lr_second", "lr_bias", or a
            function of a small number e that returns (problem, rule) there, with e = 0 the given
            ones.
        observable: any differentiable function of the overlaps.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Raises:
        ValueError: where `state` is not a fixed point of (problem, rule), where the push along a
            neutral direction grows without bound, for a ReLU unit without weights, and for unknown
            parameters; traced input gives NaN instead.

    Source:
        Goldt et al. (2020), section 2 and supplement C, for any problem and rule.

    Example:
        >>> problem, rule, state = ld.Problem(), ld.SGD(lr=0.4), asymptotics.specialised_state(2)
        >>> response = asymptotics.perturb(problem, rule, state, "noise_variance")
        >>> round(float(response.eg), 6), round(float(asymptotics.eg_specialised(2, 0, 0.4)), 6)
        (0.088816, 0.088816)
    """
    change = _as_change(parameter, problem, rule)
    require_regular_relu(problem, state, "perturb")
    # A change of lr is one of a single rate.
    per_unit = callable(parameter) or parameter == "noise_variance"
    setting = {"function": "perturb", "averages": averages, "per_unit": per_unit}
    flow = fixed_flow(problem, rule, state, **setting)
    y = flow.pack(state)
    require_fixed_point(flow, y, "perturb")
    response, unbalanced = _respond(flow, y, change, observable)
    if is_concrete(unbalanced) and bool(unbalanced > _UNBALANCED):
        raise ValueError(
            "perturb found no first-order response: the change pushes along a neutral direction "
            f"that feeds back on itself (relative residual {float(unbalanced):.2g} of J m1 = -s). "
            "Follow the dynamics with solve_ode, or find the new fixed point with fixed_point."
        )
    return response


def eg_response(
    problem: Problem, rule: AbstractRule, state: Overlaps, *, averages: AveragesOption = None
) -> Float[Array, ""]:
    """d eg / d noise**2 at a noiseless fixed point, by perturbation theory, for any problem.

    Error: eg = eg(state) + noise**2 (this) + O(noise**4) (ReLU: O(noise**3)), at fixed rates.

    Where directions are neutral and noise pushes along them, this is the quasi-stationary value at
    `state`.

    Range: states that attract, lr < critical_lr; from there on it is no error that learning ends
    at, and where it is negative it is refused.

    Args:
        problem: its noise is set to 0.
        rule: its rates, batch size and momentum stay as they are.
        state: a fixed point without noise.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Raises:
        ValueError: as `perturb`, a ReLU unit with Q_ii = 0 in particular, and for a negative
            answer; traced input gives NaN instead.

    Source:
        Goldt et al. (2020), Eqs. (10) and (15), for every M, L, lr.

    Example:
        >>> problem, rule, state = ld.Problem(), ld.SGD(lr=0.4), asymptotics.specialised_state(2)
        >>> response = asymptotics.eg_response(problem, rule, state)
        >>> round(float(response), 6), round(float(asymptotics.eg_specialised(2, 0, 0.4)), 6)
        (0.088816, 0.088816)
    """
    eg = perturb(without_noise(problem), rule, state, averages=averages).eg
    if is_concrete(eg) and bool(eg < 0):
        raise ValueError(
            f"eg_response needs a state that attracts; got d eg / d noise**2 = {float(eg):.4g}, as "
            "beyond the rate at which it diverges. Lower lr: critical_lr says how far."
        )
    return jnp.where(eg < 0, jnp.nan, eg)


@eqx.filter_jit
def _respond(
    flow: OverlapFlow,
    y: Float[Array, " p"],
    change: "_Change",
    observable: Callable[[Overlaps], Array] | None,
) -> tuple[Response, Float[Array, ""]]:
    source = change.source(flow, y)
    matrix = jacobian(flow, y)
    parts = decompose(matrix)
    # Solvability (Fredholm): what pushes along neutral directions cannot be balanced.
    secular = secular_part(parts, source)
    # First-order perturbation theory: J m1 = -(s - P s), the solution of least norm
    moved = pseudo_solve(parts, secular - source)
    scale = jnp.linalg.norm(source) + _TINY
    unbalanced = jnp.linalg.norm(matrix @ moved + source - secular) / scale
    answered = (unbalanced <= _UNBALANCED) & (relative_speed(flow, y) <= AT_REST)
    moved = jnp.where(answered, moved, jnp.nan)

    def change_of(function: Callable[[Overlaps], Array]) -> Array:
        return jax.jvp(lambda y: function(flow.unpack(y)), (y,), (moved,))[1]

    response = Response(
        *as_direction(flow, moved),
        eg=change_of(lambda state: error_of(flow, state)),
        observable=None if observable is None else change_of(observable),
        drift=as_direction(flow, secular),
        neutral=jnp.sum(parts.neutral),
    )
    return response, unbalanced


class _Change(eqx.Module):
    """df/dp for a named parameter, or for a function of a small number."""

    name: str = eqx.field(static=True)
    function: Callable | None = eqx.field(static=True)

    def source(self, flow: OverlapFlow, y: Float[Array, " p"]) -> Float[Array, " p"]:
        if self.name == "noise_variance":
            return _noise_source(flow, y)

        def moved(e: Array) -> Array:
            problem, rule = self._at(flow, e)
            parts = (lambda f: (f.problem, f.rule), flow, (problem, rule))
            return drift(eqx.tree_at(*parts), y)

        return jax.jvp(moved, (jnp.zeros(()),), (jnp.ones(()),))[1]

    def _at(self, flow: OverlapFlow, e: Array) -> tuple[Problem, AbstractRule]:
        if self.function is not None:
            return self.function(e)
        rule = eqx.tree_at(
            lambda r: getattr(r, self.name), flow.rule, getattr(flow.rule, self.name) + e
        )
        return flow.problem, rule


def _noise_source(flow: OverlapFlow, y: Float[Array, " p"]) -> Float[Array, " p"]:
    """df/d sigma**2. Squared loss makes f linear in sigma**2; else f is even in sigma, so that
    at sigma = 0 it is half the second derivative."""

    def at(sigma: Array) -> Array:
        return drift(eqx.tree_at(lambda f: f.problem.noise, flow, sigma), y)

    sigma = flow.problem.noise
    if is_squared(flow.problem.loss) and is_linear_in_error(flow.problem, flow.rule):
        return at(jnp.ones_like(sigma)) - at(jnp.zeros_like(sigma))

    def slope(sigma: Array) -> Array:
        return jax.jvp(at, (sigma,), (jnp.ones_like(sigma),))[1]

    # d/d sigma**2 is (d/d sigma) / (2 sigma), and at sigma = 0 its limit by l'Hopital's rule.
    first, second = jax.jvp(slope, (sigma,), (jnp.ones_like(sigma),))
    return jnp.where(sigma > 0, first / jnp.where(sigma > 0, 2 * sigma, 1.0), 0.5 * second)


def _as_change(parameter: str | Change, problem: Problem, rule: AbstractRule) -> _Change:
    if callable(parameter):
        return _Change("function", parameter)
    if parameter not in _NAMED:
        raise ValueError(
            f"parameter must be one of {', '.join(_NAMED)}, or a function of a small number that "
            f"returns (problem, rule); got {parameter!r}."
        )
    if parameter == "noise_variance" and problem.has_multi_index_teacher:
        raise ValueError(
            "a MultiIndex teacher makes its own noise, so there is no noise variance to change; "
            "give perturb a function of a small number that returns (problem, rule)."
        )
    if parameter in ("lr_second", "lr_bias") and getattr(rule, parameter) is None:
        raise ValueError(f"{parameter} is None: that layer is not trained, so nothing responds.")
    return _Change(parameter, None)
