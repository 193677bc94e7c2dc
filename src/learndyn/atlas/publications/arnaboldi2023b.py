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
GRID = 0.09
"""Stored times are so far apart: differences of the stored exit times are whole multiples of it."""


def _exit(s: SimpleNamespace) -> "xarray.Dataset":
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=s.Delta**0.5)
    rule = ld.SGD(lr=s.gamma, spherical=True)
    cosine = (1 - s.risk / 2) ** 0.5  # the risk is 2 (1 - cosine²)
    start = ld.Overlaps(Q=[[1.0]], R=[[cosine]], T=[[1.0]])
    ts = np.linspace(0.0, s.t_max, s.points)  # t is alpha times the rate
    risk = np.asarray(ld.solve_ode(problem, rule, start, ts / s.gamma).eg)
    exits = np.interp(-risk[0] * np.array(s.level), -risk, ts)  # the risk falls all the time
    return labelled(
        {
            "risk": ("t", risk, "risk ε_g"),
            "exit": ("level", exits, "time at which the risk is level × R(0)"),
        },
        t=ts,
        level=np.array(s.level),
    )


EXIT = Entry(
    "arnaboldi2023b-exit",
    ARNABOLDI,
    "phase retrieval by SGD on the sphere: the time to leave the start",
    "C",
    "c",
    settings={
        "gamma": 0.1,
        "Delta": 1e-4,
        "risk": 1.9993170768,
        "level": (0.99, 0.5, 0.1, 0.01),
        "t_max": 6.0,
        "points": 1201,
    },
    run=_exit,
    published=numbers(
        "exit",
        "1.091 2.531 3.251 3.971",
        {"level": (0.99, 0.5, 0.1, 0.01)},
        kind="stored",
        within=GRID,
        source=STORED,
    ),
    panels=(Panel("risk", "t"),),
    note=(
        "stored exit times are the next stored times, which are 0.09 apart, as their differences "
        "say: to that margin the numbers are compared"
    ),
)

ENTRIES = (EXIT,)
