"""Richert, Worschech & Rosenow 2021: soft modes of over-realisable students."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along
from learndyn.atlas._starts import start

if TYPE_CHECKING:
    import xarray

RICHERT = Publication("richert2021", "Richert, Worschech & Rosenow, arXiv 2104.14546")
OWN = "computed for the atlas"


def _softmode(s: SimpleNamespace) -> "xarray.Dataset":
    rule = ld.SGD(lr=s.lr)
    ts = np.concatenate([[0.0], np.geomspace(10.0, s.alpha_max, s.points)])
    tolerances: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-18}
    runs = {
        f"K = {k}, M = {m}": ld.to_dataset(
            ld.solve_ode(ld.Problem(), rule, start(f"{s.start}-{k}to{m}"), ts, **tolerances)
        )
        for k, m in s.sizes
    }
    found = along("size", runs)
    slope = np.gradient(np.log(found.eg.values[:, 1:]), np.log(ts[1:]), axis=1)
    padded = np.concatenate([np.full((len(runs), 1), np.nan), slope], axis=1)
    late = ts >= ts[-1] / 4
    last = np.polyfit(np.log(ts[late]), np.log(found.eg.values[:, late]).T, 1)[0]
    words = {"long_name": "local exponent d ln ε_g/d ln α"}
    return found.assign(
        exponent=(("size", "alpha"), padded, words),
        last_exponent=("size", last, {"long_name": "exponent at late times"}),
    )


SOFTMODE = Entry(
    "richert2021-softmode",
    RICHERT,
    "with outputs rescaled by 1/K the error of too large a student falls as a power of α",
    "A",
    "b",
    settings={
        "lr": 1.0,
        "sizes": ((4, 2), (2, 1)),
        "start": "richert2021",
        "alpha_max": 5e5,
        "points": 121,
    },
    run=_softmode,
    published=(
        *numbers(
            "last_exponent",
            "-2 -2",
            {"size": ("K = 4, M = 2", "K = 2, M = 1")},
            within=0.03,
            source="−2.01 and −1.99 at late times from other starts, for the atlas",
        ),
    ),
    panels=(
        Panel("eg", "alpha", by="size", log="xy", title="v = 1/K, v* = 1/M"),
        Panel("exponent", "alpha", by="size", log="x"),
    ),
    note="the exponent −2 is ours; the paper's number was not read",
)

ENTRIES = (SOFTMODE,)
