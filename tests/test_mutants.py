"""Deliberate faults patch functions of modules and classes: one that moves must not be missed."""

import ast
import functools
import importlib
import inspect
import os
import signal
import time
from pathlib import Path
from types import ModuleType

import pytest
from validation import mutants
from validation.mutants.__main__ import finished

import learndyn

VALIDATION = Path(mutants.__file__).parent.parent
MUTANTS = sorted(mutants.load())


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list:
    """What mutants would replace, as (owner, name); nothing is replaced."""
    found = []

    def record(owner, name):
        assert isinstance(owner, ModuleType | type), f"{owner!r} is to be imported, not named"
        found.append((owner, name))
        return lambda new: None

    for module in {inspect.getmodule(one.apply) for one in mutants.load().values()}:
        monkeypatch.setattr(module, "replace", record)
    return found


def is_used(owner: ModuleType | type, name: str) -> bool:
    """Whether replacing `owner.name` changes anything: a class has it, a package shows it to the
    outside, a module uses it in its own code, or others reach it as an attribute."""
    if isinstance(owner, type) or hasattr(owner, "__path__"):
        return hasattr(owner, name)
    nodes = list(ast.walk(ast.parse(inspect.getsource(owner))))
    own = any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for node in nodes
    )
    defined = any(isinstance(node, ast.FunctionDef) and node.name == name for node in nodes)
    return own or (defined and name in attributes())


@functools.cache
def attributes() -> set[str]:
    """Names that the library reaches as attributes."""
    library = Path(learndyn.__file__).parent
    trees = [ast.parse(file.read_text()) for file in library.rglob("*.py")]
    return {
        node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_replaces_what_is_there_and_used(name, patched):
    mutants.MUTANTS[name].apply()
    assert patched
    for owner, attribute in patched:
        assert hasattr(owner, attribute), f"{owner} has no {attribute}"
        assert is_used(owner, attribute), f"{owner} does not use its {attribute}"


@pytest.mark.parametrize("name", MUTANTS)
def test_the_claims_that_are_to_notice_a_fault_exist(name):
    for claim in mutants.MUTANTS[name].claims:
        for words in claim.split():
            file, _, test = words.removeprefix("validation/").partition("::")
            tree = ast.parse((VALIDATION / file).read_text())
            defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert not test or test.partition("[")[0] in defined, words


@pytest.mark.parametrize("name", ["no_such_function", "Callable"])
def test_the_test_itself_sees_what_is_gone(name):
    owner = importlib.import_module("learndyn.dynamics.chain._step")
    assert not is_used(owner, name)


@pytest.fixture
def heard():
    """Ctrl-C raises here, also where a job in the background has inherited that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_keeps_the_mutants_that_were_tried():
    tried = []

    def attempt(one):
        tried.append(one)
        if one == "second":
            time.sleep(0.2)  # until the first one has been noted
            os.kill(os.getpid(), signal.SIGINT)  # heard by the main thread
            time.sleep(0.2)
        return {"mutant": one}

    assert finished(["first", "second", "third"], attempt, jobs=1) == [{"mutant": "first"}]
    assert tried == ["first", "second"]


def test_all_mutants_are_tried_without_an_interruption():
    rows = finished(["first", "second"], lambda one: {"mutant": one}, jobs=2)
    assert sorted(row["mutant"] for row in rows) == ["first", "second"]
