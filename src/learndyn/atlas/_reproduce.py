"""Run an entry again."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from learndyn.atlas._outcome import Outcome, outcome
from learndyn.atlas._registry import entry_of


def reproduce(
    name: str, quick: bool = False, *, settings: Mapping[str, Any] | None = None
) -> Outcome:
    """Run a published figure again, and put what was published next to what is measured.

    Args:
        name: of an entry, such as "goldt2020-fig2a"; `entries` lists them.
        quick: smaller sizes, shorter times and fewer runs, for an answer in seconds.
        settings: values in place of the entry's; published numbers then no longer belong to the
            run, and the outcome says so.

    Returns:
        An `Outcome` with `.dataset`, `.table` and `.figure()`.

    Raises:
        ValueError: for a name that is not in the atlas or a setting that the entry does not have,
            and what the levels raise for settings that make no sense.

    Example:
        >>> found = ld.atlas.reproduce("goldt2020-eq11-13")
        >>> round(float(found.dataset.ratio_erf.sel(m=2, l=0, lr=0.05)), 3)
        1.022
    """
    entry = entry_of(name)
    given = dict(settings or {})
    if unknown := sorted(set(given) - set(entry.settings)):
        raise ValueError(
            f"{name} has no setting {', '.join(unknown)}; it has {', '.join(entry.settings)}."
        )
    chosen = {**entry.settings, **(entry.quick if quick else {}), **given}
    dataset = entry.run(SimpleNamespace(**chosen))
    return outcome(entry, chosen, quick, bool(given), dataset)
