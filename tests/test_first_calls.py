"""The first call of a process, inside jit: nothing may remember a traced number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "helpers" / "first_calls.py"


@pytest.mark.nightly(by_day=["overlaps"])
@pytest.mark.parametrize("group", ["overlaps", "states", "theory", "experiments", "asymptotics"])
def test_first_calls_inside_jit(group):
    """One process for each group: its start takes longer than a call."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_ENABLE_X64", None)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), group], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "first calls" in done.stdout
