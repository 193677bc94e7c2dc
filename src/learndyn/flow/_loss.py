"""The loss of a model on data, and what the two must have in common."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from learndyn._types import Scalar
from learndyn.flow._data import Data, DataLike, Moments
from learndyn.flow.models import AbstractLinearModel


def loss(model: Any, data: DataLike) -> Scalar:
    """Half the squared error of `model` on `data`, as `Data` and `Moments` define it.

    Raises: ValueError where model and data do not match.
    """
    return loss_function(model, data)(model)


def loss_function(model: Any, data: DataLike) -> Callable[[Any], Scalar]:
    """The loss as a function of models like this one.

    Raises: ValueError where model and data do not match.
    """
    if isinstance(data, Data):
        _require_outputs(model, data)
        return lambda model: _sample_loss(model, data)
    if isinstance(data, Moments):
        _require_matrix(model, data)
        best, floor = data.least_squares, data.floor
        return lambda model: _moment_loss(model.end_to_end() - best, data) + floor
    raise ValueError(
        f"data must be flow.Data(x, y) or flow.Moments(sxx, syx); got {type(data).__name__}."
    )


def _sample_loss(model: Any, data: Data) -> Scalar:
    residuals = jax.vmap(model)(data.x) - data.y
    return 0.5 * data.weight * jnp.sum(residuals**2)


def _moment_loss(difference: Array, data: Moments) -> Scalar:
    # Written from the difference to least squares, small losses keep all their digits.
    return 0.5 * jnp.sum((difference @ data.sxx) * difference)


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
