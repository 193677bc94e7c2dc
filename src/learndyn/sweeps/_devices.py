"""What of this machine a sweep uses: every device, or a process for each core."""

import importlib.util
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

import jax

_Part = TypeVar("_Part")
_Done = TypeVar("_Done")

WORTH_PROCESSES = 30.0
"""Seconds of work left above which others help without being asked: a process takes about 7 s until
it has imported JAX and compiled its first program."""

_AHEAD = 2
"""Parts for each device that are in its queue or in its hands, so that none waits for this thread;
a million of them need not be listed."""


def devices_here() -> list[Any]:
    """The devices over which a sweep spreads: all local ones, unless JAX was told which."""
    chosen = getattr(jax.config, "jax_default_device")  # noqa: B009  (it has no type)
    return jax.local_devices() if chosen is None else [chosen]


def cores_here() -> int:
    """How many processes would each have a core of this machine to themselves. 1: where other
    devices do the work, in a process that is one of several, or where cloudpickle is not there to
    send them what to do. The environment's NPROC, which XLA obeys as well, sets a limit."""
    alone = multiprocessing.parent_process() is None
    if not alone or jax.default_backend() != "cpu" or len(devices_here()) > 1:
        return 1
    if any(importlib.util.find_spec(name) is None for name in ("cloudpickle", "zarr")):
        return 1
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("NPROC", "")
    return min(here, int(told)) if told.isdecimal() and int(told) > 0 else here


def can_be_sent(what: Any) -> bool:
    """Whether other processes can be given this, a plan with the functions of a user."""
    import cloudpickle

    try:
        cloudpickle.dumps(what)
    except Exception:  # whatever a user's object raises when it is pickled
        return False
    return True


def on_devices(
    work: Callable[[_Part], _Done], parts: Iterable[_Part], devices: list[Any]
) -> Iterator[tuple[_Part, _Done]]:
    """`work` of each part as it is finished, in one thread for each device. Raises: what it does;
    what has begun is then finished, and what waits is left."""
    free: queue.Queue[Any] = queue.Queue()
    for device in devices:
        free.put(device)
    own = threading.local()

    def begin() -> None:
        own.context = jax.default_device(free.get())
        own.context.__enter__()  # until the thread ends

    waiting, running = iter(parts), dict[Future[_Done], _Part]()
    pool = ThreadPoolExecutor(len(devices), initializer=begin)
    try:
        while True:
            for part in islice(waiting, _AHEAD * len(devices) - len(running)):
                running[pool.submit(work, part)] = part
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)
