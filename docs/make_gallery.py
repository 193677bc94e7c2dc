"""Write `gallery.md` from the entries of the atlas and the files of `learndyn reproduce`.

    learndyn reproduce --all --quick -o build/atlas --force
    python docs/make_gallery.py build/atlas

`nox -s atlas` does both. The page holds the tables; its pictures are those in build/atlas when the
documentation is built (`_extensions/pictures.py`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import learndyn as ld
from learndyn.atlas import Entry, entries

PAGE = Path(__file__).parent / "gallery.md"

HEAD = """\
# Gallery of published results

Each figure here is one command away:

```
learndyn reproduce --list
learndyn reproduce goldt2020-fig2a
learndyn reproduce --all --quick -o atlas
```

It writes a dataset and pictures, and prints what was predicted, measured and published side by
side. From Python:

```
found = ld.atlas.reproduce("goldt2020-fig2a", quick=True)
found.table      # published beside measured, a dataset
found.figure()   # a Matplotlib figure
```

*Reproduces* is said where the settings come from the passage itself or from the authors'
repository. *Phenomenon* is said where only a part of the paper could be read, or no data are
published: then the effect is shown with numbers of our own, and the figure itself was not
compared. Behind it stands what was read, and how sure the settings are: certain, likely or unsure.
`--list` and the datasets have letters for these: S the passage, C the authors' repository, A title,
abstract or opening, R nothing (the paper is remembered), 2 somebody else's description; a, b and c.

In the pictures theory is a line, measurement a cross, and a published number an open circle. They
are those of `--quick`: smaller sizes, shorter times, fewer runs. In the tables *difference* is that
to the published number, or where there is none, from measurement to theory; s.e. are standard
errors of a simulation.
"""

READ = {
    "S": "the passage",
    "C": "the authors' repository",
    "A": "title, abstract or opening",
    "R": "memory",
    "2": "somebody else's description",
}
"""What was read of a publication, by the letters of its entries' marks."""

SURE = {"a": "certain", "b": "likely", "c": "unsure"}
"""How sure the settings of an entry and a published number are."""


def main(folder: Path) -> None:
    """Write the page, with the tables of the datasets in `folder`."""
    PAGE.write_text("\n".join(lines(folder)).rstrip() + "\n")


def lines(folder: Path) -> Iterator[str]:
    """The page, publication by publication."""
    known = entries()
    claimed = sum(entry.claim == "reproduces" for entry in known)
    publications = list(dict.fromkeys(entry.publication for entry in known))
    yield HEAD
    yield (
        f"{len(known)} entries from {len(publications)} publications, of which {claimed} "
        "reproduce.\n"
    )
    for publication in publications:
        yield f"## {publication.citation}\n"
        for entry in known:
            if entry.publication == publication:
                yield from _entry(entry, folder / f"{entry.name}.nc")


def _entry(entry: Entry, path: Path) -> Iterator[str]:
    yield f"### {entry.name}\n"
    yield f"```{{atlas-picture}} {entry.name}\n:alt: {entry.name}, {entry.shows}\n```\n"
    note = f" Note: {entry.note}." if entry.note else ""
    yield (
        f"**{entry.claim}** ({_read(entry.mark)}; settings {SURE[entry.certainty]}): "
        f"{_escaped(entry.shows)}."
        f"{_escaped(note)}\n"
    )
    if path.exists():
        yield from _table(path)


def _read(mark: str) -> str:
    """What a mark such as S+C says was read."""
    return "from " + " and ".join(READ[letter] for letter in mark.split("+"))


def _table(path: Path) -> Iterator[str]:
    """Published beside measured, as a table."""
    found = ld.load(path)
    yield "| quantity | predicted | measured | published | difference | source |"
    yield "|---|---|---|---|---|---|"
    for i in range(found.sizes["quantity"]):
        row = {
            name[6:]: found[name].values[i] for name in map(str, found) if name.startswith("table_")
        }
        cells = [
            str(found.quantity.values[i]),
            _number(row["predicted"]),
            _number(row["measured"]) + _error(row["error"]),
            _number(row["published"]),
            str(row["told"]),
            "" if row["kind"] == "shown" else f"{row['kind']}, {SURE[str(row['certainty'])]}",
        ]
        yield "| " + " | ".join(map(_escaped, cells)) + " |"
    yield ""


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6g}"


def _error(value: float) -> str:
    return "" if value != value else f" ± {value:.1g}"


def _escaped(text: str) -> str:
    """Text in which Markdown sees no markup."""
    for sign in "\\*_|<>$":
        text = text.replace(sign, f"\\{sign}")
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
