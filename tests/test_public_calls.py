"""What users write runs; `nox -s typecheck` looks at the same lines for types."""

import math

import numpy as np
import public_calls
import pytest


@pytest.mark.parametrize("make", [public_calls.every_rule, public_calls.every_problem])
def test_rules_and_problems_are_made(make):
    made = make()
    assert len({repr(one) for one in made}) == len(made)


@pytest.mark.nightly
@pytest.mark.parametrize("call", ["sweeps", "tasks", "structured_inputs", "flows", "theories"])
def test_calls_end_in_numbers(call):
    pytest.importorskip("xarray")
    assert np.isfinite(getattr(public_calls, call)()).all()


@pytest.mark.nightly
def test_levels(tmp_path):
    pytest.importorskip("matplotlib")
    assert math.isfinite(public_calls.levels(tmp_path))
