"""Least squares with prescribed signs, by the active-set method of Lawson and Hanson."""

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float

_DEPENDENT = 1e-10
"""A column whose part orthogonal to the others is below this, over its norm, depends on them."""

_ROUNDING = 64 * np.finfo(float).eps
"""Coefficients that are below this times the largest when they are to leave are zero."""


class SignedLeastSquares:
    """min |y - X beta|² with beta_i >= 0 where a sign is 1, <= 0 where -1, = 0 elsewhere.

    The solution is kept between calls, which differ in a few signs, and so is the QR factorisation
    of the members' columns: a column that joins or leaves costs O(samples · members).
    members: coordinates that are not zero, in the order of the factorisation's columns.
    """

    def __init__(self, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> None:
        self.x, self.y = x, y
        self.members: list[int] = []
        self.values = np.zeros(0)
        # SciPy's stubs know neither qr_insert nor what qr returns in each mode.
        self.linalg: Any = scipy.linalg
        self.q, self.r = np.zeros((len(y), 0)), np.zeros((0, 0))

    def solve(
        self, signs: Float[np.ndarray, " d"], tolerance: float
    ) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " n"]]:
        """The solution and its residual. signs: ±1 exactly, or anything between.

        tolerance: of gradients x_i·residual, below which a coordinate gains nothing.
        """
        edge = np.abs(signs) == 1.0
        edge[self.members] = False
        waiting = [int(i) for i in np.flatnonzero(edge)]
        while True:
            residual = self._residual()
            gains = [signs[i] * (residual @ self.x[:, i]) for i in waiting]
            if not waiting or max(gains) <= tolerance:
                return self._beta(signs), residual
            new = waiting.pop(int(np.argmax(gains)))
            if self._join(new):
                # A member that leaves may come back.
                waiting += self._shrink(signs)

    def _join(self, new: int) -> bool:
        """Add a column to the factorisation, unless it depends on those that are there."""
        column = self.x[:, new]
        across = column - self.q @ (self.q.T @ column)
        if np.linalg.norm(across) <= _DEPENDENT * np.linalg.norm(column):
            return False
        if not self.members:
            self.q, self.r = self.linalg.qr(column[:, None], mode="economic")
        else:
            end = len(self.members)
            self.q, self.r = self.linalg.qr_insert(
                self.q, self.r, column, end, which="col", check_finite=False
            )
        self.members.append(new)
        self.values = np.append(self.values, 0.0)
        return True

    def _shrink(self, signs: Float[np.ndarray, " d"]) -> list[int]:
        """To the least-squares solution; members leave, and are returned, when they become zero."""
        gone: list[int] = []
        while True:
            goal = self._least_squares()
            side = signs[self.members]
            wrong = side * goal <= 0
            if not wrong.any():
                self.values = goal
                return gone
            # The longest step towards the solution that keeps all signs
            old = np.abs(self.values)
            steps = old[wrong] / np.maximum(old[wrong] + np.abs(goal[wrong]), np.finfo(float).tiny)
            self.values = self.values + steps.min() * (goal - self.values)
            small = _ROUNDING * np.abs(self.values).max()
            leaving = np.flatnonzero(wrong)[steps <= steps.min()]
            places = {*leaving, *np.flatnonzero(wrong & (np.abs(self.values) <= small))}
            gone += [self.members[place] for place in places]
            self._leave(sorted(map(int, places), reverse=True))

    def _leave(self, places: list[int]) -> None:
        for place in places:
            if len(self.members) == 1:
                self.q, self.r = self.q[:, :0], self.r[:0, :0]
            else:
                self.q, self.r = self.linalg.qr_delete(
                    self.q, self.r, place, which="col", check_finite=False
                )
                # A square Q stays square; only the first columns are needed.
                left = len(self.members) - 1
                self.q, self.r = self.q[:, :left], self.r[:left]
            del self.members[place]
            self.values = np.delete(self.values, place)

    def _least_squares(self) -> Float[np.ndarray, " members"]:
        return scipy.linalg.solve_triangular(self.r, self.q.T @ self.y, check_finite=False)

    def _residual(self) -> Float[np.ndarray, " n"]:
        """y less its projection on the members' columns, projected twice against rounding."""
        rest = self.y - self.q @ (self.q.T @ self.y)
        return rest - self.q @ (self.q.T @ rest)

    def _beta(self, signs: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        beta = np.zeros(len(signs))
        beta[self.members] = self.values
        return beta
