"""A Dask cluster that runs the blocks of one driver; each of its workers writes what it has run."""

import contextlib
import os
import pickle
import socket
import threading
import time
from collections import Counter
from typing import Any

import jax

from learndyn.sweeps._bar import Progress, Silent
from learndyn.sweeps.store._queue import Queue
from learndyn.sweeps.store._share import Share
from learndyn.sweeps.store._workers import payload_of

_AHEAD = 3
"""Blocks that are handed out for each thread of the cluster: one that runs, and two that wait, so
that the scheduler never holds more than a few thousand of any number of blocks."""

_MOST_DEATHS = 5
"""Times that Dask may give up a block, each after several dead workers, before the driver does."""

Found = tuple[Exception | None, float, str | None]
"""What a block tells: the first error that runs raised, seconds, and the process and thread; None
where it was done before."""

_known = threading.local()
"""What a thread of a worker has unpacked: the payload, its share and its runner."""


def run_with_client(share: Share, blocks: list[int], client: Any, bar: Progress) -> None:
    """Run `blocks` on the cluster of a `dask.distributed.Client`.

    Raises: what a block could not cope with; Dask's own error where a block takes workers along
    again and again.
    """
    from distributed import KilledWorker, as_completed

    # Not scattered: Dask cannot make such data again where all workers that hold it have died.
    payload = payload_of(share)
    waiting, deaths = Queue(share.outlook, blocks), Counter[int]()
    running: dict[Any, int] = {}

    def submit() -> Any:
        block = waiting.take()
        future = client.submit(_run_block, payload, block, _x64(), pure=False)
        running[future.key] = block
        return future

    threads = sum(client.nthreads().values()) or 1
    finished = as_completed([submit() for _ in blocks[: _AHEAD * threads]])
    try:
        for future in finished:
            block = running.pop(future.key)
            try:
                _note(share, block, future.result(), bar)
            except KilledWorker:
                deaths[block] += 1
                if deaths[block] == _MOST_DEATHS:
                    raise
                waiting.again(block)
            if waiting:
                finished.add(submit())
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone
            client.cancel(finished.futures)


def _note(share: Share, block: int, found: Found, bar: Progress) -> None:
    error, seconds, process = found
    if process is None:
        share.outlook.left[block] = False
    else:
        share.outlook.finished(block, seconds, process)
    share.first_error = share.first_error or error
    runs = share.runs_of(block)
    share.finished += runs
    bar.update(runs)


def _x64() -> bool:
    return bool(jax.config.read("jax_enable_x64"))


def _run_block(payload: bytes, block: int, x64: bool) -> Found:
    """Run one block on a worker, unless it is done."""
    from learndyn.sweeps._run import Runner

    jax.config.update("jax_enable_x64", x64)
    if getattr(_known, "payload", None) != payload:
        plan, path, description = pickle.loads(payload)
        _known.share, _known.runner = Share(plan, path, description, (0, 1)), Runner(plan)
        _known.payload = payload
    share = _known.share
    if share.is_done(block):  # a worker that died after its flag was written
        return None, 0.0, None
    share.first_error, began = None, time.monotonic()
    share.run_block(_known.runner, block, Silent())
    process = f"{socket.gethostname()} {os.getpid()} {threading.get_ident()}"
    return _sendable(share.first_error), time.monotonic() - began, process


def _sendable(error: Exception | None) -> Exception | None:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a user's exception raises
        return RuntimeError(repr(error))
    return error
