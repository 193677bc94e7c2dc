"""How claims are run: what is measured again, and what a run says of the claims it lost."""

import contextlib
import json
import shutil

import h5netcdf  # noqa: F401  (here once; `pytester` forgets what is imported inside of it)
import jinja2  # noqa: F401
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from validation import conftest as plugin
from validation.lab import false_alarms, progress, sources
from validation.lab import laboratory as lab
from validation.measure.learning_curves import level_of

from learndyn import claims
from learndyn.claims import Claim, Verdict
from learndyn.cli import main

# xarray imports dask where it is installed, and dask a backport that takes the place of
# importlib.metadata: imported inside of `pytester`, it would leave that broken behind.
with contextlib.suppress(ImportError):
    import dask.array  # noqa: F401

pytest_plugins = ["pytester"]

GOOD = Verdict(1.0, 1.0, 0.1, True, True, "fine", 1e-3)


def claim_of(name="one"):
    return Claim(name, "family", "it holds", "here", "N = 1", "by eye", "-1")


@pytest.fixture
def new_lab(tmp_path):
    def make(**changed):
        given = {"output": tmp_path / "out", "profile": "quick", "seed": 0, "fresh": False}
        return lab.Lab(**(given | {"sources": "now", "file": "this"} | changed))

    return make


class Fake:
    """A claim that counts how often it is measured."""

    def __init__(self, verdict=GOOD):
        self.measured, self.verdict = 0, verdict

    def measure(self):
        self.measured += 1
        return xr.Dataset({"found": ("seed", np.arange(3.0))})

    def judge(self, dataset):
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def settle(self, where):
        return where.settle(claim_of(), self.measure, self.judge, lambda _: plt.figure())


def stored(where):
    return xr.load_dataset(where.output / "data" / "one.nc", engine="h5netcdf")


def leaves_out(call, *given):
    try:
        call(*given)
    except pytest.skip.Exception:
        return True
    return False


@pytest.mark.parametrize("profile", lab.PROFILES)
def test_what_is_left_out_of_smaller_profiles(new_lab, profile):
    where = new_lab(profile=profile)
    assert leaves_out(where.skip_in_quick) == (profile == "quick")
    assert not leaves_out(where.skip_in_quick, False)
    assert leaves_out(where.only_in_full) == (profile != "full")
    assert level_of(where, True) == "sgd"
    assert level_of(where, False) == ("sgd" if profile == "full" else "chain")


@pytest.mark.parametrize("part", ["measure", "judge"])
def test_a_crash_replaces_the_verdict_before(new_lab, part):
    where, fake = new_lab(), Fake()
    fake.settle(where)
    assert "verdict" in stored(where).attrs
    where, broken = new_lab(fresh=True), Fake(ValueError("gone wrong"))
    if part == "measure":
        broken.measure = lambda: broken.judge(None)
    with pytest.raises(ValueError, match="gone wrong") as raised:
        broken.settle(where)
    assert lab.is_recorded(raised.value)
    found = stored(where)
    assert found.attrs["crash"] == "ValueError: gone wrong"
    assert not {"verdict", "fingerprint"} & set(found.attrs)
    assert ("found" in found) == (part == "judge")  # what was measured is not lost
    card = claims.build(where.output)
    assert claims.faults(card) == ["1 crashed."]
    assert main(["report", str(where.output)]) == 1
    fake.settle(new_lab())  # a crash is never used again
    assert fake.measured == 2
    assert claims.faults(claims.build(where.output)) == []


def test_an_interruption_is_no_crash(new_lab):
    where, fake = new_lab(), Fake()
    fake.measure = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        fake.settle(where)
    assert not list((where.output / "data").iterdir())


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(1.0, 2.0, 0.1, False, True, "off", 0.0),
        Verdict(1.0, 1.0, 0.1, True, False, "blind", 0.0),
        Verdict(1.0, np.nan, 0.1, True, True, "no number", 0.0),
    ],
)
def test_a_claim_that_does_not_hold_fails_and_is_recorded(new_lab, verdict):
    where = new_lab()
    with pytest.raises(AssertionError, match=verdict.detail) as raised:
        Fake(verdict).settle(where)
    assert lab.is_recorded(raised.value)
    assert claims.faults(claims.build(where.output)) == ["1 failed."]


def test_what_is_stored_is_used_again_unless_something_changed(new_lab):
    fake = Fake()
    for where in (new_lab(), new_lab()):
        fake.settle(where)
    assert fake.measured == 1
    assert stored(where).attrs["sources"] == "now"
    changes = (
        {"sources": "then"},
        {"file": "another"},
        {"seed": 1},
        {"profile": "full"},
        {"fresh": True},
    )
    for count, change in enumerate((*changes, {"fresh": True}), start=2):
        fake.settle(new_lab(**change))
        assert fake.measured == count


def test_the_device_is_the_same_in_fingerprints_and_reports(new_lab, monkeypatch):
    before = new_lab().fingerprint
    monkeypatch.setattr(lab, "provenance", lambda: {"device": "gpu: another kind"})
    assert new_lab().fingerprint != before


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """This library and the folder of claims, to be changed."""
    for name in ("LIBRARY", "VALIDATION"):
        copy = tmp_path / name
        shutil.copytree(
            getattr(sources, name), copy, ignore=shutil.ignore_patterns("__pycache__", "data")
        )
        monkeypatch.setattr(sources, name, copy)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("LIBRARY/problems/_problem.py", True),
        ("LIBRARY/datasets/__init__.py", True),
        ("LIBRARY/plot/__init__.py", False),
        ("LIBRARY/claims/_page.py", False),
        ("LIBRARY/cli/__init__.py", False),
        ("VALIDATION/measure/plateaus.py", True),
        ("VALIDATION/lab/laboratory.py", True),
        ("VALIDATION/lab/sources.py", True),
        ("VALIDATION/measure/figures.py", False),
        ("VALIDATION/conftest.py", False),
        ("VALIDATION/lab/progress.py", False),
        ("VALIDATION/lab/false_alarms.py", False),
        ("VALIDATION/test_ridge.py", False),
    ],
)
def test_shared_sources(copied, name, counts):
    before = sources.shared_sources()
    with (copied / name).open("a") as file:
        file.write("# changed\n")
    assert (sources.shared_sources() != before) == counts


def test_versions_and_mutants_are_shared_sources(monkeypatch):
    before = sources.shared_sources()
    assert len({before, sources.shared_sources("one"), sources.shared_sources("two")}) == 3
    assert sources.shared_sources() == before
    for package in ("jax", "numpy", "scipy", "equinox", "diffrax"):
        version = lambda name, changed=package: "0" if name == changed else "1"
        monkeypatch.setattr(sources.importlib.metadata, "version", version)
        found = sources.shared_sources()
        assert found != before
        before = found


CLAIMS = """
import os
import matplotlib.pyplot as plt
import pytest
import xarray as xr
from learndyn.claims import Claim, Verdict

def settle(lab, name, passed=True, draw=lambda _: plt.figure()):
    claim = Claim(name, "family", "it holds", "here", "N = 1", "by eye", "-1")
    def measure():
        if os.environ.get("CRASHES") == name:
            raise ValueError("gone wrong")
        if os.environ.get("INTERRUPTED") == name:
            raise KeyboardInterrupt
        return xr.Dataset()
    judge = lambda _: Verdict(1.0, 1.0, 0.1, passed, True, "fine", 1e-3)
    lab.settle(claim, measure, judge, draw)

def test_one(lab): settle(lab, "one")
def test_two(lab): settle(lab, "two")
def test_three(lab): settle(lab, "three")
def test_none(lab): pytest.skip("not in this profile")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """A run of `CLAIMS` with the options and hooks of the suite."""
    monkeypatch.setattr(plugin, "shared_sources", lambda mutant: "now")
    pytester.makepyfile(CLAIMS)

    def inner(*options):
        fixed = ("-p", "validation.conftest", "-p", "no:xdist", "--output", "out")
        found = pytester.runpytest_inprocess(*fixed, *options, no_reraise_ctrlc=True)
        path = pytester.path / "out" / "index.html"
        return found, path.read_text() if path.exists() else ""

    return inner


def test_a_run_without_a_fault(run):
    found, page = run()
    assert found.ret == 0
    assert "3 claims." in page
    assert "All hold" in page
    page_of_part = run("-k", "one or two")[1]  # what is not selected is not missing
    assert "All hold" in page_of_part


OTHER = """
import os
from pathlib import Path
from test_own_file import settle

def test_before(lab):
    if "EDITED" in os.environ:
        Path(__file__).write_text(Path(__file__).read_text() + "# changed\\n")
def test_after(lab): settle(lab, "after")
"""


def test_a_claim_is_measured_again_where_its_own_file_changed(run, pytester, monkeypatch):
    folder = pytester.path / "out" / "data"
    (pytester.path / "test_own_file.py").write_text(CLAIMS)
    other = pytester.path / "test_other.py"
    other.write_text(OTHER)

    def fingerprints():
        assert run("test_own_file.py", "test_other.py")[0].ret == 0
        names = ("one", "two", "after")
        return [
            xr.load_dataset(folder / f"{name}.nc", engine="h5netcdf").attrs["fingerprint"]
            for name in names
        ]

    one, two, after = fingerprints()
    assert one == two != after
    # A run measures what it imported when it began.
    monkeypatch.setenv("EDITED", "yes")
    assert fingerprints() == [one, two, after]
    assert other.read_text() != OTHER
    monkeypatch.delenv("EDITED")
    changed = fingerprints()
    assert changed[:2] == [one, two]
    assert changed[2] != after


def test_a_run_with_a_crash(run, monkeypatch):
    run()
    monkeypatch.setenv("CRASHES", "two")
    found, page = run("--fresh")
    assert found.ret == 1
    assert "1 crashed." in page
    assert "All hold" not in page
    found.stdout.fnmatch_lines(["*FAILS two: crashed*", "2 of 3 claims hold*"])
    monkeypatch.delenv("CRASHES")
    assert "All hold" in run()[1]


def test_a_run_that_stops_at_its_first_failure(run, monkeypatch):
    monkeypatch.setenv("CRASHES", "two")
    page = run("-x")[1]
    assert "1 crashed. 2 claims were not reached." in page


def test_an_interrupted_run(run, monkeypatch, pytester):
    run()
    monkeypatch.setenv("INTERRUPTED", "two")
    found, page = run("--fresh")
    assert found.ret == plugin.INTERRUPTED == 130
    assert "3 claims were not reached." in page
    assert "All hold" not in page
    found.stdout.fnmatch_lines(["FAILS: 3 claims were not reached."])
    assert main(["report", str(pytester.path / "out")]) == 1


def test_errors_outside_of_a_claim(run, pytester):
    pytester.makepyfile(
        test_other="""
        import pytest
        from test_errors_outside_of_a_claim import settle
        @pytest.fixture
        def bad(): raise OSError
        def test_before(lab): raise ValueError
        def test_drawn(lab): settle(lab, "drawn", draw=None)
        def test_bad(bad): pass
        def test_fails(lab): settle(lab, "fails", passed=False)
        """,
        test_unreadable="1 / 0",
    )
    page = run("--continue-on-collection-errors")[1]
    names = ("other.py::test_bad", "other.py::test_before", "other.py::test_drawn", "unreadable.py")
    assert f"because of an error: {', '.join('test_' + name for name in names)}." in page
    assert "1 failed. No verdict" in page
    page = run()[1]
    assert "8 claims were not reached. No verdict, because of an error: test_unreadable.py." in page


def test_collecting_alone_writes_no_report(run):
    assert not run("--collect-only")[1]


def test_progress_with_workers():
    found = progress.Progress()
    for _ in range(2):
        found.pytest_xdist_node_collection_finished(["a", "b", "c"])
    report_of = lambda name, when, outcome, **more: pytest.TestReport(
        name, ("", 0, ""), {}, outcome, None, when, **more
    )
    found.pytest_runtest_logreport(report_of("a", "setup", "passed"))
    assert found.unreached == 3
    recorded = [["recorded", True]]  # as it comes from another process
    found.pytest_runtest_logreport(report_of("a", "call", "failed", user_properties=recorded))
    found.pytest_runtest_logreport(report_of("b", "???", "failed"))  # its worker died
    assert found.unreached == 1
    assert found.broken == {"b"}


def test_a_mutant_does_not_touch_the_results(pytester):
    found = pytester.runpytest_inprocess("-p", "validation.conftest", "--mutant", "chain-norm")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*give it its own --output*"])


def test_false_alarms_are_named_and_counted(new_lab):
    where = new_lab()
    with pytest.raises(ValueError):
        Fake(ValueError("gone wrong")).settle(where)
    card = claims.build(where.output, 1.0, {"seed": 0}, broken=["test_a"])
    assert false_alarms.read(card) == (["one (crashed)", "test_a (no verdict)"], False)
    Fake(Verdict(1.0, 1.0, 0.1, True, True, "", 0.02)).settle(where)
    assert false_alarms.read(claims.build(where.output, 1.0, {"seed": 0})) == ([], True)
    assert json.loads(stored(where).attrs["verdict"])["false_alarm"] == 0.02
