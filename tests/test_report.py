"""The report of claims: everything on the page comes from the stored datasets."""

import json

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from learndyn import report
from learndyn.datasets import provenance
from learndyn.testing import Claim, Verdict, to_attributes
from learndyn_cli import main


def settled(name, family, *, passed=True, control_rejected=True, **changed):
    claim = Claim(name, family, f"{name} <holds>", "Saad & Solla", "N = 1", "by eye", "-1")
    verdict = Verdict(1.0, 1.25, 0.125, passed, control_rejected, "all of it", 1e-3)
    attributes = provenance() | {"seconds": 3.0, "profile": "quick", "seed": 7} | changed
    return xr.Dataset(attrs=to_attributes(claim, verdict) | attributes)


def put(folder, name, *given, **keywords):
    settled(name, *given, **keywords).to_netcdf(folder / "data" / f"{name}.nc", engine="h5netcdf")


@pytest.fixture
def folder(tmp_path):
    for name in ("data", "figures"):
        (tmp_path / name).mkdir()
    for name, family in (("one", "b"), ("two", "a")):
        put(tmp_path, name, family)
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
    assert "it is at most 0.2 %" in page
    assert "left out" not in page
    assert "What the claims can see" not in page


def test_claims_of_another_run_are_left_out(folder):
    put(folder, "three", "c", profile="standard", created_at="1999-01-01T00:00:00+00:00")
    put(folder, "four", "c", seed=8, created_at="1999-01-01T00:00:00+00:00")
    for card in (
        report.build(folder),  # of the claim measured last
        report.build(folder, run={"profile": "quick", "seed": 7}),
    ):
        assert card.claim.values.tolist() == ["two", "one"]
    page = (folder / "index.html").read_text()
    assert "2 claims" in page
    assert "2 stored claims of other runs" in page
    assert "three" not in page
    card = report.build(folder, run={"profile": "standard", "seed": 7})
    assert card.claim.values.tolist() == ["three"]
    assert report.build(folder).claim.values.tolist() == ["three"]  # that run again
    assert report.build(folder, run={"profile": "full", "seed": 7}) is None


def test_terminal(folder):
    put(folder, "three", "a", control_rejected=False)
    text = report.lines(report.build(folder))
    assert [line.split()[0] for line in text[:4]] == ["family", "a", "b", "all"]
    assert text[1].split()[1:4] == ["2", "2", "1"]
    assert text[4].startswith("FAILS three: predicted 1, measured 1.25 ± 0.12; its control")
    assert text[5].startswith("2 of 3 claims hold")
    assert "99.700%" in text[5]


def test_verdicts_stored_before_they_had_a_false_alarm(folder):
    dataset = settled("one", "b")
    verdict = json.loads(dataset.attrs["verdict"])
    del verdict["false_alarm"]
    old = dataset.assign_attrs(verdict=json.dumps(verdict))
    old.to_netcdf(folder / "data" / "one.nc", engine="h5netcdf")
    card = report.build(folder)
    assert np.isnan(card.false_alarm.sel(claim="one"))
    assert report.alarm(card) == 1.0


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
        put(folder, "one", "b", **bad)
        assert main(["report", str(folder)]) == 1
        assert "1 of 2 claims hold" in capsys.readouterr().out
        assert "1 failed" in (folder / "index.html").read_text()


def test_a_folder_without_claims(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "no settled claim" in capsys.readouterr().err
