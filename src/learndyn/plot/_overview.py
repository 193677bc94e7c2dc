"""One run at a glance: its learning curve and its overlaps."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._curves import learning_curve
from learndyn.plot._layers import draw_layer, trained
from learndyn.plot._overlaps import overlap_trajectories
from learndyn.plot._setting import tell_setting_once
from learndyn.plot._style import pyplot, style
from learndyn.plot._tasks import draw_heads, has_tasks, heads_move, task_curves

if TYPE_CHECKING:
    import xarray


def overview(
    theory: "xarray.Dataset | None" = None, experiment: "xarray.Dataset | None" = None
) -> np.ndarray:
    """Three panels against time: the generalisation error, R and Q; one more for each of v and b
    that is trained. Of several tasks the error of each is drawn, with the schedule, and their heads
    in place of v.

    Args:
        theory, experiment: datasets of one setting, as for `learning_curve`.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> len(plot.overview(ld.to_dataset(run)))
        3
    """
    plt = pyplot()

    several = has_tasks([theory, experiment])
    layers = _layers([theory, experiment], several)
    columns = 3 + len(layers)
    with style():
        _, axes = plt.subplots(1, columns, figsize=(3.4 * columns, 3.1))
    (task_curves if several else learning_curve)(theory, experiment, ax=axes[0])
    with style():
        axes[0].set_title("learning curves" if several else "learning curve")
        tell_setting_once(axes)
    overlap_trajectories(theory, experiment, axes=(axes[1], axes[2]))
    with style():
        for name, ax in zip(layers, axes[3:], strict=True):
            if name == "heads":
                draw_heads(ax, theory, experiment)
            else:
                draw_layer(ax, name, theory, experiment)
    return axes


def _layers(datasets: list[Any], several: bool) -> list[str]:
    """What is trained of second layers and biases; of several tasks v is that of one head."""
    found = trained(datasets)
    if not several:
        return found
    heads = ["heads"] if heads_move(datasets) else []
    return heads + [name for name in found if name != "v"]
