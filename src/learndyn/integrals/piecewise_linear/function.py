"""Piecewise linear functions, and networks of units that have them."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class PiecewiseLinear(NamedTuple):
    """g(x) = constant + slope x + sum_j (bends_j relu(x - knots_j) + jumps_j step(x - knots_j)),
    numbers without units.

    slope: that of the leftmost piece; bends: by how much the slope grows at each knot; jumps: by
    how much g does, empty where it is continuous; shares: the share of each jump that g has made
    at the knot itself, 0 for step(0) = 0, 1 for step(0) = 1.
    """

    constant: float
    slope: float
    knots: tuple[float, ...] = ()
    bends: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """g(x), elementwise."""
        total = self.constant + self.slope * x
        for knot, bend in zip(self.knots, self.bends, strict=True):
            total = total + bend * np.maximum(x - knot, 0.0)
        return total + self.stepped(x)

    def stepped(self, x: Any) -> Any:
        """The part of g(x) that is made of jumps alone, elementwise; 0 where g is continuous."""
        total = 0.0 * x
        for knot, jump, share in zip(self.knots, self.jumps, self.shares, strict=False):
            total = total + jump * ((x > knot) + share * (x == knot))
        return total

    @property
    def is_continuous(self) -> bool:
        return not any(self.jumps)

    @property
    def slopes(self) -> Float[np.ndarray, " pieces"]:
        """The slopes of all pieces, from left to right."""
        return self.slope + np.concatenate([[0.0], np.cumsum(self.bends)])


class Network(NamedTuple):
    """The units of student and teacher, and each of their steps [f_a + b_a > knot] by itself.

    constant, slope: (d,) of each unit; unit, knot: (steps,) to which unit a step belongs, and
    where it is; bend, jump: (d, steps) by how much it raises the slope of each unit, and its value;
    closed: (steps,) whether a field that is exactly at the knot counts as having passed it.
    """

    constant: Float[np.ndarray, " d"]
    slope: Float[np.ndarray, " d"]
    unit: Int[np.ndarray, " steps"]
    knot: Float[np.ndarray, " steps"]
    bend: Float[np.ndarray, "d steps"]
    jump: Float[np.ndarray, "d steps"]
    closed: Bool[np.ndarray, " steps"]


def network(student: PiecewiseLinear, teacher: PiecewiseLinear, k: int, m: int) -> Network:
    """k student units, then m teacher units."""
    of_unit = [student] * k + [teacher] * m
    unit = np.repeat(np.arange(k + m), [len(g.knots) for g in of_unit])
    own = unit == np.arange(k + m)[:, None]

    def of_steps(field: str, missing: float) -> np.ndarray:
        """One number for each step; what a function leaves out is `missing`."""
        return np.array(
            [x for g in of_unit for x in (getattr(g, field) or (missing,) * len(g.knots))]
        )

    return Network(
        np.array([g.constant for g in of_unit]),
        np.array([g.slope for g in of_unit]),
        unit,
        np.array([knot for g in of_unit for knot in g.knots]),
        np.where(own, of_steps("bends", 0.0), 0.0),
        np.where(own, of_steps("jumps", 0.0), 0.0),
        of_steps("shares", 0.0) > 0.5,
    )
