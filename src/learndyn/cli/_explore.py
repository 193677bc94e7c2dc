"""The subcommand `explore`."""

from pathlib import Path
from typing import Any

from learndyn._checks import require_extra
from learndyn.datasets import load, require_writable


def explore(options: Any) -> int:
    """Write the page of a dataset, and say where it is. Returns: 0.

    Raises: ValueError for datasets or a path that do not suit; OSError for files, above all where
    one would be replaced and --force is not given; ImportError without the extra `plot`.
    """
    require_extra("matplotlib", "plot", "the interactive page")
    import learndyn.plot as plot
    from learndyn.plot.explorer import page_path

    wanted = options.dataset.with_suffix(".html") if options.output is None else options.output
    path = require_writable(page_path(wanted))
    if path.exists() and not options.force:
        raise FileExistsError(
            f"{str(path)!r} would be replaced: add --force, or choose another --output."
        )
    dataset, companion = load(options.dataset), _theory(options)
    page = plot.explore(dataset, None if companion is None else load(companion))
    page.save(path)
    next_to = "" if companion is None else f", with the theory of {companion}"
    print(f"Page: {path} ({path.stat().st_size / 1e6:.2f} MB){next_to}")
    return 0


def _theory(options: Any) -> Path | None:
    """The dataset of the theory: the one that is named, or that a command wrote next to a run."""
    if options.theory is not None:
        return options.theory
    dataset: Path = options.dataset
    found = dataset.with_stem(f"{dataset.stem}-ode")
    return found if found.exists() else None
