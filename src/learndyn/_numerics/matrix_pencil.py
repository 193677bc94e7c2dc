"""The largest lr at which A + lr B has no eigenvalue in the right half plane."""

import numpy as np
import scipy.linalg
from jaxtyping import Float

_NULL = 1e-9
"""Singular values below this, with both matrices scaled to norm 1, are zero but for rounding: two
Jacobians have been subtracted to get the matrices, which costs some digits."""

_MARGIN = 1e-9
"""A real part below this times lr |B| is rounding and counts as no growth."""

_SCAN = 400
"""Points of a scan for complex pairs between two real crossings: a pair that is
unstable over less than a 400th of the interval would be missed."""

Matrix = Float[np.ndarray, "p p"]
Smaller = Float[np.ndarray, "kept kept"]


def largest_stable_rate(a: Matrix, b: Matrix) -> float:
    """The largest lr at which a + lr b has no eigenvalue in the right half plane.

    It is inf where stability is never lost, and 0 where small rates are unstable already.

    Directions that both matrices annihilate (neutral at every rate) are divided out: they
    would make the pencil singular.
    """
    a, b = _deflated(a, b)
    if a.size == 0:
        return np.inf
    scale = float(np.linalg.norm(a)) / max(float(np.linalg.norm(b)), 1e-300)
    start = 1e-6 * min(scale, 1e6)
    if _growth(a, b, start) > 0:
        return 0.0
    # Real crossings: a + lr b is singular there, so lr is an eigenvalue of the pencil (a, -b).
    eigenvalues = np.asarray(scipy.linalg.eigvals(a, -b))
    finite = eigenvalues[np.isfinite(eigenvalues)]
    values, turns = np.real(finite), np.imag(finite)
    real = values[(np.abs(turns) < 1e-7 * np.abs(finite)) & (values > start)]
    for candidate in [*np.sort(real).tolist(), 1e6 * scale]:
        crossing = _complex_crossing(a, b, start, candidate)
        if crossing is not None:
            return crossing
        if candidate < 1e6 * scale and _growth(a, b, candidate * (1 + 1e-6)) > 0:
            return float(candidate)
        start = candidate
    return np.inf


def _growth(a: Matrix, b: Matrix, lr: float) -> float:
    """Largest real part of an eigenvalue, less a margin for rounding."""
    matrix = a + lr * b
    return np.real(np.linalg.eigvals(matrix)).max() - _MARGIN * lr * np.linalg.norm(b)


def _complex_crossing(a: Matrix, b: Matrix, low: float, high: float) -> float | None:
    """Where stability is lost strictly between low and high, by a scan and bisection."""
    many = high > 1e3 * low
    grid = np.geomspace(low, high, _SCAN + 2) if many else np.linspace(low, high, _SCAN + 2)
    grid = np.union1d(grid, np.linspace(low, high, _SCAN + 2))[1:-1]
    grid = grid[(grid > low * (1 + 1e-9)) & (grid < high * (1 - 1e-6))]
    lost = [lr for lr in grid if _growth(a, b, lr) > 0]
    if not lost:
        return None
    above = lost[0]
    below = max([low, *grid[grid < above]])
    # Bisection, to rounding
    while above - below > 1e-13 * above:
        middle = 0.5 * (below + above)
        if not below < middle < above:
            break
        below, above = (below, middle) if _growth(a, b, middle) > 0 else (middle, above)
    return float(above)


def _deflated(a: Matrix, b: Matrix) -> tuple[Smaller, Smaller]:
    """a and b without their common right and left null spaces, whose eigenvalues are 0."""
    while a.size:
        size = len(a)
        for transposed in (False, True):
            if a.size == 0:
                break
            pair = (a.T, b.T) if transposed else (a, b)
            norms = [np.linalg.norm(matrix) for matrix in pair]
            stacked = np.concatenate(
                [matrix / max(norm, 1e-300) for matrix, norm in zip(pair, norms, strict=True)]
            )
            values, rows = np.linalg.svd(stacked)[1:]
            kept = rows[: int((values > _NULL).sum())]
            a, b = kept @ a @ kept.T, kept @ b @ kept.T
        if len(a) == size:
            break
    return a, b
