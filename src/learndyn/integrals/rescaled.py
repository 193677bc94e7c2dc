"""Closed forms of g from those of another function: g(x) = gain base(slope x)."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float


class Scale(NamedTuple):
    """gain and slope in g(x) = gain base(slope x)."""

    gain: float
    slope: float


@dataclass(frozen=True)
class Rescaled:
    """The averages where the first k units have the scale `student` and the others `teacher`.

    Fields and outputs are rescaled, and no integral is new.
    """

    base: ModuleType
    student: Scale
    teacher: Scale
    k: int

    def pair(self, c: Float[Array, "d d"]) -> Float[Array, "d d"]:
        """<g_a(f_a) g_b(f_b)> of all pairs."""
        gain, slope = self._scales(len(c))
        return np.outer(gain, gain) * self.base.pair(np.outer(slope, slope) * c)

    def first_layer(
        self,
        c: Float[Array, "d d"],
        u: Float[Array, " d"],
        k: int,
        noise_variance: Float[Array, ""],
    ) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
        """G and <s_i s_j> of the error signals, see `learndyn.integrals.erf`."""
        gain, slope = self._scales(len(c))
        scaled = np.outer(slope, slope) * c
        g, phi = self.base.first_layer(scaled, gain * u, k, noise_variance)
        # s_i = gain slope times the base's signal; Cov(slope_b f_b, f_p) = slope_b C_bp.
        own = (gain * slope)[:k]
        return own[:, None] * g * slope, np.outer(own, own) * phi

    def _scales(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """(d,) gains and slopes."""
        each = np.array([self.student] * self.k + [self.teacher] * (d - self.k))
        return each[:, 0], each[:, 1]
