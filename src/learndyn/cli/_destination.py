"""Where a command writes, as options; without JAX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg


@dataclass(frozen=True)
class OutputOptions:
    """What is written."""

    output: Annotated[Path | None, arg(aliases=("-o",))] = None
    """NetCDF file, ending in .nc. None: learndyn-COMMAND.nc. The PNG gets the same name."""
    force: bool = False
    """Replace files of these names; else nothing is run where there are any."""
    png: bool = True
    """Draw a figure as well."""
    progress: Literal["auto", "on", "off"] = "auto"
    """Progress bar on stderr; auto: where that is a terminal."""
