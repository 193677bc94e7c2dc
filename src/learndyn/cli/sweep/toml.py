"""Plain data from a TOML file, with messages that name the line.

Nothing in the file is evaluated. A text "module:function" names a function, which is imported.
"""

import contextlib
import difflib
import importlib
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn


class Toml:
    """A file as nested dicts, that knows in which line each key stands."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
            self.tables = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{str(path)!r} is no TOML file: {error}.") from None

    def refuse(self, keys: tuple[str, ...], message: str) -> NoReturn:
        """Raises: ValueError with the line of a key."""
        line = self.line_of(keys)
        where = f"{str(self.path)!r}" if line is None else f"{str(self.path)!r}, line {line}"
        raise ValueError(f"{where}: {message}")

    def line_of(self, keys: tuple[str, ...]) -> int | None:
        """The line in which a key, or a table, begins; None where there is none.

        It is the end of the longest beginning of the file that is TOML and lacks the key.
        """
        lines, before = self.text.splitlines(), 0
        for number in range(1, len(lines) + 1):
            try:
                tables = tomllib.loads("\n".join(lines[:number]))
            except tomllib.TOMLDecodeError:  # in the middle of a value of several lines
                continue
            if _has(tables, keys):
                return before + 1
            before = number
        return None

    @contextlib.contextmanager
    def about(self, *keys: str) -> Iterator[None]:
        """Let what is refused inside name the line of these keys."""
        try:
            yield
        except ValueError as error:
            self.refuse(keys, str(error).replace("--", ""))

    def known(self, keys: tuple[str, ...], names: Iterable[str], allowed: Iterable[str]) -> None:
        """Raises: ValueError for a name that is not allowed in the table `keys`."""
        allowed = sorted(allowed)
        table = f"[{'.'.join(keys)}]" if keys else "the file"
        for name in names:
            if name.replace("-", "_") not in allowed:
                near = difflib.get_close_matches(name.replace("-", "_"), allowed, 1)
                hint = f" Is {near[0]!r} meant?" if near else ""
                self.refuse(
                    (*keys, name), f"{table} has no {name!r}; it has {', '.join(allowed)}.{hint}"
                )

    def value(self, keys: tuple[str, ...], kind: Any) -> Any:
        """The value of a key as one of type `kind`. Raises: ValueError for another type."""
        found: Any = self.tables
        for key in keys:
            found = found[key]
        fitted = _fitted(found, kind)
        if fitted is None:
            self.refuse(keys, f"{keys[-1]} must be {_told(kind)}; got {found!r}.")
        return fitted

    def imported(self, keys: tuple[str, ...], text: str) -> Any:
        """The function that "module:function" names, next to the file or installed."""
        module, _, name = text.partition(":")
        folder = str(self.path.absolute().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            self.refuse(
                keys,
                f"{text!r} cannot be imported ({type(error).__name__}: {error}); it must be "
                f'"module:function", with the module installed or in {folder!r}.',
            )


def names_function(value: Any) -> bool:
    """Whether a value is a text like "module:function"."""
    if not isinstance(value, str):
        return False
    module, colon, name = value.partition(":")
    return bool(colon) and name.isidentifier() and module.replace(".", "_").isidentifier()


def _has(tables: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(tables, dict) or key not in tables:
            return False
        tables = tables[key]
    return True


def _fitted(value: Any, kind: Any) -> Any:
    """`value` where it is of a type that options have; None where it is not."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        fits = (_fitted(value, one) for one in typing.get_args(kind) if one is not types.NoneType)
        return next((fit for fit in fits if fit is not None), None)
    if typing.get_origin(kind) is Literal:
        return value if value in typing.get_args(kind) else None
    if isinstance(value, bool) or kind is bool:
        return value if kind is bool and isinstance(value, bool) else None
    if kind is float:
        return float(value) if isinstance(value, int | float) else None
    if kind is Path:
        return Path(value) if isinstance(value, str) else None
    return value if isinstance(value, kind) else None


def _told(kind: Any) -> str:
    """A type in words."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_told(one) for one in typing.get_args(kind) if one is not types.NoneType)
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    words = {float: "a number", int: "an integer", str: "a text", bool: "true or false"}
    return words.get(kind, "a path" if kind is Path else kind.__name__)
