"""One run at a glance: its learning curve and its overlaps."""

from typing import TYPE_CHECKING

import numpy as np

from learndyn.plot._curves import learning_curve
from learndyn.plot._layers import draw_layer, trained
from learndyn.plot._overlaps import overlap_trajectories
from learndyn.plot._setting import tell_setting_once
from learndyn.plot._style import pyplot, style

if TYPE_CHECKING:
    import xarray


def overview(
    theory: "xarray.Dataset | None" = None, experiment: "xarray.Dataset | None" = None
) -> np.ndarray:
    """Three panels against time: the generalisation error, R and Q; one more for each of v and b
    that is trained.

    Args:
        theory, experiment: datasets of one setting, as for `learning_curve`.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> len(plot.overview(ld.to_dataset(run)))
        3
    """
    plt = pyplot()

    layers = trained([theory, experiment])
    columns = 3 + len(layers)
    with style():
        _, axes = plt.subplots(1, columns, figsize=(3.4 * columns, 3.1))
    learning_curve(theory, experiment, ax=axes[0])
    with style():
        axes[0].set_title("learning curve")
        tell_setting_once(axes)
    overlap_trajectories(theory, experiment, axes=(axes[1], axes[2]))
    with style():
        for name, ax in zip(layers, axes[3:], strict=True):
            draw_layer(ax, name, theory, experiment)
    return axes
