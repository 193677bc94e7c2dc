"""Progress bars: on stderr, where a person watches, or where they are asked for."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def is_shown(progress: bool | None) -> bool:
    """Whether progress is shown; None: where stderr is a terminal."""
    return sys.stderr.isatty() if progress is None else progress


def progress_bar(progress: bool | None, *, total: int, unit: str, title: str) -> "tqdm":
    """A bar of `total` units, to be used in a `with`; without effect where it is not shown."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, desc=title, disable=not is_shown(progress))
