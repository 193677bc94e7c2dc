"""From a cold `python` to the first ODE curve, as a user's first script meets it."""

import os
import subprocess
import sys
import time

import pytest

SCRIPT = """
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


def seconds(environment):
    """Wall time of the script in a process of its own."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env=os.environ | environment)
    return time.perf_counter() - begin


def without_cache():
    return {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}


def with_cache(folder):
    # Run-time checks would keep JAX from storing the programs that contain them.
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "EQX_ON_ERROR": "nan",
    }


@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_first_curve(cache, tmp_path, say):
    environment = with_cache(tmp_path) if cache == "warm" else without_cache()
    if cache == "warm":
        seconds(environment)  # fills the cache
    least = min(seconds(environment) for _ in range(3))
    say(f"first ODE curve from a cold python, {cache} compilation cache: {least:.2f} s")
    assert least < {"cold": 6.0, "warm": 4.0}[cache]
