"""The files of a run: NetCDF for numbers, PNG for a person."""

from pathlib import Path
from typing import Any

from learndyn.cli._settings import Settings
from learndyn.datasets import save


def write(datasets: dict[str, Any], settings: Settings, main: str) -> list[Path]:
    """Save every dataset, that of `main` under the name asked for, and draw one figure of all."""
    return write_files(datasets, settings.output, main, png=settings.png)


def write_files(datasets: dict[str, Any], output: Path, main: str, *, png: bool) -> list[Path]:
    """As `write`."""
    paths = []
    for name in sorted(datasets, key=lambda name: name != main):
        own_name = output.with_stem(f"{output.stem}-{name}")
        paths.append(save(datasets[name], output if name == main else own_name))
    if png:
        paths += _draw(datasets, output.with_suffix(".png"))
    return paths


def _draw(datasets: dict[str, Any], path: Path) -> list[Path]:
    import learndyn.plot as plot

    experiment = next((ds for name, ds in datasets.items() if name != "ode"), None)
    return [plot.save(plot.overview(datasets.get("ode"), experiment), path)]
