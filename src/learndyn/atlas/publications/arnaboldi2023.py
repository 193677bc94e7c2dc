"""Arnaboldi, Stephan, Krzakala & Loureiro 2023: dimensionless ODEs of SGD."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled
from learndyn.atlas._starts import start

if TYPE_CHECKING:
    import xarray

ARNABOLDI = Publication(
    "arnaboldi2023",
    "Arnaboldi, Stephan, Krzakala & Loureiro, COLT 2023 (repository DimensionlessDynamicsSGD)",
)


def _classic(s: SimpleNamespace) -> "xarray.Dataset":
    t = np.concatenate([[0.0], np.geomspace(0.01, s.t_max, s.points), s.t])
    t = np.unique(t)
    # Batches this large leave no term of order lr²; the noise's own is kept by enlarging it.
    problem = ld.Problem(noise=(s.Delta * s.batch_size) ** 0.5)
    rule = ld.SGD(lr=s.gamma, batch_size=s.batch_size)
    initial = start(s.start)
    run = ld.solve_ode(problem, rule, initial, t * s.p / s.gamma)
    found = labelled({"risk": ("t", run.eg, "risk R − Δ/2")}, t=t)
    kept = ld.to_dataset(run).attrs
    found.t.attrs["long_name"] = "time γ steps/(p d)"
    return found.assign_attrs({name: kept[name] for name in ("problem", "rule", "level")})


CLASSIC = Entry(
    "arnaboldi2023-classic",
    ARNABOLDI,
    "the limit of small steps with label noise: the risk falls over four decades of time",
    "C",
    "a",
    settings={
        "p": 10,
        "gamma": 0.05,
        "Delta": 1e-3,
        "batch_size": 10**6,
        "start": "arnaboldi2023-classic",
        "t": (1.0, 4.6, 10.0, 64.0, 280.0, 820.0, 4600.0, 9910.0),
        "t_max": 1e4,
        "points": 121,
    },
    run=_classic,
    published=numbers(
        "risk",
        "0.0606316 0.0116277 0.00443933 0.00112526 3.47037e-4 1.59131e-4 1.03877e-6 5.68843e-7",
        {"t": (1.0, 4.6, 10.0, 64.0, 280.0, 820.0, 4600.0, 9910.0)},
        kind="stored",
        source="computation-database/classic-limit/erf/ode of the authors' repository",
    ),
    panels=(Panel("risk", "t", log="xy", title="p = 10, k = 2, d = 3"),),
    note="the start is the first row that the repository stores",
)

ENTRIES = (CLASSIC,)
