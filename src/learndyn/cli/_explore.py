"""The subcommands `explore` and `animate`, which show datasets that are there already."""

from pathlib import Path
from typing import Any

from learndyn._extras import require_extra
from learndyn.datasets import load, require_writable


def explore(options: Any) -> int:
    """Write the page of a dataset, and say where it is. Returns: 0.

    Raises: ValueError for datasets or a path that do not suit; OSError for files, above all where
    one would be replaced and --force is not given; ImportError where Zarr is not installed.
    """
    import learndyn.plot as plot
    from learndyn.plot.explorer import page_path

    path = _destination(options, page_path, ".html")
    dataset, theory = _datasets(options)
    plot.explore(dataset, theory).save(path)
    return _tell("Page", path)


def animate(options: Any) -> int:
    """Write the film of a run, and say where it is.

    Returns and raises: as `explore`; also ImportError without the extra `plot`.
    """
    require_extra("matplotlib", "plot", "a film")
    import learndyn.plot as plot
    from learndyn.plot._film import film_path

    path = _destination(options, film_path, ".gif")
    dataset, theory = _datasets(options)
    plot.animate(dataset, path, theory)
    return _tell("Film", path)


def _destination(options: Any, checked: Any, ending: str) -> Path:
    """Where to write. checked: what refuses other endings."""
    wanted = options.dataset.with_suffix(ending) if options.output is None else options.output
    path = require_writable(checked(wanted))
    if path.exists() and not options.force:
        raise FileExistsError(
            f"{str(path)!r} would be replaced: add --force, or choose another --output."
        )
    return path


def _datasets(options: Any) -> tuple[Any, Any]:
    """The dataset, and that of the theory: the named one, or what a command wrote next to a run."""
    found: Path | None = options.theory
    if found is None:
        beside = options.dataset.with_stem(f"{options.dataset.stem}-ode")
        found = beside if beside.exists() else None
    dataset = load(options.dataset)
    if found is None:
        return dataset, None
    print(f"Theory: {found}")
    return dataset, load(found)


def _tell(what: str, path: Path) -> int:
    print(f"{what}: {path} ({path.stat().st_size / 1e6:.2f} MB)")
    return 0
