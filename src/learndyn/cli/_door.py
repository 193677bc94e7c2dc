"""The door of the command `learndyn`: it reads the command line before it loads JAX.

Neither this module nor `learndyn` itself imports JAX: so `--help` and usage errors answer at once,
and what JAX and Equinox read from the environment when they are loaded (float64, the cache of
compiled programs) can still be set. `_command` does what the options say.
"""

import contextlib
import gc
import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from learndyn.cli._options import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; None: that of the process.

    Inside a program that has loaded JAX already, its settings are left as they are.

    Returns: 0, or 1 where a run stopped early or a claim does not hold. Usage errors exit with
    code 2.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    in_own_process = "jax" not in sys.modules
    if in_own_process:
        configure()
    with modules_kept() if in_own_process else contextlib.nullcontext():
        from learndyn.cli._command import run
    try:
        return run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"learndyn: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def configure() -> None:
    """float64, and a cache of compiled programs, which run-time checks of Equinox would prevent.

    Variables that the environment sets already keep their values.
    """
    settings = {
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "EQX_ON_ERROR": "nan",
        "MPLBACKEND": "agg",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def modules_kept() -> Iterator[None]:
    """No garbage is collected while modules are loaded, and never among what they made.

    That is some hundred thousand objects which live as long as the process. Python would look
    through them again and again, which takes a tenth of the time of a short command.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def cache_folder() -> Path:
    """The user's cache, apart for each kind of processor: code made for one may crash another."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    processor = platform.machine() + platform.processor()
    try:
        # Linux only: elsewhere the name of the processor has to do.
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor += next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        pass
    return Path(base) / "learndyn" / f"jax-{hashlib.sha256(processor.encode()).hexdigest()[:12]}"
