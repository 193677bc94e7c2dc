"""On a machine with an accelerator: ensembles run there, everything else on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
host, other = jax.devices()
from validation.lab import compiling
compiling.ACCELERATOR, compiling.SIDE_BY_SIDE = other, 4
jax.config.update("jax_default_device", host)

def run(key, scale):
    x = scale * jax.random.normal(key, (3,))
    return {"x": x, "sum": x.sum()}

keys, scale = jax.random.split(jax.random.key(1), 10), jnp.asarray(2.0)
assert compiling.wide(3, 5) == 5 and compiling.wide(7, 5) == 7

# Where a program runs is seen where its results lie.
seen = compiling.compiled(lambda x: x + 1)(scale)
assert seen.devices() == {host}, seen.devices()

placed = []
get = jax.device_get
def device_get(tree):
    placed.extend(leaf.devices() for leaf in jax.tree.leaves(tree))
    return get(tree)
jax.device_get = device_get

runs = compiling.Runs(run)
found = runs(keys, scale)
assert placed and all(devices == {other} for devices in placed), placed
assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
alone = [runs.one(key, scale) for key in keys]
assert alone[0]["x"].devices() == {host}
for name in found:
    expected = np.stack([np.asarray(one[name]) for one in alone])
    np.testing.assert_allclose(found[name], expected, rtol=1e-13)

placed.clear()
static = compiling.ensemble(lambda keys, *, size: keys[:size], static_argnames="size")
assert len(static(keys, size=2)) == 2 and len(static(keys, size=3)) == 3
assert len(static(keys[:8], size=2)) == 2

twice = compiling.ensemble(lambda keys: jax.vmap(lambda key: run(key, scale))(keys))
np.testing.assert_allclose(twice(keys)["x"], found["x"], rtol=1e-13)
assert all(devices == {other} for devices in placed), placed
assert compiling.compiled(jnp.sum)(found["x"]).devices() == {host}
"""


@pytest.mark.nightly
def test_ensembles_run_on_the_accelerator():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]


TURNS = """
import sys, time
from pathlib import Path

import pytest
from validation.lab.compiling import _turn
path = Path(sys.argv[1])
for _ in range(20):
    with _turn():
        assert not path.exists()
        path.touch()
        time.sleep(0.01)
        path.unlink()
"""


def test_one_process_at_a_time_uses_the_accelerator(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TURNS, str(tmp_path / "busy")]
    running = [subprocess.Popen(command, env=environment, cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
