"""Refinetti, d'Ascoli, Ohana & Goldt 2021: feedback alignment."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, ensemble, labelled

if TYPE_CHECKING:
    import xarray

REFINETTI = Publication("refinetti2021", "Refinetti et al., ICML 2021, arXiv 2011.12428")
OWN = "computed for the atlas"


def _start(s: SimpleNamespace, v: tuple[float, ...]) -> "ld.Overlaps":
    return ld.Overlaps(s.q, s.r, np.eye(len(s.r[0])), v=v)


def _curves(s: SimpleNamespace) -> "xarray.Dataset":
    rule = ld.rules.FeedbackAlignment(s.feedback, lr=s.lr, lr_second=s.lr)
    problem, start = ld.Problem(noise=s.noise), _start(s, s.v)
    ts = np.linspace(0.0, s.alpha_max, s.points)
    theory = ld.to_dataset(ld.solve_ode(problem, rule, start, ts))
    runs = ensemble("chain", problem, rule, start, ts, n=s.n, runs=s.runs, seed=0)
    error = runs.std("seed", ddof=1) / s.runs**0.5
    return labelled(
        {
            "eg": ("alpha", runs.eg.mean("seed").values),
            "eg_error": ("alpha", error.eg.values),
            "eg_predicted": ("alpha", theory.eg.values),
            "v": (("unit", "alpha"), theory.v.transpose("student", "alpha").values, "v_i"),
            "v_long": (("algorithm", "unit"), _ends(s), "v_i after a long run"),
        },
        alpha=ts,
        unit=np.arange(len(s.v)) + 1,
        algorithm=["sgd", "feedback +-", "feedback ++"],
    )


def _ends(s: SimpleNamespace) -> list[np.ndarray]:
    """Second layers at the end of long runs, by SGD and with feedback of both signs."""
    # As many times as the short run has, so that one compiled program serves both.
    ts = np.linspace(0.0, s.alpha_long, s.points)
    problem, start = ld.Problem(noise=0.0), _start(s, s.v_long)
    rates = {"lr": s.lr, "lr_second": s.lr}
    feedbacks = (s.feedback, tuple(abs(x) for x in s.feedback))
    aligned = [ld.rules.FeedbackAlignment(f, **rates) for f in feedbacks]
    found = [ld.solve_ode(problem, rule, start, ts) for rule in (ld.SGD(**rates), *aligned)]
    return [np.asarray(run.v[-1]) for run in found]


DEGENERACY = Entry(
    "refinetti2021-degeneracy",
    REFINETTI,
    "feedback alignment breaks the degeneracy of the signs: v ends with the signs of the feedback",
    "A+C",
    "b",
    settings={
        "lr": 0.5,
        "noise": 0.1,
        "feedback": (1.0, -0.7),
        "q": ((0.3, 0.05), (0.05, 0.25)),
        "r": ((0.12, 0.03), (0.02, 0.1)),
        "v": (0.0, 0.0),
        "alpha_max": 10.0,
        "points": 21,
        "n": 2000,
        "runs": 64,
        "v_long": (0.1, 0.1),
        "alpha_long": 1000.0,
    },
    quick={"runs": 16},
    run=_curves,
    published=(
        *numbers("v", "0.769661 -0.478647", {"unit": (1, 2)}, at={"alpha": 10}, source=OWN),
        *numbers("eg", "", {"alpha": (2, 5, 10)}, kind="shown", source="theory on runs"),
        *(
            one
            for algorithm, values in {
                "sgd": ".9995 .9995",
                "feedback +-": "1.0034 -.9943",
                "feedback ++": ".9985 .9989",
            }.items()
            for one in numbers(
                "v_long", values, {"unit": (1, 2)}, at={"algorithm": algorithm}, source=OWN
            )
        ),
    ),
    panels=(
        Panel("eg", "alpha", log="y"),
        Panel("v", "alpha", by="unit", title="feedback (1, -0.7)"),
        Panel("v_long", "unit", by="algorithm", title="after a long run"),
    ),
    note="rates, sizes and starts are ours; the figures of the paper were not compared",
)


def _alignment(s: SimpleNamespace) -> "xarray.Dataset":
    feedback, ts = np.array(s.feedback), np.array([0.0, *s.times])
    rates = {"lr": s.lr, "lr_second": s.lr}
    aligned = ld.rules.FeedbackAlignment(feedback, **rates)
    cosine = {}
    for name, v in {"small start": s.v_small, "large start": s.v_large}.items():
        start = ld.Overlaps(s.q * np.eye(3), np.array(s.r)[:, None], np.eye(1), v=v)
        run = np.asarray(ld.solve_ode(ld.Problem(), aligned, start, ts).v)
        with np.errstate(invalid="ignore"):  # v = 0 has no direction
            cosine[name] = run @ feedback / np.linalg.norm(run, axis=1) / np.linalg.norm(feedback)
    words = "cosine of v and the feedback"
    found = {
        name: labelled({"alignment": ("alpha", values, words)}, alpha=ts)
        for name, values in cosine.items()
    }
    return along("begin", found)


ALIGNMENT = Entry(
    "refinetti2021-alignment",
    REFINETTI,
    "K = 3 learn from M = 1: v aligns with the feedback if it starts small, and then turns away",
    "A+C",
    "b",
    settings={
        "lr": 0.2,
        "feedback": (1.0, 0.6, -0.3),
        "q": 0.1,
        "r": (0.03, -0.02, 0.01),
        "v_small": (0.0, 0.0, 0.0),
        "v_large": (0.1, -0.2, 0.15),
        "times": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000),
    },
    run=_alignment,
    published=tuple(
        one
        for begin, values in {
            "small start": ".9998 .9957 .9865",
            "large start": ".9638 .9496 .9398",
        }.items()
        for one in numbers(
            "alignment", values, {"alpha": (50, 500, 3000)}, at={"begin": begin}, source=OWN
        )
    ),
    panels=(Panel("alignment", "alpha", by="begin", log="x"),),
    note="rates and starts are ours; the figures of the paper were not compared",
)

ENTRIES = (DEGENERACY, ALIGNMENT)
