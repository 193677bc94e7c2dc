"""Safran & Shamir 2018: local minima of ReLU networks that learn from their like."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

SAFRAN = Publication("safran2018", "Safran & Shamir, ICML 2018, arXiv 1712.08968")
OWN = "computed for the atlas with independent code"


def _spurious(s: SimpleNamespace) -> "xarray.Dataset":
    import jax

    rng = np.random.default_rng(s.seed)
    ts = np.concatenate([[0.0], np.geomspace(1.0, s.alpha_max, s.points)])
    weights = np.stack([_guess(one) for one in s.guesses])
    weights += s.apart * rng.normal(size=weights.shape)
    problem, rule = ld.Problem(ld.ReLU(), ld.ReLU()), ld.SGD(lr=s.lr, batch_size=np.inf)

    def flow(w: jax.Array) -> ld.Trajectory:
        """The flow of six units whose weights are w in the basis of the teacher's."""
        start = ld.Overlaps(w @ w.T, w, np.eye(len(w)))
        return ld.solve_ode(problem, rule, start, ts, rtol=1e-7)

    run = jax.vmap(flow)(weights)
    names = np.arange(len(weights)) + 1
    return labelled(
        {
            "eg": (("guess", "alpha"), run.eg, "ε_g, half of the mean squared error"),
            "end": ("guess", run.eg[:, -1], "ε_g at the end"),
            "R": (("student", "teacher"), run.R[0, -1], "overlaps at the end"),
        },
        guess=names,
        alpha=ts,
    )


def _guess(numbers_of: tuple[float, float, float]) -> np.ndarray:
    """Weights of six units: five are like a teacher unit each, the sixth is not like the last one.

    numbers_of: what the five have of their own unit, the sixth of the first five, and of its own.
    """
    own, rest, last = numbers_of
    w = own * np.eye(6)
    w[-1] = rest
    w[-1, -1] = last
    return w


SPURIOUS = Entry(
    "safran2018-spurious",
    SAFRAN,
    "six ReLU units that learn from six orthonormal ones may rest in a local minimum",
    "R",
    "b",
    settings={
        "guesses": ((0.95, 0.2, -0.8), (0.9, 0.35, -1.0)),
        "apart": 1e-3,
        "seed": 0,
        "lr": 0.2,
        "alpha_max": 5000.0,
        "points": 41,
    },
    run=_spurious,
    published=numbers("end", ".0250805810 .0250805810", {"guess": (1, 2)}, source=OWN),
    panels=(
        Panel("eg", "alpha", by="guess", log="xy", title="two guesses, each disturbed"),
        Panel("R", title="R at the end"),
    ),
    note=(
        "gradient flow in the limit of many inputs; the table of the paper, which counts how often "
        "random starts end so, was not read"
    ),
)

ENTRIES = (SPURIOUS,)
