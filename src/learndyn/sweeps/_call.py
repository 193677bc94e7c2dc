"""How one run of a sweep is called."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from learndyn.datasets import with_value
from learndyn.sweeps._axes import RULE, unzipped

_GIVEN = 4
"""Leading arguments of a level: problem, rule, start, ts."""


class StartFunction(eqx.Module):
    """A function that makes initial states, with what is known about its parameters."""

    fn: Callable[..., Any]
    names: tuple[str, ...] = eqx.field(static=True)
    key_name: str | None = eqx.field(static=True)

    def __call__(self, key: Any, values: Mapping[str, Any]) -> Any:
        chosen = {name: values[name] for name in self.names if name in values}
        if self.key_name is not None:
            chosen[self.key_name] = key
        return self.fn(**chosen)


class Target(NamedTuple):
    """Where a swept value goes: into `kind`, along `path`."""

    dim: str
    kind: str
    path: tuple[str, ...]


class Call(eqx.Module):
    """All of a run that does not change from cell to cell."""

    level: Callable[..., Any]
    problem: Any
    rule: Any
    start: Any
    ts: Any
    keywords: dict[str, Any]
    targets: tuple[Target, ...] = eqx.field(static=True)
    start_names: frozenset[str] = eqx.field(static=True)
    level_takes_key: bool = eqx.field(static=True)

    def __call__(self, values: Mapping[str, Any], key: Any) -> Any:
        """One run, with these values of the swept names; arrays in, arrays out."""
        values = unzipped(values)
        rule = values.get(RULE) if self.rule is None else self.rule  # one of several, or the rule
        trees = {"rule": rule, "problem": self.problem}
        named = dict(self.keywords)
        for dim, kind, path in self.targets:
            if kind in trees:
                trees[kind] = with_value(trees[kind], path, values[dim])
            elif kind == "keyword":
                named[path[0]] = values[dim]
        start = values.get("start", self.start)
        start_key, level_key = self._keys(key, start)
        if isinstance(start, StartFunction):
            start = start(start_key, {**values, **named})
        known = level_keywords(self.level)
        passed = {name: x for name, x in named.items() if self._is_for_level(name, known)}
        if self.level_takes_key:
            passed["key"] = level_key
        result = self.level(trees["problem"], trees["rule"], start, self.ts, **passed)
        return _as_arrays(result)

    def _keys(self, key: Any, start: Any) -> tuple[Any, Any]:
        if key is None or not (takes_key(start) and self.level_takes_key):
            return key, key
        # Two independent keys, so that the start and the samples are independent
        start_key, level_key = jax.random.split(key)
        return start_key, level_key

    def _is_for_level(self, name: str, known: list[str] | None) -> bool:
        if known is not None:
            return name in known
        return name not in self.start_names


def level_keywords(level: Callable[..., Any]) -> list[str] | None:
    """Names a level takes beyond problem, rule, start, ts and key; None: any name."""
    parameters = _parameters(level)
    if parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY][:_GIVEN]
    return [p.name for p in by_name if p.name not in (*positional, "key")]


def takes_key(function: Any) -> bool:
    """Whether a level or a start function takes a random key."""
    if isinstance(function, StartFunction):
        return function.key_name is not None
    parameters = _parameters(function) if callable(function) else []
    if parameters is None:
        return True
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)


def requires_key(level: Callable[..., Any]) -> bool:
    """Whether a level cannot do without a key."""
    return any(p.name == "key" and p.default is p.empty for p in _parameters(level) or [])


def start_function(start: Callable[..., Any], named: set[str]) -> StartFunction:
    """A start function's parameters: those in `named` by name, and a key.

    The key is the parameter called `key`, else the first one that nothing else fills.
    Raises: ValueError where more than one parameter is left to fill.
    """
    parameters = _parameters(start)
    if parameters is None:
        return StartFunction(start, (), "key")
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    empty = [p.name for p in parameters if p.default is p.empty and p.name in names]
    open_names = [name for name in empty if name not in named]
    key_name = "key" if "key" in names else (open_names[0] if open_names else None)
    unfilled = [name for name in open_names if name != key_name]
    if unfilled:
        raise ValueError(
            f"start needs values for {unfilled} next to its key {key_name!r}; give them as "
            "keywords or in `over`."
        )
    return StartFunction(start, tuple(name for name in names if name != key_name), key_name)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _as_arrays(result: Any) -> Any:
    """A dict's numbers as arrays, because vmap keeps only arrays apart."""
    if not isinstance(result, Mapping):
        return result

    def one(value: Any) -> Any:
        if isinstance(value, tuple) and len(value) == 2:
            return value[0], jnp.asarray(value[1])
        return None if value is None else jnp.asarray(value)

    return {name: one(value) for name, value in result.items()}
