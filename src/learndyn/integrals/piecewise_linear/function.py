"""Piecewise linear functions, and networks of units that have them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class PiecewiseLinear(NamedTuple):
    """g(x) = constant + slope x + sum_j bends_j relu(x - knots_j), numbers without units.

    slope: that of the leftmost piece; bends: by how much the slope grows at each knot.
    """

    constant: float
    slope: float
    knots: tuple[float, ...] = ()
    bends: tuple[float, ...] = ()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """g(x), elementwise."""
        total = self.constant + self.slope * x
        for knot, bend in zip(self.knots, self.bends, strict=True):
            total = total + bend * np.maximum(x - knot, 0.0)
        return total

    @property
    def slopes(self) -> Float[np.ndarray, " pieces"]:
        """The slopes of all pieces, from left to right."""
        return self.slope + np.concatenate([[0.0], np.cumsum(self.bends)])


class Network(NamedTuple):
    """The units of student and teacher, and each of their steps [f_a + b_a > knot] by itself.

    constant, slope: (d,) of each unit; unit, knot: (steps,) to which unit a step belongs, and
    where it is; bend: (d, steps) by how much it raises the slope of each unit.
    """

    constant: Float[np.ndarray, " d"]
    slope: Float[np.ndarray, " d"]
    unit: Int[np.ndarray, " steps"]
    knot: Float[np.ndarray, " steps"]
    bend: Float[np.ndarray, "d steps"]


def network(student: PiecewiseLinear, teacher: PiecewiseLinear, k: int, m: int) -> Network:
    """k student units, then m teacher units."""
    of_unit = [student] * k + [teacher] * m
    unit = np.repeat(np.arange(k + m), [len(g.knots) for g in of_unit])
    bends = np.array([bend for g in of_unit for bend in g.bends])
    return Network(
        np.array([g.constant for g in of_unit]),
        np.array([g.slope for g in of_unit]),
        unit,
        np.array([knot for g in of_unit for knot in g.knots]),
        np.where(unit == np.arange(k + m)[:, None], bends, 0.0),
    )
