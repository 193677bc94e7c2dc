"""Modular addition: which frequency is learned when."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._style import GREY, new_axes, style
from learndyn.plot.flow._sources import (
    JumpsLike,
    RunLike,
    jump_times,
    jumps_of,
    label_time,
    name_curves,
    one_run,
    require_variables,
    tell_setting,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


def frequency_powers(
    run: RunLike,
    jumps: JumpsLike = None,
    *,
    alpha: float | None = None,
    times: Any = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The power of each frequency in the weights of a `flow.ModularAddition` against time.

    Power: the sum over neurons and layers of |x_k|**2 * 2/p, x_k the discrete Fourier transform, so
    that powers of all frequencies add up to the squared norm of the weights (without their means).

    Args:
        run: one run, or its dataset.
        jumps: of `flow.modular_jumps`: the time at which each frequency should be learned, as a
            dashed line of its colour.
        alpha, times: as for `loss_curve`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for a batch, another model, or as `loss_curve`.

    Example:
        >>> x = np.cos(2 * np.pi * np.arange(3) / 3)
        >>> unit = 0.1 * np.ones((1, 3)) + 0.01 * np.eye(3)[:1]
        >>> start = flow.ModularAddition(u=unit, v=unit, w=unit)
        >>> run = flow.gradient_flow(start, flow.modular_data(x), [0.0, 1.0])
        >>> plot.frequency_powers(run).get_xlabel()
        'time $t$'
    """
    run, predicted = one_run(run, "run"), jumps_of(jumps)
    require_variables(run, ("u", "v", "w"), "networks that learn modular addition, with u, v, w")
    powers = _powers(run)
    names = [str(one + 1) for one in range(powers.shape[1])]
    with style():
        ax = new_axes(ax)
        label_time(ax, run)
        ax.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
        ax.set_ylabel("power in the weights")
        tell_setting(ax, [run])
        ax.set_ylim(0.0, 1.05 * max(float(np.nanmax(powers, initial=0.0)), np.finfo(float).tiny))
        looks = name_curves(ax, run.t.values, powers, names, "frequency {}")
        if predicted is not None:
            jumped = jump_times(predicted, run, alpha, times)
            for one, time in zip(_frequencies(predicted), jumped, strict=True):
                look = {"color": looks[one - 1], "linestyle": (0, (4, 2)), "linewidth": 1.0}
                ax.axvline(time, zorder=1, **look)
    return ax


def _powers(run: "xarray.Dataset") -> np.ndarray:
    """(times, (p - 1)/2) for odd p, with p/2 counted once for even p."""
    p = run.sizes["site"]
    both = np.zeros((run.sizes["t"], p // 2))
    for name in ("u", "v", "w"):
        waves = np.fft.rfft(run[name].transpose("t", "hidden", "site").values, axis=-1)[..., 1:]
        both += np.sum(np.abs(waves) ** 2, axis=1)
    weights = np.full(p // 2, 2.0 / p)
    if p % 2 == 0:
        weights[-1] = 1.0 / p
    return both * weights


def _frequencies(jumps: "xarray.Dataset") -> list[int]:
    if "frequencies" not in jumps:
        raise ValueError(
            "jumps must be of flow.modular_jumps, which knows the frequencies; these have "
            f"{list(jumps.data_vars)}."
        )
    return [int(one) for one in jumps.frequencies.values]
