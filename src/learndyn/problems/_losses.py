"""Losses of one sample, functions of the student's output phi and the label y.

A loss with `classification = True` has labels y = sign(phi* + sigma zeta) and its
generalisation error is a probability of disagreement; every other loss is regression.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._types import Scalar, ScalarFunction


class AbstractLoss(eqx.Module):
    """A loss (phi, y) -> number; `slope` is its derivative with respect to phi, 0 at a kink."""

    classification: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of one sample."""

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        """d loss / d phi."""
        return jax.grad(self)(phi, y)


class Squared(AbstractLoss):
    """(phi - y)**2 / 2."""

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return 0.5 * (phi - y) ** 2

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        return phi - y


class Logistic(AbstractLoss):
    """log(1 + exp(-y phi)), labels y = +-1."""

    classification: ClassVar[bool] = True

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.softplus(-y * phi)


class Hinge(AbstractLoss):
    """max(0, 1 - y phi), labels y = +-1."""

    classification: ClassVar[bool] = True

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.relu(1.0 - y * phi)


class Perceptron(AbstractLoss):
    """max(0, -y phi), labels y = +-1."""

    classification: ClassVar[bool] = True

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.relu(-y * phi)


def is_classification(loss: ScalarFunction) -> bool:
    """Whether labels are signs: a user's own loss says so by `classification = True`."""
    fn = getattr(loss, "fn", loss)
    return bool(getattr(fn, "classification", False))


def slope(loss: ScalarFunction, phi: Scalar, y: Scalar) -> Scalar:
    """d loss / d phi, by the loss's own formula where it has one."""
    if isinstance(loss, AbstractLoss):
        return loss.slope(phi, y)
    return jax.grad(loss)(phi, y)


def label_sign(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sign x with sign(0) = 1."""
    return jnp.where(x >= 0, 1.0, -1.0).astype(x.dtype)
