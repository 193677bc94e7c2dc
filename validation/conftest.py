"""`pytest validation`: options, progress, and the report at the end."""

import time
from pathlib import Path
from typing import Any

import jax
import pytest
from validation import mutants
from validation.lab import PROFILES, Lab
from validation.statistics import BUDGET

from learndyn.datasets import provenance

jax.config.update("jax_enable_x64", True)

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("validation")
    group.addoption("--profile", choices=PROFILES, default="standard", help="how large a study")
    group.addoption("--seed", type=int, default=0, help="redo everything with other numbers")
    group.addoption("--fresh", action="store_true", help="measure again what is stored")
    group.addoption("--mutant", help="a deliberate fault; see validation/mutants")
    group.addoption(
        "--output", type=Path, default=ROOT / "results" / "validation", help="where to write"
    )


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The place where claims are measured."""
    option = request.config.getoption
    return Lab(option("--output"), option("--profile"), option("--seed"), fresh=option("--fresh"))


_STARTED = pytest.StashKey[float]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STARTED] = time.time()
    if config.getoption("--mutant"):
        mutants.apply(config.getoption("--mutant"))
    if not config.option.xmlpath and not hasattr(config, "workerinput"):
        config.option.xmlpath = str(config.getoption("--output") / "junit.xml")


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Progress: a line per claim as it is settled, instead of a dot."""
    if report.when != "call" or report.skipped:
        return None
    word = {"passed": "holds", "skipped": "not in this profile"}.get(report.outcome, "FAILS")
    name = report.nodeid.split("validation/")[-1]
    line = f"\n  {name}: {word} ({report.duration:.0f} s)"
    return report.outcome, line, line


_CARD = pytest.StashKey[Any]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The report; a run whose true claims might fail too often has failed itself."""
    from learndyn import report

    config = session.config
    if hasattr(config, "workerinput"):
        return
    option = config.getoption
    run = {"profile": option("--profile"), "seed": option("--seed")}
    run["device"] = provenance()["device"]
    seconds = time.time() - config.stash[_STARTED]
    card = report.build(option("--output"), seconds=seconds, run=run)
    config.stash[_CARD] = card
    if card is not None and report.alarm(card) > BUDGET:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One screen: a line per family; then where the report is."""
    from learndyn import report

    card = config.stash.get(_CARD, None)
    if card is None:
        return
    terminalreporter.section("theory against experiment")
    for line in report.lines(card):
        terminalreporter.write_line(line)
    if report.alarm(card) > BUDGET:
        terminalreporter.write_line(f"FAILS: that is less than {1 - BUDGET:.0%}. Take more runs.")
    terminalreporter.write_line(f"Report: {config.getoption('--output') / 'index.html'}")
