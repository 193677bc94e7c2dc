"""What the command line does, once `_options` has read it.

A new level is a class of options there, and a line in `learndyn.dynamics.LEVELS`.
"""

import contextlib
import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from learndyn.cli._claims import rebuild_page
from learndyn.cli._doctor import doctor
from learndyn.cli._report import report, show_files
from learndyn.cli._reproduce import ReproduceCommand
from learndyn.cli._runs import Kept, run_level, with_origin
from learndyn.cli._settings import Settings, settings_from
from learndyn.cli._write import write
from learndyn.dynamics import LEVELS


class Command:
    """What the options of a subcommand ask for, and what is finished of it at any time."""

    def __init__(self, options: Any):
        self.options = options
        self.level = type(options).__name__.lower()
        self.settings: Settings | None = None
        self.kept = Kept()
        self.entries: ReproduceCommand | None = None

    def run(self) -> int:
        """Do it, and say what came out.

        Returns: 0, or 1 where a run stopped early, a claim does not hold or the self-test fails.
        Raises: ValueError for options that do not go together, OSError for files, ImportError for
        an extra that is not installed.
        """
        if self.level == "report":
            return rebuild_page(self.options.folder)
        if self.level == "doctor":
            return doctor()
        began = time.perf_counter()
        jax.config.update("jax_enable_x64", True)
        if self.level == "reproduce":
            self.entries = ReproduceCommand(self.options)
            return self.entries.run()
        if self.level == "sweep":
            self._sweep().run()
            return 0
        is_flow = self.level == "flow"
        options = self.options.model if is_flow else self.options
        loading = threading.Thread(target=_load_slow_libraries, args=(options.output.png,))
        loading.start()
        try:
            ways = {"flow": self._flow, "tasks": self._tasks}
            finish, failed = ways.get(self.level, self._level)()
        finally:
            loading.join()  # an interpreter that ends cuts imports short, with a traceback
        show_files(finish(), time.perf_counter() - began)
        return 1 if failed else 0

    def _level(self) -> tuple[Callable[[], list[Path]], int]:
        """What writes the files of a level of description, and how many runs stopped early."""
        settings = self.settings = settings_from(self.options, self.level)
        datasets = run_level(LEVELS[self.level], self.options, settings, self.kept)
        failed = report(datasets, self.options, settings)
        return lambda: write(datasets, settings, self.level), failed

    def _flow(self) -> tuple[Callable[[], list[Path]], int]:
        """The same of `learndyn flow`, whose room no other command loads."""
        from learndyn.cli.flow.command import FlowCommand

        command = FlowCommand(self.options.model)
        found, failed = command.run()
        return lambda: command.write(found), failed

    def _tasks(self) -> tuple[Callable[[], list[Path]], int]:
        """The same of `learndyn tasks`."""
        from learndyn.cli.tasks.command import TasksCommand

        command = TasksCommand(self.options)
        found, failed = command.run()
        return lambda: command.write(found), failed

    def _sweep(self) -> Any:
        """The same of `learndyn sweep`."""
        from learndyn.cli.sweep.command import SweepCommand

        return SweepCommand(self.options.action)

    def keep(self) -> str:
        """Write what is finished after an interruption, and say what that is."""
        if self.level == "sweep":
            return self._sweep().kept()
        if self.entries is not None:
            return self.entries.kept()
        nothing = "nothing was finished, so nothing is written"
        if self.settings is None:
            return nothing
        datasets, runs = dict(self.kept.datasets), ""
        ensemble = self.kept.ensemble()
        if self.level not in datasets and ensemble is not None:
            datasets[self.level] = with_origin(ensemble, self.options, self.settings)
            assert self.kept.plan is not None
            runs = f"{self.kept.finished} of {self.kept.plan.cells} runs were finished; "
        if not datasets:
            return nothing
        paths = write(datasets, self.settings._replace(png=False), self.level)
        return f"{runs}wrote {', '.join(map(str, paths))}"


def _load_slow_libraries(png: bool) -> None:
    """What writes the files, loaded while XLA compiles: seconds that nobody has to wait for."""
    for name in ("xarray", "h5netcdf", *(["matplotlib.pyplot"] if png else [])):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
