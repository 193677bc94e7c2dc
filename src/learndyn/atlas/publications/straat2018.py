"""Straat, Abadi, Göpfert, Hammer & Biehl 2018 and Straat et al. 2022: teachers that drift."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

STRAAT2018 = Publication("straat2018", "Straat, Abadi, Göpfert, Hammer & Biehl, Entropy 20 (2018)")
STRAAT2022 = Publication("straat2022", "Straat, Abadi, Kan, Göpfert, Hammer & Biehl, NCA 34 (2022)")
OWN = "computed for the atlas"


def _final(s: SimpleNamespace) -> "xarray.Dataset":
    """The end of long runs of K = M = 2 from a specialised start, at each rate of the drift."""
    unit = {"erf": ld.Erf, "relu": ld.ReLU}[s.unit]()
    task, rule = ld.Task(ld.Problem(unit, unit), [1.0, 1.0]), ld.SGD(lr=s.lr)
    start = ld.Overlaps(s.q * np.eye(2), [[s.r, s.r_other], [s.r_other, s.r]], np.eye(2))
    ts = np.array([0.0, s.alpha_max])
    # One drift is one program: the rate is data.
    runs = [ld.learn("ode", [task], rule, start, ts, drift=ld.Drift(rate)) for rate in s.rate]
    return labelled(
        {
            "eg": ("rate", [run.eg[-1] for run in runs]),
            "gap": ("rate", [run.R[-1, 0, 0] - run.R[-1, 0, 1] for run in runs], "R_11 - R_12"),
        },
        rate=np.array(s.rate),
    )


START = {"q": 1.0, "r": 0.9, "r_other": 0.0}

ERF = Entry(
    "straat2018-drift",
    STRAAT2018,
    "erf teachers drift: the error that remains, and the drift at which specialisation is lost",
    "A",
    "b",
    settings=START
    | {
        "unit": "erf",
        "lr": 0.5,
        "rate": (0.001, 0.003, 0.01, 0.02, 0.028, 0.03, 0.05, 0.1),
        "alpha_max": 2e4,
    },
    run=_final,
    published=(
        *numbers(
            "eg",
            ".0024148 .0069242 .0198927 .0329067 .0419698 .0592774 .0992589",
            {"rate": (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1)},
            source=OWN,
        ),
        *numbers(
            "gap",
            "0 0 0",
            {"rate": (0.03, 0.05, 0.1)},
            within=1e-3,
            source="beyond δ_c = .0297",
        ),
    ),
    panels=(Panel("eg", "rate", log="xy"), Panel("gap", "rate", log="x", title="specialisation")),
    note="rates, sizes and starts are ours; the paper's figures also start on a plateau",
)

RELU = Entry(
    "straat2022-drift",
    STRAAT2022,
    "ReLU teachers drift: specialisation survives nearly three times the drift that erf bears",
    "A",
    "b",
    settings=START
    | {
        "unit": "relu",
        "lr": 0.5,
        "rate": (0.01, 0.03, 0.05, 0.08, 0.09, 0.1, 0.2),
        "alpha_max": 4e3,
    },
    run=_final,
    published=(
        *numbers(
            "eg",
            ".0306172 .0873898 .137554 .2229433 .2970455",
            {"rate": (0.01, 0.03, 0.05, 0.1, 0.2)},
            source=OWN,
        ),
        *numbers("gap", ".1165", {"rate": (0.08,)}, source=OWN),
        *numbers("gap", "0 0 0", {"rate": (0.09, 0.1, 0.2)}, within=1e-3, source="beyond δ_c"),
    ),
    panels=(Panel("eg", "rate", log="xy"), Panel("gap", "rate", log="x", title="specialisation")),
    note="rates, sizes and starts are ours; weight decay is left out",
)

ENTRIES = (ERF, RELU)
