"""Asymptotic errors at small learning rate: closed forms for every zero-error state."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_finite, require_unbatched
from learndyn._types import RealLike
from learndyn.asymptotics.closed_forms._erf_committee import as_rate, as_units
from learndyn.dynamics import generalisation_error
from learndyn.integrals.piecewise_linear import squared_slope
from learndyn.integrals.split_normal import split_rule
from learndyn.problems import (
    Problem,
    declared,
    derivative,
    is_squared,
    piecewise_linear,
    regularity,
)
from learndyn.rules import AbstractRule, require_gradient
from learndyn.states import Overlaps

_ORDER = 96
"""Gauss-Hermite nodes of <g'**2>. For tanh the relative error is 1e-9 at Q_kk = 1, 2e-6 at 2 and
4e-4 at 4, well below the O(lr) of the formula itself where learning ends."""

_NEAR = 0.01
"""A state whose eg is above this fraction of the mean square of the teacher's output has not
learned: a symmetric plateau has 1.8 % or more."""

_ROUNDING = 1e-12
"""The eg that rounding leaves of zero in a closed form."""


def eg_zero_error_small_lr(
    problem: Problem, rule: AbstractRule, state: Overlaps
) -> Float[Array, ""]:
    """Final eg near a state whose error is zero without noise, at small learning rate.

    Equation: lr noise**2 / 4 sum_i v_i**2 <g'(lambda_i)**2>, lr the effective one, lr / (B (1 -
    beta)). erf: lr noise**2 / (2 pi) sum_i v_i**2 / sqrt(1 + 2 Q_ii), which is Eq. (11) at the
    specialised and Eq. (15) at the denoising state of Goldt et al. (2020); relu: lr noise**2 / 8
    sum_i v_i**2; linear: lr noise**2 / 4 sum_i v_i**2. Piecewise linear activations and biases:
    exactly, too. Others: <g'**2> by 96 Gauss-Hermite nodes, or as many Gauss-Legendre nodes between
    any two places where g' or g'' jumps.

    Range: squared loss, no weight decay, lr small against the critical rate.

    Error: O(lr**2), and O(noise**4) at fixed lr (O(noise**3) for relu); as Q of a state near by is
    off.

    Args:
        problem: its noise is that of the labels; its loss is squared.
        rule: its effective learning rate is lr / (B (1 - beta)).
        state: its Q and v; the formula holds at every zero-error state, also those a random start
            reaches. A trained second layer or biases change nothing at this order.

    Raises:
        ValueError: for a schedule, a batch of states, another loss, weight decay, and, in this
            order, a concrete state whose own eg is not small: above 1 % of the mean square of the
            teacher's output (a symmetric plateau has 1.8 % or more) plus twice the value returned,
            as states that runs with noise have reached fluctuate by so much. A traced state is not
            checked.

    Source:
        Derived here; Eqs. (11), (13) and (15) of Goldt et al. (2020) are special cases.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.01)
        >>> eg = asymptotics.eg_zero_error_small_lr(problem, rule, asymptotics.specialised_state(2))
        >>> round(1e6 * float(eg), 4)  # as eg_specialised_small_lr(2, 0, 0.01, noise=0.1)
        18.3776
    """
    require_gradient(problem, rule, "eg_zero_error_small_lr")
    if callable(rule.lr):
        raise ValueError("eg_zero_error_small_lr needs a number for lr; got a schedule.")
    require_unbatched([("Q", state.Q, 2)], "eg_zero_error_small_lr")
    if not is_squared(problem.loss):
        raise ValueError(f"eg_zero_error_small_lr needs squared loss; got {problem.loss}.")
    if is_concrete(rule.weight_decay) and np.any(np.asarray(rule.weight_decay) != 0):
        raise ValueError(
            "eg_zero_error_small_lr needs weight_decay = 0, since decay moves the state away from "
            f"zero error; got {rule.weight_decay}. Use fixed_point."
        )
    rate = rule.effective_rates(0.0).w / rule.batch_size
    steepness = _squared_slope(problem.student, jnp.diagonal(state.Q), state.b)
    eg = rate * problem.noise**2 / 4 * jnp.sum(state.v**2 * steepness)
    if is_concrete(problem, state, eg):
        _require_small_error(problem, state, eg)
    return eg


def _require_small_error(problem: Problem, state: Overlaps, reached: Array) -> None:
    """eg of a student without second layer is half the mean square of the teacher's output."""
    problem = eqx.tree_at(lambda p: p.noise, problem, jnp.zeros(()))
    silent = eqx.tree_at(lambda s: s.v, state, jnp.zeros_like(state.v))
    own, scale = (float(generalisation_error(problem, s)) for s in (state, silent))
    limit = 2 * _NEAR * scale + 2 * float(jnp.max(reached))
    if not own <= limit + _ROUNDING:
        raise ValueError(
            "eg_zero_error_small_lr needs a state whose eg is zero, or nearly so: at most "
            f"{_NEAR:g} times the mean square of the teacher's output plus twice the eg that noise "
            f"leaves, {limit:.3g}; got a state with eg = {own:.3g}. Take one where learning ends: "
            "specialised_state, denoising_state or the end of a run."
        )


def eg_specialised_small_lr(
    m: RealLike, l: RealLike, lr: RealLike, noise: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """noise**2 lr (l + m / sqrt(3)) / (2 pi); Eq. (11) of Goldt et al. (2020), erf, k = m + l.

    Range: lr much smaller than critical_lr_specialised(m, l).

    Error: O(lr**2); at lr = 0.05, m = 2, l = 0 it is 2 % low.

    Args:
        m: number of teacher units.
        l: number of superfluous student units, k - m.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.

    Raises:
        ValueError: for m < 1, l < 0 or no integers, negative lr or noise.

    Example:
        >>> round(float(asymptotics.eg_specialised_small_lr(m=2, l=0, lr=0.05)), 6)
        0.009189
        >>> round(float(asymptotics.eg_specialised(m=2, l=0, lr=0.05)), 6)
        0.009391
    """
    m, l = as_units(m, "m"), as_units(l, "l", 0)
    lr, noise = as_rate(lr, "lr"), as_rate(noise, "noise")
    return noise**2 * lr * (l + m / 3**0.5) / (2 * jnp.pi)


def eg_denoising_small_lr(
    m: RealLike, z: RealLike, v_teacher: RealLike, lr: RealLike, noise: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """noise**2 lr v_teacher**2 m / (2 sqrt(3) pi z), erf, both layers trained, k = z m.

    Eq. (15) of Goldt et al. (2020) for m = 1, k = z.

    Range: lr v_teacher**2 / z much smaller than critical_lr_specialised(m).

    Error: O(lr**2 noise**2).

    Args:
        m: number of teacher units.
        z: student units for each teacher unit, k = z m.
        v_teacher: the teacher's second-layer weights, all the same.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.

    Raises:
        ValueError: for m or z < 1 or no integers, negative lr or noise.

    Example:
        >>> round(float(asymptotics.eg_denoising_small_lr(1, 4, 1.0, lr=0.1)), 6)
        0.002297
    """
    m, z = as_units(m, "m"), as_units(z, "z")
    lr, noise = as_rate(lr, "lr"), as_rate(noise, "noise")
    v_teacher = as_float(v_teacher, "v_teacher")
    require_finite(v_teacher=v_teacher)
    return noise**2 * lr * v_teacher**2 * m / (2 * 3**0.5 * jnp.pi * z)


def eg_normalised_small_lr(
    k: RealLike, lr: RealLike, noise: RealLike = 1.0, *, activation: str = "erf"
) -> Float[Array, "*shape"]:
    """Final eg of a committee that averages, v_i = 1/k, only the first layer trained.

    Equation: <g'**2> lr noise**2 / (4 k): erf (k = z m students of a teacher with v = 1/m, unit
    norms) lr noise**2 / (2 sqrt(3) pi k); relu lr noise**2 / (8 k); linear lr noise**2 / (4 k),
    exactly `eg_linear(lr, noise, v=ones(k) / k)`.

    Exact in lr, for k = z m: erf `eg_denoising(m, z, 1 / m, lr, noise)`.

    Range: lr / k much smaller than the critical rate of m units with v = 1.

    Error: O(lr**2).

    Args:
        k: number of student units.
        lr: learning rate of the first layer, >= 0.
        noise: standard deviation of the label noise, >= 0.
        activation: "erf", "relu" or "linear".

    Raises:
        ValueError: for another activation, k < 1 or no integer, negative lr or noise.

    Source:
        Goldt et al. (2020), section 3: v = 1/k lowers the effective learning rate.

    Example:
        >>> float(asymptotics.eg_normalised_small_lr(4, lr=0.16, activation="linear"))
        0.01
    """
    # <g'**2> at unit norm
    steepness = {"erf": 2 / (jnp.pi * 3**0.5), "relu": 0.5, "linear": 1.0}
    if activation not in steepness:
        raise ValueError(f'activation must be "erf", "relu" or "linear"; got {activation!r}.')
    k, lr, noise = as_units(k, "k"), as_rate(lr, "lr"), as_rate(noise, "noise")
    return steepness[activation] * lr * noise**2 / (4 * k)


def _squared_slope(
    g, norms: Float[Array, " k"], b: Float[Array, " k"] | None
) -> Float[Array, " k"]:
    """<g'(lambda_i + b_i)**2> with lambda_i ~ N(0, norms_i)."""
    shift = jnp.zeros_like(norms) if b is None else b
    integrals = declared(g, "integrals")
    if integrals is not None:
        return integrals.squared_slope(norms, shift)
    bent = piecewise_linear(g)
    if bent is not None:
        return squared_slope(bent, norms, shift)
    kinks = _kinks(g)
    if kinks is not None:
        return _split_squared_slope(g, norms, shift, kinks)
    # Gauss and Hermite's rule.
    x, weight = np.polynomial.hermite_e.hermegauss(_ORDER)
    fields = shift[:, None] + jnp.sqrt(norms)[:, None] * x
    return derivative(g, fields) ** 2 @ (weight / weight.sum())


def _kinks(g: Any) -> np.ndarray | None:
    """Where g' or g'' jumps; None where neither does, or nothing is known."""
    places = regularity(g)
    found = np.array([*places.jumps, *places.kinks, *places.bends])
    return found if len(found) and np.isfinite(found).all() else None


def _split_squared_slope(
    g: Any, norms: Float[Array, " k"], shift: Float[Array, " k"], kinks: np.ndarray
) -> Float[Array, " k"]:
    """<g'(lambda_i + b_i)**2> in pieces, between which g' is smooth."""
    scale = jnp.sqrt(jnp.where(norms > 0, norms, 1.0))[:, None]
    x, weight = split_rule((jnp.asarray(kinks) - shift[:, None]) / scale, _ORDER)
    fields = shift[:, None] + jnp.sqrt(norms)[:, None] * x
    return jnp.sum(derivative(g, fields) ** 2 * weight, axis=1)
