"""Biehl, Riegler & Wöhler, J. Phys. A 29, 4769 (1996): how long plateaus last."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

BIEHL = Publication("biehl1996", "Biehl, Riegler & Wöhler, J. Phys. A 29, 4769 (1996)")
OWN = "computed for the atlas"


def _plateaus(s: SimpleNamespace) -> "xarray.Dataset":
    sizes, names = np.array(s.n, float), [f"K = {k}, η = {lr:g}" for k, lr in s.cases]
    times = [
        ld.asymptotics.escape_time(
            ld.Problem(), ld.SGD(lr=lr), ld.asymptotics.plateau(k, lr).state, sizes
        )
        for k, lr in s.cases
    ]
    return labelled(
        {
            "escape": (("case", "n"), [one.mean for one in times], "mean escape time, in α"),
            "scatter": ("case", [float(one.std[0]) for one in times], "standard deviation"),
            "rate": ("case", [float(one.rate) for one in times], "growth rate λ"),
        },
        case=names,
        n=sizes,
    )


SIZES = (100, 784, 10**4, 10**6)
"""Input dimensions over four decades, that of MNIST's images among them: ln N grows by a factor of
3."""

PLATEAUS = Entry(
    "biehl1996-plateaus",
    BIEHL,
    "the length of the plateau grows as ln N/(2λ) with the input dimension N",
    "A",
    "b",
    settings={"cases": ((2, 0.2), (2, 1.0), (3, 0.2)), "n": SIZES},
    quick={"cases": ((2, 0.2), (2, 1.0))},
    run=_plateaus,
    published=(
        *(
            one
            for case, values in {
                "K = 2, η = 0.2": "508.8 588.2 686.3 863.8",
                "K = 3, η = 0.2": "664.5 780.2 923.3 1182.1",
                "K = 2, η = 1": "79.6 97.0 118.5 157.4",
            }.items()
            for one in numbers(
                "escape",
                values,
                {"n": SIZES},
                at={"case": case},
                source=OWN,
                missed="those nodes were coarser: product nodes give 508.06 and 80.13",
            )
        ),
        *numbers(
            "scatter",
            "84.4 106.9 18.5",
            {"case": ("K = 2, η = 0.2", "K = 3, η = 0.2", "K = 2, η = 1")},
            source=OWN,
        ),
        *numbers(
            "rate",
            ".0129707 .0088965",
            {"case": ("K = 2, η = 0.2", "K = 3, η = 0.2")},
            source=OWN,
        ),
    ),
    panels=(Panel("escape", "n", by="case", log="x", title="from the symmetric fixed point"),),
)

ENTRIES = (PLATEAUS,)
