"""The report of claims: everything on the page comes from the stored datasets."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from learndyn import report
from learndyn.datasets import provenance
from learndyn.testing import Claim, Verdict, to_attributes
from learndyn_cli import main


def settled(name, family, *, passed=True, control_rejected=True):
    claim = Claim(name, family, f"{name} <holds>", "Saad & Solla", "N = 1", "by eye", "-1")
    verdict = Verdict(1.0, 1.25, 0.125, passed, control_rejected, "all of it")
    attributes = provenance() | {"seconds": 3.0, "profile": "quick", "seed": 7}
    return xr.Dataset(attrs=to_attributes(claim, verdict) | attributes)


@pytest.fixture
def folder(tmp_path):
    for name in ("data", "figures"):
        (tmp_path / name).mkdir()
    for name, family in (("one", "b"), ("two", "a")):
        settled(name, family).to_netcdf(tmp_path / "data" / f"{name}.nc", engine="h5netcdf")
    xr.Dataset().to_netcdf(tmp_path / "data" / "stopped.nc", engine="h5netcdf")
    Figure().savefig(tmp_path / "figures" / "one.png")
    return tmp_path


def test_page_and_scorecard(folder):
    card = report.build(folder, seconds=12.0)
    assert card.claim.values.tolist() == ["two", "one"]  # by family
    assert card.passed.all()
    assert card.control_rejected.all()
    np.testing.assert_array_equal(card.error, 0.125)
    stored = xr.load_dataset(folder / "scorecard.nc", engine="h5netcdf")
    assert set(stored) == set(card)
    page = (folder / "index.html").read_text()
    assert "2 claims" in page
    assert "All hold" in page
    assert "one &lt;holds&gt;" in page
    assert page.count("data:image/png;base64,") == 1
    assert 'href="data/two.nc"' in page
    assert "seed 7" in page
    assert "What the claims can see" not in page


def test_mutants_are_part_of_the_page(folder):
    columns = {"fault": ["f1", "f2"], "caught": [True, False], "by": ["one", ""], "seconds": [1, 2]}
    table = xr.Dataset(
        {name: ("mutant", values) for name, values in columns.items()},
        coords={"mutant": ["m1", "m2"]},
    )
    table.to_netcdf(folder / "mutants.nc", engine="h5netcdf")
    report.build(folder)
    page = (folder / "index.html").read_text()
    assert "1 of 2 were caught" in page
    assert "nobody" in page


def test_command_line(folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert "2 of 2 claims hold" in capsys.readouterr().out
    for bad in ({"passed": False}, {"control_rejected": False}):
        settled("one", "b", **bad).to_netcdf(folder / "data" / "one.nc", engine="h5netcdf")
        assert main(["report", str(folder)]) == 1
        assert "1 of 2 claims hold" in capsys.readouterr().out
        assert "1 failed" in (folder / "index.html").read_text()


def test_a_folder_without_claims(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "no settled claim" in capsys.readouterr().err
