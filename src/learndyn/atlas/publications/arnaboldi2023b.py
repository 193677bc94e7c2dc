"""Arnaboldi, Krzakala, Loureiro & Stephan 2023: how long phase retrieval stays at its start."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

ARNABOLDI = Publication("arnaboldi2023b", "Arnaboldi et al., arXiv 2305.18502")
STORED = "the stored ODE run of the authors' repository"


def _exit(s: SimpleNamespace) -> "xarray.Dataset":
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=s.Delta**0.5)
    rule = ld.SGD(lr=s.gamma, spherical=True)
    cosine = (1 - s.risk / 2) ** 0.5  # the risk is 2 (1 - cosine²)
    start = ld.Overlaps(Q=[[1.0]], R=[[cosine]], T=[[1.0]])
    ts = s.first + s.spacing * np.arange(int((s.t_max - s.first) / s.spacing) + 1)
    ts = np.concatenate([[0.0], ts])  # t is alpha times the rate
    risk = np.asarray(ld.solve_ode(problem, rule, start, ts / s.gamma).eg)
    exits = [ts[np.argmax(risk <= level * risk[0])] for level in s.level]
    return labelled(
        {
            "risk": ("t", risk, "risk ε_g"),
            "exit": ("level", exits, "first stored time at which the risk is below level × R(0)"),
        },
        t=ts,
        level=np.array(s.level),
    )


EXIT = Entry(
    "arnaboldi2023b-exit",
    ARNABOLDI,
    "phase retrieval by SGD on the sphere: the time to leave the start",
    "C",
    "b",
    settings={
        "gamma": 0.1,
        "Delta": 1e-4,
        "risk": 1.9993170768,
        "level": (0.99, 0.5, 0.1, 0.01),
        "first": 1.001,
        "spacing": 0.09,
        "t_max": 9.0,
    },
    run=_exit,
    published=numbers(
        "exit",
        "1.091 2.531 3.251 3.971",
        {"level": (0.99, 0.5, 0.1, 0.01)},
        kind="stored",
        source=STORED,
    ),
    panels=(Panel("risk", "t"),),
    note=(
        "the repository stores a hundred times a decade, here 0.09 apart: its exit times are the "
        "next ones stored; this grid is inferred from the times themselves"
    ),
)

ENTRIES = (EXIT,)
