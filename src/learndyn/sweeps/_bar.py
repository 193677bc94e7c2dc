"""The progress of a sweep: a bar where a person watches, lines in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from learndyn._progress import in_notebook, is_shown
from learndyn.sweeps._outlook import Outlook

_BETWEEN_LINES = 30.0
"""Seconds between two lines of a log at least: a day makes 3000 of them."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {left} left, {rate_fmt}]"


@runtime_checkable
class Progress(Protocol):
    """What counts runs that are finished."""

    def update(self, n: int) -> Any:
        """So many more runs are finished."""


@contextmanager
def sweep_bar(
    progress: bool | None, total: int, before: int, outlook: Outlook
) -> Iterator[Progress]:
    """Shows how many runs of `total` are done, how many are done per second, and the time left.

    before: runs that were done when it began, which count as done and not for the pace.
    """
    left = _Left(outlook)
    if not is_shown(progress):
        yield Silent()
    elif sys.stderr.isatty() or in_notebook():
        with _bar(total, before, left) as bar:
            yield bar
    else:
        lines = _Lines(total, before, left)
        try:
            yield lines
        finally:
            lines.write()


class _Left:
    """The time left, which goes down between two parts that are finished."""

    def __init__(self, outlook: Outlook):
        self.outlook = outlook
        self._parts, self._since = -1, 0.0

    def __str__(self) -> str:
        from tqdm import tqdm

        seconds, parts, now = self.outlook.seconds_left(), int(self.outlook.left.sum()), _now()
        if parts != self._parts:
            self._parts, self._since = parts, now
        if seconds is None:
            return "?"
        # The parts that are running now count as left; that much of them is done already.
        running = min(parts, self.outlook.at_once)
        return tqdm.format_interval(max(0.0, seconds / max(running, 1) - (now - self._since)))


def _now() -> float:
    return time.monotonic()  # never jumps back


def _bar(total: int, before: int, left: _Left) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        @property
        def format_dict(self) -> Any:
            return {**super().format_dict, "left": left}

    return Bar(total=total, initial=before, unit="run", desc="sweep", bar_format=_BAR)


class Silent:
    """Counts nothing."""

    def update(self, n: int) -> None:
        """Nobody watches."""


class _Lines:
    """One line from time to time, each of which can be read alone."""

    def __init__(self, total: int, before: int, left: _Left):
        self.total, self.before, self.left, self.done = total, before, left, before
        self._began = self._written = _now()

    def update(self, n: int) -> None:
        """Count, and write a line if the last one is some time ago."""
        self.done += n
        if _now() - self._written >= _BETWEEN_LINES:
            self.write()

    def write(self) -> None:
        """Write a line now."""
        from tqdm import tqdm

        self._written = _now()
        # A clock may not have moved yet: no rate is divided by zero.
        seconds = max(self._written - self._began, 1e-9)
        percent = 100 * self.done // max(self.total, 1)
        print(
            f"sweep: {self.done} of {self.total} runs ({percent}%), "
            f"{(self.done - self.before) / seconds:.3g} runs/s, "
            f"{tqdm.format_interval(seconds)} so far, {self.left} left",
            file=sys.stderr,
            flush=True,
        )
