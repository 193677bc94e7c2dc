"""A film of a run: its learning curve and its overlaps, as time goes on."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.datasets import require_writable
from learndyn.plot._curves import learning_curve
from learndyn.plot._matrices import heat_map, largest, number_units, states_at
from learndyn.plot._style import COLOURS, pyplot, require_dataset, short, style

if TYPE_CHECKING:
    import xarray

_FRAMES = 60
"""Most frames of a film: four seconds, which are written in about twenty."""

_PER_SECOND = 15
"""Frames; with fewer the eye sees single pictures."""

_DPI = 100
"""Pixels per inch: half of what a printed figure has, so that a film loads quickly."""

_WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}
"""Matplotlib's writers. Pillow comes with it; ffmpeg is another program, which the package
imageio-ffmpeg brings as well."""


def animate(
    dataset: "xarray.Dataset",
    path: str | os.PathLike[str],
    theory: "xarray.Dataset | None" = None,
) -> Path:
    """Write a film of a run: eg with a dot at the present time, R and Q as heat maps.

    Args:
        dataset: of one setting; of several seeds the curve is their median, and the matrices are
            the first run's.
        theory: drawn under the curve.
        path: ending in .gif or .mp4, replaced where there is one. Long runs are shown at 60 of
            their times.

    Returns:
        The path.

    Raises:
        ValueError: for anything but such datasets, or another ending.
        OSError: where no file can be written there, or where .mp4 is asked for and ffmpeg is not
            installed.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> plot.animate(ld.to_dataset(run), "run.gif").name
        'run.gif'
    """
    path = require_writable(film_path(path))
    require_dataset(dataset, "dataset")
    if "alpha" not in dataset.dims or not {"eg", "R", "Q"} <= set(dataset.data_vars):
        raise ValueError(
            "dataset must have eg, R and Q along alpha; its variables are "
            f"{[str(name) for name in dataset.data_vars]}. Give a run of one setting."
        )
    count = dataset.sizes["alpha"]
    times = np.unique(np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int))
    states = states_at(dataset, np.asarray(dataset.alpha)[times].tolist())
    plt = pyplot()
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.9), width_ratios=(1.7, 1.0, 1.0))
    _draw_curve(axes[0], dataset, theory)
    with style():
        show = _moving(axes, states, largest(states, ("R", "Q")))
        _write(figure, show, states, path)
    plt.close(figure)
    return path


def film_path(path: str | os.PathLike[str]) -> Path:
    """`path`. Raises: ValueError for another ending than .gif and .mp4; OSError without ffmpeg."""
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ValueError(f"a film's path must end in .gif or .mp4; got {str(path)!r}.")
    pyplot()
    if path.suffix == ".mp4" and _ffmpeg() is None:
        raise OSError(
            f"{str(path)!r} needs the program ffmpeg, which is not installed: pip install "
            "imageio-ffmpeg, or take it from your system, or write a .gif."
        )
    return path


def _ffmpeg() -> str | None:
    """The program ffmpeg: that of the system, or else that of the package imageio-ffmpeg."""
    if (found := shutil.which("ffmpeg")) is not None:
        return found
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # it may have no program for this system
        return None


def _draw_curve(ax: Any, dataset: "xarray.Dataset", theory: "xarray.Dataset | None") -> None:
    if theory is None and dataset.attrs.get("level") == "ode":
        learning_curve(dataset, ax=ax)
    else:
        learning_curve(theory, dataset, ax=ax)


def _moving(axes: Any, states: "list[xarray.Dataset]", limit: float) -> Any:
    """What shows a state in the axes of the curve and of the two maps."""
    dot = axes[0].plot([], [], "o", color=COLOURS[1], markersize=6, zorder=9)[0]
    images = {}
    for name, ax in zip(("R", "Q"), axes[1:], strict=True):
        images[name] = heat_map(ax, states[0][name].values, limit)
        number_units(ax, states[0][name].shape)
        ax.set_ylabel("student unit")
        ax.set_xlabel("teacher unit" if name == "R" else "student unit")
    first = axes[0].get_xlim()[0]

    def show(state: "xarray.Dataset") -> None:
        # A logarithmic axis has no place for time 0.
        dot.set_data([max(float(state.alpha), first)], [float(state.eg)])
        for (name, image), ax in zip(images.items(), axes[1:], strict=True):
            image.set_data(state[name].values)
            # TeX would take most of the time of a frame.
            ax.set_title(f"{name} at α = {short(float(state.alpha))}", loc="center")

    return show


def _write(figure: Any, show: Any, states: "list[xarray.Dataset]", path: Path) -> None:
    from matplotlib.animation import writers

    # The layout is that of the last frame: a title that changes must not move the axes.
    show(states[-1])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # FuncAnimation would draw every frame once more for a screen that is not there.
    program = {"animation.ffmpeg_path": _ffmpeg()} if path.suffix == ".mp4" else {}
    with pyplot().rc_context(program):
        writer: Any = writers[_WRITERS[path.suffix]](fps=_PER_SECOND)
        with writer.saving(figure, path, _DPI):
            for state in states:
                show(state)
                writer.grab_frame()
