"""Which numbers of a model are trained, and how fast each layer learns."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from learndyn._checks import as_float, require_at_least
from learndyn.flow.models import require_layers
from learndyn.problems import AbstractActivation
from learndyn.states import TwoLayer

Rates = Any
"""A number; a mapping from fields, or a sequence by layer, to rates; or a prefix of the model."""


def as_model(model: Any) -> Any:
    """The model with JAX arrays in place of NumPy's.

    Raises: ValueError where it is no callable Equinox module, where its layers do not fit together,
        where it has complex parameters, or none that could be trained.
    """
    if not isinstance(model, eqx.Module) or not callable(model):
        raise ValueError(
            "model must be an Equinox module that maps one input x to its output, for example "
            f"flow.LinearNetwork([w1, w2]); got {type(model).__name__}."
        )
    model = jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, model)
    if isinstance(model, TwoLayer):
        model = _with_floats(model)
    require_layers(model)
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves):
        raise ValueError("the model's parameters must be real; got complex ones.")
    if not jax.tree.leaves(trained(model)):
        raise ValueError(
            f"the model {type(model).__name__} has no parameters to train: its arrays must be "
            "floats, integer arrays count as constants."
        )
    return model


def trained(model: Any) -> Any:
    """The model with None in place of all that is not trained.

    Trained are arrays of floats, except within activations (such as the slope of `LeakyReLU`).
    """
    is_fixed = lambda node: isinstance(node, AbstractActivation)
    keep = lambda node: None if is_fixed(node) else eqx.filter(node, eqx.is_inexact_array)
    return jax.tree.map(keep, model, is_leaf=is_fixed)


def split(model: Any) -> tuple[Any, Any]:
    """The trained numbers of a model and the rest; `eqx.combine` puts them together."""
    numbers = trained(model)
    is_none = lambda x: x is None
    rest = jax.tree.map(lambda n, x: x if n is None else None, numbers, model, is_leaf=is_none)
    return numbers, rest


def rate_tree(lr: Rates, numbers: Any) -> Any:
    """A rate in place of every trained array.

    lr: a number for all; a mapping from names of fields to rates; a sequence with one rate for each
        layer, in the order of the constructor's arguments; or a prefix of the model, such as a
        model of the same class with numbers in place of arrays. 0 freezes a layer.
    numbers: the model's trained numbers, as `trained` gives them.
    Raises: ValueError for other structures, names or numbers of layers, or for rates that are
        negative, complex or not finite.
    """
    return _spread(lr, numbers, "lr")


def rates_hold(rates: Any) -> Bool[Array, ""]:
    """Whether traced rates are finite and not negative."""
    leaves = jnp.stack([jnp.asarray(rate) for rate in jax.tree.leaves(rates)])
    return jnp.all(jnp.isfinite(leaves) & (leaves >= 0))


def layers(numbers: Any) -> list[Any]:
    """The parts of a model that a sequence of rates counts."""
    parts = [part for _, part in _parts(numbers) if jax.tree.leaves(part)]
    if len(parts) == 1 and isinstance(parts[0], list | tuple | eqx.Module):
        return layers(parts[0])
    return parts


def _with_floats(model: TwoLayer) -> TwoLayer:
    """Weights that are whole numbers are meant as weights."""
    b = None if model.b is None else as_float(model.b, "b")
    return TwoLayer(as_float(model.w, "w"), as_float(model.v, "v"), b, model.activation)


def _spread(lr: Any, numbers: Any, path: str) -> Any:
    if not jax.tree.leaves(numbers):
        return numbers
    if isinstance(lr, Mapping):
        return _by_name(lr, numbers, path)
    if isinstance(lr, eqx.Module):
        return _by_prefix(lr, numbers, path)
    if (isinstance(lr, Sequence) and not isinstance(lr, str)) or np.ndim(lr) > 0:
        return _by_layer(lr, numbers, path)
    rate = as_float(lr, path)
    require_at_least(rate, 0.0, path, "a learning rate; 0 freezes a layer")
    return jax.tree.map(lambda _: rate, numbers)


def _by_name(lr: Mapping, numbers: Any, path: str) -> Any:
    known = {name: part for name, part in _parts(numbers) if jax.tree.leaves(part)}
    if set(lr) != set(known):
        raise ValueError(
            f"{path} must name every trained field once, {sorted(known)}; got {sorted(lr)}."
        )
    return _rebuilt(numbers, {n: _spread(lr[n], known[n], f"{path}[{n!r}]") for n in known})


def _by_prefix(lr: eqx.Module, numbers: Any, path: str) -> Any:
    if type(lr) is not type(numbers):
        raise ValueError(
            f"{path} must be a {type(numbers).__name__} where the model is one; got a "
            f"{type(lr).__name__}."
        )
    known = {name: part for name, part in _parts(numbers) if jax.tree.leaves(part)}
    return _rebuilt(numbers, {n: _spread(getattr(lr, n), known[n], f"{path}.{n}") for n in known})


def _by_layer(lr: Any, numbers: Any, path: str) -> Any:
    found = layers(numbers)
    if not found:
        raise ValueError(f"{path} must be a number, the rate of one array; got {lr!r}.")
    if len(lr) != len(found):
        raise ValueError(
            f"{path} must have one rate for each of the {len(found)} layers; got {len(lr)}."
        )
    rates = [_spread(lr[i], part, f"{path}[{i}]") for i, part in enumerate(found)]
    flat = [leaf for rate in rates for leaf in jax.tree.leaves(rate)]
    return jax.tree.unflatten(jax.tree.structure(numbers), flat)


def _parts(numbers: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of what a node holds."""
    if isinstance(numbers, eqx.Module):
        for field in dataclasses.fields(numbers):
            if not field.metadata.get("static", False):
                yield field.name, getattr(numbers, field.name)
    elif isinstance(numbers, list | tuple):
        yield from ((str(i), part) for i, part in enumerate(numbers))
    elif isinstance(numbers, dict):
        yield from numbers.items()


def _rebuilt(numbers: Any, parts: dict[str, Any]) -> Any:
    """The node with rates in place of the named parts."""
    flat = [leaf for name, part in _parts(numbers) for leaf in jax.tree.leaves(parts.get(name))]
    return jax.tree.unflatten(jax.tree.structure(numbers), flat)
