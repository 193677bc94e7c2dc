"""A headless Chromium, spoken to through a pipe: no driver and no further package is needed."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds to wait for an answer: a cold browser on a busy machine takes ten."""


def chromium() -> str | None:
    """The program, or None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Tab:
    """One page in a browser, by the Chrome DevTools Protocol."""

    def __init__(self, into: int, out: int):
        self._into, self._out = into, out
        self._buffer, self._number, self._session = b"", 0, None
        self.complaints: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {} if self._session is None else {"sessionId": self._session}
        os.write(self._into, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
        raise TimeoutError(method)

    def open(self, page: Path, width: int, height: int, dark: bool) -> None:
        """Show a file in a fresh tab, and wait until it is there."""
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression in the page is true."""
        until = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < until, condition
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key, pressed and released as by a person."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"code": "Space" if key == " " else key}
        numbers = {" ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}
        code |= {"windowsVirtualKeyCode": numbers[key]}
        for kind, more in (("keyDown", text), ("keyUp", {})):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **code, **more)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._out, 1 << 20)
            if not part:
                raise ConnectionError("the browser has gone")
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(text)
        if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(str(message["params"]))
        if message.get("method") == "Runtime.consoleAPICalled":
            self.complaints.append(str(message["params"]))
        return message


@contextlib.contextmanager
def tab(
    page: Path, folder: Path, width: int = 1200, height: int = 900, dark: bool = False
) -> Iterator[Tab]:
    """A tab with this page; folder: for the browser's own files."""
    program = chromium()
    assert program is not None
    # The browser reads from 3 and writes to 4.
    (to_read, into), (out, to_write) = os.pipe(), os.pipe()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += ["--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"]
    wired = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash"]
    process = subprocess.Popen(
        [*wired, program, *options, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(to_read, to_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        found = Tab(into, out)
        found.open(page, width, height, dark)
        yield found
    finally:
        os.close(into)
        process.terminate()
        process.wait(30)
        os.close(out)
