"""What every test stands on: float64, seeds that can be replayed, and bounded memory.

LEARNDYN_TEST_SEED decides all random numbers. Unset, they are the same in every run; a
number replays the run that printed it; `random` draws a new number and prints it.
"""

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import secrets
import sys
import types
import zlib
from pathlib import Path

import diffrax
import equinox as eqx
import equinox.internal
import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)

if importlib.metadata.version("jaxlib").startswith("0.10."):
    # XLA's older code generator for CPUs, its modules in one piece, without LLVM's optimisations:
    # most of these tests' time is compilation, of which that needs a third. Read when the first
    # program is compiled. Other versions may not know these flags.
    QUICKLY = (
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
        "--xla_backend_optimization_level=0"
    )
    os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}".strip()

if importlib.metadata.version("diffrax") == "0.7.2":
    # The end of a solve minus a hundred roundings, which Diffrax takes off one by one in 1500
    # instructions, a fifth of what a small solve compiles. Counting down the bits of a positive
    # number is the same in three.
    def one_rounding_below(x):
        bits = jax.lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")
        return jax.lax.bitcast_convert_type(bits - 1, x.dtype)

    diffrax._integrate.eqxi = types.SimpleNamespace(
        **(vars(equinox.internal) | {"prevbefore": one_rounding_below})
    )

VARIABLE = "LEARNDYN_TEST_SEED"
SEED = pytest.StashKey[int]()

MEMORY = pytest.StashKey[float]()
MEMORY_LIMIT = 3e9
"""Resident bytes above which JAX's caches are dropped: XLA never frees code by itself."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Settle the seed before the processes of pytest-xdist start and before hypothesis looks."""
    # The collector would read a few million objects again and again, which all stay.
    gc.disable()
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "random":
        chosen = os.environ[VARIABLE] = str(secrets.randbelow(2**31))
    config.stash[SEED] = int(chosen or 0)
    config.stash[MEMORY] = MEMORY_LIMIT
    # Without a chosen seed hypothesis, too, repeats itself: a red run is a change of the code.
    hypothesis.settings.register_profile(
        "learndyn", deadline=None, derandomize=not chosen, print_blob=True
    )
    hypothesis.settings.load_profile("learndyn")
    if chosen and config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = chosen


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="run the tests marked nightly alone")


def pytest_collection_modifyitems(config, items):
    """Dear tests run at night, and then alone: `nox -s nightly`."""
    wanted = config.getoption("--nightly")
    left_out = [item for item in items if is_nightly(item) != wanted]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish(session):
    """Leave out of the collector what the imports have made; and let it look seldom, since tracing
    makes many objects that stay. Together a twentieth of all time."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 50)


def is_nightly(item):
    """Whether a test carries the mark. `nightly(by_day=[...])` on one with parameters names the
    cases, by their ids, that stay: the cheapest that still see it break."""
    return any(
        item.callspec.id not in mark.kwargs["by_day"] if "by_day" in mark.kwargs else True
        for mark in item.iter_markers("nightly")
    )


def pytest_report_header(config):
    return f"seed: {VARIABLE}={config.stash[SEED]}"


@pytest.fixture
def seed(request):
    """A number for this test alone, fixed by its name and LEARNDYN_TEST_SEED."""
    name = f"{request.config.stash[SEED]} {request.node.nodeid}"
    return zlib.crc32(name.encode())


@pytest.fixture
def key(seed):
    """A JAX random key for this test."""
    return jax.random.key(seed)


@pytest.fixture
def getkey(key):
    """A function that returns a new JAX random key at each call."""
    count = iter(range(2**31))
    return lambda: jax.random.fold_in(key, next(count))


@pytest.fixture
def rng(seed):
    """A NumPy generator for this test."""
    return np.random.default_rng(seed)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """This test's own folder, into which it writes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def forget_figures():
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Beside a failure, say how to draw the same random numbers again."""
    report = yield
    if report.failed and "seed" in getattr(item, "funcargs", {}):
        replay = f"{VARIABLE}={item.config.stash[SEED]}"
        report.sections.append(("seed", f"{item.funcargs['seed']}; replay with {replay}"))
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    """After a test that left the process large, give all compiled programs back."""
    if resident_bytes() > item.config.stash[MEMORY]:
        jax.clear_caches()
        eqx.clear_caches()
        gc.collect()
        return_freed_pages()
        # Where little could be freed, the next attempt waits until it is worth recompiling.
        item.config.stash[MEMORY] = max(MEMORY_LIMIT, 1.5 * resident_bytes())


def resident_bytes():
    """Memory of this process now, 0 where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def return_freed_pages():
    """glibc keeps freed pages unless asked; other C libraries decide for themselves."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
