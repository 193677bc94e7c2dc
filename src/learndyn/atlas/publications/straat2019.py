"""Straat & Biehl 2019: committees of ReLU units."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

STRAAT = Publication("straat2019", "Straat & Biehl, ESANN 2019, arXiv 1903.07378")
OWN = "computed for the atlas"


def _relu(s: SimpleNamespace) -> "xarray.Dataset":
    problem, rates = ld.Problem(ld.ReLU(), ld.ReLU()), np.array(s.lr)
    start = ld.asymptotics.symmetric_state(2, 2, **dict(s.saddle))
    errors, growth = [], []
    for lr in s.lr:
        rule = ld.SGD(lr=lr)
        point = ld.asymptotics.fixed_point(problem, rule, start)
        start = point.state
        near = ld.asymptotics.linearise(problem, rule, point.state)
        errors.append(float(point.eg))
        growth.append(float(near.eigenvalues[0].real) / lr)
    m = np.array(s.m)
    return labelled(
        {
            "eg": ("lr", errors, "ε_g of the symmetric saddle, K = M = 2"),
            "rate": ("lr", growth, "growth rate over η"),
            "critical": ("m", ld.asymptotics.critical_lr_relu(m), "critical rate η_c"),
        },
        lr=rates,
        m=m,
    )


RELU = Entry(
    "straat2019-relu",
    STRAAT,
    "ReLU committees: the symmetric saddle, how fast it is left, and the critical learning rate",
    "A",
    "b",
    settings={
        "lr": (0.01, 0.1, 0.5, 1.0),
        "saddle": (("q", 0.7188), ("c", 0.38235), ("r", 0.52449)),
        "m": (1, 2, 3, 4),
    },
    run=_relu,
    published=(
        *numbers(
            "eg", ".0738889 .0765751 .0951829 .168777", {"lr": (0.01, 0.1, 0.5, 1.0)}, source=OWN
        ),
        *numbers("rate", ".2384 .23093 .1967 .13596", {"lr": (0.01, 0.1, 0.5, 1.0)}, source=OWN),
        *numbers("critical", "2 1.267949 .961929 .777490", {"m": (1, 2, 3, 4)}, source=OWN),
    ),
    panels=(Panel("eg", "lr"), Panel("rate", "lr"), Panel("critical", "m")),
)

ENTRIES = (RELU,)
