"""Şimşek, Bendjeddou, Gerstner & Brea 2023: copy-average of under-parameterised students."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along
from learndyn.atlas._starts import start

if TYPE_CHECKING:
    import xarray

SIMSEK = Publication(
    "simsek2023", "Şimşek, Bendjeddou, Gerstner & Brea, NeurIPS 2023, arXiv 2311.01644"
)
OWN = "computed for the atlas"


def _loss(units: int) -> float:
    """The loss of one erf unit that averages this many orthonormal teacher units."""
    return units / np.pi * (np.pi / 6 - units * np.arcsin(0.5 / units))


def _copy_average(s: SimpleNamespace) -> "xarray.Dataset":
    problem, rule = ld.Problem(), ld.SGD(lr=s.lr, lr_second=s.lr)
    ts = np.concatenate([[0.0], np.geomspace(10.0, s.alpha_max, s.points)])
    runs = {
        f"{n} of {k}": ld.to_dataset(ld.solve_ode(problem, rule, start(f"{s.start}-{n}of{k}"), ts))
        for n, k in s.pairs
    }
    found = along("students", runs)
    optimum = [_loss(k - n + 1) for n, k in s.pairs]
    final = found.eg.isel(alpha=-1, drop=True)
    largest = np.abs(found.v.isel(alpha=-1, drop=True)).max("student")
    words = "second-layer weight of the unit that averages"
    return found.assign(
        final=final.assign_attrs(long_name="final ε_g"),
        averaging=largest.assign_attrs(long_name=words),
        limit=("students", optimum, {"long_name": "loss of copy-average, η → 0"}),
        formula=("units", [_loss(k) for k in s.units], {"long_name": "loss of one averaging unit"}),
    ).assign_coords(units=list(s.units))


NAMES = ("1 of 2", "1 of 3", "2 of 3", "2 of 4", "3 of 4")

COPY_AVERAGE = Entry(
    "simsek2023-copyaverage",
    SIMSEK,
    "n students of k > n teacher units copy n − 1 of them and average the rest",
    "A+C",
    "b",
    settings={
        "lr": 0.01,
        "pairs": ((1, 2), (1, 3), (2, 3), (2, 4), (3, 4)),
        "units": (2, 3, 4, 5),
        "start": "simsek2023",
        "alpha_max": 1e6,
        "points": 81,
    },
    quick={"pairs": ((1, 2), (1, 3), (2, 3))},
    run=_copy_average,
    published=(
        *numbers(
            "formula", ".0116108 .0202966 .0283773 .0362263", {"units": (2, 3, 4, 5)}, source=OWN
        ),
        *numbers(
            "final",
            ".0117004 .0207151 .0117214 .0207475 .0117425",
            {"students": NAMES},
            source=OWN,
        ),
        *numbers(
            "averaging",
            "2 3 2 3 2",
            {"students": NAMES},
            source="k − n + 1 as η → 0, in whole numbers",
        ),
    ),
    panels=(Panel("eg", "alpha", by="students", log="xy", title="both layers, small η"),),
    note="one start for each pair; the paper has many",
)

ENTRIES = (COPY_AVERAGE,)
