"""Werfel, Xie & Seung 2005: learning by perturbation of units."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

WERFEL = Publication("werfel2005", "Werfel, Xie & Seung, Neural Comput. 17, 2699 (2005)")
OWN = "computed for the atlas"
RULES = ("sgd", "normal", "sign")


def _perturbation(s: SimpleNamespace) -> "xarray.Dataset":
    problem = ld.Problem(noise=s.noise)
    start = ld.asymptotics.specialised_state(s.k, 0)

    def final(rule: ld.rules.AbstractRule) -> float:
        return float(ld.asymptotics.fixed_point(problem, rule, start).eg) / s.noise**2

    perturb = ld.rules.NodePerturbation
    found = np.array(
        [
            [final(ld.SGD(lr)), final(perturb(lr=lr)), final(perturb(law="sign", lr=lr))]
            for lr in s.lr
        ]
    ).T
    return labelled(
        {
            "eg": (("rule", "lr"), found, "final ε_g/σ²"),
            "ratio": (("rule", "lr"), found / found[0], "final ε_g over that of SGD"),
            "ratio_limit": ("rule", [1.0, s.k + 2.0, float(s.k)], "its limit at small η"),
        },
        rule=list(RULES),
        lr=np.array(s.lr),
    )


PERTURBATION = Entry(
    "werfel2005-perturbation",
    WERFEL,
    "node perturbation: final error of K + 2 times SGD's (normal numbers), K (signs)",
    "R",
    "b",
    settings={"k": 2, "noise": 0.01, "lr": (0.005, 0.01, 0.02, 0.05)},
    run=_perturbation,
    quick={"lr": (0.005, 0.05)},
    published=(
        *numbers("eg", ".009391 .039956 .019204", {"rule": RULES}, at={"lr": 0.05}, source=OWN),
        *numbers("eg", ".000921 .003705 .001846", {"rule": RULES}, at={"lr": 0.005}, source=OWN),
        *numbers("ratio", "4 2", {"rule": ("normal", "sign")}, at={"lr": 0.005}, within=0.03),
    ),
    panels=(
        Panel("eg", "lr", by="rule", log="xy"),
        Panel("ratio", "lr", by="rule"),
    ),
    note="of the paper's linear networks only the factor is shown, here with erf units",
)

ENTRIES = (PERTURBATION,)
