"""How many directions a linear map uses."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from learndyn._checks import as_float
from learndyn._types import Scalar
from learndyn.flow.models import AbstractLinearModel


def effective_rank(matrix: Any, kind: str = "entropy") -> Scalar:
    """How many singular values count, a number between 0 and the rank.

    Args:
        matrix: (c, d), or a model with an end-to-end matrix, whose rank is then meant.
        kind: "entropy": exp(-sum_i p_i log p_i) with p = s/sum(s) (Roy & Vetterli 2007);
            "participation": (sum s**2)**2 / sum s**4; "stable": sum s**2 / max s**2.

    Returns:
        0 for a matrix of zeros, NaN for one with NaN.

    Raises:
        ValueError: for another kind, or what is no matrix.

    Example:
        >>> round(float(flow.effective_rank(np.diag([2.0, 1.0, 0.0]))), 4)
        1.8899
        >>> float(flow.effective_rank(np.diag([2.0, 1.0, 0.0]), kind="stable"))
        1.25
    """
    if isinstance(matrix, AbstractLinearModel):
        matrix = matrix.end_to_end()
    matrix = as_float(matrix, "matrix")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"matrix must have 2 axes and no empty one; got shape {matrix.shape}. Batches go "
            "through jax.vmap."
        )
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {sorted(_KINDS)}; got {kind!r}.")
    values = jnp.linalg.svd(matrix, compute_uv=False)
    # NaN, of a run that stopped, is not 0.
    nonzero = values[0] != 0
    values = values / jnp.where(nonzero, values[0], 1.0)
    return jnp.where(nonzero, _KINDS[kind](jnp.where(nonzero, values, 1.0)), 0.0)


def _entropy(values: Array) -> Array:
    p = values / jnp.sum(values)
    return jnp.exp(-jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1.0))))


_KINDS = {
    "entropy": _entropy,
    "participation": lambda values: jnp.sum(values**2) ** 2 / jnp.sum(values**4),
    "stable": lambda values: jnp.sum(values**2),
}
"""Ranks as functions of singular values, of which the largest is 1."""
