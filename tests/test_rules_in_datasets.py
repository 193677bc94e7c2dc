"""Every learning rule through datasets, files, stores, sweeps and runs that go on."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rule_table import CASES, ONE, OWN, PROBLEM, TWO, WEDGE, normalised, run

import learndyn as ld
from learndyn import rules
from learndyn.problems import to_json

WHOLE, FIRST, THEN = [0.0, 1.5, 2.5, 3.0], [0.0, 0.5, 1.0, 1.5], [1.5, 2.0, 2.5, 3.0]
SHARED = np.array([0, 2, 3])
"""Rows of THEN that WHOLE has too."""

CLOSE = {"sgd": 0.0, "chain": 1e-12, "langevin": 1e-10, "ode": 1e-8}
"""How far a run that goes on may be from one that did not stop: SGD agrees in every bit, the
simulations of overlaps to round-off, the ODE to its tolerance of 1e-8."""
pytestmark = pytest.mark.filterwarnings(
    "ignore:the error of the Gaussian averages:RuntimeWarning",
    "ignore:the step dt:RuntimeWarning",
    "ignore:the Gaussian averages have not converged:RuntimeWarning",
)

RUNS = [
    pytest.param(level, name, id=f"{level}-{name}")
    for level in CLOSE
    for name, case in CASES.items()
    if level not in case.without
]


@pytest.mark.nightly(by_day=["sgd-own episode", "chain-perceptron", "ode-dropout"])
@pytest.mark.parametrize(("level", "name"), RUNS)
def test_every_rule_goes_on_from_a_file(level, name, tmp_path):
    rule, problem, at, _ = CASES[name]
    go = lambda ts: run(level, rule, problem, at, ts)
    whole, part = go(WHOLE), go(FIRST)
    # Weights are not in datasets, so that SGD goes on from the run itself.
    stored = part if level == "sgd" else ld.load(ld.save(part, tmp_path / "part.nc"))
    more = ld.continue_run(stored, THEN)
    assert more.rule == rule
    for quantity in ("Q", "R", "v", "eg"):
        found, expected = (np.asarray(getattr(x, quantity)) for x in (more, whole))
        np.testing.assert_allclose(found[SHARED], expected[1:], rtol=CLOSE[level], atol=CLOSE[level])
    assert np.abs(whole.R[-1] - at.R).max() > 0.01


@pytest.mark.parametrize("name", CASES)
def test_every_rule_is_read_back(name):
    rule = CASES[name].rule
    found = ld.rule_of(xr.Dataset(attrs={"rule": to_json(rule)}))
    assert type(found) is type(rule)
    assert found == rule
