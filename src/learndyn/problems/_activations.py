"""Activation functions g of a unit's local field.

Any elementwise callable works as well; these have names because the literature uses them
and because some have closed-form averages. At a kink the derivative is 0.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.special import scaled_erf, scaled_erf_derivative
from learndyn._types import ScalarFunction


class AbstractActivation(eqx.Module):
    """An elementwise function g. `derivative` is automatic unless a class knows better."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """g(x), elementwise."""

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """g'(x), elementwise; 0 at a kink."""
        return elementwise_derivative(self, x)


class Erf(AbstractActivation):
    """g(x) = erf(x/sqrt 2), the sigmoid of Saad & Solla (1995)."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return scaled_erf(x)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return scaled_erf_derivative(x)


class ReLU(AbstractActivation):
    """g(x) = max(0, x)."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.relu(x)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


class Linear(AbstractActivation):
    """g(x) = x."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.ones_like(x)


class Quadratic(AbstractActivation):
    """g(x) = x**2, as in phase retrieval."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x * x


class Tanh(AbstractActivation):
    """g(x) = tanh x."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.tanh(x)


class Sign(AbstractActivation):
    """g(x) = sign x with sign(0) = 1: for teachers, since its derivative vanishes."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x >= 0, 1.0, -1.0).astype(x.dtype)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.zeros_like(x)


def elementwise_derivative(g: ScalarFunction, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """g'(x) by forward differentiation; g must act on each element alone."""
    return jax.jvp(g, (x,), (jnp.ones_like(x),))[1]


def derivative(g: ScalarFunction, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """g'(x), by the activation's own formula where it has one."""
    if isinstance(g, AbstractActivation):
        return g.derivative(x)
    return elementwise_derivative(g, x)
