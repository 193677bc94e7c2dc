"""The note on online SGD of the StatPhys-ML library: linear regression with weight decay."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import ensemble, labelled

if TYPE_CHECKING:
    import xarray

NOTE = Publication(
    "onlinenote",
    "Ichikawa, StatPhys-ML, note on online SGD; Krogh & Hertz, NIPS 4, 950 (1992), for decay",
)
OWN = "computed for the atlas"
NAMES = {"m": "overlap m with the teacher", "q": "squared norm q", "eg": "ε_g"}


def _ridge(s: SimpleNamespace) -> "xarray.Dataset":
    rates, ts = np.array(s.lr), np.linspace(0.0, s.alpha_max, s.points)
    setting = {"m_start": s.m_start, "q_start": s.q_start}
    curves = [ld.asymptotics.ridge_curve(ts, lr, s.weight_decay, s.noise, **setting) for lr in s.lr]
    runs = [_runs(s, lr, ts) for lr in s.lr]
    ends = [ld.asymptotics.ridge(lr, s.weight_decay, s.noise) for lr in s.lr]
    example = ld.asymptotics.ridge(*s.example)
    data: dict[str, tuple] = {}
    for name, words in NAMES.items():
        values = np.array([[getattr(one, name) for one in curves], [run[name] for run in runs]])
        errors = [run[f"{name}_error"] for run in runs]
        data[f"{name}_predicted"] = (("lr", "alpha"), values[0], words)
        data[name] = (("lr", "alpha"), values[1], words)
        data[f"{name}_error"] = (("lr", "alpha"), errors)
        data[f"{name}_end"] = ("lr", [float(getattr(x, name)) for x in ends], f"{words}, α → ∞")
        data[f"{name}_example"] = ((), float(getattr(example, name)), f"{words}, second example")
    return labelled(data, lr=rates, alpha=ts)


def _runs(s: SimpleNamespace, lr: float, ts: np.ndarray) -> dict[str, np.ndarray]:
    """Means of m, q and eg over runs at input dimension n, and their standard errors."""
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=s.noise)
    rule = ld.SGD(lr=lr, weight_decay=s.weight_decay)
    start = ld.Overlaps([[s.q_start]], [[s.m_start]], [[1.0]])
    size = {"n": s.n, "runs": s.runs, "seed": s.seed}
    runs = ensemble(s.level, problem, rule, start, ts, **size)
    found = {}
    for name, values in (("m", runs.R), ("q", runs.Q), ("eg", runs.eg)):
        rows = values.values.reshape(s.runs, len(ts))
        found[name] = rows.mean(axis=0)
        # All runs start from the same overlaps, where nothing scatters.
        error = rows.std(axis=0, ddof=1) / s.runs**0.5
        found[f"{name}_error"] = np.where(ts > 0, error, np.nan)
    return found


RIDGE = Entry(
    "onlinenote-ridge",
    NOTE,
    "a linear student with weight decay: m, q and the error against time, theory and SGD",
    "S+C",
    "a",
    settings={
        "lr": (0.5, 0.1),
        "weight_decay": 0.01,
        "noise": 0.1**0.5,
        "m_start": 0.0,
        "q_start": 0.1,
        "alpha_max": 10.0,
        "points": 101,
        "n": 1000,
        "level": "sgd",
        "runs": 16,
        "seed": 0,
        "example": (0.8, 0.5, 0.1**0.5),
    },
    quick={"level": "chain"},
    run=_ridge,
    published=(
        *(
            one
            for name, values in {
                "m": ".392569 .629486 .910833 .983753",
                "q": ".322425 .531007 .880801 1.001295",
                "eg": ".268644 .136017 .029567 .016894",
            }.items()
            for one in numbers(name, values, {"alpha": (1, 2, 5, 10)}, at={"lr": 0.5}, source=OWN)
        ),
        *numbers("m_end", ".990099", {"lr": (0.5,)}, source=OWN),
        *numbers("q_end", "1.013223", {"lr": (0.5,)}, source=OWN),
        *numbers("eg_end", ".0165125 .0026557", {"lr": (0.5, 0.1)}, source=OWN),
        *numbers("m_example", ".66667", source=OWN),
        *numbers("q_example", ".52083", source=OWN, missed="the corrected formula gives .52121"),
        *numbers("eg", "", {"alpha": (1, 5, 10)}, at={"lr": 0.1}, kind="shown", source="curve"),
    ),
    panels=(
        Panel("m", "alpha", by="lr"),
        Panel("q", "alpha", by="lr"),
        Panel("eg", "alpha", by="lr", log="y"),
    ),
    note="the note has five runs at η = 0.1; its formulas of q*, ε_g* and τ_c are wrong and "
    "corrected here",
)

ENTRIES = (RIDGE,)
