"""A process that runs blocks of a sweep for a driver: `python -m learndyn.sweeps.store._worker`.

It reads what to do from stdin and says on stdout what it has done. Whatever a user's function
prints goes to stderr.
"""

import os
import pickle
import queue
import sys
import threading
from typing import Any, BinaryIO


def main() -> None:
    """Run blocks until the driver says that there are no more, or dies."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders: queue.Queue[int | None] = queue.Queue()
    payload = receive(sys.stdin.buffer)
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    from learndyn.sweeps._bar import Silent
    from learndyn.sweeps._run import Runner
    from learndyn.sweeps.store._share import Share

    plan, path, description = pickle.loads(payload)
    share = Share(plan, path, description, (0, 1))
    runner = Runner(plan)
    while (block := orders.get()) is not None:
        try:
            share.run_block(runner, block, Silent())
        except Exception as error:  # whatever it is, the driver raises it
            send(answers, _pickled((block, error, True)))
            return
        send(answers, _pickled((block, share.first_error, False)))


def receive(stream: BinaryIO) -> bytes:
    """One message: its length in eight bytes, and itself. Empty where the stream has ended."""
    return _exactly(stream, int.from_bytes(_exactly(stream, 8), "big"))


def _exactly(stream: BinaryIO, length: int) -> bytes:
    """That many bytes; a pipe gives them in pieces. Empty where the stream ends before."""
    pieces = b""
    while len(pieces) < length:
        piece = stream.read(length - len(pieces))
        if not piece:
            return b""
        pieces += piece
    return pieces


def send(stream: Any, message: bytes) -> None:
    """Write one message, which a pipe takes in pieces."""
    rest = memoryview(len(message).to_bytes(8, "big") + message)
    while rest:
        rest = rest[stream.write(rest) :]


def _listen(orders: "queue.Queue[int | None]") -> None:
    """Pass on the orders; where the driver has died, so does this process, whatever it does."""
    while line := sys.stdin.buffer.readline():
        orders.put(None if line == b"stop\n" else int(line))
        if line == b"stop\n":
            return
    os._exit(1)


def _pickled(answer: tuple[int, Exception | None, bool]) -> bytes:
    block, error, is_fatal = answer
    try:
        text = pickle.dumps(answer)
        pickle.loads(text)  # exceptions with other arguments than their message fail here
    except Exception:  # whatever a user's exception raises
        return pickle.dumps((block, RuntimeError(repr(error)), is_fatal))
    return text


if __name__ == "__main__":
    main()
