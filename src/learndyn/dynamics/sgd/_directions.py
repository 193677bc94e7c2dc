"""The groups of directions in which SGD on weights measures overlaps, those of a theory."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn._checks import is_concrete, shown
from learndyn.dynamics._prepare import require_whole_sizes
from learndyn.inputs import AbstractInputs
from learndyn.states import GroupedOverlaps, Weights

_SAME_EIGENVALUES = 1e-6
"""Over the largest one: what eigenvalue routines and other sums over a bin leave."""


class Directions(eqx.Module):
    """The eigenbasis of the inputs' covariance, and the group of each direction.

    Attributes:
        start: the theory's start, whose groups these are.
        vectors: (n, n) eigenvectors, by rising eigenvalue.
        place: the group of each.
    """

    start: GroupedOverlaps
    vectors: Float[Array, "n n"]
    place: Int[Array, " n"]

    def overlaps(self, both: Float[Array, "d n"]) -> Float[Array, "groups d d"]:
        """Overlaps of these weight vectors in each group, all over n."""
        turned = both @ self.vectors
        products = jnp.einsum("in,jn->nij", turned, turned) / both.shape[1]
        return jax.ops.segment_sum(products, self.place, self.start.groups)


def directions_of(
    groups: GroupedOverlaps | Any, weights: Weights, inputs: AbstractInputs
) -> Directions | None:
    """The groups of `groups`, a start of the theory, among the directions of the inputs.

    Raises: ValueError for anything else, for inputs without a covariance, and for another spectrum.
    """
    if groups is None:
        return None
    covariance = getattr(inputs, "covariance", None)
    if not isinstance(groups, GroupedOverlaps) or covariance is None:
        raise ValueError(
            "groups must be the theory's start for the same inputs, which need a covariance: "
            "ld.overlaps(weights, inputs, groups=8); got "
            f"{type(groups).__name__} and inputs {type(inputs).__name__}."
        )
    n = jnp.asarray(float(weights.n))
    require_whole_sizes(groups, n)
    values, vectors = jnp.linalg.eigh(covariance(weights.n))
    # By rising eigenvalue, as the directions are
    s, order = groups.spectrum.eigenvalues, jnp.argsort(groups.spectrum.eigenvalues)
    counts = jnp.round(groups.spectrum.shares * n).astype(int)
    place = jnp.repeat(order, counts[order], total_repeat_length=weights.n)
    means = jax.ops.segment_sum(jnp.maximum(values, 0.0), place, groups.groups) / counts
    if is_concrete(means, s):
        apart = np.abs(np.asarray(means) - np.asarray(s)).max()
        if apart > _SAME_EIGENVALUES * np.asarray(s).max():
            raise ValueError(
                "groups must have the spectrum of the inputs, each group some neighbouring "
                f"eigenvalues of their covariance; got means {shown(np.asarray(means))} of as many "
                f"directions for eigenvalues {shown(np.asarray(s))}. Take them from "
                "ld.overlaps(weights, inputs, groups=...)."
            )
    return Directions(groups, vectors, place)
