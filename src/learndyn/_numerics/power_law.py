"""Power laws fitted to points."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

Points = Real[np.ndarray, " points"]


class PowerLaw(NamedTuple):
    """log y = slope log x + offset.

    slope_error: the slope's standard error where the weights are inverse variances of log y.
    residuals: log y minus the line, at each point.
    """

    slope: float
    slope_error: float
    offset: float
    residuals: Float[np.ndarray, " points"]


def fit_power_law(x: Points, y: Points, weights: Points) -> PowerLaw:
    """The power law through |y| at positive x, by weighted least squares in logarithms.

    weights: inverse variances of log y, up to a factor; at least two different x.
    """
    # Weighted linear regression of log y on log x, centred so that slope and offset decouple
    log_y = np.log(np.abs(y))
    log_x = np.log(x) - np.average(np.log(x), weights=weights)
    spread = (weights * log_x**2).sum()
    slope = float((weights * log_x) @ log_y / spread)
    rest = log_y - slope * np.log(x)
    # The line passes through the weighted mean of what the slope leaves.
    offset = float(np.average(rest, weights=weights))
    return PowerLaw(slope, float(spread**-0.5), offset, rest - offset)
