"""What became of the selected tests: a report must not pass over those without a verdict."""

import pytest


class Progress:
    """What became of the selected tests: a report must not pass over those without a verdict."""

    def __init__(self) -> None:
        self.selected: set[str] = set()
        self.ended: set[str] = set()
        self.broken: set[str] = set()
        """Tests, or files of tests, with an error that no claim's dataset records."""

    @property
    def unreached(self) -> int:
        """How many selected tests did not end."""
        return len(self.selected - self.ended)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """This process collects, where pytest-xdist does not run."""
        self.selected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """The workers of pytest-xdist collect, each the same."""
        self.selected.update(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported."""
        if report.failed:
            self.broken.add(short(report.nodeid))

    @pytest.hookimpl(tryfirst=True)  # an interruption while it is printed does not lose it
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of a test: setup, call or teardown; with pytest-xdist also a dead worker."""
        if report.when == "call" or not report.passed:
            self.ended.add(report.nodeid)
        recorded = any(name == "recorded" for name, _ in report.user_properties)
        if report.failed and not recorded:
            self.broken.add(short(report.nodeid))


def short(nodeid: str) -> str:
    """The name of a test, or of its file, within the folder of claims."""
    return nodeid.split("validation/")[-1]
