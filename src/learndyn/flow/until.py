"""Where a run may end: events of `gradient_flow(..., until=...)`.

An event is a function of (model, loss, speed) whose change of sign ends the run; the attribute
`rising` restricts it to changes upwards (True) or downwards (False).
"""

from typing import Any, ClassVar

from learndyn._checks import as_float, require_at_least, require_finite
from learndyn._readable import Readable
from learndyn._types import RealLike, Scalar


class AtLoss(Readable):
    """The run ends where the loss falls to `level`, for example the mean of two plateaus: a jump.

    Args:
        level: of the loss.

    Raises:
        ValueError: for a level that is not finite.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 20.0], until=flow.AtLoss(0.25))
        >>> round(float(flow.loss(run.last, data)), 6)
        0.25
    """

    rising: ClassVar[bool] = False
    level: Scalar

    def __init__(self, level: RealLike):
        self.level = as_float(level, "level")
        require_finite(level=self.level)

    def __call__(self, model: Any, loss: Scalar, speed: Scalar) -> Scalar:
        return loss - self.level


class _AtSpeed(Readable):
    """The run ends where |d theta/dt| passes `speed`, in the direction `rising`."""

    speed: Scalar

    def __init__(self, speed: RealLike):
        self.speed = as_float(speed, "speed")
        require_at_least(self.speed, 0.0, "speed", "a norm per time", strict=True)

    def __call__(self, model: Any, loss: Scalar, speed: Scalar) -> Scalar:
        return speed - self.speed


class AtPlateau(_AtSpeed):
    """The run ends where |d theta/dt| falls to `speed`: it has come onto a plateau, or to its end.

    A small start is itself a plateau, which the run leaves first: only falling speed counts.

    Args:
        speed: the norm of d theta/dt, > 0.

    Raises:
        ValueError: for a speed that is not positive and finite.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 20.0], until=flow.AtPlateau(1e-3))
        >>> bool(run.end < 20.0), bool(flow.loss(run.last, data) < 1e-6)
        (True, True)
    """

    rising: ClassVar[bool] = False


class LeavesPlateau(_AtSpeed):
    """The run ends where |d theta/dt| rises to `speed`: a plateau is over.

    Args:
        speed: the norm of d theta/dt, > 0.

    Raises:
        ValueError: for a speed that is not positive and finite.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 20.0], until=flow.LeavesPlateau(0.1))
        >>> bool(run.end > 1.0), bool(flow.loss(run.last, data) > 0.49)
        (True, True)
    """

    rising: ClassVar[bool] = True
