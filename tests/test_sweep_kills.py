"""Processes of a sweep are killed at random, and nothing is lost, done twice or changed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sweep_survivor
import xarray as xr

import learndyn as ld

pytest.importorskip("zarr")
pytestmark = pytest.mark.nightly

SCRIPT = Path(sweep_survivor.__file__)
LONGEST = 300.0
"""Seconds for all blocks of a sweep, ten restarts among them, on a busy machine."""


class Work:
    """A sweep in a folder, and the processes that do it."""

    def __init__(self, folder):
        self.store, self.log = folder / "run.zarr", folder / "log.txt"
        folder.mkdir()

    def begin(self, number=0, count=1):
        arguments = [SCRIPT, self.store, self.log, str(number), str(count)]
        return subprocess.Popen([sys.executable, *map(str, arguments)], stderr=subprocess.PIPE)

    def done(self):
        return len(list((self.store / "done").glob("c.[0-9]*"))) if self.store.exists() else 0

    def wait_for_more(self, blocks, *processes):
        """Until so many blocks more are done, or those processes have nothing left to do."""
        before, give_up = self.done(), time.monotonic() + LONGEST
        while self.done() < min(before + blocks, sweep_survivor.BLOCKS):
            for process in processes:
                assert not process.poll(), process.stderr and process.stderr.read().decode()
            if all(process.poll() == 0 for process in processes):
                return
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def kill(self, process):
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    def finish(self, process):
        _, told = process.communicate(timeout=LONGEST)
        assert process.returncode == 0, told.decode()

    def check(self, reference):
        lines = self.log.read_text().split("\n")[:-1]
        begun = np.array([int(line.split()[0]) for line in lines])
        assert not any(line.endswith("twice") for line in lines)
        assert set(begun) == set(range(sweep_survivor.BLOCKS))
        found = ld.open_sweep(self.store)
        assert found.done.all()
        xr.testing.assert_identical(found.drop_attrs(), reference.drop_attrs())
        return len(lines)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    work = Work(tmp_path_factory.mktemp("uninterrupted") / "sweep")
    work.finish(work.begin())
    assert work.check(ld.open_sweep(work.store)) == sweep_survivor.BLOCKS
    return ld.open_sweep(work.store).load()


def test_two_shares_killed_ten_times(tmp_path, reference):
    work, chance = Work(tmp_path / "sweep"), random.Random(1)
    shares = {number: work.begin(number, 2) for number in range(2)}
    for _ in range(10):
        work.wait_for_more(chance.randint(1, 12), *shares.values())
        time.sleep(0.05 * chance.random())
        number = chance.randrange(2)
        work.kill(shares[number])
        shares[number] = work.begin(number, 2)
    for process in shares.values():
        work.finish(process)
    begun = work.check(reference)
    assert begun <= sweep_survivor.BLOCKS + 10  # a kill costs one block at most


def test_a_driver_killed_and_started_again_at_once(tmp_path, reference):
    work = Work(tmp_path / "sweep")
    for _ in range(3):
        process = work.begin()
        work.wait_for_more(20, process)
        work.kill(process)
    process = work.begin()
    work.wait_for_more(5, process)
    process.send_signal(signal.SIGSTOP)  # alive, and not done before the second has begun
    second = work.begin()
    _, told = second.communicate(timeout=LONGEST)
    process.send_signal(signal.SIGCONT)
    assert second.returncode != 0
    assert f"process {process.pid} on" in told.decode()
    work.finish(process)
    assert work.check(reference) <= sweep_survivor.BLOCKS + 3


def test_workers_of_a_cluster_killed_ten_times_and_its_driver_twice(tmp_path, reference):
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("distributed")
    work, chance, begun = Work(tmp_path / "sweep"), random.Random(4), []

    def driver():
        command = [sys.executable, str(SCRIPT), str(work.store), str(work.log), "0", "0"]
        with (tmp_path / "told.txt").open("ab") as told:  # Dask tells more than a pipe holds
            begun.append(subprocess.Popen(command, stderr=told, start_new_session=True))
        return begun[-1]

    def connections(process):
        return [x for x in process.net_connections("tcp") if x.status == "ESTABLISHED"]

    def workers(process):
        found = psutil.Process(process.pid).children(recursive=True)
        spawned = [one for one in found if "spawn_main" in " ".join(one.cmdline())]
        # Dask's nanny gives up a worker that dies before it has reached the scheduler.
        return [one for one in spawned if len(connections(one)) >= 2]

    def flags():
        return {one.name: one.stat().st_mtime_ns for one in (work.store / "done").glob("c.*")}

    try:
        process, killed, done = driver(), 0, {}
        while killed < 10:
            work.wait_for_more(chance.randint(1, 6), process)
            with contextlib.suppress(psutil.NoSuchProcess):  # it is just being replaced
                for worker in chance.sample(alive := workers(process), min(1, len(alive))):
                    worker.kill()
                    killed += 1
        for _ in range(2):
            work.wait_for_more(10, process)
            work.kill(process)
            done |= flags()
            process = driver()
        assert process.wait(LONGEST) == 0, (tmp_path / "told.txt").read_text()
    finally:
        for one in begun:  # workers whose driver is dead leave by themselves, but not at once
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
    assert len(begun) == 3
    assert 50 < len(done) < sweep_survivor.BLOCKS
    found = ld.open_sweep(work.store)
    assert found.done.all()
    assert done.items() <= flags().items()  # none is done again after its flag
    xr.testing.assert_identical(found.drop_attrs(), reference.drop_attrs())


def test_ctrl_c_in_the_middle(tmp_path, reference):
    work = Work(tmp_path / "sweep")
    process = work.begin()
    work.wait_for_more(20, process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=LONGEST)
    assert "of 480 runs" in told.decode().strip().split("\n")[-1]
    work.finish(work.begin())
    work.check(reference)
