"""The directions to which small ReLU neurons in the plane turn before they grow."""

from typing import Any

import numpy as np
from jaxtyping import Float

from learndyn._types import RealLike
from learndyn.flow.jumps._data import samples

_FLAT = 1e-12
"""Slopes below this, over the largest gradient, count as zero, and lines nearer than this angle as
one: rounding leaves 1e-16 per sample."""


def extremal_directions(
    x: Any, y: RealLike = None, sign: int = 1
) -> Float[np.ndarray, "directions 2"]:
    """Directions of largest utility of ReLU neurons in the plane, while the network is small.

    Equation: between the lines w.x_j = 0 G is linear, with gradient D = mean of y_j x_j over the
    samples with w.x_j > 0: a maximum lies at D where D lies in its own sector, or at a line where
    the slope along the circle falls from positive to negative.

    Args:
        x: (samples, 2) inputs, or `flow.Data` in place of x and y. For one input and biases x has a
            column of ones.
        y: (samples,) the residual, which is y as long as f = 0; None where x is `flow.Data`.
        sign: 1 for neurons that add to the output, -1 for those that subtract.

    Returns:
        Unit vectors w, one for each local maximum of sign G(w) > 0, G(w) = mean of y relu(w.x), by
        falling value. Neurons turn to them at a rate that their scale does not change, and the norm
        |v| |w| grows at the rate G.

    Raises:
        ValueError: for inputs that are not in the plane, other signs, complex, infinite or traced
            input.

    Source:
        Maennel, Bousquet and Gelly, Gradient descent quantizes ReLU network features (2018).

    Example:
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> flow.extremal_directions(x, np.array([1.0, -1.0]))
        array([[1., 0.]])
    """
    if sign not in (1, -1):
        raise ValueError(f"sign must be 1 or -1, that of the output weight; got {sign!r}.")
    given = samples(x, y, "mean", "extremal_directions")
    if given.x.shape[1] != 2 or given.y.shape[1] != 1:
        raise ValueError(
            "extremal_directions needs inputs in the plane and one output: x (samples, 2), y "
            f"(samples,); got {given.x.shape} and {given.y.shape}. Biases are a column of ones."
        )
    pull = sign * given.weight * given.y * given.x
    lines = _lines(given.x)
    if not len(lines):
        return np.zeros((0, 2))
    # The gradient of sign G in the sector that begins at each line
    ends = np.append(lines[1:], lines[0] + 2 * np.pi)
    inside = _unit((lines + ends) / 2) @ given.x.T > 0
    gradients = inside @ pull
    found = np.concatenate([_smooth(lines, ends, gradients), _kinks(lines, gradients)])
    value = np.sum((found @ given.x.T > 0) * (found @ pull.T), axis=1)
    useful = value > _FLAT * np.abs(pull).max()
    return found[useful][np.argsort(-value[useful], kind="stable")]


def _lines(x: Float[np.ndarray, "samples 2"]) -> Float[np.ndarray, " lines"]:
    """Angles of the rays w.x_j = 0, in increasing order, each once."""
    angles = np.arctan2(x[:, 1], x[:, 0])[np.any(x != 0, axis=1)]
    both = np.sort(np.concatenate([angles + np.pi / 2, angles - np.pi / 2]) % (2 * np.pi))
    apart = np.diff(both, append=both[:1] + 2 * np.pi) > _FLAT
    return both[apart]


def _smooth(
    lines: Float[np.ndarray, " lines"],
    ends: Float[np.ndarray, " lines"],
    gradients: Float[np.ndarray, "lines 2"],
) -> Float[np.ndarray, "maxima 2"]:
    """Gradients that point into their own sector."""
    after = (np.arctan2(gradients[:, 1], gradients[:, 0]) - lines) % (2 * np.pi)
    size = np.linalg.norm(gradients, axis=1)
    own = (after > _FLAT) & (after < ends - lines - _FLAT) & (size > _FLAT * size.max())
    return gradients[own] / size[own, None]


def _kinks(
    lines: Float[np.ndarray, " lines"], gradients: Float[np.ndarray, "lines 2"]
) -> Float[np.ndarray, "maxima 2"]:
    """Lines at which the slope along the circle falls from positive, or 0, to negative, or 0."""
    along = _unit(lines + np.pi / 2)
    before = np.sum(np.roll(gradients, 1, axis=0) * along, axis=1)
    after = np.sum(gradients * along, axis=1)
    small = _FLAT * np.linalg.norm(gradients, axis=1).max()
    return _unit(lines[(before > -small) & (after < small)])


def _unit(angles: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
