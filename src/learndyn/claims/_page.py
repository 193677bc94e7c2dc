"""The page and the scorecard of a folder of claims."""

import base64
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndyn._extras import require_extra
from learndyn.claims._marks import marks_of
from learndyn.claims._scorecard import (
    CARD,
    Ending,
    Row,
    latest_ending,
    latest_run,
    of_run,
    read_rows,
    scorecard,
)
from learndyn.claims._terminal import BUDGET, alarm, faults
from learndyn.datasets import provenance

if TYPE_CHECKING:
    import xarray


def build(
    folder: Path,
    seconds: float | None = None,
    run: Mapping[str, Any] | None = None,
    *,
    unreached: int = 0,
    broken: Sequence[str] = (),
) -> "xarray.Dataset | None":
    """Write scorecard.nc and index.html in `folder`, from its data/ and figures/.

    run: the profile, seed, device and sources (a digest of the code) whose claims are meant.
    Stored claims of other runs are counted on the page, and not shown. seconds: what the run took.
    unreached: how many selected claims it did not get to. broken: the tests that ended in an
    error and left no claim's dataset. Without `run`, all of this is taken from the last report.
    Returns the scorecard, or None where there is no settled claim yet and none is missing.
    Raises: ImportError without jinja2, which the extra `report` brings.
    """
    require_extra("jinja2", "report", "the page of claims")
    stored = read_rows(folder)
    ending = Ending(seconds, unreached, tuple(broken))
    if run is None:
        run = latest_run(folder, stored)
        ending = latest_ending(folder) if ending == Ending() else ending
    rows = of_run(stored, run)
    if not (rows or ending.unreached or ending.broken):
        return None
    card = scorecard(rows, run, ending)
    card.to_netcdf(folder / CARD, engine="h5netcdf")
    page = _page(folder, rows, card, run, len(stored) - len(rows))
    (folder / "index.html").write_text(page, encoding="utf-8")
    return card


def _page(
    folder: Path, rows: list[Row], card: "xarray.Dataset", run: Mapping[str, Any], others: int
) -> str:
    import jinja2

    # Autoescape: statements hold < and >.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    environment.filters["number"] = lambda value: f"{value:.5g}"
    environment.filters["marks"] = marks_of
    environment.filters["figure"] = lambda name: _embedded(folder / "figures" / f"{name}.png")
    # Without a claim, the page is about the process that failed to settle one.
    attributes = rows[0].attributes if rows else provenance() | dict(run)
    known = [row.attributes for row in rows if "git_revision" in row.attributes]
    return environment.get_template("page.html.j2").render(
        rows=rows,
        families=itertools.groupby(rows, key=lambda row: row.claim.family),
        attributes=attributes,
        versions=_versions(attributes),
        mutants=_mutants(folder, run.get("sources")),
        revisions=sorted({str(found["git_revision"]) for found in known}),
        seconds=card.attrs.get("seconds"),
        made=datetime.now(UTC).isoformat(timespec="minutes"),
        faults=faults(card),
        alarm=alarm(card),
        budget=BUDGET,
        others=others,
    )


def _versions(attributes: dict[str, Any]) -> dict[str, str]:
    found = attributes.get("versions", {})
    return json.loads(found.removeprefix("json:")) if isinstance(found, str) else found


def _mutants(folder: Path, sources: str | None) -> list[dict[str, Any]]:
    """Deliberate faults and who caught them, where they were tried on this state of the code."""
    import xarray as xr

    path = folder / "mutants.nc"
    if not path.exists():
        return []
    with xr.open_dataset(path, engine="h5netcdf") as table:
        names = [str(name) for name in table.mutant.values]
        rows = [
            {"name": name} | {str(key): table[key].sel(mutant=name).item() for key in table}
            for name in names
        ]
    return [row for row in rows if sources is None or row.get("sources") == sources]


def _embedded(path: Path) -> str | None:
    if not path.exists():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
