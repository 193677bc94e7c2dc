"""Benchmarks: `nox -s bench`. Each asserts its answer and its ratio, and says what it measured."""

import time
from collections.abc import Callable

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
