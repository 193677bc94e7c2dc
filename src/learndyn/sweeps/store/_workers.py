"""Several processes that run the blocks of one driver."""

import contextlib
import os
import pickle
import selectors
import subprocess
import sys
import time
from collections import Counter
from typing import NamedTuple

import jax
import numpy as np

from learndyn._extras import require_extra
from learndyn.sweeps._bar import Progress
from learndyn.sweeps.store._queue import Queue
from learndyn.sweeps.store._share import Share
from learndyn.sweeps.store._worker import receive, send

_MOST_DEATHS = 3
"""Processes that may die of one block, before it is taken for the cause."""

_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""How many threads XLA and NumPy make: one, as the processes share the cores. They are not bound to
single cores, where two sweeps would meet on the first ones."""


class _Process(NamedTuple):
    number: int
    popen: subprocess.Popen[bytes]


def run_with_workers(share: Share, blocks: list[int], count: int, bar: Progress) -> None:
    """Run `blocks` in `count` processes. A block whose process dies is given to another one.

    Raises: what a process could not cope with, such as a full disk; RuntimeError where a block
    takes several processes along.
    """
    waiting, deaths = Queue(share.outlook, blocks), Counter[int]()
    begun: dict[int, float] = {}
    payload = payload_of(share)
    with selectors.DefaultSelector() as selector:
        running: dict[int, tuple[_Process, int]] = {}
        try:
            for number in range(min(count, len(blocks))):
                running[number] = _begin(selector, payload, number, waiting.take())
                begun[number] = time.monotonic()
            while running:
                for event, _ in selector.select():
                    process, block = running.pop(event.data)
                    answer = receive(event.fileobj)  # pyright: ignore[reportArgumentType]
                    if answer:
                        _note(share, answer, bar)
                        took = time.monotonic() - begun[process.number]
                        share.outlook.finished(block, took, process.popen.pid)
                        if waiting:
                            running[process.number] = _order(process, waiting.take())
                            begun[process.number] = time.monotonic()
                        else:
                            _end(selector, process)
                    else:
                        _end(selector, process)
                        deaths[block] += 1
                        if deaths[block] == _MOST_DEATHS:
                            raise RuntimeError(
                                f"{_MOST_DEATHS} processes died while they ran block {block} (the "
                                f"last one with code {process.popen.returncode}): is there too "
                                "little memory for `chunk` runs? The same call goes on from here."
                            )
                        number = process.number
                        running[number] = _begin(selector, payload, number, block)
                        begun[number] = time.monotonic()
        finally:
            for process, _ in running.values():
                process.popen.kill()
                _end(selector, process)


def payload_of(share: Share) -> bytes:
    """What another process needs to run blocks of this share."""
    require_extra("cloudpickle", "sweep", "a sweep in several processes")
    import cloudpickle

    plan = share.plan._replace(items=[], costs=np.zeros(0))
    return cloudpickle.dumps((plan, share.path, share.description))


def _begin(
    selector: selectors.BaseSelector, payload: bytes, number: int, block: int
) -> tuple[_Process, int]:
    """A new process, which has its first block."""
    command = [sys.executable, "-m", "learndyn.sweeps.store._worker"]
    popen = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(number),
        bufsize=0,
        start_new_session=True,  # Ctrl-C is for the driver
    )
    process = _Process(number, popen)
    assert popen.stdout is not None
    assert popen.stdin is not None
    selector.register(popen.stdout, selectors.EVENT_READ, number)
    try:
        send(popen.stdin, payload)
    except BrokenPipeError:  # it has died; the end of its output says so, too
        return process, block
    return _order(process, block)


def _order(process: _Process, block: int) -> tuple[_Process, int]:
    stdin = process.popen.stdin
    assert stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has died; the end of its output says so, too
        stdin.write(b"%d\n" % block)
    return process, block


def _note(share: Share, answer: bytes, bar: Progress) -> None:
    """Count a block that is done. Raises: what its process could not cope with."""
    block, error, is_fatal = pickle.loads(answer)
    if is_fatal:
        raise error
    share.first_error = share.first_error or error
    runs = share.runs_of(block)
    share.finished += runs
    bar.update(runs)


def _end(selector: selectors.BaseSelector, process: _Process) -> None:
    """Let a process go, and take leave of it."""
    popen = process.popen
    assert popen.stdout is not None
    assert popen.stdin is not None
    selector.unregister(popen.stdout)
    with contextlib.suppress(OSError):  # it has died
        popen.stdin.write(b"stop\n")
    popen.stdin.close()
    popen.stdout.close()
    popen.wait()


def _environment(number: int) -> dict[str, str]:
    """The settings of this process, and one device for each."""
    settings = {
        "JAX_ENABLE_X64": str(int(jax.config.read("jax_enable_x64"))),
        "JAX_PLATFORMS": jax.default_backend(),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    if jax.default_backend() == "gpu":
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        listed = devices.split(",") if devices else list(map(str, range(jax.device_count())))
        settings["JAX_PLATFORMS"] = "cuda"
        settings["CUDA_VISIBLE_DEVICES"] = listed[number % len(listed)]
    if jax.default_backend() == "cpu":
        settings |= {name: os.environ.get(name, "1") for name in _THREADS}
    return {**os.environ, **settings}
