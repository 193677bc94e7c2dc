"""The loss of a model on data, and what the two must have in common."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._types import Scalar
from learndyn.flow._data import Data, DataLike, Moments
from learndyn.flow.models import AbstractLinearModel


class Parabola(eqx.Module):
    """The loss of moments as a function of the end-to-end matrix: its minimum is worked out once.

    sxx: (d, d) curvature. best: (c, d) the matrix of least loss. floor: that loss.
    """

    sxx: Float[Array, "*batch d d"]
    best: Float[Array, "*batch c d"]
    floor: Scalar


def loss(model: Any, data: DataLike) -> Scalar:
    """Half the squared error of `model` on `data`, as `Data` and `Moments` define it.

    Args:
        model: an Equinox module that maps one input to its output.
        data: `Data`, or `Moments` for a model with an end-to-end matrix.

    Raises:
        ValueError: where model and data do not match.

    Example:
        >>> neuron = flow.LinearNeuron(a=1.0, w=[1.0, 0.0])
        >>> float(flow.loss(neuron, flow.Data(x=[[1.0, 0.0], [0.0, 1.0]], y=[1.0, -1.0])))
        0.25
    """
    require_match(model, data)
    return loss_of(model, prepared(data))


def prepared(data: DataLike) -> Data | Parabola:
    """Data as `loss_of` takes them: what does not depend on the model is computed here."""
    if isinstance(data, Moments):
        return Parabola(data.sxx, data.least_squares, data.floor)
    return data


def loss_of(model: Any, data: Data | Parabola) -> Scalar:
    """The loss of a model that matches the data."""
    if isinstance(data, Data):
        residuals = jax.vmap(model)(data.x) - data.y
        return 0.5 * data.weight * jnp.sum(residuals**2)
    # Written from the difference to least squares, small losses keep all their digits.
    difference = model.end_to_end() - data.best
    return 0.5 * jnp.sum((difference @ data.sxx) * difference) + data.floor


def require_match(model: Any, data: DataLike) -> None:
    """Raises: ValueError where model and data do not match."""
    if isinstance(data, Data):
        _require_outputs(model, data)
    elif isinstance(data, Moments):
        _require_matrix(model, data)
    else:
        raise ValueError(
            f"data must be flow.Data(x, y) or flow.Moments(sxx, syx); got {type(data).__name__}."
        )


def _require_outputs(model: Any, data: Data) -> None:
    """One input must give one output of the labels' shape: (n, 1) and (n,) would broadcast."""
    x, y = data.x, data.y
    if x.ndim != 2 or y.ndim not in (1, 2):
        raise ValueError(
            f"one data set at a time: x must have 2 axes and y 1 or 2; got shapes {x.shape} and "
            f"{y.shape}. For a batch use jax.vmap or eqx.filter_vmap."
        )
    output = output_of(model, x)
    if getattr(output, "shape", None) != y.shape[1:]:
        raise ValueError(
            f"the model's output must have the shape of one label, {y.shape[1:]} for y of shape "
            f"{y.shape}; it has shape {getattr(output, 'shape', None)}. A scalar output goes with "
            "y (samples,), one of shape (c,) with y (samples, c)."
        )
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise ValueError(f"the model's output must be real; it has dtype {output.dtype}.")


def output_of(model: Any, x: Array) -> Any:
    """Shape and dtype of the model's output for a row of x.

    Raises: ValueError where it does not take one.
    """
    try:
        return eqx.filter_eval_shape(lambda model, x: model(x), model, x[0])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the model must take one input of shape {x.shape[1:]}, a row of x; {error}"
        ) from error


def _require_matrix(model: Any, data: Moments) -> None:
    if not isinstance(model, AbstractLinearModel):
        raise ValueError(
            "Moments go with models that have an end-to-end matrix (LinearNeuron, LinearNetwork, "
            f"DiagonalNetwork); got {type(model).__name__}. Pass samples, flow.Data(x, y)."
        )
    shape = eqx.filter_eval_shape(lambda model: model.end_to_end(), model).shape
    if shape != data.syx.shape:
        raise ValueError(
            "the end-to-end matrix must have the shape (c, d) of syx, "
            f"{data.syx.shape}; it has shape {shape}."
        )
