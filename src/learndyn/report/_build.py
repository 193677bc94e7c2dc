"""The page and the scorecard of a folder of claims."""

import base64
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learndyn.report._scorecard import Row, read_rows, scorecard

if TYPE_CHECKING:
    import xarray


def build(folder: Path, seconds: float | None = None) -> "xarray.Dataset | None":
    """Write scorecard.nc and index.html in `folder`, from its data/ and figures/.

    seconds: what the run took, for the page; None where nothing was run.
    Returns the scorecard, or None where there is no settled claim yet.
    Raises: ImportError without jinja2, which the extra `report` brings.
    """
    rows = read_rows(folder)
    if not rows:
        return None
    card = scorecard(rows)
    card.to_netcdf(folder / "scorecard.nc", engine="h5netcdf")
    (folder / "index.html").write_text(_page(folder, rows, seconds), encoding="utf-8")
    return card


def _page(folder: Path, rows: list[Row], seconds: float | None) -> str:
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
