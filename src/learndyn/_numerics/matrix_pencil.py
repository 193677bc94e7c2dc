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

_RANGE = 1e6
"""Rates are searched from the natural scale |A| / |B| over this to times this, as `critical_lr`
states; far beyond, A or B would be below the other's rounding."""

_REAL = 1e-7
"""An eigenvalue of the pencil with a smaller imaginary part, relative to its size, is real: where
two real ones meet, rounding of 1e-15 turns them into a pair with a part of its square root."""

_ASIDE = 1e-6
"""Relative distance from a crossing at which the growth is clear of the margin for rounding."""

_TINY = 1e-300
"""Keeps a division by the norm of a zero matrix away."""

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
    scale = float(np.linalg.norm(a)) / max(float(np.linalg.norm(b)), _TINY)
    start = min(scale, _RANGE) / _RANGE
    if _growth(a, b, start) > 0:
        return 0.0
    # Real crossings: a + lr b is singular there, so lr is an eigenvalue of the pencil (a, -b).
    eigenvalues = np.asarray(scipy.linalg.eigvals(a, -b))
    finite = eigenvalues[np.isfinite(eigenvalues)]
    values, turns = np.real(finite), np.imag(finite)
    real = values[(np.abs(turns) < _REAL * np.abs(finite)) & (values > start)]
    for candidate in [*np.sort(real).tolist(), _RANGE * scale]:
        crossing = _complex_crossing(a, b, start, candidate)
        if crossing is not None:
            return crossing
        # A crossing counts only where an eigenvalue comes out on the unstable side.
        if candidate < _RANGE * scale and _growth(a, b, candidate * (1 + _ASIDE)) > 0:
            return float(candidate)
        start = candidate
    return np.inf


def _growth(a: Matrix, b: Matrix, lr: float) -> float:
    """Largest real part of an eigenvalue, less a margin for rounding."""
    matrix = a + lr * b
    return np.real(np.linalg.eigvals(matrix)).max() - _MARGIN * lr * np.linalg.norm(b)


def _complex_crossing(a: Matrix, b: Matrix, low: float, high: float) -> float | None:
    """Where stability is lost strictly between low and high, by a scan and bisection."""
    many = high > 1e3 * low  # an even spacing leaves few to the first decade
    grid = np.geomspace(low, high, _SCAN + 2) if many else np.linspace(low, high, _SCAN + 2)
    # Both spacings: crossings may lie decades apart, or close to the upper end.
    grid = np.union1d(grid, np.linspace(low, high, _SCAN + 2))[1:-1]
    # At the ends themselves an eigenvalue is 0.
    grid = grid[(grid > low * (1 + 1e-9)) & (grid < high * (1 - _ASIDE))]
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
                [matrix / max(norm, _TINY) for matrix, norm in zip(pair, norms, strict=True)]
            )
            # Null vectors that both matrices share are the null vectors of one above the other.
            values, rows = np.linalg.svd(stacked)[1:]
            kept = rows[: int((values > _NULL).sum())]
            # Projection onto the orthogonal complement of what both annihilate
            a, b = kept @ a @ kept.T, kept @ b @ kept.T
        if len(a) == size:
            break
    return a, b
