"""Readers that leave early, such as `head`: what is said to them is lost, the run is not."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Patient:
    """A stream whose reader may leave; from then on it writes to nowhere."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as the stream does."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._leave()
        return len(text)

    def flush(self) -> None:
        """Flush as the stream does."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _leave(self) -> None:
        # Python flushes the stream once more at its end, which must not fail either.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def patient_streams() -> Iterator[None]:
    """stdout and stderr do without their readers."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Patient(stream) for stream in streams)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
