"""Text for people: what a setting or a result holds, on one line or as a table in a notebook."""

import dataclasses
import functools
import html
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from learndyn._results import Result

_WRITTEN_OUT = 9
"""Entries of the largest array whose numbers are shown, a 3 x 3 matrix; of others, the shape."""


class Readable(eqx.Module):
    """A module whose repr shows its values, where they are not the defaults of its constructor.

    digits: significant digits of the numbers shown. unshown: fields that say nothing to a person.
    """

    digits: ClassVar[int] = 6
    unshown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_parts(self))})"

    def _repr_html_(self) -> str:
        return as_table(type(self).__name__, dict(_values(self)))


class ReadableResult(Readable):
    """A result: three digits tell a person enough."""

    digits: ClassVar[int] = 3


def as_table(title: str, rows: dict[str, str]) -> str:
    """An HTML table of two columns for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"


def outcome_text(result: Any) -> str:
    """Result codes in words: "success", or how many of several runs ended how."""
    codes = np.asarray(result)
    names = {int(code): Result(int(code)).name.lower() for code in np.unique(codes)}
    if codes.size == 1:
        return next(iter(names.values()))
    return ", ".join(f"{(codes == code).sum()} {name}" for code, name in names.items())


def value_text(value: Any, digits: int) -> str:
    """A value as text: numbers rounded, large arrays by dtype and shape."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _array_text(value, digits)
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {value_text(x, digits)}' for key, x in value.items())}}}"
    return repr(value)


def _parts(module: Readable) -> Iterator[str]:
    for name, text in _values(module):
        yield text if name == "result" else f"{name}={text}"


def _values(module: Readable) -> Iterator[tuple[str, str]]:
    """Names and texts of the fields that say something."""
    defaults = defaults_of(type(module))
    for field in dataclasses.fields(module):
        # A module may be shown while it is being built: in the message of its own constructor.
        value = getattr(module, field.name, None)
        told = field.name not in module.unshown and value is not None
        if not told or _is_default(value, defaults.get(field.name)):
            continue
        if field.name == "result" and not isinstance(value, jax.core.Tracer):
            yield field.name, outcome_text(value)
        else:
            yield field.name, value_text(value, module.digits)


@functools.cache
def defaults_of(kind: type) -> dict[str, Any]:
    """The defaults of the constructor and of those to which it hands its keywords on."""
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        if "__init__" in vars(owner) and owner is not object:
            parameters = inspect.signature(owner.__init__).parameters.values()
            found = {p.name: p.default for p in parameters if p.default is not p.empty} | found
    return found


def _is_default(value: Any, default: Any) -> bool:
    if not isinstance(default, int | float) or isinstance(value, jax.core.Tracer):
        return False
    return bool(np.all(np.asarray(value) == default))


def _array_text(value: Any, digits: int) -> str:
    kind = f"{value.dtype}{list(value.shape)}"
    if isinstance(value, jax.core.Tracer):
        return f"{kind} traced"
    if value.size > _WRITTEN_OUT or jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return kind
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return str(array.tolist())
    text = np.array2string(
        array, separator=", ", formatter={"float_kind": lambda x: f"{x:.{digits}g}"}
    )
    return " ".join(text.split())
