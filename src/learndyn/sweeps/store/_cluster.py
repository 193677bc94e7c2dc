"""A Dask cluster that runs the blocks of one driver; each of its workers writes what it has run."""

import contextlib
import hashlib
import os
import pickle
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from learndyn.sweeps._bar import Progress, Silent
from learndyn.sweeps.store._files import flags_folder
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
"""What a thread of a worker has read: the name of its order, its share and its runner."""

_BETWEEN_LOOKS = 10.0
"""Seconds between two looks at whether a cluster has workers: new ones need longer to come."""

_NO_WORKERS = (
    "the cluster has no worker left, and the sweep waits for new ones: start some, or stop it with "
    "Ctrl-C. What is finished is in the store."
)


def run_with_client(share: Share, blocks: list[int], client: Any, bar: Progress) -> None:
    """Run `blocks` on the cluster of a `dask.distributed.Client`.

    Raises: what a block could not cope with; Dask's own error where a block takes workers along
    again and again.
    """
    from distributed import KilledWorker, as_completed

    waiting, deaths = Queue(share.outlook, blocks), Counter[int]()
    running: dict[Any, int] = {}

    def submit() -> Any:
        block = waiting.take()
        future = client.submit(_run_block, str(order), block, _x64(), pure=False)
        running[future.key] = block
        return future

    threads = sum(client.nthreads().values()) or 1
    share.outlook.at_once = threads
    with _order_of(share) as order, _watched(client):
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


@contextlib.contextmanager
def _order_of(share: Share) -> Iterator[Path]:
    """A file in the store, while the sweep runs, that says what workers need to know: it may hold
    tables of images, and blocks are sent with its name alone."""
    payload = payload_of(share)
    path = flags_folder(share.path) / f"order-{hashlib.sha256(payload).hexdigest()[:16]}"
    path.write_bytes(payload)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _watched(client: Any, every: float = _BETWEEN_LOOKS) -> Iterator[None]:
    """Warns each time that the cluster has lost its last worker: Dask waits without a word."""
    over = threading.Event()

    def watch() -> None:
        empty = False
        while not over.wait(every):
            try:
                empty, was_empty = not client.nthreads(), empty
            except Exception:  # the scheduler has gone, of which Dask tells
                return
            if empty and not was_empty:
                warnings.warn(_NO_WORKERS, RuntimeWarning, stacklevel=1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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


def _run_block(order: str, block: int, x64: bool) -> Found:
    """Run one block on a worker, unless it is done. order: the file that says how."""
    from learndyn.sweeps._run import Runner

    jax.config.update("jax_enable_x64", x64)
    if getattr(_known, "order", None) != order:
        plan, path, description = pickle.loads(Path(order).read_bytes())
        _known.share, _known.runner = Share(plan, path, description, (0, 1)), Runner(plan)
        _known.order = order
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
