"""Events that end a solve, as SciPy wants them."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Event:
    """Ends `scipy.integrate.solve_ivp` where `value(t, z)` crosses 0.

    direction: 1.0 from below, -1.0 from above.
    """

    value: Callable[[float, np.ndarray], float]
    direction: float
    terminal: bool = True

    def __call__(self, t: float, z: np.ndarray) -> float:
        return self.value(t, z)
