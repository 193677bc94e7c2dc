"""The first figure of the first notebook shows what the text around it says."""

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "first_steps.py"
CELL = re.compile(r"^# %%(?P<kind>.*)\n(?P<text>(?:(?!# %%).*\n?)*)", re.MULTILINE)


@pytest.mark.nightly
def test_theory_lies_on_the_experiment():
    """SGD falls by three decades, by way of a plateau, and the notebook's own verdict is good."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    first = NOTEBOOK.read_text("utf-8").split("# ## What the theory keeps")[0]
    names = {}
    for cell in CELL.finditer(first):
        if "markdown" not in cell["kind"]:
            exec(compile(cell["text"], str(NOTEBOOK), "exec"), names)
    pyplot.close("all")
    assert names["verdict"].attrs["verdict"] == "agree"
    eg = names["sgd"].eg
    assert eg[-1] < 1e-3 * eg[0]
    assert eg[60] > 0.5 * eg[20]  # a plateau: without one the figure would show little
