"""Small faults at random places: which of them would the tests notice? `nox -s mutation`.

cosmic-ray makes the mutants, in a copy of the repository. A sample, the same for a seed and spread
evenly over six rooms, is tried, each mutant against the tests that reach its line. Every result is
kept at once, so a session that was stopped goes on where it was.
"""

import argparse
import functools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult
from coverage import CoverageData
from scipy.stats import binomtest

ROOT = Path(__file__).parent.parent.parent
BUILT = ROOT / "build" / "mutation"
ROOMS = ("integrals", "averages", "dynamics", "asymptotics", "flow", "rules")

LEFT_OUT = ("BitOr", "RemoveDecorator", "ZeroIterationForLoop")
"""Parts of names of operators: `|` stands in annotations, decorators of shapes are checked by
type checkers, and loops over nothing stop at once."""

LONGEST = 600
"""Seconds for the tests of one mutant; whoever takes longer has noticed it."""

MOST_TESTS = 60
"""Tests tried for a line, the first by name that reach it: some lines are passed by all."""

UNREACHED = "no test reaches it"
"""What is said of a mutant that no test could notice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=204, help="size of the sample")
    parser.add_argument("--seed", type=int, default=0, help="which sample")
    parser.add_argument("--tests", nargs="*", default=["tests"], help="only these files of tests")
    options = parser.parse_args()
    tree = copy_of_repository()
    os.chdir(tree)
    reached = contexts(options.tests)
    path = BUILT / f"seed-{options.seed}-of-{options.mutants}.sqlite"
    with use_db(path, WorkDB.Mode.create) as session:
        if not session.num_work_items:
            some = None if options.tests == ["tests"] else reached
            session.add_work_items(sample(options.mutants, options.seed, some))
        for item in sorted(session.pending_work_items, key=_place):
            session.set_result(item.job_id, attempt(item, reached))
        report(session)


def copy_of_repository() -> Path:
    """The files that git knows, where a fault that is left behind by a kill does no harm."""
    tree = BUILT / "tree"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shutil.rmtree(tree, ignore_errors=True)
    for name in listed.stdout.splitlines():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return tree


def pytest_command(*arguments: str) -> list[str]:
    plain = ("-o", "addopts=", "--import-mode=importlib", "-q", "-p", "no:cacheprovider")
    return [sys.executable, "-m", "pytest", *plain, *arguments]


def contexts(tests: list[str]) -> CoverageData:
    """Which test reaches which line, measured once for these tests: a long run."""
    name = "-".join(Path(test).stem for test in tests)
    path = BUILT / f"coverage-{name}.sqlite"
    if not path.exists():
        part = path.with_suffix(".part")
        measured = ("--cov=learndyn", "--cov-context=test", "--cov-report=")
        command = pytest_command(*measured, *tests)
        subprocess.run(command, env=environment() | {"COVERAGE_FILE": str(part)}, check=True)
        part.rename(path)
    data = CoverageData(str(path))
    data.read()
    return data


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(BUILT / "tree" / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def sample(size: int, seed: int, reached: CoverageData | None) -> list[WorkItem]:
    """As many mutants of each room, at random places; fewer where a room has not so many.

    reached: of some tests alone, which then decide on what they reach; None: all lines count.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for room in ROOMS:
        items = [x for x in mutants_of(room) if reached is None or tests_of(x, reached)]
        count = min(size // len(ROOMS), len(items))
        chosen += [items[i] for i in rng.choice(len(items), count, replace=False)] if items else []
    return chosen


def mutants_of(room: str) -> list[WorkItem]:
    """All of them, found once: that takes minutes."""
    path = BUILT / f"all-{room}.sqlite"
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with use_db(part, WorkDB.Mode.create) as session:
            init(sorted(Path(f"src/learndyn/{room}").rglob("*.py")), session, {})
        part.rename(path)
    with use_db(path, WorkDB.Mode.open) as session:
        items = sorted(session.work_items, key=_place)
    return [x for x in items if not any(part in _place(x)[1] for part in LEFT_OUT)]


def _place(item: WorkItem) -> tuple[str, str, int]:
    (mutation,) = item.mutations
    return str(mutation.module_path), mutation.operator_name, mutation.occurrence


def attempt(item: WorkItem, reached: CoverageData) -> WorkResult:
    """Run the tests that reach the mutant's line; without any, it survives."""
    (mutation,) = item.mutations
    tests = tests_of(item, reached)
    if tests:
        listed = BUILT / "tests.txt"
        listed.write_text("\n".join(tests))
        os.environ.update(environment())
        command = shlex.join(pytest_command("-x", f"@{listed}"))
        result = mutate_and_test(item.mutations, command, LONGEST)
    else:
        result = WorkResult(WorkerOutcome.NORMAL, UNREACHED, TestOutcome.SURVIVED)
    where = f"{mutation.module_path}:{mutation.start_pos[0]}"
    print(f"{result.test_outcome.value}: {where} {mutation.operator_name}", flush=True)
    return result


def tests_of(item: WorkItem, reached: CoverageData) -> list[str]:
    """Names of the tests that reach a mutant's line, or the line where its statement begins. What
    runs at the import is that of all tests of its module."""
    (mutation,) = item.mutations
    by_line = _by_line(reached, str(Path.cwd() / mutation.module_path))
    line = mutation.start_pos[0]
    before = max((one for one in by_line if one <= line), default=line)
    found = set(by_line.get(before, [])) - {""}
    if not found and line in by_line:
        found = {name for names in by_line.values() for name in names} - {""}
    return sorted({name.rpartition("|")[0] for name in found})[:MOST_TESTS]


@functools.cache
def _by_line(reached: CoverageData, path: str) -> dict[int, list[str]]:
    """Names of tests by line."""
    return reached.contexts_by_lineno(path)


def report(session: WorkDB) -> None:
    """The rate of killed mutants with Wilson's interval, by room, and the survivors."""
    outcome = dict(session.results)
    done = [item for item in session.work_items if item.job_id in outcome]
    killed = {item.job_id: outcome[item.job_id].is_killed for item in done}
    reached = [item for item in done if outcome[item.job_id].output != UNREACHED]
    groups = {room: [x for x in done if f"learndyn/{room}" in _place(x)[0]] for room in ROOMS}
    for name, items in {
        **groups,
        "together": done,
        "of lines that a test reaches": reached,
    }.items():
        if items:
            count, size = sum(killed[item.job_id] for item in items), len(items)
            low, high = binomtest(count, size).proportion_ci(method="wilson")
            print(f"{name}: {count} of {size} killed, 95 % interval {low:.0%} to {high:.0%}")
    for item in done:
        if not killed[item.job_id]:
            print(
                f"\nsurvived: {_place(item)}\n{outcome[item.job_id].diff or 'no test reaches it'}"
            )


if __name__ == "__main__":
    main()
