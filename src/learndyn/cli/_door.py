"""The door of the command `learndyn`: it reads the command line before it loads JAX.

Neither this module nor `learndyn` itself imports JAX: so `--help` and usage errors answer at once,
and what JAX and Equinox read from the environment when they are loaded (float64, the cache of
compiled programs) can still be set. `_command` does what the options say.
"""

import contextlib
import gc
import hashlib
import importlib.metadata
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from learndyn._version import __version__, versions
from learndyn.cli._options import parse
from learndyn.cli._pipe import patient_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; None: that of the process.

    Inside a program that has loaded JAX already, its settings are left as they are.

    Returns: 0, or 1 where a run stopped early, a claim does not hold or the self-test fails. Usage
    errors exit with code 2, Ctrl-C with 130, after what is finished has been written. A reader of
    stdout that leaves early, such as `head`, changes none of this.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with patient_streams():
        if list(arguments) == ["--version"]:
            return show_version()
        options = parse(arguments)
        if getattr(options, "list", False):
            from learndyn.cli._reproduce import list_entries

            return list_entries()
        return carry_out(options)


def show_version() -> int:
    """The version and that of the stack below, in one line each."""
    print(f"learndyn {__version__}")
    print("\n".join(f"{name} {version}" for name, version in versions().items()))
    return 0


def carry_out(options: Any) -> int:
    """What a subcommand with these options does; returns and exits as `main` says."""
    in_own_process = "jax" not in sys.modules
    command = None
    try:
        if (shown := type(options).__name__.lower()) in ("explore", "animate"):
            return _show(shown, options)
        if in_own_process:
            configure()
            if getattr(options, "quick", False):
                compile_quickly()
        with modules_kept() if in_own_process else contextlib.nullcontext():
            from learndyn.cli._command import Command
        command = Command(options)
        return run_beside(command.run) if in_own_process else command.run()
    except (ValueError, OSError, ImportError) as error:
        print(f"learndyn: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        kept = "nothing was finished, so nothing is written" if command is None else command.keep()
        # After the progress bar, which stands in the last line.
        print(f"\nlearndyn: interrupted: {kept}.", file=sys.stderr)
        end(INTERRUPTED, at_once=in_own_process)


def _show(what: str, options: Any) -> int:
    """The subcommands that draw datasets, which need no JAX and so answer in a second."""
    os.environ.setdefault("MPLBACKEND", "agg")
    from learndyn.cli import _explore

    return getattr(_explore, what)(options)


INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended: 128 + SIGINT, as shells have it."""


def run_beside(function: Callable[[], int]) -> int:
    """function() in another thread, so that Ctrl-C is heard while a compiled program runs."""
    ended: list[int] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            ended.append(function())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if raised:
        raise raised[0]
    return ended[0]


def end(code: int, *, at_once: bool) -> NoReturn:
    """Exit. at_once: without waiting for the thread of `run_beside`, which cannot be stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    if at_once:
        os._exit(code)
    raise SystemExit(code)


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


QUICKLY = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0"
)
"""XLA's older code generator for CPUs without LLVM's optimisations: compiling takes a third."""


def compile_quickly() -> None:
    """For runs of seconds, most of whose time is compilation."""
    # XLA ends the process where it does not know a flag, and other versions may not know these.
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}".strip()


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
