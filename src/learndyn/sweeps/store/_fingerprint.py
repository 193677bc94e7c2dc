"""What decides the numbers of a value or a function, as data that JSON can hold."""

import dataclasses
import functools
import hashlib
import inspect
import json
import re
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SHORT = 16
"""Arrays of at most this many entries are kept as they are, so that a difference can be shown."""

_DIGITS = 12
"""Hexadecimal digits of a hash: 48 bits, so that two of a million sources agree by chance once in
500 stores."""

_VERSIONED = {"builtins", "diffrax", "equinox", "jax", "jaxlib", "learndyn", "lineax", "math"}
_VERSIONED |= {"numpy", "optimistix", "optax", "scipy"}
"""Packages whose functions are known by name, because a store keeps their versions."""


class Fingerprints:
    """Makes fingerprints. unknown: names of things that it could not look into."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._open: set[int] = set()

    def of(self, value: Any) -> Any:
        """The fingerprint of a number, array, container, module, function or other object."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, complex | bytes | range | slice):
            return repr(value)
        if isinstance(value, np.generic | np.ndarray | jax.Array):
            return _array(value)
        if id(value) in self._open:  # a function that calls itself, say
            return "itself"
        self._open.add(id(value))
        try:
            return self._of_parts(value)
        finally:
            self._open.discard(id(value))

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): self.of(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(part) for part in value]
        if isinstance(value, set | frozenset):
            return sorted(json.dumps(self.of(part)) for part in value)
        if isinstance(value, functools.partial):
            return {"partial": self.of(value.func), "of": self.of([value.args, value.keywords])}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: self.of(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"type": self._named(type(value)), **fields}
        if isinstance(value, types.MethodType):
            return {"method": self.of(value.__func__), "of": self.of(value.__self__)}
        if callable(value):
            return self._named(value)
        return self._other(value)

    def _named(self, thing: Any) -> str:
        """The name of a function or class, and a hash of all that is known of a user's own."""
        inner = getattr(thing, "__wrapped__", None)
        thing = thing if inner is None or isinstance(thing, types.FunctionType) else inner
        name = getattr(thing, "__qualname__", type(thing).__qualname__).rpartition(".")[2]
        module = getattr(thing, "__module__", None) or type(thing).__module__
        if module.partition(".")[0] in _VERSIONED:
            return name
        if isinstance(thing, types.FunctionType):
            return f"{name}@{_hash(self._function(thing))}"
        if isinstance(thing, type):
            return f"{name}@{_hash(self._class(thing))}"
        return f"{name}@{_hash([self._named(type(thing)), self._other(thing)])}"

    def _function(self, function: types.FunctionType) -> list[Any]:
        code = function.__code__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        closure = {name: self.of(_content(cell)) for name, cell in cells}
        inner = getattr(function, "__wrapped__", None)
        return [
            _source(function),
            closure,
            self.of(function.__defaults__),
            self.of(function.__kwdefaults__),
            {name: self.of(function.__globals__[name]) for name in _globals_used(function)},
            None if inner is None else self.of(inner),
        ]

    def _class(self, kind: type) -> list[Any]:
        try:
            return [inspect.getsource(kind)]
        except (OSError, TypeError):
            own = {name: x for name, x in vars(kind).items() if isinstance(x, types.FunctionType)}
            return [self.of(own)]

    def _other(self, value: Any) -> Any:
        """An object by what it holds, or by its text; of others no more than the type is known."""
        held = getattr(value, "__dict__", None)
        if held:
            return {"type": type(value).__qualname__, **{k: self.of(v) for k, v in held.items()}}
        text = repr(value)
        if re.search(r" at 0x[0-9a-f]+", text):
            self.unknown.append(type(value).__qualname__)
            return type(value).__qualname__
        return text


def _array(value: Any) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.size <= _SHORT:
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:_DIGITS]
    return f"array of {array.shape} {array.dtype}@{digest}"


def _hash(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _source(function: types.FunctionType) -> str:
    """The source without its indentation.

    Where there is none, and for lambdas, of which one line may hold several, also what it was
    compiled to; this depends on the version of Python.
    """
    try:
        source = inspect.cleandoc(inspect.getsource(function))
    except (OSError, TypeError):
        source = ""
    if source and function.__name__ != "<lambda>":
        return source
    return source + _compiled(function.__code__)


def _compiled(code: types.CodeType) -> str:
    constants = [_compiled(x) if isinstance(x, types.CodeType) else x for x in code.co_consts]
    return f"{code.co_code.hex()} {constants!r} {code.co_names!r}"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _globals_used(function: types.FunctionType) -> list[str]:
    """Names of its module that the function reads, but for modules, known by their versions."""
    codes, names = [function.__code__], set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [x for x in code.co_consts if isinstance(x, types.CodeType)]
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return sorted(name for name, x in found.items() if not isinstance(x, types.ModuleType))
