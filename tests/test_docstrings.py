"""Every public name says what its parameters are and shows an example, and the examples run."""

import doctest
import enum
import importlib
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

ROOMS = ("asymptotics", "averages", "conventions", "flow", "inputs", "plot", "rules", "testing")
REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public():
    """{full name: object} of what the reference documents, each object once."""
    text = "\n".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
    found = {}
    for name in re.findall(r"^\.\. auto(?:class|function):: (\S+)$", text, re.M):
        room, _, short = name.rpartition(".")
        thing = getattr(importlib.import_module(room), short)
        if all(thing is not other for other in found.values()):
            found[name.removeprefix("learndyn.")] = thing
    return found


PUBLIC = public()


def docstrings(name):
    """The docstring of a name and, of a class, those of its public functions."""
    thing = PUBLIC[name]
    yield name, inspect.cleandoc(thing.__doc__ or "")
    if inspect.isclass(thing):
        for member, function in vars(thing).items():
            if not member.startswith("_") and getattr(function, "__doc__", None):
                yield f"{name}.{member}", inspect.cleandoc(function.__doc__)


def described(doc):
    """The names that the sections Args and Attributes explain."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:    .*\n|\n(?=    ))+)", doc + "\n", re.M)
    lines = re.findall(r"^    (\w+(?:, \w+)*): ", "".join(sections), re.M)
    return {name for line in lines for name in line.split(", ")}


def parameters(thing):
    inherited = inspect.isclass(thing) and issubclass(thing, enum.Enum | Warning)
    return set() if inherited else set(inspect.signature(thing).parameters)


def test_the_reference_is_not_small():
    assert len(PUBLIC) > 190


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_is_described(name):
    assert parameters(PUBLIC[name]) <= described(inspect.cleandoc(PUBLIC[name].__doc__))


@pytest.mark.parametrize("name", PUBLIC)
def test_there_is_an_example_whose_outcome_is_shown(name):
    examples = doctest.DocTestParser().get_examples(inspect.cleandoc(PUBLIC[name].__doc__))
    assert any(example.want for example in examples)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rooms = {room: getattr(ld, room) for room in ROOMS}
    for place, doc in docstrings(name):
        names = {"jax": jax, "jnp": jnp, "np": np, "ld": ld} | rooms
        test = doctest.DocTestParser().get_doctest(doc, names, place, None, 0)
        said = []
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
        assert not said, "".join(said)
