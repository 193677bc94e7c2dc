"""The page and the scorecard of a folder of claims."""

import base64
import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndyn.report._scorecard import CARD, Row, latest_run, of_run, read_rows, scorecard
from learndyn.report._terminal import alarm

if TYPE_CHECKING:
    import xarray


def build(
    folder: Path, seconds: float | None = None, run: Mapping[str, Any] | None = None
) -> "xarray.Dataset | None":
    """Write scorecard.nc and index.html in `folder`, from its data/ and figures/.

    seconds: what the run took, for the page; None where nothing was run. run: the profile, seed
    and device whose claims are meant; None: those of the last report. Stored claims of other
    runs are counted on the page, and not shown.
    Returns the scorecard, or None where there is no settled claim yet.
    Raises: ImportError without jinja2, which the extra `report` brings.
    """
    stored = read_rows(folder)
    run = latest_run(folder, stored) if run is None and stored else run or {}
    rows = of_run(stored, run)
    if not rows:
        return None
    card = scorecard(rows, run)
    card.to_netcdf(folder / CARD, engine="h5netcdf")
    page = _page(folder, rows, card, seconds, len(stored) - len(rows))
    (folder / "index.html").write_text(page, encoding="utf-8")
    return card


def _page(
    folder: Path, rows: list[Row], card: "xarray.Dataset", seconds: float | None, others: int
) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    environment.filters["number"] = lambda value: f"{value:.5g}"
    environment.filters["figure"] = lambda name: _embedded(folder / "figures" / f"{name}.png")
    attributes = rows[0].attributes
    return environment.get_template("page.html.j2").render(
        rows=rows,
        families=itertools.groupby(rows, key=lambda row: row.claim.family),
        attributes=attributes,
        versions=_versions(attributes),
        mutants=_mutants(folder),
        seconds=seconds,
        made=datetime.now(UTC).isoformat(timespec="minutes"),
        failed=sum(not row.verdict.good for row in rows),
        alarm=alarm(card),
        others=others,
    )


def _versions(attributes: dict[str, Any]) -> dict[str, str]:
    found = attributes.get("versions", {})
    return json.loads(found.removeprefix("json:")) if isinstance(found, str) else found


def _mutants(folder: Path) -> list[dict[str, Any]]:
    """Deliberate faults and who caught them, where they were tried."""
    import xarray as xr

    path = folder / "mutants.nc"
    if not path.exists():
        return []
    with xr.open_dataset(path, engine="h5netcdf") as table:
        names = [str(name) for name in table.mutant.values]
        return [
            {"name": name} | {str(key): table[key].sel(mutant=name).item() for key in table}
            for name in names
        ]


def _embedded(path: Path) -> str | None:
    if not path.exists():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
