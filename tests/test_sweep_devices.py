"""A sweep spreads over what the machine has, and no bit depends on it."""

import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.sweeps import _devices, _run
from learndyn.sweeps.store import _cluster, _drive, _share

TS = jnp.linspace(0.0, 1.0, 3)
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])
OVER = {"lr": np.linspace(0.1, 1.0, 20)}


def level(problem, rule, start, ts, *, key):
    return {"seen": jnp.sin(rule.lr * ts) + jax.random.normal(key)}


def sweep(level=level, **keywords):
    options = {"over": OVER, "seeds": 2, "key": jax.random.key(2), "chunk": 8} | keywords
    return ld.sweep(level, ld.Problem(), ld.SGD(lr=0.1), START, TS, **options)


@pytest.fixture
def two_devices(monkeypatch):
    """The one device twice, so that two threads share it."""
    for room in (_run, _share):
        monkeypatch.setattr(room, "devices_here", lambda: jax.local_devices() * 2)
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)


def test_several_devices_give_the_same_bits(tmp_path, two_devices, monkeypatch):
    threads, one = set(), _run.Runner.outcomes

    def noted(runner, item):
        threads.add(threading.get_ident())
        time.sleep(0.02)
        return one(runner, item)

    monkeypatch.setattr(_run.Runner, "outcomes", noted)
    found, threads_in_memory = sweep(), set(threads)
    threads.clear()
    stored = sweep(store=tmp_path / "run.zarr")
    assert len(threads_in_memory) == 2
    assert len(threads - {threading.get_ident()}) == 2  # here it was measured how long blocks take
    with monkeypatch.context() as alone:
        for room in (_run, _share):
            alone.setattr(room, "devices_here", jax.local_devices)
        right = sweep(workers=1)
    xr.testing.assert_identical(found.drop_attrs(), right.drop_attrs())
    xr.testing.assert_identical(stored.drop_vars("done").drop_attrs(), right.drop_attrs())


def test_a_run_that_raises_on_one_of_several_devices_spoils_no_other(two_devices):
    def picky(problem, rule, start, ts, *, key, n):
        if n == 3:
            raise ArithmeticError("three")
        return {"seen": n * rule.lr}

    with pytest.warns(RuntimeWarning, match="2 of 6 runs"):
        found = sweep(picky, over={"n": [2, 3, 4], "lr": [0.5, 1.0]}, seeds=None)
    np.testing.assert_allclose(found.seen, [[1.0, 2.0], [np.nan] * 2, [2.0, 4.0]])


def test_what_raises_in_a_thread_is_raised_and_the_rest_is_left():
    done = []

    def work(part):
        time.sleep(0.01)
        done.append(part)
        if part == 3:
            raise OSError("full")
        return part

    with pytest.raises(OSError, match="full"):
        list(_devices.on_devices(work, range(1000), jax.local_devices() * 2))
    assert len(done) < 20


def test_devices_that_jax_was_told_of_are_the_only_ones():
    assert _devices.devices_here() == jax.local_devices()
    with jax.default_device(jax.local_devices()[0]):
        assert _devices.devices_here() == [jax.local_devices()[0]]


def test_cores_are_those_that_xla_may_use(monkeypatch):
    pytest.importorskip("cloudpickle")
    monkeypatch.setenv("NPROC", "1")
    assert _devices.cores_here() == 1
    monkeypatch.setattr(_devices.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setenv("NPROC", "2")
    assert _devices.cores_here() == 2
    monkeypatch.delenv("NPROC")
    assert _devices.cores_here() == 3
    monkeypatch.setattr(_devices.multiprocessing, "parent_process", lambda: "a pool")
    assert _devices.cores_here() == 1


def test_a_cluster_that_has_lost_its_workers_is_told_once():
    class Client:
        looks = 0

        def nthreads(self):
            self.looks += 1
            return {} if 2 <= self.looks < 5 else {"worker": 1}

    client = Client()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with _cluster._watched(client, every=0.01):
            while client.looks < 8:
                time.sleep(0.01)
    assert ["no worker left" in str(x.message) for x in told] == [True]
