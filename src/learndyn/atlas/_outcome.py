"""What comes out of a run: its dataset, and published numbers next to those measured."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn.atlas._entry import CERTAINTIES, ERRORS, TOLERANCES, Entry, Published

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray

_NAME_WIDTH = 44
"""Characters of a quantity's name in the printed table, which is then about 120 wide."""


class Measured(NamedTuple):
    """What a run found at one place; NaN where there is none.

    Attributes:
        predicted: by theory.
        measured: in a simulation, or by following the dynamics.
        error: standard error of a simulation.

    Example:
        >>> ld.atlas.Measured(predicted=0.5, measured=0.49, error=0.01).error
        0.01
    """

    predicted: float
    measured: float
    error: float


class Row(NamedTuple):
    """A published number next to what was measured.

    Attributes:
        words: the variable's name, for people.
        place: its coordinates, for people.
        published: the number and where it is from.
        measured: what the run found.
        difference: of theory, or else of what was measured, to the published number; where there is
            none, of what was measured to theory.
        limit: up to which the difference agrees.
        unit: of both: "" (relative), "s.e." (standard errors) or "absolute".

    Example:
        >>> number = ld.atlas.Published("eg", "0.5")
        >>> found = ld.atlas.Measured(float("nan"), 0.51, float("nan"))
        >>> ld.atlas.Row("error", "K = 2", number, found, 0.02, 1e-4, "").agrees
        False
    """

    words: str
    place: str
    published: Published
    measured: Measured
    difference: float
    limit: float
    unit: str

    @property
    def quantity(self) -> str:
        """The variable in words, and where it was read."""
        return f"{self.words}, {self.place}" if self.place else self.words

    @property
    def deviation(self) -> float:
        """By how many standard errors a simulation is off theory; NaN where none was run."""
        return _deviation(self.measured)

    @property
    def agrees(self) -> bool:
        """Whether the number agrees, and the simulation, if there is one, with theory."""
        return bool(abs(self.difference) <= self.limit) and not abs(self.deviation) > ERRORS


def _deviation(found: Measured) -> float:
    if np.isnan(found.error) or np.isnan(found.predicted):
        return float("nan")
    return _ratio(found.measured - found.predicted, found.error)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one entry's run.

    Attributes:
        entry: what was run.
        settings: with which settings.
        quick: whether at the small sizes.
        changed: whether settings were changed by hand.
        dataset: what the run found.
        rows: published numbers next to it, one `Row` each.

    Example:
        >>> found = ld.atlas.reproduce("goldt2020-eq11-13", quick=True)
        >>> found.table.sizes["quantity"], len(found.missed)
        (10, 0)
    """

    entry: Entry
    settings: Mapping[str, Any]
    quick: bool
    changed: bool
    dataset: "xarray.Dataset"
    rows: tuple[Row, ...]

    @property
    def table(self) -> "xarray.Dataset":
        """Published beside measured: predicted, measured, error, published, difference, limit,
        deviation and agrees along `quantity`, with the source and certainty of each number."""
        import xarray as xr

        columns = {
            "predicted": [row.measured.predicted for row in self.rows],
            "measured": [row.measured.measured for row in self.rows],
            "error": [row.measured.error for row in self.rows],
            "published": [row.published.number for row in self.rows],
            "difference": [row.difference for row in self.rows],
            "limit": [row.limit for row in self.rows],
            "deviation": [row.deviation for row in self.rows],
            "agrees": [row.agrees for row in self.rows],
            "kind": [row.published.kind for row in self.rows],
            "source": [row.published.source for row in self.rows],
            "certainty": [row.published.certainty for row in self.rows],
            "told": [gap_text(row) for row in self.rows],
        }
        names = [row.quantity for row in self.rows]
        data = {name: ("quantity", np.array(values)) for name, values in columns.items()}
        return xr.Dataset(data, {"quantity": np.array(names, str)}, _attributes(self))

    @property
    def missed(self) -> tuple[Row, ...]:
        """The rows that do not agree."""
        return tuple(row for row in self.rows if not row.agrees)

    @property
    def unexplained(self) -> tuple[Row, ...]:
        """The rows that do not agree and are not known for it."""
        return tuple(row for row in self.missed if not row.published.missed)

    def figure(self) -> "matplotlib.figure.Figure":
        """The picture: theory as lines, experiment as crosses, published numbers as circles.

        Raises: ImportError without Matplotlib.
        """
        from learndyn.atlas._picture import picture

        return picture(self)

    def to_dataset(self) -> "xarray.Dataset":
        """The dataset with the table in it, under names that begin with `table_`."""
        table = self.table
        named = table.rename({name: f"table_{name}" for name in table.data_vars})
        return self.dataset.assign_attrs(_attributes(self)).merge(named)

    def lines(self) -> Iterator[str]:
        """What is printed: the claim, the setting, and the table."""
        entry = self.entry
        yield f"{entry.name}: {entry.shows}"
        yield f"  {entry.publication.citation}"
        yield f"  claim: {entry.claim_text}"
        yield f"  settings: {entry.source_text}"
        yield f"  {setting_line(self)}"
        if entry.note:
            yield f"  note: {entry.note}"
        yield ""
        yield (
            f"  {'quantity':<{_NAME_WIDTH}}{'predicted':>13}{'measured':>23}{'published':>13}"
            f"{'difference':>13}"
        )
        for row in self.rows:
            yield f"  {_row_text(row)}"
        yield ""

    def __repr__(self) -> str:
        return "\n".join(self.lines())


def outcome(
    entry: Entry, settings: Mapping[str, Any], quick: bool, changed: bool, dataset: Any
) -> Outcome:
    """The outcome of a run that returned `dataset`."""
    found = (_row(dataset, one) for one in entry.published)
    rows = tuple(row for row in found if row is not None)
    return Outcome(entry, settings, quick, changed, dataset, rows)


def _row(dataset: Any, published: Published) -> Row | None:
    """The row of one number; None where the run did not go there, as quick ones may not."""
    if not _is_there(dataset, published):
        return None
    found = _measured(dataset, published)
    if np.isnan(found.predicted) and np.isnan(found.measured) and _is_left_out(dataset, published):
        return None
    name = _words(dataset, published), _place(published)
    simulated = np.isfinite(found.error)
    if not published.value:
        gap = found.measured - found.predicted
        if simulated:
            return Row(*name, published, found, _ratio(gap, found.error), ERRORS, "s.e.")
        if published.within is not None:
            return Row(*name, published, found, gap, published.within, "absolute")
        limit = TOLERANCES[published.kind]
        return Row(*name, published, found, _ratio(gap, abs(found.predicted)), limit, "")
    if simulated and np.isnan(found.predicted):
        gap = found.measured - published.number
        # What was read off has an error, too.
        margin = published.margin if published.kind == "read off" else 0.0
        error = np.hypot(found.error, margin / ERRORS)
        return Row(*name, published, found, _ratio(gap, error), ERRORS, "s.e.")
    compared = found.measured if np.isnan(found.predicted) else found.predicted
    gap = compared - published.number
    if published.within is not None or published.number == 0:
        return Row(*name, published, found, gap, published.margin, "absolute")
    size = abs(published.number)
    return Row(*name, published, found, gap / size, published.margin / size, "")


def _ratio(gap: float, size: float) -> float:
    """gap / size; where both are 0 there is no difference."""
    return 0.0 if gap == 0 else gap / size if size else np.inf


def _is_there(dataset: Any, published: Published) -> bool:
    """Whether the run has this place: its coordinates, to a hundredth of the value wanted."""
    names = [published.of, f"{published.of}_predicted"]
    if not any(name in dataset for name in names):
        return False
    return all(_has(dataset[name].values, wanted) for name, wanted in published.at.items())


def _is_left_out(dataset: Any, published: Published) -> bool:
    """Whether a simulation was not run at this place: it has neither a value nor an error there,
    but others have."""
    error = dataset.get(f"{published.of}_error")
    return error is not None and bool(np.isfinite(error).any())


def _has(values: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return wanted in values
    return bool(np.any(np.abs(values - wanted) <= 0.01 * abs(wanted)))


def _measured(dataset: Any, published: Published) -> Measured:
    def value(name: str) -> float:
        if name not in dataset:
            return float("nan")
        found = dataset[name]
        for dim, wanted in published.at.items():
            if dim in found.dims:
                plain = isinstance(wanted, str)
                found = found.sel({dim: wanted}, **({} if plain else {"method": "nearest"}))
        return float(found)

    of = published.of
    return Measured(value(f"{of}_predicted"), value(of), value(f"{of}_error"))


def _words(dataset: Any, published: Published) -> str:
    name = published.of if published.of in dataset else f"{published.of}_predicted"
    return str(dataset[name].attrs.get("long_name", published.of))


def _place(published: Published) -> str:
    return ", ".join(at_text(key, value) for key, value in published.at.items())


def at_text(name: str, value: Any) -> str:
    """A coordinate and its value; words stand for themselves."""
    return value if isinstance(value, str) else f"{symbol(name)} = {_short(value)}"


SYMBOLS = {
    "n": "N",
    "k": "K",
    "m": "M",
    "l": "L",
    "z": "Z",
    "lr": "η",
    "lr_second": "η_v",
    "lr_bias": "η_b",
    "noise": "σ",
    "weight_decay": "κ",
    "alpha": "α",
    "alpha_max": "α ≤",
    "delta": "δ",
    "Delta": "Δ",
    "k_both": "K",
    "k_decay": "K",
    "c": "T₁₂",
    "alpha_scale": "α",
    "hidden": "H",
    "gamma": "γ",
    "v_teacher": "v*",
    "t_max": "t ≤",
}
"""Settings and coordinates as the literature writes them."""


def symbol(name: str) -> str:
    """A setting as the literature writes it."""
    return SYMBOLS.get(name, name)


def setting_line(found: Outcome) -> str:
    """The settings that a line has room for, and which of them a quick run changed."""
    told = [_told(name, value) for name, value in found.settings.items()]
    words = ", ".join(text for text in told if text)
    if found.changed:
        words += "; settings changed by hand"
    if not found.quick:
        return words
    published = found.entry.settings
    smaller = [
        f"{_told(name, value)} in place of {_listed(published[name])}"
        for name, value in found.settings.items()
        if name in found.entry.quick and value != published[name] and _told(name, value)
    ]
    return f"{words}; quick: {', '.join(smaller) or 'the same sizes'}"


def _told(name: str, value: Any) -> str:
    """A setting in a few characters; "" for starts and other tables."""
    if isinstance(value, Mapping) or (isinstance(value, str) and name.startswith("start")):
        return ""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ""
    sign = symbol(name)
    return f"{sign} {_listed(value)}" if sign.endswith("≤") else f"{sign} = {_listed(value)}"


def _listed(value: Any) -> str:
    if isinstance(value, tuple):
        few = value if len(value) <= 8 else (*value[:3], "…", value[-1])
        return "{" + ", ".join(map(_short, few)) + "}"
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_short, value)) + ")"
    return f"{value:.6g}"


def _row_text(row: Row) -> str:
    published, found = row.published, row.measured
    place = f", {row.place}" if row.place else ""
    room = max(_NAME_WIDTH - 2 - len(place), 8)
    name = (row.words if len(row.words) <= room else f"{row.words[: room - 1]}…") + place
    error = "" if np.isnan(found.error) else f" ± {found.error:.1g}"
    measured = "" if np.isnan(found.measured) else f"{found.measured:.6g}{error}"
    seen = published.value and np.isfinite(row.deviation)
    deviation = f", simulation {row.deviation:+.1f} s.e. from theory" if seen else ""
    predicted = "" if np.isnan(found.predicted) else f"{found.predicted:.6g}"
    told = "" if published.kind == "shown" else f"{published.kind} ({published.certainty})"
    return (
        f"{name:<{_NAME_WIDTH}}{predicted:>13}{measured:>23}{published.value or '-':>13}"
        f"{_gap_text(row.difference, row.unit):>13}  {told}{deviation}{_verdict(row)}"
    )


def gap_text(row: Row) -> str:
    """The difference of a row, and whether it is missed."""
    return _gap_text(row.difference, row.unit) + _verdict(row)


def _verdict(row: Row) -> str:
    if row.agrees:
        return ""
    why = f" ({row.published.missed})" if row.published.missed else ""
    return f"  MISSED, limit {_gap_text(row.limit, row.unit)}{why}"


def _gap_text(gap: float, unit: str) -> str:
    if unit == "s.e.":
        return f"{gap:+.1f} s.e."
    return f"{gap:+.2g}" if unit == "absolute" else f"{100 * gap:+.2g} %"


def _attributes(found: Outcome) -> dict[str, Any]:
    entry = found.entry
    return {
        "entry": entry.name,
        "publication": entry.publication.citation,
        "shows": entry.shows,
        "claim": entry.claim_text,
        "source_mark": entry.mark,
        "certainty_of_settings": f"{entry.certainty} ({CERTAINTIES[entry.certainty]})",
        "settings": json.dumps(dict(found.settings)),
        "quick": int(found.quick),
        "missed": len(found.missed),
    }
