"""Which of many equally good coefficients a diagonal network learns."""

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

_RANK = 1e-10
"""Singular values below this, over the largest, count as zero when columns are dependent."""

_NEWTON_STEPS = 200
"""Newton's method needs about ten; from a start near the boundary some more."""


def most_even(
    columns: Float[np.ndarray, "n k"],
    solution: Float[np.ndarray, " k"],
    signs: Float[np.ndarray, " k"],
) -> Float[np.ndarray, " k"]:
    """The b with columns @ b = columns @ solution and these signs that minimises Σ|b|(log|b| - 1).

    It is the limit of the flow: s lies in the row space of the columns, so that for every k with
    columns @ k = 0 the sum Σ k_i sign_i log|b_i| vanishes.
    """
    signed = columns * signs
    null = scipy.linalg.null_space(signed, rcond=_RANK)
    if not null.shape[1]:
        return solution
    start = _interior(null, np.abs(solution))
    free = start > 0
    # Coordinates that are zero in all solutions stay out.
    null = scipy.linalg.null_space(signed[:, free], rcond=_RANK)
    even = np.zeros_like(solution)
    even[free] = _newton(start[free], null) if null.shape[1] else start[free]
    return signs * even


def _newton(b: Float[np.ndarray, " k"], null: Float[np.ndarray, "k m"]) -> Float[np.ndarray, " k"]:
    """Newton's method with steps that keep b positive."""
    for _ in range(_NEWTON_STEPS):
        slope = null.T @ np.log(b)
        step = null @ np.linalg.solve(null.T @ (null / b[:, None]), -slope)
        # Nine tenths of the way to the boundary at most
        fraction = min(1.0, 0.9 / max(np.max(-step / b), 0.9))
        b = b + fraction * step
        # Newton's steps double the digits: the next one would be rounding.
        if np.max(np.abs(step / b)) < 1e-14:
            break
    return b


def _interior(
    null: Float[np.ndarray, "k m"], solution: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """A solution that is positive wherever one is: the mean of those that are largest somewhere."""
    points = [_largest_at(place, null, solution) for place in range(len(solution))]
    mean = np.mean(points, axis=0)
    # What linear programs leave of zero
    return np.where(mean > 1e-12 * mean.max(), mean, 0.0)


def _largest_at(
    place: int, null: Float[np.ndarray, "k m"], solution: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    found = scipy.optimize.linprog(
        -null[place], A_ub=-null, b_ub=solution, bounds=(None, None), method="highs"
    )
    return solution if found.x is None else np.maximum(solution + null @ found.x, 0.0)
