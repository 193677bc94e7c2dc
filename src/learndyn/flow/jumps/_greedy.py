"""Greedy low-rank learning: plateaus of linear networks by simulation, rank by rank."""

from typing import Any

import numpy as np
import scipy.integrate
from jaxtyping import Float

from learndyn._checks import require_at_least
from learndyn._types import RealLike
from learndyn.flow.jumps._data import moments
from learndyn.flow.jumps._events import Event
from learndyn.flow.jumps._linear import RANK, Task, hessian, task_of
from learndyn.flow.jumps._result import Jumps

_FLAT = 1e-9
"""The flow of one rank ends when the gradient has fallen to this, over the size of syx; Newton's
method then reaches rounding in two steps."""

_HORIZON = 1e5
"""Time, in units of one over the smallest singular value of syx, after which a flow is given up."""


def greedy_low_rank(sxx: Any, syx: RealLike = None, size: RealLike = 1e-4) -> Jumps:
    """Greedy low-rank learning of a linear map: add one hidden unit at a time and train to the end.

    Algorithm: with E = S_yx - M S_xx, append size · (u, v), the leading singular pair of E, to (A,
    W), and follow gradient flow to its next stationary point.

    Error: rounding, where the stationary point is isolated up to rotations.

    Args:
        sxx, syx: as for `linear_jumps`.
        size: norm of each layer of a new unit, small.

    Returns:
        `flow.Jumps` with maps (K + 1, c, d) and loss (K + 1,), to compare with `linear_jumps`; the
        procedure has no times (NaN).

    Raises:
        ValueError: as `linear_jumps`, and for size <= 0.

    Source:
        Li, Luo and Lyu (2021), greedy low-rank learning.

    Example:
        >>> jumps = flow.greedy_low_rank(np.eye(2), np.diag([2.0, 1.0]), size=1e-3)
        >>> np.round(jumps.loss, 6)
        array([2.5, 0.5, 0. ])
    """
    given = moments(sxx, syx, "greedy_low_rank")
    task = task_of(given)
    scale = float(np.linalg.norm(task.syx, 2))
    step = np.float64(np.asarray(size))
    require_at_least(step, 0.0, "size", "of a new hidden unit", strict=True)
    a, w = np.zeros((len(task.syx), 0)), np.zeros((0, len(task.sxx)))
    maps = [a @ w]
    for _ in range(int(np.linalg.matrix_rank(task.syx, tol=RANK * scale))):
        u, _, v = np.linalg.svd(task.syx - maps[-1] @ task.sxx)
        a, w = _train(task, np.column_stack([a, step * u[:, 0]]), np.vstack([w, step * v[0]]))
        maps.append(a @ w)
    floor = task.floor(given.zero)
    loss = [_excess(task, m) + floor for m in maps]
    return Jumps(
        times=np.full(len(maps) - 1, np.nan), loss=np.array(loss), floor=floor, maps=np.array(maps)
    )


def _excess(task: Task, m: Float[np.ndarray, "c d"]) -> float:
    rest = m - task.best
    return float(np.trace(rest @ task.sxx @ rest.T)) / 2


def _train(
    task: Task, a: Float[np.ndarray, "c h"], w: Float[np.ndarray, "h d"]
) -> tuple[Float[np.ndarray, "c h"], Float[np.ndarray, "h d"]]:
    """Gradient flow to a stationary point, then Newton's method."""
    split, scale = a.size, float(np.linalg.norm(task.syx, 2))
    smallest = float(np.linalg.svd(task.syx, compute_uv=False).min())

    def parts(z: np.ndarray) -> Any:
        return z[:split].reshape(a.shape), z[split:].reshape(w.shape)

    def field(t: float, z: np.ndarray) -> np.ndarray:
        a, w = parts(z)
        error = task.syx - a @ w @ task.sxx
        return np.append(error @ w.T, a.T @ error)

    def jacobian(t: float, z: np.ndarray) -> np.ndarray:
        return -hessian(task, *parts(z))

    flat = Event(lambda t, z: float(np.abs(field(t, z)).max() - _FLAT * scale), direction=-1.0)
    until = _HORIZON / max(smallest, RANK * scale)
    # The path ends at a fixed point, so its errors do not stay: eight digits on the way do.
    options = {"method": "Radau", "jac": jacobian, "rtol": 1e-8, "atol": 1e-12}
    run = scipy.integrate.solve_ivp(field, (0.0, until), np.append(a, w), events=flat, **options)
    z = run.y[:, -1]
    for _ in range(3):
        # Rotations and rescalings of the hidden units are left alone.
        inverse = np.linalg.pinv(-jacobian(0.0, z), rcond=1e-9, hermitian=True)
        z = z + inverse @ field(0.0, z)
    return parts(z)
