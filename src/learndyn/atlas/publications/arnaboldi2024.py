"""Arnaboldi, Dandi, Krzakala, Loureiro, Pesce & Stephan 2024: batches and the rate of steps."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, ensemble, labelled

if TYPE_CHECKING:
    import xarray

ARNABOLDI = Publication(
    "arnaboldi2024", "Arnaboldi et al., Online Learning and Information Exponents, ICML 2024"
)
STORED = "a stored run of the authors' repository, which keeps (ε_g + Δ)/2"
RATES = ("noise", "Saad-Solla", "population")


def _batch(s: SimpleNamespace) -> "xarray.Dataset":
    steps = np.unique(np.geomspace(1, s.steps, s.points).astype(int))
    ts = np.concatenate([[0.0], np.union1d(steps, s.compared)]) / s.n
    return along("rate", {name: _curve(s, name, ts) for name in s.gamma})


def _curve(s: SimpleNamespace, name: str, ts: np.ndarray) -> "xarray.Dataset":
    """Mean error over chains, and the scatter of one run about it."""
    problem = ld.Problem(noise=s.Delta**0.5)
    # Weights of unit length there have length √n here: their rate is ours over n.
    rule = ld.SGD(lr=s.gamma[name] * s.n, batch_size=s.batch[name], spherical=True)
    start = ld.Overlaps(
        Q=[[1.0, s.q12], [s.q12, 1.0]],
        R=np.zeros((2, 2)),
        T=np.eye(2),
        v=[0.5, 0.5],
        v_teacher=[0.5, 0.5],
    )
    runs = ensemble("chain", problem, rule, start, ts, n=s.n, runs=s.runs, seed=0)
    one = labelled(
        {
            "eg": ("step", runs.eg.mean("seed").values),
            # A stored run is one more run: it scatters about our mean like that.
            "eg_error": ("step", (1 + 1 / s.runs) ** 0.5 * runs.eg.std("seed", ddof=1).values),
        },
        step=np.round(ts * s.n).astype(int),
    )
    one.step.attrs["long_name"] = "steps"
    return one


STEPS = (10, 100, 1000, 10000)

BATCH = Entry(
    "arnaboldi2024-batch",
    ARNABOLDI,
    "large batches on the sphere: steps so long that noise wins, of Saad and Solla, and short ones",
    "C",
    "a",
    settings={
        "n": 10000,
        "Delta": 1e-2,
        "gamma": {"noise": 0.09486832980505139, "Saad-Solla": 0.08, "population": 0.001},
        "batch": {"noise": 10, "Saad-Solla": 100, "population": 100},
        "q12": 0.00305318,
        "steps": 10000,
        "points": 41,
        "compared": STEPS,
        "runs": 32,
    },
    quick={"steps": 100, "compared": (10, 100), "points": 15, "runs": 64},
    run=_batch,
    published=tuple(
        one
        for rate, values in {
            "noise": ".212473 .232645 .227991 .229461",
            "Saad-Solla": ".151790 .071158 .026840 .020745",
            "population": ".166566 .163172 .131404 .0143826",
        }.items()
        for one in numbers(
            "eg", values, {"step": STEPS}, at={"rate": rate}, kind="stored", source=STORED
        )
    ),
    panels=(Panel("eg", "step", by="rate", log="xy"),),
    note="the exact law of SGD with N = 10000, from the overlaps of the stored start",
)

ENTRIES = (BATCH,)
