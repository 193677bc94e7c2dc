"""The report, made from stored datasets and figures alone: `python -m validation.report`."""

import base64
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr
from validation.claims import Claim, Verdict, from_attributes

Row = tuple[Claim, Verdict, float, dict]


def build(output: Path, seconds: float | None = None) -> xr.Dataset | None:
    """Write scorecard.nc and index.html from output/data and output/figures.

    Returns the scorecard, or None where there is no claim yet.
    """
    rows = _rows(output)
    if not rows:
        return None
    card = _scorecard(rows)
    card.to_netcdf(output / "scorecard.nc", engine="h5netcdf")
    (output / "index.html").write_text(_page(output, rows, seconds), encoding="utf-8")
    return card


def lines(card: xr.Dataset) -> list[str]:
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


def _rows(output: Path) -> list[Row]:
    rows = []
    for path in sorted((output / "data").glob("*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            if "verdict" in dataset.attrs:  # else it was stopped before it was judged
                rows.append((*from_attributes(dataset), dict(dataset.attrs)))
    return sorted(rows, key=lambda row: (row[0].family, row[0].id))


def _scorecard(rows: list[Row]) -> xr.Dataset:
    claims, verdicts, seconds, _ = zip(*rows, strict=True)

    def column(values: list, name: str) -> tuple:
        return ("claim", np.array(values), {"long_name": name})

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
            "seconds": column(list(seconds), "time to measure, in seconds"),
        },
        coords={"claim": [c.id for c in claims]},
        attrs={"creation_library": "learndyn"},
    )


def _page(output: Path, rows: list[Row], seconds: float | None) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["number"] = lambda value: f"{value:.5g}"
    attributes = rows[0][3]
    return environment.get_template("report.html.j2").render(
        rows=[
            {
                "claim": claim,
                "verdict": verdict,
                "seconds": spent,
                "figure": _embedded(output / "figures" / f"{claim.id}.png"),
                "good": verdict.passed and verdict.control_rejected,
            }
            for claim, verdict, spent, _ in rows
        ],
        attributes=attributes,
        versions=json.loads(attributes.get("versions", "{}")),
        seconds=seconds,
        made=datetime.now(UTC).isoformat(timespec="minutes"),
        failed=sum(not (v.passed and v.control_rejected) for _, v, _, _ in rows),
    )


def _embedded(path: Path) -> str | None:
    if not path.exists():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


if __name__ == "__main__":
    card = build(Path(sys.argv[1] if len(sys.argv) > 1 else "results/validation"))
    print("\n".join(lines(card)) if card is not None else "no claim has been measured yet")
