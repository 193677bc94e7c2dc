"""What an entry of the atlas is: settings and published numbers as data, and a function that runs.

Nothing here, nor in `publications`, loads JAX: so the registry is read at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import xarray

Mark = Literal["S", "C", "A", "R", "2"]
"""Where the settings are from: the passage itself (S), the authors' repository (C), title, abstract
or opening of the paper (A), memory (R), somebody else's description (2)."""

Certainty = Literal["a", "b", "c"]
"""How sure that is: certain, likely, unsure."""

Kind = Literal["printed", "stored", "own", "read off", "shown"]
"""Where a published number is from: printed in the text, stored in the authors' repository,
computed here for the atlas before (a number of our own), read off a figure; "shown" is a curve of
which no number is known, where measurement is compared with theory alone."""

MARKS = {
    "S": "the passage itself was read",
    "C": "the authors' repository was read",
    "A": "only title, abstract or opening of the paper was read",
    "R": "the paper is remembered, it was not read",
    "2": "somebody else's description was read",
}

CERTAINTIES = {"a": "certain", "b": "likely", "c": "unsure"}

TOLERANCES = {"printed": 1e-3, "stored": 1e-3, "own": 1e-4, "read off": 0.03, "shown": 1e-3}
"""Relative differences up to which a number agrees. A number of our own was computed to six digits
or more; printed and stored ones belong to solvers of about three digits; a curve is read off to
about 1 % of its value, three times which is the limit."""

ERRORS = 3.0
"""Standard errors up to which a simulation agrees with theory."""


@dataclass(frozen=True)
class Publication:
    """A publication.

    Attributes:
        name: the first part of its entries' names.
        citation: authors, journal and year, in one line.

    Example:
        >>> ld.atlas.entry_of("goldt2020-fig2a").publication.name
        'goldt2020'
    """

    name: str
    citation: str


@dataclass(frozen=True)
class Published:
    """A published number, and the place in the run's dataset that it belongs to.

    Attributes:
        of: a variable of the dataset.
        value: as it is printed, so that its last digit says how well it is known; "" where the
            publication shows a curve without numbers.
        at: coordinates in the dataset; the nearest is taken.
        kind: printed in the text, stored in the authors' repository, read off a figure, a number of
            our own, or shown as a curve without numbers.
        source: where in the publication, in words.
        certainty: "a" certain, "b" likely, "c" unsure.
        within: the absolute margin that the source itself gives; None: that of the kind.
        missed: why the number is known not to agree; "" where it should.

    Example:
        >>> number = ld.atlas.Published("eg", "0.0094", {"m": 2}, kind="printed")
        >>> number.number, round(number.margin, 6)
        (0.0094, 5e-05)
    """

    of: str
    value: str
    at: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "own"
    source: str = ""
    certainty: Certainty = "a"
    within: float | None = None
    missed: str = ""

    @property
    def number(self) -> float:
        """The value; NaN where there is none."""
        return float(self.value) if self.value else float("nan")

    @property
    def half_digit(self) -> float:
        """Half a unit of the last digit of the value."""
        digits, _, exponent = self.value.lower().partition("e")
        decimals = len(digits.partition(".")[2])
        return 0.5 * 10.0 ** (int(exponent or 0) - decimals)

    @property
    def margin(self) -> float:
        """The absolute difference up to which a number agrees with the value."""
        if self.within is not None:
            return self.within
        return max(TOLERANCES[self.kind] * abs(self.number), self.half_digit)


def numbers(
    of: str, values: str, over: Mapping[str, Sequence[Any]] | None = None, **common: Any
) -> tuple[Published, ...]:
    """Published numbers of one variable along one coordinate.

    values: texts with spaces between them, one for each value of `over`, {coordinate: values}.
    common: what they share: `at`, `kind`, `source`, `certainty`, `within`.
    """
    name, places = next(iter((over or {"": [None]}).items()))
    at = common.pop("at", {})
    texts = values.split() or [""] * len(places)
    return tuple(
        Published(of, text, {**at, name: place} if name else at, **common)
        for text, place in zip(texts, places, strict=True)
    )


@dataclass(frozen=True)
class Panel:
    """A part of a picture: a variable against a coordinate, or a matrix.

    Attributes:
        of: the variable; `of_predicted` is drawn as a line, `of` as crosses with `of_error`, or as
            a line where there is neither.
        x: its coordinate along the axis; None: a matrix is shown.
        by: the coordinate along which curves differ.
        at: values of all other coordinates.
        log: the axes that are logarithmic, "x", "y" or "xy".
        title: over the panel.

    Example:
        >>> ld.atlas.Panel("eg", "alpha", by="k", log="xy").by
        'k'
    """

    of: str
    x: str | None = None
    by: str | None = None
    at: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
    title: str = ""


@dataclass(frozen=True)
class Entry:
    """A published figure or table: how to make it again, and which numbers were published.

    Attributes:
        name: as on the command line.
        publication: where it is from.
        shows: what is to be seen, in one line.
        mark: where the settings are from: S the passage itself, C the authors' repository, A title,
            abstract or opening, R memory, 2 somebody else's description; joined by "+".
        certainty: how sure the settings are: "a" certain, "b" likely, "c" unsure.
        settings: plain data, all that the run reads.
        run: settings -> dataset; it knows nothing of what was published.
        published: the numbers.
        panels: the picture.
        quick: what replaces some of the settings for a run of seconds.
        note: what is not known of the publication.
        own_setting: the publication gives no data: the setting is ours.

    Example:
        >>> entry = ld.atlas.entry_of("goldt2020-fig2a")
        >>> entry.claim, entry.settings["lr"]
        ('reproduces', 0.05)
    """

    name: str
    publication: Publication
    shows: str
    mark: str
    certainty: Certainty
    settings: Mapping[str, Any]
    run: "Callable[[SimpleNamespace], xarray.Dataset]"
    published: tuple[Published, ...]
    panels: tuple[Panel, ...]
    quick: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    own_setting: bool = False

    @property
    def claim(self) -> Literal["reproduces", "phenomenon"]:
        """ "reproduces" where the settings are from the passage or the authors' repository alone,
        else "phenomenon": the figure's effect, with numbers of our own."""
        read = set(self.mark.split("+")) <= {"S", "C"} and not self.own_setting
        return "reproduces" if read else "phenomenon"

    @property
    def claim_text(self) -> str:
        """The claim as every output says it."""
        if self.claim == "reproduces":
            return "reproduces"
        return "phenomenon, with numbers of our own: the figure itself was not compared"

    @property
    def source_text(self) -> str:
        """Where the settings are from, and how sure that is."""
        read = "; ".join(MARKS[mark] for mark in self.mark.split("+"))
        return f"{self.mark} ({read}), {CERTAINTIES[self.certainty]} ({self.certainty})"
