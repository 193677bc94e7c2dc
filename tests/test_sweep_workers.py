"""Several processes run a sweep: the same bits, whoever is killed."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn.sweeps import _sweep
from learndyn.sweeps.store import _drive, _share, _workers

pytest.importorskip("zarr")
pytest.importorskip("cloudpickle")
pytestmark = pytest.mark.nightly

TS = jnp.linspace(0.0, 1.0, 3)
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])


def sweep(level, over, **keywords):
    rule = ld.SGD(lr=0.1)
    return ld.sweep(level, ld.Problem(), rule, START, TS, over=over, chunk=4, **keywords)


def made():
    """A level that the processes cannot import."""

    def level(problem, rule, start, ts, *, key):
        step = lambda _, x: jnp.sin(3.0 * x + rule.lr) + problem.noise
        return {"seen": jax.lax.fori_loop(0, 10_000, step, jax.random.normal(key, (4,)))}

    return level


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(_drive, "SECONDS_PER_BLOCK", 0.0)


def test_bits_are_those_of_one_process_and_the_dead_are_replaced(tmp_path, monkeypatch):
    over, seeds = {"lr": np.linspace(0.1, 1.0, 10), "noise": [0.1, 0.2]}, {"seeds": 8}
    level, key = made(), jax.random.key(2)
    orders, order = [], _workers._order

    def murderous(process, block):
        """The first ten blocks kill the first process that begins them."""
        given = order(process, block)
        orders.append(block)
        if block < 10 and orders.count(block) == 1:
            os.kill(process.popen.pid, signal.SIGKILL)
        return given

    monkeypatch.setattr(_workers, "_order", murderous)
    path = tmp_path / "run.zarr"
    found = sweep(level, over, key=key, store=path, workers=2, **seeds)
    assert len(orders) == 40 + 10
    assert found.done.all()
    expected = sweep(level, over, key=key, **seeds)
    xr.testing.assert_identical(found.drop_vars("done").drop_attrs(), expected.drop_attrs())


def test_without_a_store_and_with_the_ode():
    over = {"lr": [0.1, 0.2, 0.3, 0.4], "noise": [0.0, 0.2]}
    found = sweep(ld.solve_ode, over, workers=2)
    xr.testing.assert_identical(found.drop_attrs(), sweep(ld.solve_ode, over).drop_attrs())


def test_a_block_that_kills_its_process_is_told(tmp_path):
    def level(problem, rule, start, ts):
        if not isinstance(rule.lr, jax.core.Tracer) and rule.lr == 0.2 and os.getpid() != driver:
            os._exit(7)
        return {"seen": np.float64(rule.lr)}

    driver = os.getpid()
    with pytest.raises(RuntimeError, match=r"3 processes died.*code 7"):
        sweep(level, {"lr": np.linspace(0.1, 1.0, 10)}, store=tmp_path / "run.zarr", workers=2)


def test_errors_come_back_from_other_processes(tmp_path):
    def level(problem, rule, start, ts, n):
        if n == 3:
            raise ArithmeticError("three")
        return {"seen": n * rule.lr}

    with pytest.warns(RuntimeWarning, match=r"2 of 6 runs.*three"):
        found = sweep(level, {"n": [2, 3, 4], "lr": [0.5, 1.0]}, workers=2)
    np.testing.assert_allclose(found.seen, [[1.0, 2.0], [np.nan] * 2, [2.0, 4.0]])


def test_ctrl_c_leaves_no_process_behind(tmp_path, monkeypatch):
    begun, begin = [], _workers._begin

    def watched(*arguments):
        process, block = begin(*arguments)
        begun.append(process.popen)
        return process, block

    monkeypatch.setattr(_workers, "_begin", watched)
    timer = threading.Timer(15.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    over = {"lr": np.linspace(0.1, 1.0, 1000), "noise": [0.1, 0.2]}
    with pytest.raises(ld.Interrupted, match="goes on from there"):
        sweep(
            made(), over, key=jax.random.key(2), seeds=80, store=tmp_path / "run.zarr", workers=2
        )  # fmt: skip
    assert all(popen.poll() is not None for popen in begun)


@pytest.mark.parametrize("stored", [False, True])
def test_long_sweeps_use_all_cores_without_a_word(tmp_path, monkeypatch, stored):
    begun, begin = [], _workers._begin
    monkeypatch.setattr(_workers, "_begin", lambda *a: begun.append(a) or begin(*a))
    for room in (_sweep, _share):
        monkeypatch.setattr(room, "WORTH_PROCESSES", 0.0)
        monkeypatch.setattr(room, "cores_here", lambda: 2)
    over, rest = {"lr": np.linspace(0.1, 1.0, 40)}, {"key": jax.random.key(2), "seeds": 2}
    level, store = made(), {"store": tmp_path / "run.zarr"} if stored else {}
    found = sweep(level, over, **rest, **store)
    assert len(begun) == 2
    alone = sweep(level, over, workers=1, **rest)
    np.testing.assert_array_equal(found.seen, alone.seen)
    assert len(begun) == 2


def test_functions_that_cannot_be_sent_stay_here(monkeypatch):
    lock = threading.Lock()

    def level(problem, rule, start, ts, *, key):
        with lock:
            return {"seen": rule.lr + jax.random.normal(key, ())}

    for room in (_sweep, _share):
        monkeypatch.setattr(room, "WORTH_PROCESSES", 0.0)
        monkeypatch.setattr(room, "cores_here", lambda: 2)
    found = sweep(level, {"lr": np.linspace(0.1, 1.0, 40)}, key=jax.random.key(2), seeds=2)
    assert np.isfinite(found.seen).all()


@pytest.mark.parametrize("workers", [0, True, 1.5])
def test_bad_numbers_of_workers(workers):
    with pytest.raises(ValueError, match="workers must be"):
        sweep(ld.solve_ode, {"lr": [0.1]}, workers=workers)
