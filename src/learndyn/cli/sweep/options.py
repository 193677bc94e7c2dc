"""The options of `learndyn sweep`, a class for each thing it does; nothing here imports JAX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, subcommand


@dataclass(frozen=True)
class Run:
    """Run a sweep, or go on with it: what its store holds is not run again."""

    config: Positional[Path]
    """TOML file that describes the sweep."""
    store: Path | None = None
    """Folder that keeps what is finished. None: beside the config, under its name, as .zarr."""
    shard: str | None = None
    """Do the i-th of n equal shares, as in 3/64, counted from 1. None: all."""
    workers: int | None = None
    """Processes that share the work, each with one thread or its own GPU.
    None: one for each core, where the sweep is long."""
    progress: Literal["auto", "on", "off"] = "auto"
    """Progress on stderr: a bar, or lines in a log file; auto: where a person watches."""


@dataclass(frozen=True)
class Status:
    """Say what is finished of a sweep, how fast it goes, and how the runs ended."""

    store: Positional[Path]
    """Folder of the sweep."""


@dataclass(frozen=True)
class Script:
    """Print a script for SLURM, an array of jobs that each do a share of the sweep."""

    config: Positional[Path]
    """TOML file that describes the sweep; it is checked first."""
    shards: int = 64
    """Jobs of the array."""
    store: Path | None = None
    """Folder of the sweep, which all jobs see. None: beside the config, as .zarr."""
    time: str = "24:00:00"
    """Time limit of each job; one that is cut off is submitted again and goes on."""
    cpus: int = 1
    """Cores of each job, on each of which a process works."""
    gpus: int = 0
    """GPUs of each job, on each of which a process works."""


@dataclass(frozen=True)
class Sweep:
    """Run a grid of runs from a TOML file into a store that survives every kill."""

    action: (
        Annotated[Run, subcommand("run")]
        | Annotated[Status, subcommand("status")]
        | Annotated[Script, subcommand("script")]
    )


EXAMPLES = """\
  learndyn sweep run phases.toml --store phases.zarr --workers 2
  learndyn sweep run phases.toml --store phases.zarr --shard 3/64
  learndyn sweep status phases.zarr
  learndyn sweep script phases.toml --shards 64"""
