"""One linear neuron, lazy and rich: where it goes, and how far its kernel moves."""

from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._style import (
    COLOURS,
    CROSSES,
    EXPERIMENT,
    GREY,
    THEORY,
    figure_of,
    new_axes,
    style,
)
from learndyn.plot.flow._sources import RunLike, require_variables, runs_in, tell_setting

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_CONTOURS = 9
"""Contours of the loss: enough to see the valley, few enough to see the trajectories."""

_MARGIN = 1.4
"""Half the side of the picture over the farthest point of a path: wide enough to see the minima
bend."""


def minima_manifold(
    runs: RunLike,
    beta_star: Any = None,
    *,
    lr_a: float = 1.0,
    lr_w: float = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Trajectories of a linear neuron over the manifold of minima, coloured by delta.

    The plane is that of w along beta_star and a, where minima are the hyperbola a w = |beta_star|.
    Blue is upstream (delta > 0, lazy), black balanced (rich), red downstream. Contours are those of
    the loss at w along beta_star, for white inputs. Starts are rings, ends are dots.

    Args:
        runs: of `flow.LinearNeuron`, batched or several, or their datasets.
        beta_star: (d,) what is learned; None: the last a w of the first run that reached its end.
        lr_a, lr_w: rates of the runs, in delta = lr_w a**2 - lr_a |w|**2.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for other models, or a beta_star of another shape or zero.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> plot.minima_manifold([run]).get_ylabel()
        '$a$'
    """
    found = _neurons(runs, "runs")
    goal = _goal(found, beta_star)
    deltas = np.array([_delta(run, lr_a, lr_w) for run in found])
    with style():
        ax = new_axes(ax, 4.6, 3.6)
        palette = _by_delta(ax, deltas)
        paths = [(run.w.values @ goal / np.linalg.norm(goal), run.a.values) for run in found]
        for (along, a), delta in zip(paths, deltas, strict=True):
            _draw_path(ax, along, a, palette(delta))
        _draw_minima(ax, float(np.linalg.norm(goal)), paths)
        ax.set_xlabel(r"$w \cdot \beta_* / |\beta_*|$")
        ax.set_ylabel("$a$")
        tell_setting(ax, found)
    return ax


def kernel_distances(
    runs: RunLike,
    theory: Any = None,
    *,
    x: Any = None,
    lr_a: float = 1.0,
    lr_w: float = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """How far the neural tangent kernel of a linear neuron moved, against delta.

    One point for each run: 1 - <K(0), K(end)>/(|K(0)| |K(end)|) against delta = lr_w a(0)**2 - lr_a
    |w(0)|**2, near 0 for lazy learning.

    Args:
        runs: of `flow.LinearNeuron`, batched or several, or their datasets.
        theory: for a line, the same, or the pair (a, w) of shapes (deltas, times) and (deltas,
            times, d) that `flow.linear_neuron` gives under `jax.vmap`.
        x: (samples, d) inputs of the kernel; None: white ones.
        lr_a, lr_w: rates, as in `flow.ntk`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: for other models, and shapes that do not match.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> ax = plot.kernel_distances([run])
        >>> len(ax.lines)
        2
    """
    points = [(run.a.values, run.w.values) for run in _neurons(runs, "runs")]
    inputs = np.eye(points[0][1].shape[1]) if x is None else np.asarray(x, float)
    if inputs.ndim != 2 or inputs.shape[1] != points[0][1].shape[1]:
        raise ValueError(
            f"x must have shape (samples, {points[0][1].shape[1]}), as w; got {inputs.shape}."
        )
    rates = (lr_a, lr_w)
    with style():
        ax = new_axes(ax)
        if theory is not None:
            line = _distances(_pairs(theory), inputs, rates)
            ax.plot(*line, color=THEORY, linewidth=1.2, label="closed form", zorder=2)
        look = CROSSES | {"color": EXPERIMENT, "markersize": 5.0, "zorder": 3, "clip_on": False}
        ax.plot(*_distances(points, inputs, rates), label="gradient flow", **look)
        ax.axvline(0.0, color=GREY, linewidth=0.5, zorder=0)
        ax.margins(x=0.04)
        ax.set_ylim(0.0, max(1.0, ax.get_ylim()[1]) if ax.get_ylim()[1] > 0.5 else None)
        ax.set_xlabel(r"$\delta = \eta_w a^2 - \eta_a |w|^2$ at the start")
        ax.set_ylabel("distance of the kernel from its start")
        ax.legend(loc="best")
        tell_setting(ax, _neurons(runs, "runs"))
    return ax


def _neurons(source: RunLike, name: str) -> "list[xarray.Dataset]":
    found = runs_in(source, name)
    for run in found:
        require_variables(run, ("a", "w"), "linear neurons, with a and w")
    return found


def _delta(run: "xarray.Dataset", lr_a: float, lr_w: float) -> float:
    first = run.isel(t=0)
    return float(lr_w * first.a**2 - lr_a * (first.w**2).sum())


def _goal(runs: "list[xarray.Dataset]", beta_star: Any) -> np.ndarray:
    size = runs[0].sizes["input"]
    if beta_star is None:
        ends = [run.beta.values[-1] for run in runs]
        goal = next((end for end in ends if np.isfinite(end).all()), np.zeros(size))
    else:
        goal = np.asarray(beta_star, float)
    if goal.shape != (size,) or not np.linalg.norm(goal) > 0:
        raise ValueError(
            f"beta_star must have shape ({size},), as w, and not vanish; got {goal}. It is the "
            "coefficients that are learned."
        )
    return goal


def _by_delta(ax: "Axes", deltas: np.ndarray) -> Any:
    """Colours of delta, dark where it is 0, with their bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    scale = LinearSegmentedColormap.from_list("delta", [COLOURS[1], THEORY, COLOURS[0]])
    limit = float(np.abs(deltas[np.isfinite(deltas)]).max(initial=0.0)) or 1.0
    norm = Normalize(-limit, limit)
    bar = figure_of(ax).colorbar(ScalarMappable(norm, scale), ax=ax, pad=0.02, aspect=24)
    bar.set_label(r"$\delta$")
    bar.outline.set(visible=False)
    bar.ax.tick_params(length=2)
    return lambda delta: scale(norm(delta))


def _draw_path(ax: "Axes", along: np.ndarray, a: np.ndarray, colour: Any) -> None:
    ax.plot(along, a, color=colour, linewidth=1.2, zorder=3)
    look = {"markersize": 4.0, "zorder": 4, "color": colour, "clip_on": False}
    ax.plot(along[:1], a[:1], "o", markerfacecolor="white", **look)
    there = np.flatnonzero(np.isfinite(a))
    ax.plot(along[there[-1:]], a[there[-1:]], "o", **look)


def _draw_minima(ax: "Axes", goal: float, paths: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The hyperbola a w = goal, and contours of the loss, in a square around the paths."""
    reach = max(float(np.nanmax(np.abs(np.concatenate([x for x, _ in paths])))), np.sqrt(goal))
    height = max(float(np.nanmax(np.abs(np.concatenate([a for _, a in paths])))), np.sqrt(goal))
    reach, height = _MARGIN * reach, _MARGIN * height
    w, a = np.meshgrid(np.linspace(-reach, reach, 121), np.linspace(-height, height, 121))
    levels = np.linspace(0.0, 1.0, _CONTOURS + 1)[1:] ** 2 * (reach * height + goal) ** 2
    ax.contour(w, a, (a * w - goal) ** 2, levels, colors="0.88", linewidths=0.6, zorder=0)
    branch = np.geomspace(goal / height, reach, 100)
    for i, sign in enumerate((1.0, -1.0)):
        label = "_" if i else "minima $a w = \\beta_*$"
        ax.plot(sign * branch, sign * goal / branch, color=GREY, linewidth=2.5, alpha=0.6,
                zorder=1, label=label)  # fmt: skip
    ax.set(xlim=(-reach, reach), ylim=(-height, height))
    ax.legend(loc="best")


def _pairs(theory: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    if isinstance(theory, tuple) and len(theory) == 2 and np.ndim(theory[0]) == 2:
        a, w = (np.asarray(x, float) for x in theory)
        if w.ndim != 3 or w.shape[:2] != a.shape:
            raise ValueError(
                "theory must be the pair a (deltas, times) and w (deltas, times, d); got shapes "
                f"{a.shape} and {w.shape}."
            )
        return list(zip(a, w, strict=True))
    return [(run.a.values, run.w.values) for run in _neurons(theory, "theory")]


def _distances(
    pairs: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, rates: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """delta, in increasing order, and the distance between the first and the last kernel."""
    lr_a, lr_w = rates
    deltas = np.array([lr_w * a[0] ** 2 - lr_a * w[0] @ w[0] for a, w in pairs])
    found = [_distance(*(_kernel(a[i], x @ w[i], x, rates) for i in (0, -1))) for a, w in pairs]
    order = np.argsort(deltas)
    return deltas[order], np.array(found)[order]


def _kernel(a: float, field: np.ndarray, x: np.ndarray, rates: tuple[float, float]) -> np.ndarray:
    """K = X (lr_w a² I + lr_a w wᵀ) Xᵀ."""
    lr_a, lr_w = rates
    return lr_w * a**2 * x @ x.T + lr_a * np.outer(field, field)


def _distance(first: np.ndarray, last: np.ndarray) -> float:
    unit = lambda kernel: kernel / np.linalg.norm(kernel)
    return float(0.5 * np.sum((unit(first) - unit(last)) ** 2))
