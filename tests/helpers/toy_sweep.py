"""A sweep of a level that costs nothing, as tests of stores run it."""

import jax
import jax.numpy as jnp
import xarray as xr

import learndyn as ld

TS = jnp.linspace(0.0, 1.0, 3)
PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])
KEY = jax.random.key(5)
GRID = {"lr": [0.1, 0.9, 0.3, 0.7], "noise": [0.0, 0.1, 0.2]}
WIDER = {"lr": [0.5, *GRID["lr"]], "noise": [0.0, 0.3, 0.1, 0.2]}
CHUNK = 2


def toy(problem, rule, start, ts, *, key):
    drawn = jax.random.normal(key)
    return {"seen": jnp.sin(rule.lr * ts + problem.noise * drawn), "steps": jnp.round(rule.lr * 10)}


def sweep(store=None, over=GRID, seeds=2, level=toy, chunk=CHUNK, **keywords):
    where = {} if store is None else {"store": store}
    defaults = {"problem": PROBLEM, "rule": RULE, "start": START, "ts": TS, "key": KEY}
    given = [(defaults | keywords).pop(name) for name in ("problem", "rule", "start", "ts")]
    rest = {"key": KEY} | {k: v for k, v in keywords.items() if k not in defaults or k == "key"}
    return ld.sweep(level, *given, over=over, seeds=seeds, chunk=chunk, **where, **rest)


def assert_same(stored, memory):
    xr.testing.assert_identical(stored.drop_vars("done").drop_attrs(), memory.drop_attrs())
    for name in memory.variables:
        assert stored[name].dtype == memory[name].dtype
        assert list(stored[name].attrs) == list(memory[name].attrs)
