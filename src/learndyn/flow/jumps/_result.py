"""What every theory of learning in steps returns."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from learndyn._checks import require_at_least
from learndyn._readable import ReadableResult
from learndyn._types import Absent, RealLike

_AS_FLOAT = np.float64


class Later:
    """A value that is computed when it is first asked for: function(*arguments)."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    @functools.cached_property
    def value(self) -> Any:
        return self.function(*self.arguments)

    @property
    def is_known(self) -> bool:
        """Whether it has been asked for."""
        return "value" in vars(self)


class Jumps(ReadableResult):
    """Plateaus of gradient flow from a small start, and the jumps between them.

    There are K jumps and K + 1 plateaus; plateau 0 comes before the first jump. NumPy arrays. Every
    sequence has times, loss and floor; the others are None where a sequence has no such thing.

    Attributes:
        times: (K,) in units of log(1/alpha) for models of degree 2, of alpha^(2 - degree)/(degree -
            2) for higher ones, alpha the norm scale of the start; exact as alpha → 0.
        loss: (K + 1,) at the plateaus, the model's own.
        floor: the least loss that the model can reach.
        beta: (K + 1, d) coefficients of a diagonal network.
        dual: (K + 1, d) at the time of the jump that leads to the plateau, the integral of
            -gradient over log(1/alpha), in [-1, 1].
        maps: (K + 1, c, d) end-to-end matrices of a linear network.
        relaxation: a function that computes `relaxation_exponents`, or None.
        frequencies: (K,) learned at each jump, of modular addition.
        parameters: (K + 1, neurons, p), 0 for neurons that sleep, of `alternating`.
        active: (K + 1, neurons) who is awake; neurons of a diagonal network are its coordinates.
        utility: (K + 1, neurons) accumulated at the time of the jump, of `alternating`.
        ties: (K,) jumps that coincide with the one before or are not determined by it.
        clustered: whether parallel neurons had to jump together; later times are then rough.
        degree: the degree of the model in its parameters.
        alpha: norm scale of the start, where the sequence has one.
        stopped: why it ends.
        relaxation_exponents: (K,) the error at plateau k, and of time k + 1, falls as alpha to this
            power; small ones mean that tiny alpha are needed. Infinite for the last plateau.
            Computed when first asked for: that takes eigenvalues of matrices of size K (c + d).

    Example:
        >>> jumps = flow.linear_jumps(np.eye(2), np.diag([2.0, 1.0]))
        >>> jumps.times, jumps.loss
        (array([0.5, 1. ]), array([2.5, 0.5, 0. ]))
    """

    unshown: ClassVar[tuple[str, ...]] = ("relaxation",)

    times: Float[np.ndarray, " jumps"]
    loss: Float[np.ndarray, " plateaus"]
    floor: float = 0.0
    beta: Float[np.ndarray, "plateaus d"] | Absent = None
    dual: Float[np.ndarray, "plateaus d"] | Absent = None
    maps: Float[np.ndarray, "plateaus c d"] | Absent = None
    relaxation: Later | None = eqx.field(static=True, default=None)
    frequencies: Any = None
    parameters: Float[np.ndarray, "plateaus neurons p"] | Absent = None
    active: Bool[np.ndarray, "plateaus neurons"] | Absent = None
    utility: Float[np.ndarray, "plateaus neurons"] | Absent = None
    ties: Bool[np.ndarray, " jumps"] | Absent = None
    clustered: bool = False
    degree: int = 2
    alpha: float | Absent = None
    stopped: str = "nothing is left to learn"

    @property
    def relaxation_exponents(self) -> Float[np.ndarray, " jumps"] | Absent:
        """(K,) how fast errors fall with alpha; see above."""
        return None if self.relaxation is None else self.relaxation.value

    @property
    def excess_loss(self) -> Float[np.ndarray, " plateaus"]:
        """(K + 1,) the loss above the least that the model can reach."""
        return self.loss - self.floor

    def at(self, alpha: RealLike) -> Float[np.ndarray, "*alphas jumps"]:
        """Times of the jumps from a start of norm scale `alpha`, in units of the flow's time.

        Args:
            alpha: in (0, 1), of any shape, which stands in front of the jumps. Leading order: true
                times differ by a constant at degree 2, hence relatively by O(1/log(1/alpha)).

        Raises:
            ValueError: for other alpha.
        """
        scale = np.asarray(alpha, _AS_FLOAT)
        require_at_least(scale, 0.0, "alpha", "the norm scale of the start", strict=True)
        require_at_least(1 - scale, 0.0, "1 - alpha", "starts must be small", strict=True)
        return unit_of_time(scale, self.degree)[..., None] * self.times


def unit_of_time(alpha: Float[np.ndarray, "*alphas"] | float, degree: int) -> Any:
    """log(1/alpha) for degree 2, alpha^(2 - degree)/(degree - 2) for higher ones."""
    if degree == 2:
        return -np.log(alpha)
    return np.asarray(alpha) ** (2.0 - degree) / (degree - 2)
