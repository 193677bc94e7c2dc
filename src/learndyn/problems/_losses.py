"""Losses of one sample, functions of the student's output phi and the label y.

A loss with `classification = True` has labels y = sign(phi* + sigma zeta) and its
generalisation error is a probability of disagreement; every other loss is regression.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._readable import Readable
from learndyn._types import Scalar, ScalarFunction
from learndyn.integrals import half_planes
from learndyn.problems._functions import declared
from learndyn.problems._regularity import SMOOTH, Regularity


class AbstractLoss(Readable):
    """A loss (phi, y) -> number; `slope` is its derivative with respect to phi, 0 at a kink.

    A class declares what is known of it; whatever it leaves out is measured.

    Attributes:
        name: how the command line calls it.
        classification: whether labels are signs.
        regularity: where the loss and its derivatives jump, as a function of phi at y = 1.
        is_squared: whether the slope is phi - y, of which there are closed-form averages.
        wedge_averages: closed-form averages of the slope for a linear unit that learns the sign of
            one field: a function of `learndyn.integrals.half_planes`, wrapped in staticmethod.

    Example:
        >>> class Cube(ld.AbstractLoss):
        ...     def __call__(self, phi, y):
        ...         return jnp.abs(phi - y) ** 3
        >>> Cube().slope(jnp.array(2.0), jnp.array(0.0))
        Array(12., dtype=float64, weak_type=True)
    """

    name: ClassVar[str | None] = None
    classification: ClassVar[bool] = False
    regularity: ClassVar[Regularity | None] = None
    is_squared: ClassVar[bool] = False
    wedge_averages: ClassVar[Callable | None] = None

    @abc.abstractmethod
    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        """The loss of one sample."""

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        """d loss / d phi."""
        return jax.grad(self)(phi, y)


class Squared(AbstractLoss):
    """(phi - y)**2 / 2.

    Example:
        >>> phi, y = jnp.array(2.0), jnp.array(0.5)
        >>> float(ld.Squared()(phi, y)), float(ld.Squared().slope(phi, y))
        (1.125, 1.5)
    """

    name: ClassVar[str] = "squared"
    regularity: ClassVar[Regularity] = SMOOTH
    is_squared: ClassVar[bool] = True

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return 0.5 * (phi - y) ** 2

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        return phi - y


class Logistic(AbstractLoss):
    """log(1 + exp(-y phi)), labels y = +-1.

    Example:
        >>> phi, y = jnp.array(1.0), jnp.array(-1.0)
        >>> round(float(ld.Logistic()(phi, y)), 4)
        1.3133
        >>> ld.Logistic().classification
        True
    """

    name: ClassVar[str] = "logistic"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = SMOOTH

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.softplus(-y * phi)


class Hinge(AbstractLoss):
    """max(0, 1 - y phi), labels y = +-1.

    Example:
        >>> phi, y = jnp.array(0.25), jnp.array(1.0)
        >>> float(ld.Hinge()(phi, y)), float(ld.Hinge()(8 * phi, y))
        (0.75, 0.0)
    """

    name: ClassVar[str] = "hinge"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = Regularity(kinks=(1.0,))

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.relu(1.0 - y * phi)


class Perceptron(AbstractLoss):
    """max(0, -y phi), labels y = +-1.

    Example:
        >>> phi, y = jnp.array(0.25), jnp.array(1.0)
        >>> float(ld.Perceptron()(phi, y)) == 0.0, float(ld.Perceptron()(phi, -y))
        (True, 0.25)
    """

    name: ClassVar[str] = "perceptron"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = Regularity(kinks=(0.0,))
    wedge_averages: ClassVar[Callable] = staticmethod(half_planes.perceptron)

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return jax.nn.relu(-y * phi)


class Hebb(AbstractLoss):
    """-y phi, labels y = +-1: its gradient is Hebb's rule, every sample counts alike.

    The loss has no lower bound, so the weights grow without end; their direction converges.

    Example:
        >>> phi, y = jnp.array(0.25), jnp.array(1.0)
        >>> float(ld.Hebb()(phi, y)), float(ld.Hebb()(phi, -y))
        (-0.25, 0.25)
    """

    name: ClassVar[str] = "hebb"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = SMOOTH
    wedge_averages: ClassVar[Callable] = staticmethod(half_planes.hebb)

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return -y * phi

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        return -y * jnp.ones_like(phi)


class AdaTron(AbstractLoss):
    """max(0, -y phi)**2 / 2, labels y = +-1: its gradient is the AdaTron rule with margin 0.

    Source:
        Anlauf & Biehl, Europhys. Lett. 10, 687 (1989); Biehl & Riegler, Europhys. Lett. 28, 525
        (1994), online.

    Example:
        >>> phi, y = jnp.array(0.5), jnp.array(1.0)
        >>> float(ld.AdaTron()(phi, y)) == 0.0, float(ld.AdaTron()(phi, -y))
        (True, 0.125)
    """

    name: ClassVar[str] = "adatron"
    classification: ClassVar[bool] = True
    regularity: ClassVar[Regularity] = Regularity(bends=(0.0,))
    wedge_averages: ClassVar[Callable] = staticmethod(half_planes.adatron)

    def __call__(self, phi: Float[Array, ""], y: Float[Array, ""]) -> Float[Array, ""]:
        return 0.5 * jax.nn.relu(-y * phi) ** 2

    def slope(self, phi: Scalar, y: Scalar) -> Scalar:
        return -y * jax.nn.relu(-y * phi)


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
