"""Deliberate faults, to show what the claims can see: `nox -s mutants`.

A mutant replaces one function of the library by a slightly wrong one, in a separate process, before
anything is compiled. It is caught where one of the claims that it names then fails.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

MUTANTS: dict[str, "Mutant"] = {}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One fault: what is wrong, which claims are meant to notice, and how to bring it about.

    claims: arguments for pytest, files or tests of this folder.
    """

    name: str
    fault: str
    claims: tuple[str, ...]
    apply: Callable[[], None]


def mutant(fault: str, *claims: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a function that brings about `fault`, under the function's name."""

    def register(apply: Callable[[], None]) -> Callable[[], None]:
        name = apply.__name__.replace("_", "-")
        if name in MUTANTS:
            raise ValueError(f"two mutants are named {name}.")
        paths = tuple(f"validation/{claim}" for claim in claims)
        MUTANTS[name] = Mutant(name, fault, paths, apply)
        return apply

    return register


def replace(owner: ModuleType | type, name: str) -> Callable[[Callable[..., Any]], None]:
    """Decorator: put a function in the place of `owner.name`; it gets the old one first.

    owner: the module or the class itself, so that a move breaks the import of the mutant, and
    not its effect alone. Every module that imported the function has its own name for it, and
    has to be given by itself.
    Raises: AttributeError where the owner has no such name.
    """
    old = getattr(owner, name)

    def put(new: Callable[..., Any]) -> None:
        @functools.wraps(old)
        def changed(*arguments: Any, **keywords: Any) -> Any:
            return new(old, *arguments, **keywords)

        setattr(owner, name, changed)

    return put


def apply(name: str) -> None:
    """Bring about the fault `name` in this process. Raises: ValueError for an unknown name."""
    load()
    if name not in MUTANTS:
        raise ValueError(f"unknown mutant {name!r}; there are {sorted(MUTANTS)}.")
    MUTANTS[name].apply()


def load() -> dict[str, Mutant]:
    """All mutants, by name."""
    for module in ("theory", "experiment", "rules", "asymptotics", "flow", "tasks"):
        importlib.import_module(f"validation.mutants.{module}")
    return MUTANTS
