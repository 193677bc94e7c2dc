"""Arnaboldi, Krzakala, Loureiro & Stephan 2023: how long phase retrieval stays at its start."""

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import ensemble, labelled

if TYPE_CHECKING:
    import xarray

ARNABOLDI = Publication("arnaboldi2023b", "Arnaboldi et al., arXiv 2305.18502")
STORED = "the stored ODE run of the authors' repository"
LEVELS = (0.99, 0.5, 0.1, 0.01)


def _exit(s: SimpleNamespace) -> "xarray.Dataset":
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic(), noise=s.Delta**0.5)
    rule = ld.SGD(lr=s.gamma, spherical=True)
    cosine = (1 - s.risk / 2) ** 0.5  # the risk is 2 (1 - cosine²)
    start = ld.Overlaps(Q=[[1.0]], R=[[cosine]], T=[[1.0]])
    kept = _kept_steps(s.dt, s.decades, s.kept)
    t = s.dt * (kept + 1)  # the authors' clock shows dt at the start
    exact = np.asarray(ld.solve_ode(problem, rule, start, s.dt / s.gamma * kept).eg)
    stepped = _euler(problem, rule, start, s.dt / s.gamma, kept)
    mean, error = _exits_of_runs(s, problem, rule, start)
    found = labelled(
        {
            "risk": ("t", stepped, "risk ε_g"),
            "risk_exact": ("t", exact, "risk ε_g without error of the steps"),
            "exit": ("level", [_first(t, stepped, one) for one in s.level], EXIT_TEXT),
            "exit_exact": (
                "level",
                np.interp(-exact[0] * np.array(s.level), -exact, t - s.dt),
                "time at which the risk is level × R(0)",
            ),
            "exit_of_runs": ((), mean, "mean exit time of runs of SGD, level 0.99"),
            "exit_of_runs_error": ((), np.hypot(error, s.their_error), "its standard error"),
        },
        t=t,
        level=np.array(s.level),
    )
    found.t.attrs["long_name"] = "time γ steps/d"
    found.level.attrs["long_name"] = "risk over that of the start"
    return found


EXIT_TEXT = "first stored time at which the risk is below"


def _kept_steps(dt: float, decades: int, kept: int) -> np.ndarray:
    """Steps that are stored: `kept` of each decade of times, which ends at dt × a power of 10."""
    ends = kept * 10 ** np.arange(decades)
    stretches = [np.arange(0, ends[0])]
    stretches += [
        np.arange(begin, end, (end - begin) // kept) for begin, end in itertools.pairwise(ends)
    ]
    return np.concatenate(stretches)


def _euler(problem: Any, rule: Any, start: Any, dt: float, kept: np.ndarray) -> np.ndarray:
    """eg after these numbers of steps of Euler's method, which is what the authors take."""
    import jax

    flow: Any = ld.ode_term(problem, rule, start).vector_field
    step = lambda y, _: (y + dt * flow(0.0, y, None), y)
    count = int(kept[-1]) + 1
    rows = jax.jit(lambda y: jax.lax.scan(step, y, length=count)[1])(flow.pack(start))[kept]
    states = jax.vmap(flow.unpack)(rows)
    return np.asarray(jax.vmap(lambda one: ld.generalisation_error(problem, one))(states))


def _first(t: np.ndarray, risk: np.ndarray, level: float) -> float:
    """The first time at which the risk is below its level; the last one where it never is."""
    below = risk <= level * risk[0]
    return float(t[np.argmax(below) if below.any() else -1])


def _exits_of_runs(s: SimpleNamespace, problem: Any, rule: Any, start: Any) -> tuple[float, float]:
    """Mean and standard error of the time at which runs fall below 0.99 of the risk."""
    t = np.linspace(0.0, s.t_runs, s.points)
    runs = ensemble("chain", problem, rule, start, t / s.gamma, n=s.n, runs=s.runs, seed=0)
    eg = runs.eg.transpose("seed", "alpha").values
    exits = np.array([_first(t, one, 0.99) for one in eg])
    return float(exits.mean()), float(exits.std(ddof=1) / s.runs**0.5)


EXIT = Entry(
    "arnaboldi2023b-exit",
    ARNABOLDI,
    "phase retrieval by SGD on the sphere: the time to leave the start",
    "C",
    "a",
    settings={
        "gamma": 0.1,
        "Delta": 1e-4,
        "risk": 1.9993170768076014,
        "level": LEVELS,
        "dt": 1e-3,
        "decades": 3,
        "kept": 100,
        "n": 3000,
        "runs": 64,
        "t_runs": 5.0,
        "points": 1001,
        "their_error": 0.252,
    },
    quick={"runs": 8},
    run=_exit,
    published=(
        *numbers(
            "risk",
            "1.9990629 1.9838886 1.7412597 .16399955 .0023820425 2.5411725e-5",
            {"t": (0.1, 0.992, 1.901, 3.251, 4.601, 7.301)},
            kind="stored",
            source=STORED,
        ),
        *numbers("exit", "1.091", {"level": (0.99,)}, kind="printed", source="notebook"),
        *numbers(
            "exit", "2.531 3.251 3.971", {"level": (0.5, 0.1, 0.01)}, kind="stored", source=STORED
        ),
        *numbers(
            "exit_of_runs",
            "1.327",
            kind="printed",
            source="notebook, ten runs, whose error of .252 counts with ours",
        ),
    ),
    panels=(
        Panel("risk", "t", log="xy", title="steps of 0.001, as stored"),
        Panel("exit", "level", log="x"),
    ),
    note=(
        "the stored run takes steps of Euler's method with t = 0.001, and keeps them 0.001, 0.009 "
        "and 0.09 apart: with the same steps its risks are met to ten digits"
    ),
)

ENTRIES = (EXIT,)
