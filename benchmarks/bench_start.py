"""Start-up: import, help, first curve, and a whole command.

Each is measured in separate processes as CPU time, user and system, children included. Other work
on the machine disturbs CPU time less than wall time, which is reported next to it.
"""

import os
import resource
import subprocess
import sys
import time

import pytest

CURVE = """
import math
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import learndyn as ld

start = ld.Overlaps(jnp.eye(4), 0.1 * jnp.eye(4), jnp.eye(4))
run = ld.solve_ode(ld.Problem(noise=0.01), ld.SGD(lr=0.2), start, jnp.linspace(0.0, 300.0, 301))
assert run.result == ld.Result.SUCCESS
assert abs(float(run.eg[0]) - 8 / math.pi * (math.pi / 6 - math.asin(0.05))) < 1e-12
"""
COMMAND = ["-m", "learndyn", "ode", "--force"]  # with its dataset and its figure


def seconds(arguments, environment, folder):
    """CPU and wall time of Python with these arguments, in a separate process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        env=os.environ | environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def least(arguments, environment, folder, rounds=3):
    """The least CPU time of several rounds, and the least wall time."""
    found = [seconds(arguments, environment, folder) for _ in range(rounds)]
    return tuple(min(column) for column in zip(*found, strict=True))


def without_cache():
    return {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}


def with_cache(folder):
    # Run-time checks would keep JAX from storing the programs that contain them.
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "EQX_ON_ERROR": "nan",
    }


@pytest.mark.parametrize(
    ("what", "arguments", "limit"),
    [
        ("import learndyn", ["-c", "import learndyn"], 0.15),
        ("learndyn --help", ["-m", "learndyn", "--help"], 0.5),
        ("learndyn sgd --help", ["-m", "learndyn", "sgd", "--help"], 0.5),
    ],
)
def test_door(what, arguments, limit, tmp_path, say):
    cpu, wall = least(arguments, {}, tmp_path, rounds=5)
    say(f"{what}: {cpu:.2f} s of CPU, {wall:.2f} s")
    assert cpu < limit


@pytest.mark.parametrize(("cache", "limit"), [("cold", 6.0), ("warm", 3.0)])
def test_first_curve(cache, limit, tmp_path, say):
    environment = with_cache(tmp_path) if cache == "warm" else without_cache()
    if cache == "warm":
        seconds(["-c", CURVE], environment, tmp_path)  # fills the cache
    cpu, wall = least(["-c", CURVE], environment, tmp_path)
    say(f"first ODE curve, {cache} compilation cache: {cpu:.2f} s of CPU, {wall:.2f} s")
    assert cpu < limit


@pytest.mark.parametrize(("cache", "limit"), [("cold", 8.0), ("warm", 5.0)])
def test_command(cache, limit, tmp_path, say):
    environment = {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    if cache == "warm":
        seconds(COMMAND, environment, tmp_path)
    else:
        environment |= without_cache()
    cpu, wall = least(COMMAND, environment, tmp_path)
    say(f"learndyn ode with its figure, {cache}: {cpu:.2f} s of CPU, {wall:.2f} s")
    assert (tmp_path / "learndyn-ode.png").exists()
    assert cpu < limit
