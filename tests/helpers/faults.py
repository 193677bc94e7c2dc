"""Faults of one line, put into the library's code while a test runs."""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType

import equinox as eqx
import jax


@dataclasses.dataclass(frozen=True)
class Fault:
    """In the function `owner.name`, `right` is to become `wrong`.

    owner: the class that has the function, or the module that calls it: one that imported it has
    its own name for it.
    """

    owner: ModuleType | type
    name: str
    right: str
    wrong: str

    def faulty(self) -> Callable:
        """The function with its fault. Raises: ValueError where the line is not there once."""
        function = inspect.unwrap(inspect.getattr_static(self.owner, self.name))
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.right) != 1:
            raise ValueError(f"{self.name} must have once: {self.right!r}; its source is\n{source}")
        # In a copy of its module's names, so that the module itself is untouched
        names = dict(function.__globals__)
        exec(compile(source.replace(self.right, self.wrong), f"<{self.name}>", "exec"), names)
        return names[self.name]

    def put(self, monkeypatch) -> None:
        """Put it in, and forget what was traced before; `forget` again once it is out."""
        monkeypatch.setattr(self.owner, self.name, self.faulty())
        forget()


def forget() -> None:
    """Everything that was compiled with or without a fault."""
    jax.clear_caches()
    eqx.clear_caches()
