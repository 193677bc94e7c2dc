"""All claims of a folder as one dataset, and as lines for a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn.testing import Claim, Verdict, from_attributes

if TYPE_CHECKING:
    import xarray


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


def scorecard(rows: list[Row]) -> "xarray.Dataset":
    """Dimension `claim`, the ids; variables family, statement, source, predicted, measured,
    error, passed, control_rejected, seconds."""
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
            "seconds": column([row.seconds for row in rows], "time to measure, in seconds"),
        },
        coords={"claim": [c.id for c in claims]},
        attrs={"creation_library": "learndyn"},
    )


def lines(card: "xarray.Dataset") -> list[str]:
    """One line per claim for a terminal, and a total."""
    width = max(len(name) for name in card.claim.values)
    text = [f"{'claim':{width}}  predicted    measured     +-        verdict  control   time"]
    for name in card.claim.values:
        row = card.sel(claim=name)
        verdict = "holds" if bool(row.passed) else "FAILS"
        control = "rejected" if bool(row.control_rejected) else "PASSES"
        text.append(
            f"{name:{width}}  {float(row.predicted):<11.5g}  {float(row.measured):<11.5g}  "
            f"{float(row.error):<8.2g}  {verdict:7}  {control:8}  {float(row.seconds):4.0f} s"
        )
    good = int((card.passed & card.control_rejected).sum())
    text.append(f"{good} of {card.sizes['claim']} claims hold, with their controls rejected.")
    return text
