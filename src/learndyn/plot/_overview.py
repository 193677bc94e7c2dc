"""One run at a glance: its learning curve and its overlaps."""

from typing import TYPE_CHECKING

import numpy as np

from learndyn.plot._curves import learning_curve
from learndyn.plot._overlaps import overlap_trajectories
from learndyn.plot._style import pyplot, style

if TYPE_CHECKING:
    import xarray


def overview(
    theory: "xarray.Dataset | None" = None, experiment: "xarray.Dataset | None" = None
) -> np.ndarray:
    """Three panels against time: the generalisation error, R and Q.

    theory, experiment: datasets of one setting, as for `learning_curve`.
    """
    plt = pyplot()

    with style():
        _, axes = plt.subplots(1, 3, figsize=(10.2, 3.0))
    learning_curve(theory, experiment, ax=axes[0])
    overlap_trajectories(theory, experiment, axes=(axes[1], axes[2]))
    with style():
        axes[0].set_title("learning curve")
    return axes
