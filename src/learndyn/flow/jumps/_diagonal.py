"""Diagonal linear networks, f = (u v)·x: the algorithm of Pesme and Flammarion (2023)."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from learndyn._types import RealLike
from learndyn.flow.jumps._data import Samples, host, moments, samples
from learndyn.flow.jumps._entropy import most_even
from learndyn.flow.jumps._result import Jumps
from learndyn.flow.jumps._signed_least_squares import SignedLeastSquares

STILL = 1e-10
"""A gradient below this, over the largest at the start, is zero: rounding leaves 1e-14 or so on a
plateau, and such a gradient changes the loss by 1e-20 at most."""

TOGETHER = 1e-10
"""Coordinates whose times agree to this relative precision jump together, as duplicated columns do
but for rounding."""


ROUNDING = 1e-14
"""Labels whose correlation with all columns is below this, over the largest sum of terms, have
none: rounding of the sum leaves 1e-16 times a small number."""


def diagonal_jumps(x: Any, y: RealLike = None, reduce: str = "mean") -> Jumps:
    """Plateaus and jump times of gradient flow of f = (u v)·x from u = alpha, v = 0, as alpha → 0.

    Equation: s(t) = -∫ gradient dt / log(1/alpha) moves with constant speed until a coordinate
    reaches ±1; then beta is the least-squares solution among those with beta_i >= 0 where s_i = 1,
    <= 0 where s_i = -1 and = 0 elsewhere. A coordinate that falls to 0 leaves ±1.

    Coordinates that reach ±1 together (within 1e-10) are one jump. Where columns are linearly
    dependent the solution is not unique; the flow chooses the one of largest entropy, min
    Σ|beta_i|(log|beta_i| - 1), and so does this. Holds for u(0) = alpha ū, v(0) = alpha v̄ with |ū|
    ≠ |v̄|, which change times by O(1); not for u = v = alpha, which never become negative.

    Error: rounding, 1e-10. Cost: about 4 · samples · d operations per jump, no d × d matrix.

    Args:
        x: (samples, d), and y: (samples,) or (samples, 1); or `flow.Data` or `flow.Moments` in
            place of x.
        y: (samples,) or (samples, 1) labels; None where x holds them.
        reduce: "mean" or "sum" of half the squared errors over samples, which scales the times.

    Returns:
        `flow.Jumps` with beta (K + 1, d), dual (K + 1, d), active (K + 1, d).

    Raises:
        ValueError: for shapes, more than one output, complex, infinite or traced input.

    Source:
        Pesme and Flammarion, Saddle-to-saddle dynamics in diagonal linear networks (2023).

    Example:
        >>> jumps = flow.diagonal_jumps(np.eye(2), np.array([2.0, -1.0]))
        >>> jumps.times, jumps.beta[-1]
        (array([1., 2.]), array([ 2., -1.]))
    """
    data = _one_output(x, y, reduce)
    return _Recursion(data).run()


class _Recursion:
    """The state of the algorithm: dual s with its speed slope, and the time, times `size`."""

    def __init__(self, data: Samples) -> None:
        self.x, self.weight = data.x, data.weight
        # In these units the largest gradient at the start is 1.
        pull = np.abs(data.y[:, 0] @ data.x).max()
        rounding = ROUNDING * np.abs(data.x).max() * np.abs(data.y).sum()
        self.size = data.weight * float(pull) if pull > rounding else 0.0
        self.residual = data.y[:, 0].copy()
        self.fit = SignedLeastSquares(data.x, data.y[:, 0])
        self.dual = np.zeros(data.x.shape[1])
        self.slope = self._slope()
        self.time = 0.0

    def run(self) -> Jumps:
        """All plateaus, one after another."""
        beta = np.zeros_like(self.dual)
        times, betas, duals, losses = [], [beta], [self.dual.copy()], [self._loss()]
        while self.slope.any():
            self._advance(self.slope)
            beta, self.residual = self.fit.solve(self.dual, STILL * self.size / self.weight)
            self.slope = self._slope()
            times.append(self.time / self.size)
            betas.append(self._chosen(beta))
            duals.append(self.dual.copy())
            losses.append(self._loss())
        return Jumps(
            times=np.array(times),
            loss=np.array(losses),
            beta=np.array(betas),
            dual=np.array(duals),
            active=np.array(betas) != 0,
            floor=losses[-1],
        )

    def _loss(self) -> float:
        return self.weight * float(self.residual @ self.residual) / 2

    def _slope(self) -> Float[np.ndarray, " d"]:
        """Minus the gradient, in units of the largest at the start, 0 where it is rounding."""
        if self.size == 0:
            return np.zeros_like(self.dual)
        slope = (self.weight / self.size * self.residual) @ self.x
        slope[np.abs(slope) < STILL] = 0.0
        slope[self.fit.members] = 0.0
        # Outward at ±1 there is only rounding: of columns that depend on those of members.
        slope[(np.abs(self.dual) == 1.0) & (self.dual * slope > 0)] = 0.0
        return slope

    def _advance(self, speed: Float[np.ndarray, " d"]) -> None:
        """To the time at which the next coordinates reach ±1, which they then do exactly."""
        moving = np.flatnonzero(speed)
        goal = np.sign(speed[moving])
        waits = (goal - self.dual[moving]) / speed[moving]
        wait = waits.min()
        arrived = waits <= wait + TOGETHER * (self.time + wait)
        self.dual += speed * wait
        self.dual[moving[arrived]] = goal[arrived]
        self.time += wait

    def _chosen(self, beta: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Where dependent columns share a plateau, the solution that the flow chooses."""
        face = self._face()
        if len(face) == len(self.fit.members):
            return beta
        columns, chosen = self.x[:, face], beta.copy()
        chosen[face] = most_even(columns, beta[face], self.dual[face])
        return chosen

    def _face(self) -> Int[np.ndarray, " face"]:
        """Coordinates at ±1 whose gradient vanishes: all that may be nonzero at no cost."""
        return np.flatnonzero((np.abs(self.dual) == 1.0) & (self.slope == 0))


def _one_output(x: Any, y: Any, reduce: str) -> Samples:
    if hasattr(x, "sxx"):
        return _from_moments(x)
    data = samples(x, y, reduce, "diagonal_jumps")
    if data.y.shape[1] != 1:
        raise ValueError(
            f"A diagonal network has one output; y has {data.y.shape[1]} columns. Take one of them."
        )
    return data


def _from_moments(given: Any) -> Samples:
    """Samples with these second moments; the part of y that x does not explain comes last."""
    known = moments(given, None, "diagonal_jumps")
    if len(known.syx) != 1:
        raise ValueError(f"A diagonal network has one output; syx has {len(known.syx)}.")
    values, vectors = np.linalg.eigh(known.sxx)
    # Smaller eigenvalues are what rounding leaves of zero.
    seen = values > 1e-12 * values[-1]
    roots = np.sqrt(values[seen])
    x = roots[:, None] * vectors[:, seen].T
    y = vectors[:, seen].T @ known.syx[0] / roots
    if np.abs(x.T @ y - known.syx[0]).max() > STILL * np.abs(known.syx).max():
        raise ValueError(
            "syx must lie in the range of sxx, else the loss has no minimum; got moments that no "
            "data have."
        )
    unexplained = 0.0 if known.zero is None else np.sqrt(max(2 * known.zero - y @ y, 0.0))
    x, y = np.vstack([x, np.zeros(x.shape[1])]), np.append(y, unexplained)
    return Samples(x, host(y, "y", "diagonal_jumps")[:, None], 1.0)
