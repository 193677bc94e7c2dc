"""Overlaps as the inputs see them."""

from typing import Any

import jax.numpy as jnp

from learndyn._checks import require_unbatched
from learndyn.inputs._gaussian import Gaussian
from learndyn.inputs._training_set import TrainingSet
from learndyn.inputs._types import AbstractInputs, as_inputs
from learndyn.states import Overlaps, WeightsLike, require_arguments

InputsLike = Any
"""`AbstractInputs`, a `TrainingSet`, or None for `Gaussian()`: checked where it is used, whose
ValueError says more than a type error would."""


def as_distribution(inputs: InputsLike) -> AbstractInputs | TrainingSet:
    """`inputs`; None stands for `Gaussian()`. Raises: ValueError for what is no distribution."""
    return Gaussian() if inputs is None else as_inputs(inputs, "inputs", TrainingSet)


def base_of(inputs: AbstractInputs | TrainingSet) -> AbstractInputs:
    """The distribution behind `inputs`."""
    return inputs.base if isinstance(inputs, TrainingSet) else inputs


def field_overlaps(weights: WeightsLike, inputs: InputsLike) -> Overlaps:
    """Second moments of the fields, w Omega w^T / n, where `inputs` have <x x^T> = Omega.

    For white inputs, Omega = 1, these are `overlaps(weights)`, and the ODE starts from them.
    Otherwise they give eg of these weights under Gaussian inputs, but no theory of learning:
    directions of larger eigenvalue learn faster, and Q and R sum over all directions. The ODE from
    these is then right at the start only; for images of digits its eg is later wrong by more than a
    factor 1.5 (the claim `digits-raw`).

    Args:
        weights: of student and teacher.
        inputs: a distribution of inputs.

    Returns:
        `Overlaps` with Q (k, k), R (k, m), T (m, m), dimensionless.

    Raises:
        ValueError: where weights and inputs differ in dimension, or are something else.

    Example:
        >>> weights = ld.Weights(w=[[1.0, 0.0, 0.0, 0.0]], w_teacher=[[0.0, 0.0, 1.0, 0.0]])
        >>> ld.field_overlaps(weights, ld.Structured([4.0, 4.0, 1.0, 1.0])).Q
        Array([[1.]], dtype=float64)
    """
    require_arguments("field_overlaps", weights=weights)
    inputs = as_distribution(inputs)
    require_unbatched([("w", weights.w, 2), ("w_teacher", weights.w_teacher, 2)], "field_overlaps")
    inputs.require_weights(weights)
    k = weights.k
    base = base_of(inputs)
    c = base.field_covariance(jnp.concatenate([weights.w, weights.w_teacher]))
    unseen = base.T_unseen(weights)
    t = c[k:, k:] if unseen is None else c[k:, k:] + unseen
    return Overlaps(c[:k, :k], c[:k, k:], t, *weights.layers)
