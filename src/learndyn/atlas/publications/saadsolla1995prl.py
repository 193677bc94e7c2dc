"""Saad & Solla, Phys. Rev. Lett. 74, 4337 (1995): a student with a unit too many."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along

if TYPE_CHECKING:
    import xarray

SAADSOLLA = Publication("saadsolla1995prl", "Saad & Solla, Phys. Rev. Lett. 74, 4337 (1995)")
OWN = "computed for the atlas"


def _fig1(s: SimpleNamespace) -> "xarray.Dataset":
    start = ld.Overlaps(np.diag(s.q), np.zeros((len(s.q), len(s.t))), np.diag(s.t))
    ts = np.linspace(0.0, s.alpha_max, s.points)
    runs = {lr: ld.to_dataset(ld.solve_ode(ld.Problem(), ld.SGD(lr=lr), start, ts)) for lr in s.lr}
    found = along("lr", runs)
    ended = {"drop": True, "alpha": -1}
    norms = np.diagonal(found.Q.isel(**ended).values, axis1=1, axis2=2)
    return found.assign(
        norm=(
            ("lr", "rank"),
            np.sort(norms, axis=1)[:, ::-1],
            {"long_name": "Q_ii at the end, sorted"},
        ),
    ).assign_coords(rank=np.arange(len(s.q)) + 1)


FIG1 = Entry(
    "saadsolla1995prl-fig1",
    SAADSOLLA,
    "three units learn from two of unequal strength: plateau, specialisation, one unit dies",
    "2",
    "b",
    settings={
        "lr": (1.0, 0.5),
        "q": (0.1, 0.25, 0.4),
        "t": (1.0, 2.0),
        "alpha_max": 400.0,
        "points": 401,
    },
    run=_fig1,
    published=(
        *numbers(
            "eg",
            ".5842 .1739 .0843 .0759 .0748 .0674 .0164 2.4e-7",
            {"alpha": (0, 2, 5, 10, 20, 50, 100, 400)},
            at={"lr": 1.0},
            source=OWN,
        ),
        *numbers(
            "eg",
            ".00684",
            {"alpha": (200,)},
            at={"lr": 1.0},
            source=OWN,
            missed="0.006835: one in the last digit",
        ),
        *numbers(
            "eg",
            ".038 .0342 .00682 2.9e-4",
            {"alpha": (30, 100, 200, 400)},
            at={"lr": 0.5},
            source=OWN,
        ),
        *numbers(
            "norm",
            "2 1 0",
            {"rank": (1, 2, 3)},
            at={"lr": 1.0},
            within=0.01,
            source="Q → (2, 1, 0)",
        ),
    ),
    panels=(
        Panel("eg", "alpha", by="lr", log="y"),
        Panel("R", at={"lr": 1.0, "alpha": 30.0}, title="R on the plateau, η = 1, α = 30"),
        Panel("R", at={"lr": 1.0, "alpha": 400.0}, title="R at the end, η = 1"),
    ),
    note="a public reproduction quotes the setting; η = 1 is calculated back from it",
)

ENTRIES = (FIG1,)
