"""The numbers in which a flow is integrated: the parameters, or the dual variable."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from learndyn.flow._loss import loss_of, prepared
from learndyn.flow._objective import Objective
from learndyn.flow.models import AbstractLinearModel, DiagonalNetwork

_LARGEST_DUAL = 700.0
"""exp(s) overflows beyond s = 709. Trial stages of a solver that go further are cut off here; the
flow itself reaches s = log(1/alpha) + O(1), below 700 for every alpha that float64 holds."""

_LARGEST_SLOPE = 1e150
"""A trial stage whose slope exceeds this has overflowed, or is about to: no flow that float64 can
follow is that fast. It becomes NaN, which makes Diffrax try a shorter step; of infinite trial
values it forms ∞/∞, and repeats the step until `max_steps`."""

_NEAR_START = 1.0
"""Below this |s| the hyperbolic sine is a series, which keeps its digits; above it the exponentials
themselves are added, of which one may be far larger than the other."""

_SINH = tuple(1.0 / math.factorial(2 * k + 1) for k in range(10))
"""Taylor coefficients of sinh(s)/s in s²: what is left out is below 1/21! = 2e-20 for |s| <= 1."""


class Coordinates(NamedTuple):
    """A flow y' = drift(y).

    start: (p,) y at the first time. sizes: (p,) what an absolute tolerance is measured against.
    kind: of the run. numbers: from y to the trained numbers. velocity: from y to theta', where
    that is part of the state.
    """

    kind: str
    start: Float[Array, " p"]
    sizes: Float[Array, " p"]
    drift: Callable[[Array], Array]
    numbers: Callable[[Array], Any]
    velocity: Callable[[Array], Any] | None = None


def parameters(objective: Objective) -> Coordinates:
    """The flow of the parameters themselves: theta' = -lr dL/d theta - decay theta."""
    start, unravel = ravel_pytree(objective.numbers)
    drift = lambda y: _followed(ravel_pytree(objective.drift(unravel(y)))[0])
    return Coordinates("flow", start, _sizes(objective.numbers), drift, unravel)


def heavy_ball(objective: Objective, mass: Array) -> Coordinates:
    """mass theta'' + theta' = -lr dL/d theta - decay theta, from rest; y = (theta, theta')."""
    plain = parameters(objective)
    count = plain.start.shape[0]
    numbers = lambda y: plain.numbers(y[:count])
    velocity = lambda y: plain.numbers(y[count:])

    def drift(y: Array) -> Array:
        return jnp.concatenate([y[count:], (plain.drift(y[:count]) - y[count:]) / mass])

    start = jnp.concatenate([plain.start, jnp.zeros(count)])
    sizes = jnp.concatenate([plain.sizes, plain.sizes])
    return Coordinates("heavy ball", start, sizes, drift, numbers, velocity)


def dual(objective: Objective) -> Coordinates:
    """The flow of a diagonal network in s_i' = -sqrt(lr_u lr_v) dL/dbeta_i, s = 0 at the start.

    With q = sqrt(lr_u/lr_v), u + q v grows as exp(s) and u - q v shrinks as exp(-s), which is exact
    whatever their scale (Woodworth et al. 2020). Where a rate is 0, s' = -dL/dbeta in place of it,
    and the other layer moves in proportion to s.
    """
    model, rates = objective.model, objective.rates
    data = prepared(objective.data)
    speed = jnp.sqrt(rates.u * rates.v)
    both = speed > 0
    u_per_v = jnp.sqrt(rates.u / jnp.where(both, rates.v, 1.0))
    v_per_u = jnp.sqrt(rates.v / jnp.where(both, rates.u, 1.0))
    pace = jnp.where(both, speed, 1.0)

    def at(s: Array) -> DiagonalNetwork:
        u = jnp.where(both, _turned(model.u, u_per_v * model.v, s), model.u + rates.u * model.v * s)
        v = jnp.where(both, _turned(model.v, v_per_u * model.u, s), model.v + rates.v * model.u * s)
        return DiagonalNetwork(u, v)

    def drift(s: Array) -> Array:
        point = at(s)
        gradient = jax.grad(lambda beta: loss_of(_Vector(beta), data))(point.u * point.v)
        return _followed(-pace * gradient)

    start = jnp.zeros(model.u.shape)
    return Coordinates("dual", start, jnp.ones_like(start), drift, at)


class _Vector(AbstractLinearModel):
    """x -> beta.x."""

    beta: Array

    def __call__(self, x: Array) -> Array:
        return self.beta @ x

    def end_to_end(self) -> Array:
        return self.beta[None, :]


def _followed(slope: Array) -> Array:
    """The slope, NaN where it has overflowed."""
    return jnp.where(jnp.abs(slope) < _LARGEST_SLOPE, slope, jnp.nan)


def _turned(start: Array, partner: Array, s: Array) -> Array:
    """start cosh(s) + partner sinh(s), without cancellation of the two."""
    # One exponential serves both layers; more of them would be most of a large batch's time.
    grown = jnp.exp(jnp.clip(s, -_LARGEST_DUAL, _LARGEST_DUAL))
    small = jnp.clip(s, -_NEAR_START, _NEAR_START)
    near = start * 0.5 * (grown + 1 / grown) + partner * small * _horner(_SINH, small**2)
    far = 0.5 * (start + partner) * grown + 0.5 * (start - partner) / grown
    return jnp.where(jnp.abs(s) < _NEAR_START, near, far)


def _horner(coefficients: tuple[float, ...], z: Array) -> Array:
    """The polynomial with these coefficients, the constant first."""
    value = jnp.full_like(z, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * z + coefficient
    return value


def _sizes(numbers: Any) -> Float[Array, " p"]:
    """The root mean square of every layer at the start, where it is 0 the smallest of the others.

    The numbers of a layer share a size. With all layers at zero there is none: 1.
    """
    sizes = jnp.stack([jnp.sqrt(jnp.mean(leaf**2)) for leaf in jax.tree.leaves(numbers)])
    smallest = jnp.min(jnp.where(sizes > 0, sizes, jnp.inf))
    smallest = jnp.where(jnp.isfinite(smallest), smallest, 1.0)
    sizes = jax.lax.stop_gradient(jnp.where(sizes > 0, sizes, smallest))
    leaves = jax.tree.leaves(numbers)
    return jnp.concatenate([jnp.full(leaf.size, sizes[i]) for i, leaf in enumerate(leaves)])
