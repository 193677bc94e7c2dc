"""Mignacco & Mori 2025: dropout."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import ensemble, labelled

if TYPE_CHECKING:
    import xarray

MIGNACCO = Publication("mignacco2025", "Mignacco & Mori, arXiv 2507.07907")
OWN = "computed for the atlas"


def _dropout(s: SimpleNamespace) -> "xarray.Dataset":
    rule = ld.rules.Dropout(keep=s.keep, lr=s.lr, lr_second=s.lr)
    problem = ld.Problem(noise=s.noise)
    start = ld.Overlaps(s.q, s.r, np.eye(2), v=s.v)
    ts = np.linspace(0.0, s.alpha_max, s.points)
    theory = ld.to_dataset(ld.solve_ode(problem, rule, start, ts))
    runs = ensemble("chain", problem, rule, start, ts, n=s.n, runs=s.runs, seed=0)
    mean, error = runs.mean("seed"), runs.std("seed", ddof=1) / s.runs**0.5
    data = {}
    for name, dims in {"eg": ("alpha",), "v": ("student", "alpha")}.items():
        labels = tuple("unit" if dim == "student" else dim for dim in dims)
        parts = {"": mean, "_error": error, "_predicted": theory}
        words = ("v_i",) if name == "v" else ()
        for end, part in parts.items():
            data[name + end] = (labels, part[name].transpose(*dims).values, *words)
    return labelled(data, alpha=ts, unit=[1, 2])


DROPOUT = Entry(
    "mignacco2025-dropout",
    MIGNACCO,
    "dropout of hidden units: theory on runs, both layers",
    "A",
    "c",
    settings={
        "keep": 0.8,
        "lr": 0.5,
        "noise": 0.1,
        "q": ((0.3, 0.05), (0.05, 0.25)),
        "r": ((0.12, 0.03), (0.02, 0.1)),
        "v": (0.8, 0.6),
        "alpha_max": 10.0,
        "points": 21,
        "n": 2000,
        "runs": 64,
    },
    run=_dropout,
    published=(
        *numbers("v_predicted", ".96706 .77218", {"unit": (1, 2)}, at={"alpha": 10}, source=OWN),
        *numbers("eg", "", {"alpha": (2, 5, 10)}, kind="shown", source="theory on runs"),
        *numbers(
            "v", "", {"unit": (1, 2)}, at={"alpha": 10}, kind="shown", source="theory on runs"
        ),
    ),
    panels=(Panel("eg", "alpha", log="y"), Panel("v", "alpha", by="unit")),
    note="the paper's optimal schedules of dropout are not made here; the setting is ours",
)

ENTRIES = (DROPOUT,)
