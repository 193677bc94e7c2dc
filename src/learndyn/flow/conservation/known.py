"""Conserved quantities of the networks that this library knows."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learndyn._types import ScalarFunction
from learndyn.flow.models import DiagonalNetwork, LinearNetwork, LinearNeuron, ModularAddition
from learndyn.states import TwoLayer

_SCALES = np.array([0.3, 0.7, 2.0, 5.0])
_PLACES = np.array([-2.3, -0.4, 0.6, 1.7])
"""Where homogeneity is looked at: scalings and arguments of both signs, below and above 1."""

_BENT = 1e-10
"""How far g(c x) may be from c**k g(x), relatively: rounding leaves 1e-15."""


def known_quantity(model: Any, rates: Any) -> Any:
    """What `conserved` documents for the model's class.

    Raises: ValueError for a class of which nothing is known, or an activation that is not
        homogeneous.
    """
    if isinstance(model, LinearNeuron):
        return model.a**2 / rates.a - jnp.sum(model.w**2) / rates.w
    if isinstance(model, DiagonalNetwork):
        # Factorised, a small difference of large squares keeps its digits.
        u, v = model.u / jnp.sqrt(rates.u), model.v / jnp.sqrt(rates.v)
        return (u - v) * (u + v)
    if isinstance(model, LinearNetwork):
        return _layer_balances(model.weights, rates.weights)
    if isinstance(model, ModularAddition):
        u, v, w = (jnp.sum(x**2, axis=1) for x in (model.u, model.v, model.w))
        return 0.5 * (u / rates.u + v / rates.v) - w / rates.w
    if isinstance(model, TwoLayer):
        return _unit_balances(model, rates)
    raise ValueError(
        f"no conserved quantity is known of {type(model).__name__}: pass its symmetry, a function "
        "from the model to a tangent of the same structure, such as flow.Scale(where)."
    )


def _layer_balances(weights: tuple[Array, ...], rates: tuple[Array, ...]) -> tuple[Array, ...]:
    pairs = zip(weights[:-1], weights[1:], rates[:-1], rates[1:], strict=True)
    return tuple(b.T @ b / lr_b - a @ a.T / lr_a for a, b, lr_a, lr_b in pairs)


def _unit_balances(model: TwoLayer, rates: TwoLayer) -> Array:
    degree = homogeneity(model.activation)
    if degree is None:
        raise ValueError(
            "a TwoLayer network has a conserved quantity where its activation is homogeneous, g(c "
            f"x) = c**k g(x) for c > 0; {model.activation!r} is not."
        )
    biases = 0.0 if model.b is None or rates.b is None else model.b**2 / rates.b
    return degree * model.v**2 / rates.v - jnp.sum(model.w**2, axis=1) / rates.w - biases


def homogeneity(g: ScalarFunction) -> float | None:
    """The k > 0 with g(c x) = c**k g(x) for c > 0; None where there is none."""
    # Under vmap a function with its own derivative rule, as jax.nn.relu, is traced unless
    # it is compiled.
    compiled = jax.jit(lambda x: g(x))
    with jax.ensure_compile_time_eval():
        values = np.asarray(compiled(jnp.asarray(_PLACES)))
        scaled = np.asarray(compiled(jnp.asarray(_SCALES[:, None] * _PLACES)))
    i = np.argmax(np.abs(values))
    ratio = scaled[2, i] / values[i] if values[i] != 0 else 0.0
    if not ratio > 1:
        return None
    degree = math.log(ratio, _SCALES[2])
    expected = _SCALES[:, None] ** degree * values
    close = np.abs(scaled - expected) <= _BENT * np.abs(expected).max()
    return float(round(degree, 10)) if close.all() else None
