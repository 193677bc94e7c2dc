"""The report of claims: everything on the page comes from the stored datasets."""

import dataclasses
import json
import re

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from learndyn import claims
from learndyn.claims._marks import marks_of
from learndyn.cli import main
from learndyn.datasets import provenance
from learndyn.testing import Claim, Verdict, to_attributes


def claim_of(name, family):
    return Claim(name, family, f"{name} <holds>", "Saad & Solla", "N = 1", "by eye", "-1")


def settled(name, family, *, verdict=None, passed=True, control_rejected=True, **changed):
    claim, usual = claim_of(name, family), (1.0, 1.25, 0.125, passed, control_rejected, "all of it")
    verdict = verdict or Verdict(*usual, 1e-3)
    attributes = provenance() | {"seconds": 3.0, "profile": "quick", "seed": 7} | changed
    return xr.Dataset(attrs=to_attributes(claim, verdict) | attributes)


def put(folder, name, *given, **keywords):
    settled(name, *given, **keywords).to_netcdf(folder / "data" / f"{name}.nc", engine="h5netcdf")


def put_crash(folder, name, family, **changed):
    claim = json.dumps(dataclasses.asdict(claim_of(name, family)))
    attributes = provenance() | {"claim": claim, "crash": "ValueError: <no>"}
    attributes |= {"seconds": 2.0, "seed": 7} | changed
    path = folder / "data" / f"{name}.nc"
    xr.Dataset(attrs=attributes).to_netcdf(path, engine="h5netcdf")


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
    card = claims.build(folder, seconds=12.0)
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


def test_a_drawing_sets_the_control_next_to_prediction_and_measurement(folder):
    verdict = Verdict(1.0, 1.25, 0.125, True, True, "", 1e-3, control=3.0)
    put(folder, "two", "a", verdict=verdict)
    claims.build(folder)
    page = (folder / "index.html").read_text()
    labels = re.findall(r'<svg class="marks"[^>]*aria-label="([^"]*)"', page)
    both = "predicted 1, measured 1.25"
    # In the table and under the claim's name, by family
    assert labels == [f"{both}, control 3", both] * 2
    article = page.split('<article id="two">')[1].split("</article>")[0]
    places = {
        kind: float(re.search(rf'class="{kind}" d="M([-0-9.]+)', article)[1])
        for kind in ("theory", "experiment", "control")
    }
    # 540 pixels, of which 6 % stay free on either side; the error bar begins at 1.125
    inner = 0.88 * 540 / 2.0
    expected = {"theory": 32.4, "experiment": 32.4 + 0.125 * inner, "control": 32.4 + 2.0 * inner}
    assert places == pytest.approx(expected, abs=0.06)
    assert "control 3" in article


@pytest.mark.parametrize(
    ("verdict", "places"),
    [
        (Verdict(2.0, 2.0, 0.0, True, True, "", 0.0), (0.5, 0.5, 0.5, 0.5, None)),
        (Verdict(0.0, 1.0, 0.0, True, True, "", 0.0, np.inf), (0.06, 0.94, 0.94, 0.94, None)),
        (Verdict(0.0, 1.0, np.nan, True, True, "", 0.0, 2.0), (0.06, 0.5, 0.5, 0.5, 0.94)),
        (Verdict(0.0, np.nan, 0.1, True, True, "", 0.0), None),
    ],
)
def test_places_of_marks(verdict, places):
    found = marks_of(verdict)
    assert found is None if places is None else found[:4] == pytest.approx(places[:4])
    assert places is None or found[4] == (places[4] and pytest.approx(places[4]))


def test_the_margin_is_wide_enough_to_see_however_far_the_control_is(folder):
    # Nine margins of arsinh above a prediction of 0, whose band reaches one to either side
    control = 2.0 * np.sinh(9.0 * np.arcsinh(1.0))
    verdict = Verdict(0.0, 1e-9, 0.0, True, True, "", 0.0, control, margin=2.0)
    places = marks_of(verdict)
    expected = [0.06 + 0.88 * part for part in (0.1, 0.1, 0.1, 0.1, 1.0, 0.0, 0.2)]
    assert places == pytest.approx(expected, abs=1e-8)
    put(folder, "two", "a", verdict=verdict)
    claims.build(folder)
    article = (folder / "index.html").read_text().split('<article id="two">')[1]
    assert '<rect class="margin" x="32.4" y="9.0" width="95.0"' in article
    assert "margin 2" in article


def test_claims_of_another_run_are_left_out(folder):
    put(folder, "three", "c", profile="standard", created_at="1999-01-01T00:00:00+00:00")
    put(folder, "four", "c", seed=8, created_at="1999-01-01T00:00:00+00:00")
    for card in (
        claims.build(folder),  # of the claim measured last
        claims.build(folder, run={"profile": "quick", "seed": 7}),
    ):
        assert card.claim.values.tolist() == ["two", "one"]
    page = (folder / "index.html").read_text()
    assert "2 claims" in page
    assert "2 stored claims of other runs" in page
    assert "three" not in page
    card = claims.build(folder, run={"profile": "standard", "seed": 7})
    assert card.claim.values.tolist() == ["three"]
    assert claims.build(folder).claim.values.tolist() == ["three"]  # that run again
    assert claims.build(folder, run={"profile": "full", "seed": 7}) is None


@pytest.mark.parametrize("run", [{"seed": 7}, {"seed": 7, "sources": "now"}])
def test_claims_measured_with_other_code_are_left_out(folder, run):
    for name, sources in (("three", "now"), ("four", "before")):
        put(folder, name, "c", sources=sources, git_revision=f"{sources}-revision")
    expected = ["two", "one", "four", "three"] if "sources" not in run else ["three"]
    assert claims.build(folder, run=run).claim.values.tolist() == expected
    page = (folder / "index.html").read_text()
    assert ("3 stored claims of other runs" in page) == ("sources" in run)
    footer = page.split("Where and with what")[1]
    assert ("before-revision" in footer) == ("sources" not in run)
    assert "now-revision" in footer
    assert claims.build(folder).claim.values.tolist() == expected  # that run again


def test_a_crash_is_not_passed_over(folder, capsys):
    put_crash(folder, "one", "b")
    card = claims.build(folder, run={"seed": 7})
    assert card.crashed.values.tolist() == [False, True]
    assert claims.faults(card) == ["1 crashed."]
    page = (folder / "index.html").read_text()
    assert '<span class="bad">1 crashed.</span>' in page
    assert "All hold" not in page
    assert "ValueError: &lt;no&gt;" in page
    assert "data:image" not in page  # the figure is that of an earlier measurement
    assert "nan" not in page.split("Where and with what")[0].split("How to read")[1]
    text = "\n".join(claims.lines(card))
    assert "FAILS one: crashed" in text
    assert "1 of 2 claims hold" in text
    assert main(["report", str(folder)]) == 1
    assert "FAILS one: crashed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ({"unreached": 3}, "3 claims were not reached."),
        ({"unreached": 1}, "1 claim was not reached."),
        ({"broken": ["test_a.py::test_b"]}, "because of an error: test_a.py::test_b."),
    ],
)
def test_what_is_missing_is_said(folder, ending, said, capsys):
    card = claims.build(folder, 12.0, {"seed": 7}, **ending)
    assert claims.lines(card)[-1].startswith("FAILS: ")
    assert claims.lines(card)[-1].endswith(said)
    assert main(["report", str(folder)]) == 1  # still: nothing was run since
    assert said in capsys.readouterr().out
    page = (folder / "index.html").read_text()
    assert said in page.split("</p>")[0]
    assert "All hold" not in page
    assert "12 s for this run" in page
    assert main(["report", str(folder)]) == 1
    claims.build(folder, 12.0, {"seed": 7})
    assert main(["report", str(folder)]) == 0


def test_a_run_that_settled_nothing_replaces_the_page_before(folder):
    claims.build(folder)
    card = claims.build(folder, 1.0, {"seed": 8}, unreached=2, broken=["test_a.py"])
    assert card.sizes["claim"] == 0
    assert "0 of 0 claims hold" in "\n".join(claims.lines(card))
    page = (folder / "index.html").read_text()
    assert "All hold" not in page
    assert "2 claims were not reached." in page
    assert xr.load_dataset(folder / "scorecard.nc", engine="h5netcdf").sizes["claim"] == 0


def test_a_run_over_its_budget_has_failed(folder, capsys):
    put(folder, "one", "b", verdict=Verdict(1.0, 1.0, 0.1, True, True, "", 0.02))
    card = claims.build(folder)
    assert claims.lines(card)[-1].endswith("less than 99%: take more runs.")
    assert "All hold" not in (folder / "index.html").read_text()
    assert main(["report", str(folder)]) == 1
    assert "take more runs" in capsys.readouterr().out


def test_false_alarms_stand_beside_each_claim(folder):
    put(folder, "one", "b", verdict=Verdict(1.0, 1.5, 0.0, True, True, "", 0.0))
    claims.build(folder)
    table = (folder / "index.html").read_text().split("</table>")[0]
    assert "<th>False alarm</th>" in table
    assert 'data-name="False alarm">1e-03</td>' in table
    assert 'data-name="Measured">1.5</td>' in table  # without an error: nothing about it is random
    assert "1.25 ± 0.12" in table


def test_terminal(folder):
    put(folder, "three", "a", control_rejected=False)
    text = claims.lines(claims.build(folder))
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
    card = claims.build(folder)
    assert np.isnan(card.false_alarm.sel(claim="one"))
    assert claims.alarm(card) == 1.0


@pytest.mark.parametrize(("sources", "seen"), [("now", 2), ("before", 1)])
def test_mutants_are_part_of_the_page(folder, sources, seen):
    """Nothing is said of mutants that were tried on other code."""
    columns = {"fault": ["f1", "f2"], "caught": [True, False], "by": ["one", ""], "seconds": [1, 2]}
    columns["sources"] = ["now", sources]
    table = xr.Dataset(
        {name: ("mutant", values) for name, values in columns.items()},
        coords={"mutant": ["m1", "m2"]},
    )
    table.to_netcdf(folder / "mutants.nc", engine="h5netcdf")
    put(folder, "three", "c", sources="now")
    claims.build(folder, run={"seed": 7, "sources": "now"})
    page = (folder / "index.html").read_text()
    assert f"1 of {seen} were caught" in page
    assert ("nobody" in page) == (seen == 2)


@pytest.mark.parametrize(
    ("error", "chance", "words"),
    [(0.0, 0.0, "Chance plays no part"), (0.1, 0.0, "less than 1e-99"), (0.1, 2e-5, "2e-05")],
)
def test_how_likely_a_true_claim_fails(folder, error, chance, words):
    """A probability too small for a float is not the same as nothing random."""
    verdict = Verdict(1.0, 1.0, error, True, True, "all of it", chance)
    put(folder, "one", "b", verdict=verdict)
    claims.build(folder)
    article = (folder / "index.html").read_text().split('<article id="one">')[1]
    assert words in article.split("</article>")[0]


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
