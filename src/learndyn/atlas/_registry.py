"""All entries, in the order of the publications. Reading it does not load JAX."""

import difflib

from learndyn.atlas._entry import Entry
from learndyn.atlas.publications import ALL


def entries() -> tuple[Entry, ...]:
    """All entries of the atlas, in the order of its publications."""
    return tuple(entry for module in ALL for entry in module.ENTRIES)


def entry_of(name: str) -> Entry:
    """The entry of this name. Raises: ValueError for a name that is not in the atlas."""
    known = {entry.name: entry for entry in entries()}
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        hint = f" Is one of {', '.join(near)} meant?" if near else ""
        raise ValueError(
            f"the atlas has no entry {name!r}; `learndyn reproduce --list` lists all.{hint}"
        )
    return known[name]
