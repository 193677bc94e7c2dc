"""Power laws: log-log plots with the slope that fits, and its uncertainty."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn._numerics.power_law import fit_power_law
from learndyn.plot._data import symbol
from learndyn.plot._setting import tell_setting
from learndyn.plot._style import EXPERIMENT, THEORY, new_axes, require_dataset, style

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class Slope(NamedTuple):
    """y = exp(offset) x**slope, with the standard error of the slope (NaN for two points).

    Attributes:
        slope: the exponent.
        error: its standard error.
        offset: log y at x = 1.

    Example:
        >>> import xarray as xr
        >>> n = [100, 400, 1600]
        >>> measured = xr.Dataset({"width": ("n", [1.0, 0.5, 0.25])}, coords={"n": n})
        >>> round(float(np.exp(plot.fitted_slope(measured, "n", "width").offset)), 6)
        10.0
    """

    slope: float
    error: float
    offset: float


def fitted_slope(dataset: "xarray.Dataset", x: str, y: str) -> Slope:
    """The power law of variable y in coordinate x, by least squares in logarithms.

    y is averaged over `seed`, and points have the weights of their standard errors.

    Args:
        dataset: with the variable y along the dimension x, and perhaps `seed`.
        x: name of the coordinate.
        y: name of the variable.

    Raises:
        ValueError: for fewer than two positive points, or dimensions other than x and seed.

    Example:
        >>> import xarray as xr
        >>> n = [100, 400, 1600]
        >>> measured = xr.Dataset({"width": ("n", [1.0, 0.5, 0.25])}, coords={"n": n})
        >>> round(float(plot.fitted_slope(measured, "n", "width").slope), 6)
        -0.5
    """
    xs, means, errors = _points(dataset, x, y)
    weights = (means / np.where(errors > 0, errors, np.nan)) ** 2
    # Without errors (a single seed) all points count alike.
    weights = weights if np.isfinite(weights).all() else np.ones(len(xs))
    fit = fit_power_law(xs, means, weights)
    # The scatter of the points about the line, in units of their errors, widens its error.
    free = len(xs) - 2
    scatter = np.sqrt(weights @ fit.residuals**2 / free) if free else np.nan
    return Slope(fit.slope, float(fit.slope_error * scatter), fit.offset)


def scaling(
    dataset: "xarray.Dataset",
    x: str,
    y: str,
    *,
    expected: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Variable y against coordinate x, log-log, with the fitted power law.

    The mean over `seed` is shown as crosses with its standard error, and the fit as a line of the
    same colour.

    Args:
        dataset: with the variable y along the dimension x.
        x: name of the coordinate.
        y: name of the variable.
        expected: the slope of a theory, a dark dashed line through the first point.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: as `fitted_slope`.

    Example:
        >>> import xarray as xr
        >>> n = [100, 400, 1600]
        >>> measured = xr.Dataset({"width": ("n", [1.0, 0.5, 0.25])}, coords={"n": n})
        >>> plot.scaling(measured, "n", "width", expected=-0.5).get_xscale()
        'log'
    """
    xs, means, errors = _points(dataset, x, y)
    slope, error, offset = fitted_slope(dataset, x, y)
    with style():
        ax = new_axes(ax, 3.6, 3.0)
        ax.set_xscale("log")
        ax.set_yscale("log")
        grid = np.geomspace(xs.min() / 1.15, xs.max() * 1.15, 50)
        shown = f"slope ${slope:.3f}" + (rf" \pm {error:.3f}$" if np.isfinite(error) else "$")
        ax.plot(grid, np.exp(offset) * grid**slope, color=EXPERIMENT, label=shown, zorder=2)
        if expected is not None:
            reference = means[0] * (grid / xs[0]) ** expected
            look = {"color": THEORY, "linestyle": "--", "linewidth": 1.0}
            ax.plot(grid, reference, label=f"slope ${expected:g}$", **look)
        ax.errorbar(
            xs,
            means,
            yerr=errors if (errors > 0).any() else None,
            fmt="x",
            color=EXPERIMENT,
            markersize=4.5,
            elinewidth=1.0,
            zorder=3,
        )
        ax.set_xlim(grid[0], grid[-1])
        ax.set_xlabel(_axis_label(dataset, x))
        ax.set_ylabel(_axis_label(dataset, y))
        ax.legend()
        tell_setting(ax, [dataset])
    return ax


def _points(dataset: Any, x: str, y: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, means and standard errors, sorted by position."""
    require_dataset(dataset, "dataset")
    for name in (x, y):
        if name not in dataset:
            raise ValueError(f"the dataset has no {name!r}; it has {list(dataset.variables)}.")
    values = dataset[y]
    others = [dim for dim in values.dims if dim not in (x, "seed")]
    if others or x not in values.dims:
        raise ValueError(
            f"{y!r} must have the dimension {x!r}, and seed at most; it has {values.dims}. Select "
            "values of the others with .sel or .isel."
        )
    runs = np.atleast_2d(values.transpose(..., x).values)
    counts = np.isfinite(runs).sum(axis=0)
    means = np.nanmean(runs, axis=0)
    several = (counts > 1).all()
    errors = np.nanstd(runs, axis=0, ddof=1) / np.sqrt(counts) if several else 0.0 * means
    xs = np.asarray(dataset[x], float)
    if len(xs) < 2 or not ((xs > 0).all() and (means > 0).all()):
        raise ValueError(f"a power law needs at least two points, all positive; got {xs}, {means}.")
    order = np.argsort(xs)
    return xs[order], means[order], errors[order]


def _axis_label(dataset: Any, name: str) -> str:
    long_name = dataset[name].attrs.get("long_name", name)
    return long_name if symbol(name) in (name, long_name) else f"{long_name} {symbol(name)}"
