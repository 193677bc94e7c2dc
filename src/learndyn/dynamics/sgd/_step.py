"""One step of SGD on weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._types import Scalar
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule, Sample, Seen


class Parameters(NamedTuple):
    """What SGD moves: the student's weights, second layer and biases (None: there are none)."""

    w: Float[Array, "k n"]
    v: Float[Array, " k"]
    b: Float[Array, " k"] | None


class Gradient(NamedTuple):
    """What the rates multiply, gradients or velocities: None where a layer is not trained."""

    w: Float[Array, "k n"]
    v: Float[Array, " k"] | None
    b: Float[Array, " k"] | None


class LearningState(NamedTuple):
    """Parameters and velocity (None without momentum)."""

    parameters: Parameters
    velocity: Gradient | None


def initial_state(rule: AbstractRule, parameters: Parameters) -> LearningState:
    """The state before the first step: at rest."""
    if rule.momentum is None:
        return LearningState(parameters, None)
    moving = Gradient(
        parameters.w,
        parameters.v if rule.trains_second else None,
        parameters.b if rule.trains_biases else None,
    )
    return LearningState(parameters, jax.tree.map(jnp.zeros_like, moving))


def with_velocity(at_rest: LearningState, velocity: Gradient | None) -> LearningState:
    """The state with this velocity; None: at rest. Raises: ValueError where it does not fit."""
    if velocity is None:
        return at_rest
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    if shapes(at_rest.velocity) != shapes(velocity):
        raise ValueError(
            "velocity must be that of a run of the same rule and sizes, with shapes "
            f"{shapes(at_rest.velocity)} (None: the rule has no momentum); got "
            f"{shapes(velocity)}."
        )
    return at_rest._replace(velocity=velocity)


def sgd_step(
    problem: Problem,
    rule: AbstractRule,
    state: LearningState,
    batch: tuple[Array, ...],
    alpha: Scalar,
    teacher: Float[Array, "m n"],
) -> LearningState:
    """The state after a step on the batch (x, y), or (x, y, draws), at time alpha.

    w <- w - (lr/sqrt n) F x - (lr weight_decay/n) w, v <- v - (lr_second/n) H,
    b <- b - (lr_bias/n) F, with (F, H) the rule's modulation, averaged over the batch; with
    momentum u <- beta u + bracket (decay included), w <- w - lr u, and alike for v and b. A
    spherical rule then sets w_i <- sqrt(n) w_i / |w_i|.
    Source: Goldt et al. 2020, Eqs. (2)-(3).
    """
    n = teacher.shape[1]
    gradient = batch_gradient(problem, rule, state.parameters, batch, teacher)
    rates, beta = rule.step_rates(alpha, n)
    # Heavy-ball momentum (Polyak 1964); without it the gradient itself moves the weights.
    velocity = (
        gradient
        if beta is None
        else jax.tree.map(lambda u, g: beta * u + g, state.velocity, gradient)
    )
    w, v, b = state.parameters
    w = w - rates.w[..., None] * velocity.w  # along the rows, where each unit has its own rate
    if rule.spherical:
        w = w / jnp.sqrt(jnp.sum(w * w, axis=1, keepdims=True) / n)
    parameters = Parameters(
        w,
        _moved(v, rates.v, velocity.v),
        None if b is None else _moved(b, rates.b, velocity.b),
    )
    return LearningState(parameters, None if beta is None else velocity)


def batch_gradient(
    problem: Problem,
    rule: AbstractRule,
    parameters: Parameters,
    samples: tuple[Array, ...],
    teacher: Float[Array, "m n"],
) -> Gradient:
    """The modulation averaged over the batch, scaled as in `sgd_step`, with the decay of w."""
    (w, v, b), (x, y, *drawn) = parameters, samples
    batch, n = x.shape
    lam = x @ w.T / n**0.5
    layers = Layers(v, v[:0], b, None)  # the teacher has already spoken: y
    draws, directions = drawn[0] if drawn else jnp.zeros((batch, 0), x.dtype), None
    if rule.perturbs_weights:
        draws, directions = jnp.zeros((batch, rule.draws_of(len(v))), x.dtype), drawn[0]
    seen = Seen(w @ w.T / n, w @ teacher.T / n) if rule.needs_overlaps else None
    sample = Sample(lam, y, draws, jnp.sum(x * x, axis=1) / n, seen)
    c, dv, dw = rule.modulations(problem, sample, layers)
    if batch == 1:  # an outer product that fuses with the update of w
        c_x = c[0][:, None] * x[0][None, :]
    else:
        c_x = c.T @ x / batch
    if dw is not None:
        c_x = c_x + dw.mean(axis=0) @ w / n**0.5
    if directions is not None:  # forward gradient: its component along random directions
        c_x = jnp.sum(directions * c_x) * directions
    return Gradient(
        c_x / n**0.5 + (rule.weight_decay / n) * w,
        dv.mean(axis=0) / n if rule.trains_second else None,
        c.mean(axis=0) / n if rule.trains_biases else None,
    )


def _moved(parameter: Array, rate: Array | None, velocity: Array | None) -> Array:
    return parameter if rate is None or velocity is None else parameter - rate * velocity
