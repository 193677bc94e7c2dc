"""Fingerprints of functions: by them a store knows another sweep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_sweep import sweep

from learndyn.sweeps.store._fingerprint import Fingerprints

pytest.importorskip("zarr")

SCALE = 2.0


def scaled(x):
    return SCALE * x


def of(value):
    return Fingerprints().of(value)


def test_fingerprints_see_source_closure_defaults_and_globals(monkeypatch):
    def made(inside, default):
        def function(x, y=default):
            return x * inside + y

        return function

    assert of(made(1, 2)) == of(made(1, 2))
    assert len({of(made(*x)) for x in ((1, 2), (1, 3), (2, 2))}) == 3
    assert of(made(np.arange(99), 1)) != of(made(np.arange(1, 100), 1))
    assert of(lambda x: x) != of(lambda x: x + 1)
    before = of(scaled)
    assert of(jax.jit(scaled)) == before
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert of(scaled) != before


def test_fingerprints_see_what_objects_hold():
    assert of(functools.partial(scaled, 1)) != of(functools.partial(scaled, 2))
    assert of(jnp.tanh) == "tanh"

    class Odd:
        def __call__(self, x):
            return x

    odd = Odd()
    odd.number = 1
    before = of(odd)
    odd.number = 2
    assert of(odd) != before


def test_fingerprints_say_what_they_cannot_see(tmp_path):
    hidden = object()

    def level(problem, rule, start, ts):
        return {"seen": rule.lr + (hidden is None)}

    with pytest.warns(RuntimeWarning, match="cannot see what is inside of object"):
        sweep(tmp_path / "run.zarr", level=level, seeds=None, key=None)
