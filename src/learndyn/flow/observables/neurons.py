"""Neurons of a network: their vectors, masses, directions, and how fast these move."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float
from learndyn._readable import ReadableResult
from learndyn._types import RealLike
from learndyn.flow._data import DataLike
from learndyn.flow._objective import objective_of
from learndyn.flow._parameters import Rates, as_model
from learndyn.flow.models import DiagonalNetwork, LinearNetwork, LinearNeuron, ModularAddition
from learndyn.states import TwoLayer


class Speeds(ReadableResult):
    """How fast vectors grow and turn, per unit of time.

    Attributes:
        radial: (neurons,) d|z|/dt.
        angular: (neurons,) |d(z/|z|)/dt|, in radians; NaN where z = 0.

    Example:
        >>> neuron = flow.LinearNeuron(a=1.0, w=[1.0, 0.0])
        >>> found = flow.speeds(neuron, flow.Moments(sxx=np.eye(2), syx=[1.0, 1.0]))
        >>> found.radial, found.angular
        (Array([0.], dtype=float64), Array([1.], dtype=float64))
    """

    radial: Float[Array, " neurons"]
    angular: Float[Array, " neurons"]


def neurons(model: Any) -> Float[Array, "neurons size"]:
    """The vector of every hidden neuron: input weights, then bias, then output weights.

    LinearNeuron: beta = a w, one row. LinearNetwork of two layers: (w_i, a_i). DiagonalNetwork:
    (u_i, v_i). ModularAddition: (u_i, v_i, w_i). TwoLayer: (w_i, b_i, v_i), without b_i where there
    are no biases.

    Args:
        model: one of the models above.

    Raises:
        ValueError: for another model, or a linear network of more or fewer layers.

    Example:
        >>> flow.neurons(flow.DiagonalNetwork(u=[1.0, 2.0], v=[0.5, 0.0]))
        Array([[1. , 0.5],
               [2. , 0. ]], dtype=float64)
    """
    if isinstance(model, LinearNeuron):
        return model.end_to_end()
    if isinstance(model, DiagonalNetwork):
        return jnp.stack([model.u, model.v], axis=1)
    if isinstance(model, ModularAddition):
        return jnp.concatenate([model.u, model.v, model.w], axis=1)
    into, out = _two_layers(model)
    return jnp.concatenate([into, out], axis=1)


def neuron_masses(model: Any) -> Float[Array, " neurons"]:
    """|a_i| |w_i| of every hidden neuron: the product of the norms of its two layers.

    For `ModularAddition` |(u_i, v_i)|**2 |w_i|, its function being cubic.

    Args:
        model: as for `neurons`.

    Raises:
        ValueError: as `neurons`.

    Example:
        >>> flow.neuron_masses(flow.DiagonalNetwork(u=[1.0, 2.0], v=[0.5, 0.0]))
        Array([0.5, 0. ], dtype=float64)
    """
    if isinstance(model, LinearNeuron):
        return jnp.linalg.norm(model.end_to_end(), axis=1)
    if isinstance(model, DiagonalNetwork):
        return jnp.abs(model.u * model.v)
    if isinstance(model, ModularAddition):
        return jnp.sum(model.u**2 + model.v**2, axis=1) * jnp.linalg.norm(model.w, axis=1)
    into, out = _two_layers(model)
    return jnp.linalg.norm(into, axis=1) * jnp.linalg.norm(out, axis=1)


def alignment(vectors: Any, directions: RealLike) -> Float[Array, "neurons directions"]:
    """Cosines between neurons and directions, such as a teacher's weights or extremal directions.

    Args:
        vectors: (neurons, size), or a model, of whose hidden neurons the input weights (with the
            bias, where there is one) are taken.
        directions: (directions, size), of any length.

    Returns:
        NaN for a vector or direction of zeros.

    Raises:
        ValueError: for sizes that do not match, or a model without hidden neurons.

    Example:
        >>> flow.alignment(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 2.0]]))
        Array([[0.6, 0.8]], dtype=float64)
    """
    vectors = _input_weights(vectors) if isinstance(vectors, eqx.Module) else vectors
    vectors = as_float(vectors, "vectors")
    directions = jnp.atleast_2d(as_float(directions, "directions"))
    if vectors.ndim != 2 or directions.ndim != 2 or vectors.shape[1] != directions.shape[1]:
        raise ValueError(
            "vectors (neurons, size) and directions (directions, size) must have the same size; "
            f"got shapes {vectors.shape} and {directions.shape}."
        )
    unit = lambda rows: rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    return unit(vectors) @ unit(directions).T


def speeds(model: Any, data: DataLike, lr: Rates = 1.0) -> Speeds:
    """Radial and angular speed of every neuron's vector under gradient flow.

    The vectors are those of `neurons`: beta for a linear neuron, all weights of a neuron else.

    Args:
        model, data, lr: as for `gradient_flow`.

    Raises:
        ValueError: as that and `neurons` do.

    Example:
        >>> neuron = flow.LinearNeuron(a=1.0, w=[1.0, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[2.0, 0.0])
        >>> found = flow.speeds(neuron, data)
        >>> float(found.radial[0]), float(found.angular[0])
        (2.0, 0.0)
    """
    objective = objective_of(as_model(model), data, lr)
    vectors = lambda numbers: neurons(objective.at(numbers))
    moves = objective.drift(objective.numbers)
    z, velocity = jax.jvp(vectors, (objective.numbers,), (moves,))
    norm = jnp.linalg.norm(z, axis=1)
    unit = z / norm[:, None]
    radial = jnp.sum(unit * velocity, axis=1)
    turning = velocity - unit * radial[:, None]
    return Speeds(radial, jnp.linalg.norm(turning, axis=1) / norm)


def _two_layers(model: Any) -> tuple[Array, Array]:
    """Weights into and out of every hidden neuron, one row for each."""
    if isinstance(model, TwoLayer):
        return _input_weights(model), model.v[:, None]
    if isinstance(model, LinearNetwork) and len(model.weights) == 2:
        first, second = model.weights
        return first, second.T
    raise ValueError(
        "neurons are known of LinearNeuron, DiagonalNetwork, ModularAddition, TwoLayer and of a "
        f"LinearNetwork of two layers; got {model!r}."
    )


def _input_weights(model: Any) -> Array:
    if isinstance(model, TwoLayer):
        if model.b is None:
            return model.w
        return jnp.concatenate([model.w, model.b[:, None]], axis=1)
    if isinstance(model, LinearNetwork):
        return model.weights[0]
    if isinstance(model, ModularAddition):
        return jnp.concatenate([model.u, model.v], axis=1)
    if isinstance(model, LinearNeuron):
        return model.w[None, :]
    raise ValueError(
        "input weights are known of TwoLayer, LinearNetwork, LinearNeuron and ModularAddition; got "
        f"{type(model).__name__}. Pass the vectors as an array."
    )
