"""Locks that die with their holder: the operating system drops them with the process."""

import contextlib
import errno
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

_PATIENCE = 2.0
"""Seconds that a driver waits for the lock of another one, which may just be dying."""

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def driving(folder: Path, shard: tuple[int, int]) -> Iterator[None]:
    """The right to do a share of a sweep, as long as the block lasts.

    Shares of the same number of processes go together, all else excludes each other.
    Raises: ValueError where a living process has that right.
    """
    number, count = shard
    with (
        _held(folder / ".lock-driver", count, shared=count > 1),
        _held(folder / f".lock-share-{number}", count, shared=False),
    ):
        yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The right to make or extend a store; waits for it."""
    with (folder / ".lock-metadata").open("a+b") as file:
        _lock(file.fileno(), shared=False, wait=True)
        yield


@contextlib.contextmanager
def _held(path: Path, count: int, *, shared: bool) -> Iterator[None]:
    """A lock, in whose file the holder is named. `shared`: with those of the same `count`."""
    with path.open("a+b") as file:
        with alone(path.parent):  # one process at a time looks who is there
            _take(path, file.fileno(), count, shared=shared)
        yield


def _take(path: Path, descriptor: int, count: int, *, shared: bool) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not _lock(descriptor, shared=shared, wait=False):
        if time.monotonic() > give_up:
            raise ValueError(_refusal(path))
        time.sleep(0.05)
    if shared and _is_for(path, count):
        return
    # Living processes that share the work in another way keep this from being had.
    if not _lock(descriptor, shared=False, wait=False):
        raise ValueError(_refusal(path))
    path.write_text(f"{count} {os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
    if shared:
        _lock(descriptor, shared=True, wait=False)


def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
    """Whether the lock was had. Where there are none, a warning says so, and it counts as had."""
    import fcntl  # not on Windows

    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        warnings.warn(
            f"this file system has no locks ({error.strerror}): see to it that no other process "
            "runs this sweep on this store.",
            RuntimeWarning,
            stacklevel=6,
        )
    return True


def _is_for(path: Path, count: int) -> bool:
    return path.read_text(encoding="utf-8").split()[:1] == [str(count)]


def _refusal(path: Path) -> str:
    count, process, host = [*path.read_text(encoding="utf-8").split(), "?", "?", "?"][:3]
    work = "runs this sweep" if count == "1" else f"runs this sweep in {count} shares"
    store = path.parent.parent
    return (
        f"process {process} on {host} {work} on {str(store)!r}: wait for it, stop it, or let all "
        "processes do shares of the same number, shard=(0, 2) and shard=(1, 2), say."
    )
