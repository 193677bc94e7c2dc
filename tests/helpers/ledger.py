"""Results that outlive a kill: each is a line of JSON, written as soon as it is known."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def results(path: Path) -> dict[str, dict]:
    """What is known, by name. A line that a kill cut short is taken out of the file."""
    if not path.exists():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line.pop("name"): line for line in lines}


def add(path: Path, name: str, result: dict) -> None:
    """Write one result, and return when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"name": name} | result) + "\n")
        file.flush()
        os.fsync(file.fileno())


def go_on(path: Path, names: Iterable[str], attempt: Callable[[str], dict]) -> None:
    """Attempt what has no result yet, in this order."""
    known = results(path)
    for name in names:
        if name not in known:
            add(path, name, attempt(name))
