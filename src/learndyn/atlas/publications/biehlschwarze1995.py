"""Biehl & Schwarze, J. Phys. A 28, 643 (1995): a single erf unit."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

BIEHL = Publication("biehlschwarze1995", "Biehl & Schwarze, J. Phys. A 28, 643 (1995)")
OWN = "computed for the atlas"


def _single(s: SimpleNamespace) -> "xarray.Dataset":
    rates = np.array(s.lr)
    state = ld.asymptotics.specialised_state(1, 0)
    tiny = ld.asymptotics.linearise(ld.Problem(), ld.SGD(lr=s.tiny_lr), state)
    rule = ld.SGD(lr=1.0)
    return labelled(
        {
            "eg": ("lr", ld.asymptotics.eg_specialised(1, 0, rates), "ε_g*/σ²"),
            "critical_predicted": ((), ld.asymptotics.critical_lr_specialised(1), "critical η"),
            "critical": ((), ld.asymptotics.critical_lr(ld.Problem(), rule, state), "critical η"),
            "eigenvalue": (
                "mode",
                np.asarray(tiny.eigenvalues.real) / s.tiny_lr,
                "eigenvalue over η, η → 0",
            ),
        },
        lr=rates,
        mode=[1, 2],
    )


SINGLE = Entry(
    "biehlschwarze1995-single",
    BIEHL,
    "K = M = 1: decay rates, the critical learning rate, and what label noise leaves",
    "R",
    "b",
    settings={"lr": (0.1, 0.5, 1.0, 2.0, 3.0, 4.0), "tiny_lr": 1e-5},
    run=_single,
    published=(
        *numbers("critical", "4.055779", source=OWN),
        *numbers(
            "eg",
            ".0094211 .0524046 .121958 .362566 1.058966 26.7",
            {"lr": (0.1, 0.5, 1.0, 2.0, 3.0, 4.0)},
            source=OWN,
        ),
        *numbers("eigenvalue", "-.122518 -.735105", {"mode": (1, 2)}, source=OWN),
    ),
    panels=(Panel("eg", "lr", log="y"),),
)

ENTRIES = (SINGLE,)
