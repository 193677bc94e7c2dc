"""The claims of a run as one dataset."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn.claims._claim import Claim, Verdict, from_attributes

if TYPE_CHECKING:
    import xarray

RUN = ("profile", "seed", "device", "sources")
"""Attributes that claims of one run share; sources: a digest of the code that they share."""

CARD = "scorecard.nc"


class Row(NamedTuple):
    """A claim as it was settled; attributes: those of its dataset."""

    claim: Claim
    verdict: Verdict
    seconds: float
    attributes: dict[str, Any]

    @property
    def crashed(self) -> bool:
        """Whether measuring or judging it ended in an exception."""
        return "crash" in self.attributes

    @property
    def exact(self) -> bool:
        """Whether nothing about it is random."""
        return self.verdict.error == 0 and self.verdict.false_alarm == 0


class Ending(NamedTuple):
    """How a run ended.

    seconds: what it took, None where nothing was run. unreached: how many selected claims it did
    not get to. broken: tests that ended in an error and left no claim's dataset.
    """

    seconds: float | None = None
    unreached: int = 0
    broken: tuple[str, ...] = ()


def read_rows(folder: Path) -> list[Row]:
    """The settled and the crashed claims of a folder, by family.

    Those stopped before a verdict are left out.
    """
    import xarray as xr

    rows = []
    for path in sorted((folder / "data").glob("*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            attributes = dict(dataset.attrs)
        if "verdict" in attributes or "crash" in attributes:
            rows.append(_row(attributes))
    return sorted(rows, key=lambda row: (row.claim.family, row.claim.id))


def _row(attributes: dict[str, Any]) -> Row:
    seconds = float(attributes.get("seconds", np.nan))
    if "crash" not in attributes:
        return Row(*from_attributes(attributes), seconds, attributes)
    claim = Claim(**json.loads(attributes["claim"]))
    # A crash is neither an agreement nor a rejected control.
    nothing = Verdict(np.nan, np.nan, np.nan, False, False, attributes["crash"], 0.0)
    return Row(claim, nothing, seconds, attributes)


def latest_run(folder: Path, rows: list[Row]) -> dict[str, str]:
    """The attributes RUN of the run reported last, or else of the claim measured last."""
    found = _attributes_of_card(folder)
    if found is None:
        each = (row.attributes for row in rows)
        found = max(each, key=lambda a: str(a.get("created_at", "")), default={})
    return {name: str(found[name]) for name in RUN if name in found}


def latest_ending(folder: Path) -> Ending:
    """How the run reported last ended."""
    found = _attributes_of_card(folder) or {}
    seconds = float(found["seconds"]) if "seconds" in found else None
    return Ending(
        seconds, int(found.get("unreached", 0)), tuple(json.loads(found.get("broken", "[]")))
    )


def _attributes_of_card(folder: Path) -> dict[str, Any] | None:
    import xarray as xr

    if not (folder / CARD).exists():
        return None
    with xr.open_dataset(folder / CARD, engine="h5netcdf") as card:
        return {str(name): value for name, value in card.attrs.items()}


def of_run(rows: list[Row], run: Mapping[str, Any]) -> list[Row]:
    """The rows that belong to a run. A folder may hold others, those of a larger profile, say."""

    def belongs(row: Row, name: str, value: Any) -> bool:
        # Code that is not known may be any; the rest is left out where it is not worth saying.
        unknown = None if name == "sources" else value
        return str(row.attributes.get(name, unknown)) == str(value)

    return [row for row in rows if all(belongs(row, *one) for one in run.items())]


def scorecard(
    rows: Sequence[Row], run: Mapping[str, Any] | None = None, ending: Ending | None = None
) -> "xarray.Dataset":
    """The claims of a run as a table.

    Dimension `claim`, the ids; variables family, statement, source, predicted, measured, error,
    passed, control_rejected, crashed, false_alarm, seconds; attributes: those of the run, and
    seconds, unreached and broken (names as JSON) of its `Ending`.
    """
    import xarray as xr

    def column(values: list, name: str, kind: type) -> tuple:
        return "claim", np.array(values, kind), {"long_name": name}

    ending = ending or Ending()
    claims, verdicts = [row.claim for row in rows], [row.verdict for row in rows]
    attributes: dict[str, Any] = {"creation_library": "learndyn"}
    attributes |= {k: str(v) for k, v in (run or {}).items()}
    attributes |= {"unreached": ending.unreached, "broken": json.dumps(ending.broken)}
    if ending.seconds is not None:
        attributes["seconds"] = ending.seconds
    return xr.Dataset(
        {
            "family": column([c.family for c in claims], "family of claims", str),
            "statement": column([c.statement for c in claims], "what is claimed", str),
            "source": column([c.source for c in claims], "where it is claimed", str),
            "predicted": column([v.predicted for v in verdicts], "predicted value", float),
            "measured": column([v.measured for v in verdicts], "measured value", float),
            "error": column(
                [v.error for v in verdicts], "standard error of the measured value", float
            ),
            "passed": column([v.passed for v in verdicts], "whether the claim holds", bool),
            "control_rejected": column(
                [v.control_rejected for v in verdicts],
                "whether the wrong theory was rejected",
                bool,
            ),
            "crashed": column(
                [row.crashed for row in rows], "whether it ended in an exception", bool
            ),
            "false_alarm": column(
                [v.false_alarm for v in verdicts],
                "at most how likely a true claim is to fail",
                float,
            ),
            "seconds": column([row.seconds for row in rows], "time to measure, in seconds", float),
        },
        coords={"claim": np.array([c.id for c in claims], str)},
        attrs=attributes,
    )
