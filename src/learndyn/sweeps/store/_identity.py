"""Which sweep a store holds, and how another one differs from it."""

import importlib.metadata
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learndyn.datasets import provenance
from learndyn.sweeps._assemble import level_name
from learndyn.sweeps._axes import Axis, singles
from learndyn.sweeps._plan import Plan
from learndyn.sweeps.store._fingerprint import Fingerprints

_MOST_SHOWN = 8
"""Entries of a list that a message shows; of longer ones the first entries that differ."""

_SPLITTING = "jax_threefry_partitionable"
"""The setting of JAX that decides what random keys are split into."""


def identity_of(plan: Plan) -> dict[str, Any]:
    """All that decides the numbers of a sweep, as data for JSON.

    Warns: where a function or value cannot be looked into.
    """
    prints, call = Fingerprints(), plan.call
    origin = provenance()
    identity = {
        "level": [level_name(call.level), prints.of(call.level)],
        "problem": _without(prints.of(call.problem), plan, "problem"),
        "rule": _without(prints.of(call.rule), plan, "rule"),
        "start": prints.of(call.start),
        "ts": np.asarray(call.ts, float).tolist(),
        "keywords": prints.of(call.keywords),
        "key": None if plan.key is None else prints.of(plan.key),
        "chunk": plan.chunk,
        "axes": {axis.dim: _values_of(axis, plan, prints) for axis in plan.axes},
        "seeds": plan.seeds,
        "versions": _versions(),
        "platform": jax.default_backend(),
        "x64": bool(origin["x64"]),
    }
    if prints.unknown:
        names = ", ".join(sorted(set(prints.unknown)))
        warnings.warn(
            f"the store cannot see what is inside of {names}, and will not notice when it changes; "
            "write functions of numbers, arrays and other functions.",
            RuntimeWarning,
            stacklevel=4,
        )
    return identity


def _values_of(axis: Axis, plan: Plan, prints: Fingerprints) -> list[Any]:
    """The values of an axis; rules without the numbers in place of which others are swept."""
    found = [prints.of(value) for value in axis.values]
    if axis.kind == "rules":
        found = [_without(value, plan, "rule") for value in found]
        return [[label, value] for label, value in zip(axis.labels.tolist(), found, strict=True)]
    return found


def _versions() -> dict[str, str]:
    """Versions of what decides numbers. That of Python does not, nor does that of xarray."""
    from learndyn._version import __version__

    names = ("jax", "jaxlib", "equinox", "diffrax", "lineax", "optimistix", "numpy", "scipy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"learndyn": __version__, **found, _SPLITTING: str(getattr(jax.config, _SPLITTING))}


def _without(described: Any, plan: Plan, kind: str) -> Any:
    """A problem or rule without the numbers in place of which others are swept."""
    if described is None:  # one of several rules, which are values of an axis
        return None
    for axis in singles(plan.axes):
        *inside, last = axis.path or ("",)
        part = described
        for name in inside if axis.kind == kind else ():
            part = part[name]
        if axis.kind == kind:
            part.pop(last)
    return described


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What keeps `asked` from being the stored sweep or an extension of it, each in a few words."""
    return [*_of_axes(stored, asked), *_of_the_rest(stored, asked)]


def _of_axes(stored: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    one, other = stored["axes"], asked["axes"]
    if list(one) != list(other):
        yield f"axes: {_shown(list(one))} stored, {_shown(list(other))} asked"
    for dim in (dim for dim in one if dim in other):
        if any(value not in other[dim] for value in one[dim]):
            yield f"{dim}: {_shown(one[dim])} stored, {_shown(other[dim])} asked"
    few, many = stored["seeds"], asked["seeds"]
    if few != many and (few is None or many is None or many < few):
        yield f"seeds: {_shown(few)} stored, {_shown(many)} asked"


def _of_the_rest(stored: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*stored, *asked]):
        if name not in ("axes", "seeds"):
            yield from _unlike(name, stored.get(name), asked.get(name))


def _unlike(name: str, stored: Any, asked: Any) -> Iterator[str]:
    """One line for each leaf that differs, under the names that lead there."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        for part in dict.fromkeys([*stored, *asked]):
            inner = part if name == "versions" else f"{name}.{part}"
            yield from _unlike(inner, stored.get(part), asked.get(part))
    elif not _same(stored, asked):
        yield f"{name}: {_shown(stored)} stored, {_shown(asked)} asked"


def _same(stored: Any, asked: Any) -> bool:
    """Equal, where NaN is NaN."""
    return stored == asked or repr(stored) == repr(asked)


def _shown(value: Any) -> str:
    """A value in few words and on one line."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}" if abs(value) < 1e15 else repr(value)
    if isinstance(value, list):
        if len(value) > _MOST_SHOWN:
            most = _MOST_SHOWN // 2
            start, end = (", ".join(map(_shown, x)) for x in (value[:most], value[-most:]))
            return f"[{start}, …, {end}] ({len(value)} entries)"
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_shown(part)}' for name, part in value.items())}}}"
    return " ".join(str(value).split())


def keys_agree(key: Any, few: int | None, many: int | None) -> bool:
    """Whether the keys of few seeds begin those of many, as they do for JAX's own generators."""
    if few is None or many is None or few == many:
        return True
    one, other = (jax.random.key_data(jax.random.split(key, count)) for count in (few, many))
    return bool(jnp.array_equal(one, other[:few]))
