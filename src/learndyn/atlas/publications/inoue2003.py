"""Inoue, Park & Okada 2003: teachers that are correlated."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

INOUE = Publication("inoue2003", "Inoue, Park & Okada, cond-mat/0212006 (2003)")
OWN = "computed for the atlas"


def _correlated(s: SimpleNamespace) -> "xarray.Dataset":
    c = np.array(s.c)
    errors, rates, norms = zip(*(_saddle(s, float(one)) for one in c), strict=True)
    return labelled(
        {
            "eg": ("c", errors, "ε_g of the plateau"),
            "rate": ("c", rates, "growth rate over η"),
            "norm": ("c", norms, "Q of the plateau"),
            "norm_predicted": ("c", (1 + c) / (3 - c), "Q of the plateau"),
        },
        c=c,
    )


def _saddle(s: SimpleNamespace, c: float) -> tuple[float, float, float]:
    """eg, the largest growth rate over lr, and Q where both units are still alike."""
    problem, rule = ld.Problem(), ld.SGD(lr=s.lr)
    q = (1 + c) / (3 - c)
    r = (q * (1 + c) / 2) ** 0.5
    # The limit η → 0, a little apart so that the covariance is not singular.
    start = ld.Overlaps(
        [[q + s.apart, q], [q, q + s.apart]], np.full((2, 2), r), [[1.0, c], [c, 1.0]]
    )
    point = ld.asymptotics.fixed_point(problem, rule, start)
    near = ld.asymptotics.linearise(problem, rule, point.state)
    return (
        float(point.eg),
        float(near.eigenvalues[0].real) / s.lr,
        float(point.state.Q[0, 1]),
    )


C = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
"""From orthogonal teacher units to nearly equal ones."""

CORRELATED = Entry(
    "inoue2003-correlated",
    INOUE,
    "the more alike the teacher units, T₁₂ = c, the longer the plateau",
    "A",
    "b",
    settings={"c": C, "lr": 1e-3, "apart": 1e-3},
    run=_correlated,
    published=(
        *numbers(
            "eg", ".0116153 .0091585 .0062502 .0033483 .0010093 .00027768", {"c": C}, source=OWN
        ),
        *numbers("rate", ".065746 .061599 .05286 .039693 .022124 .011649", {"c": C}, source=OWN),
        *numbers("norm", "", {"c": C}, kind="shown", source="(1 + c)/(3 − c) as η → 0"),
    ),
    panels=(Panel("eg", "c"), Panel("rate", "c"), Panel("norm", "c")),
    note="natural gradient, which has no plateau, is another rule",
)

ENTRIES = (CORRELATED,)
