"""User callables as pytrees: plain functions become static, Modules stay trees of leaves."""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.core

from learndyn._checks import is_concrete


class Function(eqx.Module):
    """A plain function, held as static structure, so that it may sit in a jitted pytree."""

    fn: Callable = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args)

    def __repr__(self) -> str:
        return getattr(self.fn, "__qualname__", repr(self.fn))


def as_module(value: Any, name: str) -> Any:
    """`value` itself where it is an `eqx.Module` with `__call__`, else wrapped and static.

    Raises: ValueError where it cannot be called.
    """
    if not callable(value) or isinstance(value, type):
        hint = " Give a function, or an object such as ld.Erf() or ld.Squared()."
        hint = f" Did you mean {value.__name__}()?" if isinstance(value, type) else hint
        raise ValueError(f"{name} must be callable; got {value!r}.{hint}")
    return value if isinstance(value, eqx.Module) else Function(value)


def called(fn: Callable, must: str, *args: Any, advice: str = "") -> Any:
    """fn(*args), where `fn` is a user's function that is being traced.

    must: what must hold, and advice: what else to do, for the message.
    Raises: ValueError where it is not written with JAX, or takes other arguments.
    """
    try:
        return fn(*args)
    except (TypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        raise ValueError(f"{must}; got {unusable(fn, error)}{advice}") from error


def unusable(fn: Callable, error: Exception) -> str:
    """What is wrong with a user's function that raised `error` while it was traced, and a cure."""
    said = f"{plain_name(fn)}, which raised {type(error).__name__}"
    numbers_wanted = any(words in str(error) for words in _NUMBERS_WANTED)
    if isinstance(error, _NOT_TRACEABLE) or numbers_wanted:
        return (
            f"{said}. JAX traces it: it runs the function once, for arrays whose numbers are not "
            "known yet. Write it with jax.numpy in place of math and NumPy, and with "
            "jnp.where(x > 0, yes, no) in place of `if`, `and`, `or`, max and min."
        )
    first = str(error).splitlines()[0] if str(error) else "no message"
    return f"{said}: {first}"


def plain_name(fn: Any) -> str:
    """How a user knows a function: by its name; a Module by its class."""
    fn = fn.fn if isinstance(fn, Function) else fn
    return getattr(fn, "__name__", type(fn).__name__)


_NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a function needs the values of numbers that are being traced."""

_NUMBERS_WANTED = ("truth value of an array", "converted to Python scalars")
"""What the messages say where a function of one number is given an array by `if` or `math`."""


def declared(fn: Any, name: str) -> Any:
    """What the class of `fn` declares of its function under `name`; None where it does not.

    A declaration holds for the function of the same class: a subclass that changes the
    function and declares nothing has declared nothing.
    """
    for owner in type(fn).__mro__:
        if name in vars(owner):
            return getattr(fn, name)
        # This class changes the function, so what its parents declare does not hold.
        if {"__call__", "derivative", "slope"} & set(vars(owner)):
            return None
    return None


def are_same(one: Any, other: Any) -> bool:
    """Whether two functions are known to be the same: of one class, with equal numbers."""
    if not is_concrete(one, other):
        return False
    with jax.ensure_compile_time_eval():  # numbers, also while something else is traced
        return bool(eqx.tree_equal(one, other))


def describe(tree: Any) -> Any:
    """`tree` as plain JSON-ready data: Modules by class and fields, callables by name and repr.

    A user's callable has its `classification` as well, where it declares one.
    """
    if isinstance(tree, Function):
        name = getattr(tree.fn, "__qualname__", type(tree.fn).__name__)
        return {
            "callable": f"{getattr(tree.fn, '__module__', '?')}.{name}",
            "repr": _plain_repr(tree.fn),
            **_declarations(tree.fn),
        }
    if isinstance(tree, eqx.Module):
        fields = {f.name: describe(getattr(tree, f.name)) for f in dataclasses.fields(tree)}
        return {**_named(type(tree)), **fields, **_declarations(tree)}
    if isinstance(tree, jax.core.Tracer):
        return "traced"
    if hasattr(tree, "tolist"):
        return tree.tolist()
    if isinstance(tree, list | tuple):
        return [describe(item) for item in tree]
    if isinstance(tree, dict):
        return {str(key): describe(item) for key, item in tree.items()}
    return tree if isinstance(tree, str | int | float | bool | None) else _plain_repr(tree)


def _declarations(fn: Any) -> dict[str, Any]:
    """What a user's loss says of itself; the library's own are known by their names."""
    own = type(fn).__module__.split(".")[0] == __name__.split(".")[0]
    value = None if own else getattr(fn, "classification", None)
    return {} if value is None else {"classification": bool(value)}


def _named(kind: type) -> dict[str, str]:
    """The name of a class, and where to find those that are not this library's own."""
    own = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    place = {} if own else {"module": f"{kind.__module__}.{kind.__qualname__}"}
    return {"type": kind.__name__, **place}


def to_json(tree: Any) -> str:
    """`describe(tree)` as a JSON string."""
    return json.dumps(describe(tree))


def _plain_repr(value: Any) -> str:
    # An address would make two identical runs differ.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
