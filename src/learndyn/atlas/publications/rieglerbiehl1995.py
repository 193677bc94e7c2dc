"""Riegler & Biehl, J. Phys. A 28, L507 (1995): on-line backpropagation of both layers."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along

if TYPE_CHECKING:
    import xarray

RIEGLER = Publication("rieglerbiehl1995", "Riegler & Biehl, J. Phys. A 28, L507 (1995)")
OWN = "computed for the atlas"


def _backprop(s: SimpleNamespace) -> "xarray.Dataset":
    ts = np.linspace(0.0, s.alpha_max, s.points)
    start = ld.Overlaps(np.diag(s.q), np.diag(s.r), np.eye(2), v=s.v)
    runs = {}
    for rate in s.lr_second:
        rule = ld.SGD(lr=s.lr, lr_second=rate)
        runs[rate] = ld.to_dataset(ld.solve_ode(ld.Problem(), rule, start, ts))
    found = along("lr_second", runs)
    last = np.sort(np.abs(found.v.isel(alpha=-1, drop=True).values), axis=1)
    words = {"long_name": "smallest |v| at the end"}
    return found.assign(smallest_v=("lr_second", last[:, 0], words))


BACKPROP = Entry(
    "rieglerbiehl1995-backprop",
    RIEGLER,
    "both layers learn: the plateau persists, and v → (1, 1)",
    "R",
    "c",
    settings={
        "lr": 0.5,
        "lr_second": (0.1, 0.5, 1.0),
        "q": (0.2, 0.3),
        "r": (1e-3, 5e-4),
        "v": (0.5, 0.4),
        "alpha_max": 800.0,
        "points": 401,
    },
    run=_backprop,
    published=(
        *(
            one
            for rate, value in {0.1: ".0159", 0.5: ".0141", 1.0: ".01423"}.items()
            for one in numbers(
                "eg", value, {"alpha": (50,)}, at={"lr_second": rate}, source=f"plateau, {OWN}"
            )
        ),
        *numbers("smallest_v", "1 1", {"lr_second": (0.5, 1.0)}, within=0.01, source="v → (1, 1)"),
    ),
    panels=(Panel("eg", "alpha", by="lr_second", log="y"),),
    note="the paper's parameters were not read; when the plateau ends depends on R(0)",
)

ENTRIES = (BACKPROP,)
