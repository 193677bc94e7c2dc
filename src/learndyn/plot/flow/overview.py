"""One run of gradient flow at a glance: its loss, and what it learned."""

from typing import Any

import numpy as np

from learndyn.plot._style import pyplot, style
from learndyn.plot.flow._sources import JumpsLike, RunLike, runs_in
from learndyn.plot.flow.coefficients import coefficients
from learndyn.plot.flow.directions import neuron_directions
from learndyn.plot.flow.frequencies import frequency_powers
from learndyn.plot.flow.losses import loss_curve
from learndyn.plot.flow.neuron import minima_manifold


def flow_overview(
    run: RunLike,
    jumps: JumpsLike = None,
    *,
    theory: RunLike = None,
    times: Any = None,
    directions: Any = None,
    rates: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """The loss, and next to it a panel that the model decides; one panel where there is none.

    Linear neuron: `minima_manifold`, with rates (lr_a, lr_w), if a run reached its end. Linear and
    diagonal networks: `coefficients`. Modular addition: `frequency_powers`. Two-layer networks on
    the plane: `neuron_directions`, with `directions`.

    Args:
        run, jumps, theory, times: as for `loss_curve`.
        directions: as for `neuron_directions`.
        rates: (lr_a, lr_w), as for `minima_manifold`.

    Raises:
        ValueError: as that does.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> len(plot.flow_overview(run))
        2
    """
    plt = pyplot()

    runs = runs_in(run, "run")
    model, first = str(runs[0].attrs.get("model")), runs[0]
    panels = {
        "LinearNeuron": lambda ax: minima_manifold(runs, lr_a=rates[0], lr_w=rates[1], ax=ax),
        "LinearNetwork": lambda ax: coefficients(first, jumps, times=times, ax=ax),
        "DiagonalNetwork": lambda ax: coefficients(first, jumps, times=times, ax=ax),
        "ModularAddition": lambda ax: frequency_powers(first, jumps, times=times, ax=ax),
        "TwoLayer": lambda ax: neuron_directions(first, directions, ax=ax),
    }
    has_panel = model in panels and (model == "LinearNeuron" or len(runs) == 1)
    if model == "LinearNeuron":
        # Where no run reached its end nobody knows which minima to draw.
        has_panel &= any(np.isfinite(run.a.values[-1]) for run in runs)
    if model == "TwoLayer":
        has_panel &= first.sizes["input"] + ("b" in first) == 2
    with style():
        columns = 2 if has_panel else 1
        _, axes = plt.subplots(1, columns, figsize=(4.6 * columns, 3.2), squeeze=False)
    if has_panel:
        panels[model](axes[0, 1]).set_title("", loc="left")
    # Last, because the names at the ends of curves settle how wide the panels are.
    loss_curve(run, jumps, theory=theory, times=times, ax=axes[0, 0])
    return axes[0]
