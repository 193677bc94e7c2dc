"""Saad & Rattray 1997: learning rates that are best for a whole run."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled
from learndyn.atlas._starts import start

if TYPE_CHECKING:
    import xarray

SAADRATTRAY = Publication("saadrattray1997", "Saad & Rattray, Phys. Rev. Lett. 79, 2578 (1997)")
OWN = "computed for the atlas"


def _schedules(s: SimpleNamespace) -> "xarray.Dataset":
    problem, rule, initial = ld.Problem(noise=s.noise), ld.SGD(lr=1.0), start(s.start)
    ts = np.linspace(0.0, s.alpha_max, s.points)
    clean = ld.Problem(noise=0.0)
    local, eg = ld.asymptotics.locally_optimal_schedule(clean, rule, initial, ts)
    curves = {"step by step": np.asarray(eg)}
    rates = {"step by step": np.asarray([local(alpha) for alpha in ts])}
    found: dict[str, Any] = {}
    if s.steps:
        best = _best(s, problem, rule, initial)
        found = {name: ((), one.value, TEXTS[name]) for name, one in best.items()}
        for name, one in best.items():
            rates[name] = np.array([one.schedule(min(alpha, s.horizon)) for alpha in ts])
            run = ld.solve_ode(problem, ld.SGD(lr=one.schedule), initial, ts)
            curves[name] = np.where(ts <= s.horizon, run.eg, np.nan)
    else:
        run = ld.solve_ode(problem, ld.SGD(lr=s.constant), initial, ts)
        curves["constant"], rates["constant"] = np.asarray(run.eg), np.full(len(ts), s.constant)
    return labelled(
        {
            "eg": (("schedule", "alpha"), list(curves.values())),
            "lr": (("schedule", "alpha"), list(rates.values()), "learning rate η"),
            **found,
        },
        schedule=list(curves),
        alpha=ts,
    )


TEXTS = {
    "constant": "ε_g at the horizon, best constant rate",
    "inverse": "ε_g at the horizon, best rate of the form 1/α",
    "whole run": "ε_g at the horizon, best schedule",
}


def _best(s: SimpleNamespace, problem: Any, rule: Any, initial: Any) -> dict[str, Any]:
    """The best constant rate, 1/α rate and schedule for the error at the horizon."""
    options = {"knots": s.knots, "steps": s.steps, "progress": False}
    found = ld.asymptotics.optimal_schedule(problem, rule, initial, s.horizon, **options)
    return {"constant": found.constant, "inverse": found.inverse_time, "whole run": found}


SCHEDULES = Entry(
    "saadrattray1997-schedules",
    SAADRATTRAY,
    "the rate that is best step by step stays on the plateau, the best for the whole run leaves it",
    "A",
    "b",
    settings={
        "noise": 0.1,
        "start": "saadrattray1997",
        "horizon": 100.0,
        "alpha_max": 200.0,
        "points": 201,
        "knots": 17,
        "steps": 200,
        "constant": 1.075,
    },
    quick={"steps": 0},
    run=_schedules,
    published=(
        *numbers(
            "eg",
            ".0153 .0130 .0127",
            {"alpha": (10, 50, 200)},
            at={"schedule": "step by step"},
            within=1e-4,
            source=OWN,
        ),
        *numbers("eg", ".0045867", {"alpha": (100,)}, at={"schedule": "constant"}, source=OWN),
        *numbers("inverse", ".0032850", within=5e-5, source=OWN),
        *numbers("whole run", ".00091549", within=2e-5, source=f"{OWN}; a search ends near it"),
    ),
    panels=(
        Panel("eg", "alpha", by="schedule", log="y"),
        Panel("lr", "alpha", by="schedule", log="y"),
    ),
    note=(
        "start, noise and horizon are ours, and step by step there is no noise; a quick run takes "
        "the best constant rate as known and leaves out the search for the schedule, of minutes"
    ),
)

ENTRIES = (SCHEDULES,)
