"""Symmetries of networks, as fields of tangent vectors: model -> d theta of a small transformation.

A symmetry leaves the loss unchanged: <dL/d theta, xi(theta)> = 0 at every theta. Any function
from a model to a tangent of the same structure is one; these are the usual ones.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float, require_at_least
from learndyn._types import RealLike
from learndyn.flow._parameters import trained

Where = Callable[[Any], Array]
"""A function that takes one of a model's arrays out of it: `lambda model: model.w`."""


class Translation(eqx.Module):
    """theta -> theta + eps direction, as for the logits' layer before a softmax.

    Conserved: <theta, direction>/lr.

    Args:
        where: the array that moves.
        direction: what it moves by, of a shape that broadcasts.

    Example:
        >>> neuron = flow.LinearNeuron(a=2.0, w=[1.0, 3.0])
        >>> shift = flow.Translation(lambda model: model.w, direction=1.0)
        >>> float(flow.conserved(neuron, shift))
        4.0
    """

    where: Where = eqx.field(static=True)
    direction: Array

    def __init__(self, where: Where, direction: RealLike = 1.0):
        self.where, self.direction = where, as_float(direction, "direction")

    def __call__(self, model: Any) -> Any:
        moves = jnp.broadcast_to(self.direction, self.where(model).shape)
        return _tangent(model, {self.where: moves})


class Scale(eqx.Module):
    """theta -> (1 + eps) theta, as for weights before a normalisation.

    Args:
        where: the array that is scaled. Conserved: |theta|**2/(2 lr).

    Example:
        >>> neuron = flow.LinearNeuron(a=2.0, w=[1.0, 3.0])
        >>> float(flow.conserved(neuron, flow.Scale(lambda model: model.w)))
        5.0
    """

    where: Where = eqx.field(static=True)

    def __call__(self, model: Any) -> Any:
        return _tangent(model, {self.where: self.where(model)})


class Rescale(eqx.Module):
    """One array grows as another shrinks, as for two layers around a homogeneous activation.

    Args:
        first, second: the two arrays, of degrees p and q in the network's function.
        degrees: (p, q). Conserved: |first|**2/(2 p lr) - |second|**2/(2 q lr).

    Raises:
        ValueError: for degrees that are not positive.

    Example:
        >>> neuron = flow.LinearNeuron(a=2.0, w=[1.0, 1.0])
        >>> rescale = flow.Rescale(lambda model: model.a, lambda model: model.w, degrees=(1.0, 1.0))
        >>> float(flow.conserved(neuron, rescale))
        1.0
    """

    first: Where = eqx.field(static=True)
    second: Where = eqx.field(static=True)
    degrees: Float[Array, "2"]

    def __init__(self, first: Where, second: Where, degrees: tuple[float, float] = (1.0, 1.0)):
        self.first, self.second = first, second
        self.degrees = as_float(degrees, "degrees")
        require_at_least(self.degrees, 0.0, "degrees", "of homogeneity", strict=True)

    def __call__(self, model: Any) -> Any:
        p, q = self.degrees
        grows, shrinks = self.first(model) / p, -self.second(model) / q
        return _tangent(model, {self.first: grows, self.second: shrinks})


class GeneralLinear(eqx.Module):
    """W1 -> (1 + eps S) W1, W2 -> W2 (1 - eps S): any change of basis between two linear layers.

    Args:
        first: W1 (h, d).
        second: W2 (c, h).
        generator: S (h, h). Only a symmetric S has a conserved quantity, tr(W1^T S W1)/(2 lr_1) -
            tr(W2 S W2^T)/(2 lr_2); rotations have none.

    Example:
        >>> network = flow.LinearNetwork([np.ones((2, 3)), np.ones((1, 2))])
        >>> turn = flow.GeneralLinear(lambda m: m.weights[0], lambda m: m.weights[1], np.eye(2))
        >>> round(float(flow.conserved(network, turn)), 12)
        2.0
    """

    first: Where = eqx.field(static=True)
    second: Where = eqx.field(static=True)
    generator: Float[Array, "h h"]

    def __init__(self, first: Where, second: Where, generator: RealLike):
        self.first, self.second = first, second
        self.generator = as_float(generator, "generator")

    def __call__(self, model: Any) -> Any:
        s = self.generator
        moves = {self.first: s @ self.first(model), self.second: -self.second(model) @ s}
        return _tangent(model, moves)


def _tangent(model: Any, moves: dict[Where, Array]) -> Any:
    """Zero, except for the given arrays."""
    zero = jax.tree.map(jnp.zeros_like, trained(model))
    return eqx.tree_at(lambda tree: [where(tree) for where in moves], zero, list(moves.values()))
