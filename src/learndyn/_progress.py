"""Progress bars: on stderr, where a person watches, or where they are asked for."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def is_shown(progress: bool | None) -> bool:
    """Whether progress is shown; None: where stderr is a terminal, or a notebook's."""
    return sys.stderr.isatty() or in_notebook() if progress is None else progress


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows what stderr gets."""
    return "ipykernel" in sys.modules and type(sys.stderr).__module__.startswith("ipykernel")


def progress_bar(progress: bool | None, *, total: int, unit: str, title: str) -> "tqdm":
    """A bar of `total` units, to be used in a `with`; without effect where it is not shown."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, desc=title, disable=not is_shown(progress))
