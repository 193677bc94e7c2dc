"""Which fixed points attract, and up to which learning rate."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from learndyn._checks import is_concrete
from learndyn._numerics.matrix_pencil import largest_stable_rate
from learndyn._readable import ReadableResult
from learndyn.asymptotics.fixed_points._continuation import follow
from learndyn.asymptotics.fixed_points._flow import (
    AT_REST,
    AveragesOption,
    fixed_flow,
    jacobian,
    relative_speed,
    require_fixed_point,
    require_regular_relu,
    with_rates,
    without_noise,
)
from learndyn.asymptotics.fixed_points._linearise import linearise
from learndyn.dynamics import OverlapFlow
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps

_MARGINAL = 1e-7
"""A real part within this times the largest eigenvalue of 0 counts as neither sign: where two
neutral eigenvalues meet, a rounding of 1e-15 of the matrix moves them by its square root."""


class Stability(ReadableResult):
    """Growth and decay near a fixed point, per unit alpha.

    Attributes:
        stable: whether no perturbation grows (neutral ones may stay).
        growth: the largest real part.
        unstable, neutral: how many eigenvalues have a positive, a vanishing real part.
        eigenvalues: (p,), the largest real part first.
        eigenvectors: (p, p), in columns.

    Example:
        >>> state = asymptotics.specialised_state(2)
        >>> found = asymptotics.stability(ld.Problem(), ld.SGD(lr=0.4), state)
        >>> int(found.unstable), np.round(found.eigenvalues.real[:2], 4)
        (0, Array([-0.0177, -0.0177], dtype=float64))
    """

    stable: Bool[Array, ""]
    growth: Float[Array, ""]
    unstable: Int[Array, ""]
    neutral: Int[Array, ""]
    eigenvalues: Complex[Array, " p"]
    eigenvectors: Complex[Array, "p p"]

    unshown: ClassVar[tuple[str, ...]] = ("eigenvectors",)


def stability(
    problem: Problem, rule: AbstractRule, state: Overlaps, *, averages: AveragesOption = None
) -> Stability:
    """Linear stability of the fixed point `state` of (problem, rule), at its noise and rates.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        state: a fixed point, at the problem's noise and the rule's rates.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Raises:
        ValueError: where `state` is not a fixed point, and as `linearise`; where it is traced,
            growth is NaN and `stable` False instead.

    Source:
        Saad & Solla, PRE 52, 4225 (1995), for any problem.

    Example:
        >>> state = asymptotics.specialised_state(2)
        >>> found = asymptotics.stability(ld.Problem(), ld.SGD(lr=0.4), state)
        >>> bool(found.stable), round(float(found.growth), 4)
        (True, -0.0177)
    """
    near = linearise(problem, rule, state, averages=averages)
    require_fixed_point(near.flow, near.flow.pack(state), "stability")
    at_rest = relative_speed(near.flow, near.flow.pack(near.state)) <= AT_REST
    real = near.eigenvalues.real
    margin = _MARGINAL * jnp.max(jnp.abs(near.eigenvalues))
    unstable = jnp.sum(real > margin)
    return Stability(
        stable=at_rest & (unstable == 0),
        growth=jnp.where(at_rest, real[0], jnp.nan),
        unstable=unstable,
        neutral=jnp.sum(jnp.abs(real) <= margin),
        eigenvalues=near.eigenvalues,
        eigenvectors=near.eigenvectors,
    )


def critical_lr(
    problem: Problem, rule: AbstractRule, state: Overlaps, *, averages: AveragesOption = None
) -> Float[Array, ""]:
    """The largest learning rate of the first layer at which a fixed point is stable.

    Equation: a state that rests at every rate (zero error, no decay) has the Jacobian lr A + lr**2
    B exactly; the answer is the smallest positive lr at which an eigenvalue leaves the left half
    plane, from the pencil (A, -B) without its common null space, and a scan for complex pairs. Any
    other state moves with lr: it is followed, by continuation from the rule's lr, to where it loses
    stability or ends.

    Error: about 1e-10 relative for closed forms (1e-7 by continuation where directions are neutral,
    1e-6 where the state runs off to infinity, as that of one erf unit that learns two does at pi /
    arcsin(1/3)).

    Concrete values only: no jit, vmap or grad.

    Args:
        problem: its noise is set to 0.
        rule: lr_second and lr_bias scale along with lr; batch size, momentum and decay are the
            rule's.
        state: a fixed point without noise, at the rule's rates.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Returns:
        The rate; inf where nothing is lost up to 1e6 times the natural scale; 0 where the state is
        unstable however small the rate.

    Raises:
        ValueError: where `state` is not a fixed point, for lr = 0, rates for each unit, schedules,
            traced values, a ReLU unit without weights.

    Source:
        Saad & Solla, PRE 52, 4225 (1995), section V; Goldt et al. (2020) for k > m.

    Example:
        >>> state = asymptotics.specialised_state(2)
        >>> limit = asymptotics.critical_lr(ld.Problem(), ld.SGD(lr=0.4), state)
        >>> round(float(limit), 4), round(float(asymptotics.critical_lr_specialised(2)), 4)
        (2.3068, 2.3068)
    """
    if not is_concrete(problem, rule, state):
        raise ValueError(
            "critical_lr searches, so it needs concrete values: call it outside jit, vmap and "
            "grad, in a Python loop over what varies."
        )
    if eqx.is_array(rule.lr) and rule.lr.ndim:
        raise ValueError(
            "critical_lr looks for one rate of the first layer; got rates for each unit, of shape "
            f"{rule.lr.shape}. Ask `stability` at the rates of interest."
        )
    require_regular_relu(problem, state, "critical_lr")
    setting = {"function": "critical_lr", "averages": averages}
    flow = fixed_flow(without_noise(problem), rule, state, **setting)
    if not float(rule.lr) > 0:
        raise ValueError("critical_lr scales all rates with lr, so rule.lr must be > 0; got 0.")
    y = flow.pack(state)
    require_fixed_point(flow, y, "critical_lr")
    # At rest at two rates is at rest at all: the drift is lr a + lr**2 b.
    twice = at_rate(flow, 2 * rule.lr)
    if rule.has_slow_momentum or float(relative_speed(twice, y)) > AT_REST:
        return jnp.asarray(
            follow(fixed_flow(without_noise(problem), rule, state, moving=True, **setting), y)
        )
    # J(lr) / lr = A + lr B, from two rates.
    one, two = (np.asarray(_jacobian(at_rate(flow, jnp.asarray(x)), y)) for x in (1.0, 2.0))
    return jnp.asarray(largest_stable_rate(2 * one - two / 2, two / 2 - one))


def at_rate(flow: OverlapFlow, lr: Float[Array, ""]) -> OverlapFlow:
    """`flow` with first-layer rate lr and the other rates scaled along."""
    return eqx.tree_at(lambda f: f.rule, flow, with_rates(flow.rule, jnp.asarray(lr, float)))


_jacobian = eqx.filter_jit(jacobian)
