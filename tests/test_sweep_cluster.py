"""A Dask cluster whose workers are killed at random gives the bits of one process."""

import os
import random
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.sweeps.store import _drive

pytest.importorskip("zarr")
distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]  # Dask leaves sockets open

KILLS = 10


def made():
    def level(problem, rule, start, ts, *, key):
        step = lambda _, x: jnp.sin(3.0 * x + rule.lr) + problem.noise
        return {"seen": jax.lax.fori_loop(0, 100_000, step, jax.random.normal(key, (4,)))}

    return level


def sweep(**keywords):
    over = {"lr": np.linspace(0.1, 1.0, 30), "noise": [0.1, 0.2, 0.3, 0.4]}
    start = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])
    options = {"over": over, "seeds": 4, "key": jax.random.key(2), "chunk": 2}
    ts = jnp.linspace(0.0, 1.0, 3)
    return ld.sweep(made(), ld.Problem(), ld.SGD(lr=0.1), start, ts, **options, **keywords)


def test_workers_killed_ten_times(tmp_path, monkeypatch):
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)
    killed, stop, chance = [], threading.Event(), random.Random(3)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def kill_at_random():
            flags = tmp_path / "run.zarr" / "done"
            while not stop.is_set() and len(killed) < KILLS:
                before = len(list(flags.glob("c.*")))
                while not stop.is_set() and len(list(flags.glob("c.*"))) < before + 4:
                    time.sleep(0.02)
                # The processes are asked of the machine: a dead worker answers nobody.
                alive = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                if alive and not stop.is_set():
                    killed.append(chance.choice(alive))
                    os.kill(killed[-1], signal.SIGKILL)

        thread = threading.Thread(target=kill_at_random)
        thread.start()
        try:
            found = sweep(store=tmp_path / "run.zarr", client=client)
        finally:
            stop.set()
            thread.join()
    assert len(killed) == KILLS
    assert found.done.all()
    xr.testing.assert_identical(found.drop_vars("done").drop_attrs(), sweep().drop_attrs())


def test_a_client_needs_a_store():
    with pytest.raises(ValueError, match="client needs a store"):
        sweep(client=object())
