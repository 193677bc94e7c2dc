"""The claims of a run as one dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn.testing import Claim, Verdict, from_attributes

if TYPE_CHECKING:
    import xarray

RUN = ("profile", "seed", "device")
"""Attributes that claims of one run share."""

CARD = "scorecard.nc"


class Row(NamedTuple):
    """A claim as it was settled; attributes: those of its dataset."""

    claim: Claim
    verdict: Verdict
    seconds: float
    attributes: dict[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """The settled claims of a folder, by family; those stopped before a verdict are left out."""
    import xarray as xr

    rows = []
    for path in sorted((folder / "data").glob("*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            attributes = dict(dataset.attrs)
        if "verdict" in attributes:
            seconds = float(attributes.get("seconds", np.nan))
            rows.append(Row(*from_attributes(attributes), seconds, attributes))
    return sorted(rows, key=lambda row: (row.claim.family, row.claim.id))


def latest_run(folder: Path, rows: list[Row]) -> dict[str, str]:
    """Profile, seed and device of the run reported last, or else of the claim measured last."""
    import xarray as xr

    if (folder / CARD).exists():
        with xr.open_dataset(folder / CARD, engine="h5netcdf") as card:
            found = dict(card.attrs)
    else:
        found = max((row.attributes for row in rows), key=lambda a: str(a.get("created_at", "")))
    return {name: str(found[name]) for name in RUN if name in found}


def of_run(rows: list[Row], run: Mapping[str, Any]) -> list[Row]:
    """The rows that belong to a run. A folder may hold others: of a larger profile, say."""

    def belongs(row: Row) -> bool:
        known = ((row.attributes.get(name, value), value) for name, value in run.items())
        return all(str(found) == str(value) for found, value in known)

    return [row for row in rows if belongs(row)]


def scorecard(rows: list[Row], run: Mapping[str, Any] | None = None) -> "xarray.Dataset":
    """Dimension `claim`, the ids; variables family, statement, source, predicted, measured,
    error, passed, control_rejected, false_alarm, seconds; attributes: those of the run."""
    import xarray as xr

    def column(values: list, name: str) -> tuple:
        return "claim", np.array(values), {"long_name": name}

    claims, verdicts = [row.claim for row in rows], [row.verdict for row in rows]
    return xr.Dataset(
        {
            "family": column([c.family for c in claims], "family of claims"),
            "statement": column([c.statement for c in claims], "what is claimed"),
            "source": column([c.source for c in claims], "where it is claimed"),
            "predicted": column([v.predicted for v in verdicts], "predicted value"),
            "measured": column([v.measured for v in verdicts], "measured value"),
            "error": column([v.error for v in verdicts], "standard error of the measured value"),
            "passed": column([v.passed for v in verdicts], "whether the claim holds"),
            "control_rejected": column(
                [v.control_rejected for v in verdicts], "whether the wrong theory was rejected"
            ),
            "false_alarm": column(
                [v.false_alarm for v in verdicts], "at most how likely a true claim is to fail"
            ),
            "seconds": column([row.seconds for row in rows], "time to measure, in seconds"),
        },
        coords={"claim": [c.id for c in claims]},
        attrs={"creation_library": "learndyn"} | {k: str(v) for k, v in (run or {}).items()},
    )
