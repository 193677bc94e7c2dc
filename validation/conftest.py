"""`pytest validation`: options, progress, and the report at the end."""

import time
from pathlib import Path
from typing import Any

import jax
import pytest
from validation import mutants
from validation.lab import PROFILES, Lab, is_recorded
from validation.lab.compiling import use_host
from validation.lab.progress import Progress, short
from validation.lab.sources import digest, shared_sources

from learndyn.datasets import provenance

jax.config.update("jax_enable_x64", True)
use_host()

OUTPUT = Path(__file__).parent.parent / "results" / "validation"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("validation")
    group.addoption("--profile", choices=PROFILES, default="standard", help="how large a study")
    group.addoption("--seed", type=int, default=0, help="redo everything with other numbers")
    group.addoption("--fresh", action="store_true", help="measure again what is stored")
    group.addoption("--mutant", help="a deliberate fault; see validation/mutants")
    group.addoption("--output", type=Path, default=OUTPUT, help="where to write")


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Lab:
    """The place where the claims of a test's file are measured."""
    config = request.config
    output, profile, seed, fresh = (
        config.getoption(name) for name in ("--output", "--profile", "--seed", "--fresh")
    )
    sources, file = config.stash[_SOURCES], config.stash[_FILES][request.path]
    return Lab(output, profile, seed, fresh=fresh, sources=sources, file=file)


_STARTED = pytest.StashKey[float]()
_SOURCES = pytest.StashKey[str]()
"""Digest of what all claims share, when the run began."""
_FILES = pytest.StashKey[dict[Path, str]]()
"""Digest of each file of claims, when it was imported."""
_PROGRESS = pytest.StashKey[Progress]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    mutant = config.getoption("--mutant")
    if mutant and config.getoption("--output").resolve() == OUTPUT.resolve():
        raise pytest.UsageError(
            f"--mutant puts a fault into the code: give it its own --output, not {OUTPUT}."
        )
    config.stash[_STARTED] = time.time()
    # Workers of pytest-xdist take it from the process that writes the report.
    given = getattr(config, "workerinput", {}).get("sources")
    config.stash[_SOURCES] = given or shared_sources(mutant)
    config.stash[_FILES] = {}
    config.stash[_PROGRESS] = Progress()
    config.pluginmanager.register(config.stash[_PROGRESS])
    if mutant:
        mutants.apply(mutant)
    if not config.option.xmlpath and not hasattr(config, "workerinput"):
        config.option.xmlpath = str(config.getoption("--output") / "junit.xml")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Take the digest of a file of claims just before it is imported."""
    parent.config.stash[_FILES][module_path] = digest(module_path.read_bytes())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """One digest for all processes, so that one report has all of their claims."""
    node.workerinput["sources"] = node.config.stash[_SOURCES]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Any:
    """Tell the process that writes the report which failures it will find in the datasets."""
    report = yield
    if call.excinfo is not None and is_recorded(call.excinfo.value):
        report.user_properties.append(("recorded", True))
    return report


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Progress: a line per claim as it is settled, instead of a dot."""
    if report.when != "call" or report.skipped:
        return None
    word = "holds" if report.passed else "FAILS"
    line = f"\n  {short(report.nodeid)}: {word} ({report.duration:.0f} s)"
    return report.outcome, line, line


_CARD = pytest.StashKey[Any]()


INTERRUPTED = 130
"""The exit code of a run that Ctrl-C ended: 128 + SIGINT, as shells have it."""


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The report; a run whose true claims might fail too often has failed itself."""
    from learndyn import claims

    config = session.config
    option, progress = config.getoption, config.stash[_PROGRESS]
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        session.exitstatus = INTERRUPTED
    run = {"profile": option("--profile"), "seed": option("--seed")}
    run |= {"device": provenance()["device"], "sources": config.stash[_SOURCES]}
    card = claims.build(
        option("--output"),
        time.time() - config.stash[_STARTED],
        run,
        unreached=progress.unreached,
        broken=sorted(progress.broken),
    )
    config.stash[_CARD] = card
    if session.exitstatus != INTERRUPTED and card is not None and _fails_too_often(card):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _fails_too_often(card: Any) -> bool:
    from learndyn import claims

    return claims.alarm(card) > claims.BUDGET


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One screen: a line per family; then where the report is."""
    from learndyn import claims

    card = config.stash.get(_CARD, None)
    if card is None:
        return
    terminalreporter.section("theory against experiment")
    for line in claims.lines(card):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"Report: {config.getoption('--output') / 'index.html'}")
