"""What the command line does, once `_options` has read it.

A new level is a class of options there, and a line in `learndyn.dynamics.LEVELS`.
"""

import contextlib
import importlib
import threading
import time
from typing import Any

import jax

from learndyn.cli._claims import rebuild_page
from learndyn.cli._report import report, show_files
from learndyn.cli._runs import run_level
from learndyn.cli._settings import settings_from
from learndyn.cli._write import write
from learndyn.dynamics import LEVELS


def run(options: Any) -> int:
    """Do what the options of a subcommand ask for, and say what came out.

    Returns: 0, or 1 where a run stopped early or a claim does not hold.
    Raises: ValueError for options that do not go together, OSError for files.
    """
    return rebuild_page(options.folder) if type(options).__name__ == "Report" else _run(options)


def _run(options: Any) -> int:
    began = time.perf_counter()
    jax.config.update("jax_enable_x64", True)
    loading = threading.Thread(target=_load_slow_libraries, args=(options.output.png,))
    loading.start()
    level = type(options).__name__.lower()
    try:
        settings = settings_from(options, level)
        datasets = run_level(LEVELS[level], options, settings)
        failed = report(datasets, options, settings)
    finally:
        loading.join()  # an interpreter that ends cuts imports short, with a traceback
    show_files(write(datasets, settings), time.perf_counter() - began)
    return 1 if failed else 0


def _load_slow_libraries(png: bool) -> None:
    """What writes the files, loaded while XLA compiles: seconds that nobody has to wait for."""
    for name in ("xarray", "h5netcdf", *(["matplotlib.pyplot"] if png else [])):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
