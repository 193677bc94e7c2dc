"""Runs of mutants go on where they were killed: no mutant that has a result is tried again."""

import json
import subprocess
import sys
from pathlib import Path

import ledger
import pytest

NAMES = [f"mutant {i}" for i in range(6)]

PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import ledger

def attempt(name):
    with Path(sys.argv[3]).open("a") as file:
        print(name, file=file)
    if name == sys.argv[4]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"killed": name != "mutant 1"}

ledger.go_on(Path(sys.argv[2]), [f"mutant {i}" for i in range(6)], attempt)
"""


def run(folder, killed_at="none"):
    helpers = str(Path(ledger.__file__).parent)
    files = (str(folder / "found.jsonl"), str(folder / "tried.txt"))
    command = [sys.executable, "-c", PROGRAM, helpers, *files, killed_at]
    return subprocess.run(command, capture_output=True).returncode


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    assert run(tmp_path, killed_at="mutant 2") != 0
    assert list(ledger.results(tmp_path / "found.jsonl")) == NAMES[:2]
    assert run(tmp_path, killed_at="mutant 4") != 0
    assert run(tmp_path) == 0
    # Two were being tried when the process died, and have no result of then.
    tried = (tmp_path / "tried.txt").read_text().splitlines()
    assert tried == [f"mutant {i}" for i in (0, 1, 2, 2, 3, 4, 4, 5)]
    found = ledger.results(tmp_path / "found.jsonl")
    assert {name: x["killed"] for name, x in found.items()} == {x: x != NAMES[1] for x in NAMES}
    assert run(tmp_path) == 0
    assert len((tmp_path / "tried.txt").read_text().splitlines()) == len(tried)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_a_kill_cut_short_does_not_count(tmp_path, cut):
    path = tmp_path / "found.jsonl"
    ledger.add(path, "first", {"killed": True})
    whole = path.read_text()
    ledger.add(path, "second", {"killed": False})
    path.write_text(path.read_text()[: len(whole) + cut])
    assert ledger.results(path) == {"first": {"killed": True}}
    ledger.add(path, "second", {"killed": False})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["name"] for line in lines] == ["first", "second"]


def test_nothing_is_known_at_first(tmp_path):
    assert ledger.results(tmp_path / "not there.jsonl") == {}
