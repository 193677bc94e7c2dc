"""A model, its data and its rates: what gradient flow and gradient descent have in common."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from learndyn._checks import as_float, is_concrete, require_at_least, require_finite
from learndyn._results import Result
from learndyn._types import RealLike, Scalar
from learndyn.flow._data import Data, DataLike, Moments
from learndyn.flow._loss import Parabola, loss_of, prepared, require_match
from learndyn.flow._parameters import Rates, as_model, rate_tree, rates_hold, split


class Objective(eqx.Module):
    """The loss of a model's trained numbers, and how fast they learn.

    numbers: the trained numbers at the start. rest: of the model, so that `eqx.combine` gives it.
    data: None where only rates and structure are asked for. rates: a rate for every trained array.
    decay: of all trained numbers; None: 0.
    """

    numbers: Any
    rest: Any
    data: Data | Moments | Parabola | None
    rates: Any
    decay: Array | None = None

    @property
    def model(self) -> Any:
        """The model at the start."""
        return self.at(self.numbers)

    def at(self, numbers: Any) -> Any:
        """The model with these numbers."""
        return eqx.combine(numbers, self.rest)

    def prepared(self) -> "Objective":
        """The same, with all that is constant along a run worked out: for use within loops."""
        return eqx.tree_at(lambda objective: objective.data, self, prepared(self.data))

    def loss(self, numbers: Any) -> Scalar:
        return loss_of(self.at(numbers), prepared(self.data))

    def gradient(self, numbers: Any) -> Any:
        return jax.grad(self.loss)(numbers)

    def drift(self, numbers: Any) -> Any:
        """-lr dL/d theta - decay theta."""
        decay = 0.0 if self.decay is None else self.decay
        move = lambda lr, g, theta: -lr * g - decay * theta
        return jax.tree.map(move, self.rates, self.gradient(numbers), numbers)

    def speed(self, numbers: Any) -> Scalar:
        """The norm of the drift over all layers."""
        # Scaled by the largest entry, gradients of 1e-200 have a norm as well.
        leaves = jax.tree.leaves(self.drift(numbers))
        entries = jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
        largest = jnp.max(jnp.abs(entries))
        scale = jnp.where(largest > 0, largest, 1.0)
        return scale * jnp.linalg.norm(entries / scale)

    def is_valid(self) -> Bool[Array, ""]:
        """Whether traced input is sound, where no exception can be raised."""
        leaves = jax.tree.leaves(eqx.filter((self.numbers, self.data), eqx.is_inexact_array))
        finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])
        decays = True if self.decay is None else jnp.isfinite(self.decay) & (self.decay >= 0)
        return jnp.all(finite) & rates_hold(self.rates) & decays

    def is_stalled(self) -> Bool[Array, ""]:
        """Whether the start is a critical point with a loss, though some layer has a rate."""
        data = prepared(self.data)
        floor = 0.0 if isinstance(data, Data) else data.floor
        if self.decay is not None:
            return jnp.zeros((), bool)
        wanted = jnp.any(jnp.stack([rate > 0 for rate in jax.tree.leaves(self.rates)]))
        return wanted & (self.speed(self.numbers) == 0) & (self.loss(self.numbers) > floor)


def objective_of(model: Any, data: DataLike, lr: Rates, decay: RealLike = 0.0) -> Objective:
    """Model, data and rates, checked. A decay that is known to be 0 is left out.

    Raises: ValueError for a model that is none, does not fit the data or is not finite, and for bad
        rates.
    """
    model = as_model(model)
    require_match(model, data)
    numbers, rest = split(model)
    require_finite(**{f"{type(model).__name__}'s parameters": _flat(numbers)})
    decay = as_float(decay, "decay")
    require_at_least(decay, 0.0, "decay", "of the weights")
    none = is_concrete(decay) and not np.any(np.asarray(decay))
    return Objective(numbers, rest, data, rate_tree(lr, numbers), None if none else decay)


def require_moving(objective: Objective) -> None:
    """Raises: ValueError where a concrete start would stay for ever."""
    if not is_concrete(objective):
        return
    # Within an outer jit a concrete start is looked at while that is compiled.
    with jax.ensure_compile_time_eval():
        is_stalled = _is_stalled(objective)
    if is_concrete(is_stalled) and bool(np.asarray(is_stalled)):
        raise ValueError(
            f"the start must not be a critical point: {Result.STALLED.meaning}. Start from small "
            "random weights, or make dead units active."
        )


def with_stalls(result: Array, objective: Objective) -> Array:
    """The result code, of a run that started at a critical point that of a stall."""
    succeeded = result == Result.SUCCESS.value
    return jnp.where(succeeded & objective.is_stalled(), Result.STALLED.value, result)


@eqx.filter_jit
def _is_stalled(objective: Objective) -> Array:
    return objective.is_stalled()


def _flat(numbers: Any) -> Array | None:
    if not is_concrete(numbers):
        return None
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(numbers)])
