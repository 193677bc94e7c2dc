"""Patel, Lee, Sarao Mannelli, Goldt & Saxe 2025: the perceptron that learns from rewards."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import ensemble, labelled

if TYPE_CHECKING:
    import xarray

PATEL = Publication("patel2025", "Patel et al., PRX 15, 021051 (2025), arXiv 2306.10404")
OWN = "the same ODE solved by SciPy"
"""With DOP853 at a tolerance of 1e-12, and the angle as an arc tangent."""


def _problem() -> "tuple[ld.Problem, ld.Overlaps]":
    problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
    return problem, ld.Overlaps(Q=[[1.0]], R=[[0.0]], T=[[1.0]])


def _dynamics(s: SimpleNamespace) -> "xarray.Dataset":
    problem, start = _problem()
    rule = ld.rules.RewardPerceptron(episode=s.episode, reward=1.0, penalty=s.penalty, lr=1.0)
    ts = np.linspace(0.0, s.alpha_max, s.points)
    theory = ld.solve_ode(problem, rule, start, ts)
    runs = ensemble("chain", problem, rule, start, ts, n=s.n, runs=s.runs, seed=0)
    mean, error = runs.mean("seed"), runs.std("seed", ddof=1) / s.runs**0.5
    data = {}
    for name, words in {"R": "R", "Q": "Q", "eg": "ε_g"}.items():
        flat = lambda x: np.asarray(x).reshape(len(ts))
        data[name] = ("alpha", flat(mean[name].transpose("alpha", ...)), words)
        data[f"{name}_error"] = ("alpha", flat(error[name].transpose("alpha", ...)), words)
        data[f"{name}_predicted"] = ("alpha", flat(getattr(theory, name)), words)
    return labelled(data, alpha=ts)


DYNAMICS = Entry(
    "patel2025-dynamics",
    PATEL,
    "one reward for ten right decisions: R, Q and error of runs and of the ODE",
    "C+A",
    "a",
    settings={
        "episode": 10,
        "penalty": 0.0,
        "alpha_max": 800.0,
        "points": 41,
        "n": 400,
        "runs": 20,
    },
    quick={"runs": 8},
    run=_dynamics,
    published=(
        *numbers("R_predicted", "182.3", {"alpha": (800,)}, source=OWN),
        *numbers("Q_predicted", "33708", {"alpha": (800,)}, source=OWN),
        *numbers("eg_predicted", ".03786", {"alpha": (800,)}, source=OWN),
    ),
    panels=(Panel("R", "alpha"), Panel("Q", "alpha"), Panel("eg", "alpha")),
    note=(
        "at n = 400 the fluctuation of R(0) moves the end of the first stage from run to run, so "
        "that the mean of the runs is not the ODE there; no claim is made of it"
    ),
)


def _accuracy(s: SimpleNamespace) -> "xarray.Dataset":
    problem, start = _problem()
    ts = np.union1d(np.concatenate([[0.0], np.geomspace(1.0, s.alpha_max, s.points)]), s.times)
    rules = [ld.rules.RewardPerceptron(episode=size, lr=1.0) for size in s.episode]
    eg = np.array([ld.solve_ode(problem, rule, start, ts).eg for rule in rules])
    return labelled({"eg": (("episode", "alpha"), eg)}, episode=np.array(s.episode), alpha=ts)


ACCURACY = Entry(
    "patel2025-speedaccuracy",
    PATEL,
    "rewards for longer episodes: learning is slower at first, and better in the end",
    "C+A",
    "a",
    settings={
        "episode": (1, 5, 8, 12),
        "alpha_max": 3e4,
        "points": 81,
        "times": (100.0, 800.0, 3000.0),
    },
    quick={"episode": (1, 5, 12)},
    run=_accuracy,
    published=tuple(
        one
        for episode, values in {
            1: ".0915177 .0377447 .0211363 .0075256",
            5: ".09037 .02617 .01337 .00437",
            8: ".3098323 .0279941 .0127975 .0039543",
            12: ".49342 .39433 .01600 .00378",
        }.items()
        for one in numbers(
            "eg", values, {"alpha": (100, 800, 3e3, 3e4)}, at={"episode": episode}, source=OWN
        )
    ),
    panels=(Panel("eg", "alpha", by="episode", log="xy"),),
)

ENTRIES = (DYNAMICS, ACCURACY)
