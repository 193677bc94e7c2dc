"""How far a sweep is, and how fast it goes, from the flags of its blocks alone."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learndyn.sweeps.store._files import blocks_done, flag_times, open_array, read_description

_WINDOW = 600.0
"""Seconds before the last flag in which the pace is measured: long against a block, which takes
about 3 s, and short against the hours after which other nodes may do the work."""


class Pace(NamedTuple):
    """Runs of a sweep, those that are done, and runs per second lately; None: none was finished."""

    runs: int
    done: int
    rate: float | None


def pace_of(path: str | os.PathLike[str]) -> Pace:
    """That of a store, by the times at which its flags were written.

    Raises: ValueError where no sweep was begun there, or its metadata are damaged.
    """
    path = Path(path)
    description = read_description(path) if path.exists() else None
    if description is None:
        raise ValueError(f"no sweep was begun in {str(path)!r}.")
    cells = np.asarray(open_array(path, "cell")[: description.places]) >= 0
    runs = cells.reshape(description.blocks, -1).sum(1)
    done = blocks_done(path, description)
    return Pace(int(runs.sum()), int(runs[done].sum()), _rate(path, np.flatnonzero(done), runs))


def _rate(path: Path, blocks: np.ndarray, runs: np.ndarray) -> float | None:
    """Runs per second lately; the block that was finished first only says when time began."""
    times = flag_times(path, blocks)
    newest = times.max(initial=0.0)
    lately = np.flatnonzero(times > newest - _WINDOW)
    if time.time() - newest > _WINDOW or len(lately) < 2:
        return None
    first = lately[np.argmin(times[lately])]
    seconds = newest - times[first]
    return (runs[blocks[lately]].sum() - runs[blocks[first]]) / seconds if seconds > 0 else None
