"""Benchmarks: `nox -s bench`. Each asserts its answer and its ratio, and says what it measured."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)

LINES = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[LINES] = []


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.section("measured")
    for line in config.stash[LINES]:
        terminalreporter.write_line(line)


@pytest.fixture
def say(request) -> Callable[[str], None]:
    """Adds a line to what is printed at the end of the run."""
    return request.config.stash[LINES].append


@pytest.fixture
def race() -> Callable[..., list[float]]:
    """Least wall time in seconds of each function, run in turn so that all meet the same load."""

    def run(*functions: Callable[[], object], rounds: int) -> list[float]:
        times = [[] for _ in functions]
        for function in functions:
            jax.block_until_ready(function())  # compile, fill caches
        for _ in range(rounds):
            for function, taken in zip(functions, times, strict=True):
                begin = time.perf_counter()
                jax.block_until_ready(function())
                taken.append(time.perf_counter() - begin)
        return [min(taken) for taken in times]

    return run


@pytest.fixture
def one_core() -> Iterator[None]:
    """XLA's threads inherit no affinity once they run, so every thread is confined."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs Linux to run on one core")
    allowed = os.sched_getaffinity(0)
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    for thread in threads:
        os.sched_setaffinity(thread, {max(allowed)})
    yield
    for thread in threads:
        os.sched_setaffinity(thread, allowed)
