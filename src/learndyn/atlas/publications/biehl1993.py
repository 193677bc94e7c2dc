"""Biehl & Schwarze 1993: a linear unit that follows a teacher who drifts."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

BIEHL = Publication("biehl1993", "Biehl & Schwarze, J. Phys. A 26, 2651 (1993)")
OWN = "computed for the atlas"


def _end(s: SimpleNamespace, loss: Any, decay: float, rate: float, end: float) -> Any:
    """A long run from R = 0.2, Q = 1."""
    task = ld.Task(ld.Problem(ld.Linear(), ld.Sign(), loss), [1.0])
    start = ld.Overlaps(Q=[[s.q]], R=[[s.r]], T=[[1.0]])
    rule, drift = ld.SGD(lr=s.lr, weight_decay=decay), ld.Drift(rate)
    return ld.learn("ode", [task], rule, start, [0.0, s.alpha_early, end], drift=drift)


def _drift(s: SimpleNamespace) -> "xarray.Dataset":
    decay, rate = np.array(s.decay), np.array(s.rate)
    runs = [[_end(s, ld.Hebb(), k, d, s.alpha_max) for k in decay] for d in rate]
    r, q, eg = (
        np.array([[float(of(run)) for run in row] for row in runs])
        for of in (lambda x: x.R[-1, 0, 0], lambda x: x.Q[-1, 0, 0], lambda x: x.eg[-1])
    )
    root = (2 / np.pi) ** 0.5
    rest = s.lr * root / (rate[:, None] + s.lr * decay)
    norm = (2 * rest * root + s.lr) / (2 * decay)
    perceptron = _end(s, ld.Perceptron(), 0.0, s.perceptron_rate, s.alpha_max)
    dims = ("rate", "decay")
    return labelled(
        {
            "R": (dims, r, "R of Hebb's rule"),
            "R_predicted": (dims, rest, "η√(2/π)/(δ + ηκ)"),
            "Q": (dims, q, "Q of Hebb's rule"),
            "Q_predicted": (dims, norm, "(2R√(2/π) + η)/(2κ)"),
            "eg": (dims, eg, "error of Hebb's rule"),
            "eg_predicted": (dims, np.arccos(rest / norm**0.5) / np.pi, "arccos(R/√Q)/π"),
            "perceptron": ("alpha", perceptron.eg[1:], "error of the perceptron"),
        },
        rate=rate,
        decay=decay,
        alpha=np.array([s.alpha_early, s.alpha_max]),
    )


DRIFT = Entry(
    "biehl1993-drift",
    BIEHL,
    "who follows a teacher who drifts has to forget: Hebb's rule has a best weight decay",
    "R",
    "b",
    settings={
        "lr": 1.0,
        "q": 1.0,
        "r": 0.2,
        "rate": (0.01, 0.1),
        "decay": (0.03, 0.06, 0.1133, 0.2, 0.3, 0.3708, 0.6, 1.0),
        "perceptron_rate": 0.05,
        "alpha_early": 20.0,
        "alpha_max": 1000.0,
    },
    run=_drift,
    published=(
        *numbers("R", "1.99471", {"decay": (0.3,)}, at={"rate": 0.1}, source=OWN),
        *numbers("Q", "6.97183", {"decay": (0.3,)}, at={"rate": 0.1}, source=OWN),
        *numbers("eg", ".227418 .226041", {"decay": (0.3, 0.3708)}, at={"rate": 0.1}, source=OWN),
        *numbers("eg", ".131956", {"decay": (0.1133,)}, at={"rate": 0.01}, source=OWN),
        *numbers("perceptron", ".179320 .179171", {"alpha": (20, 1000)}, source=OWN),
    ),
    panels=(
        Panel("eg", "decay", by="rate", log="x", title="Hebb's rule"),
        Panel("R", "decay", by="rate", log="x", title="Hebb's rule"),
    ),
    note="the paper is remembered; rates and starts are ours",
)

ENTRIES = (DRIFT,)
