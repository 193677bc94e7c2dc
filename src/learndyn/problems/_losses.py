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
from learndyn.problems._functions import declared
from learndyn.problems._regularity import SMOOTH, Regularity


class AbstractLoss(eqx.Module):
    """A loss (phi, y) -> number; `slope` is its derivative with respect to phi, 0 at a kink.

    A class declares what is known of it; whatever it leaves out is measured.

    name: how the command line calls it.
    classification: whether labels are signs.
    regularity: where the loss and its derivatives jump, as a function of phi at y = 1.
    is_squared: whether the slope is phi - y, of which there are closed-form averages.
    """

    name: ClassVar[str | None] = None
    classification: ClassVar[bool] = False
    regularity: ClassVar[Regularity | None] = None
    is_squared: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of one sample."""

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        """d loss / d phi."""
        return jax.grad(self)(phi, y)


class Squared(AbstractLoss):
    """(phi - y)**2 / 2."""

    name: ClassVar[str] = "squared"
    regularity: ClassVar[Regularity] = SMOOTH
    is_squared: ClassVar[bool] = True

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return 0.5 * (phi - y) ** 2

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        return phi - y


class Logistic(AbstractLoss):
    """log(1 + exp(-y phi)), labels y = +-1."""

    name: ClassVar[str] = "logistic"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = SMOOTH

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.softplus(-y * phi)


class Hinge(AbstractLoss):
    """max(0, 1 - y phi), labels y = +-1."""

    name: ClassVar[str] = "hinge"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = Regularity(kinks=(1.0,))

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.relu(1.0 - y * phi)


class Perceptron(AbstractLoss):
    """max(0, -y phi), labels y = +-1."""

    name: ClassVar[str] = "perceptron"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = Regularity(kinks=(0.0,))

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.relu(-y * phi)


def is_classification(loss: ScalarFunction) -> bool:
    """Whether labels are signs: a user's own loss says so by `classification = True`."""
    fn = getattr(loss, "fn", loss)
    return bool(getattr(fn, "classification", False))


def is_squared(loss: ScalarFunction) -> bool:
    """Whether the loss declares that its slope is phi - y."""
    return bool(declared(loss, "is_squared"))


def slope(loss: ScalarFunction, phi: Scalar, y: Scalar) -> Scalar:
    """d loss / d phi, by the loss's own formula where it has one."""
    if isinstance(loss, AbstractLoss):
        return loss.slope(phi, y)
    return jax.grad(loss)(phi, y)


def label_sign(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sign x with sign(0) = 1."""
    return jnp.where(x >= 0, 1.0, -1.0).astype(x.dtype)
