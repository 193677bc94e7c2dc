"""All entries, in the order of the publications. Reading it does not load JAX."""

import difflib

from learndyn.atlas._entry import Entry
from learndyn.atlas.publications import ALL


def entries() -> tuple[Entry, ...]:
    """All entries of the atlas, in the order of its publications.

    Returns:
        Them; reading them loads neither JAX nor xarray.

    Example:
        >>> sorted({entry.claim for entry in ld.atlas.entries()})
        ['phenomenon', 'reproduces']
    """
    return tuple(entry for module in ALL for entry in module.ENTRIES)


def entry_of(name: str) -> Entry:
    """The entry of this name.

    Args:
        name: such as "goldt2020-fig2a".

    Returns:
        The `Entry`.

    Raises:
        ValueError: for a name that is not in the atlas.

    Example:
        >>> ld.atlas.entry_of("goldt2020-fig3c").settings["v_teacher"]
        2.0
    """
    known = {entry.name: entry for entry in entries()}
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        hint = f" Is one of {', '.join(near)} meant?" if near else ""
        raise ValueError(
            f"the atlas has no entry {name!r}; `learndyn reproduce --list` lists all.{hint}"
        )
    return known[name]
