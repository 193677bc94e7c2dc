"""Rattray, Saad & Amari 1998: natural gradient descent."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

RATTRAY = Publication("rattray1998", "Rattray, Saad & Amari, Phys. Rev. Lett. 81, 5461 (1998)")
OWN = "computed for the atlas with independent code"
RULES = ("sgd", "natural")


def _natural(s: SimpleNamespace) -> "xarray.Dataset":
    near = ld.Overlaps(np.diag(s.q), np.diag(s.r), np.eye(2))
    t = np.concatenate([[0.0], np.geomspace(0.03, s.t_max, s.points)])
    rules = (ld.SGD(lr=s.lr), _natural_rule(s.lr))
    curves = [ld.solve_ode(ld.Problem(noise=0.0), rule, near, t / s.lr).eg for rule in rules]
    first = ld.Overlaps(s.q_first, s.r_first, np.eye(2))
    short = np.linspace(0.0, s.alpha_first, len(t))
    run = ld.solve_ode(ld.Problem(noise=s.noise_first), _natural_rule(s.lr_first), first, short)
    alpha, scaled, predicted = _annealed(s)
    found = labelled(
        {
            "eg": (("rule", "t"), curves),
            "left": ("rule", [_at(t, eg, s.t_compared) for eg in curves], LEFT),
            "Q11": ((), run.Q[-1, 0, 0], "Q₁₁ after a short run"),
            "R11": ((), run.R[-1, 0, 0], "R₁₁ after a short run"),
            "scaled": ("alpha", scaled, "ε_g α/σ²"),
            "scaled_predicted": ("alpha", predicted, "ε_g α/σ²"),
        },
        rule=list(RULES),
        t=t,
        alpha=alpha,
    )
    found.t.attrs["long_name"] = "time, learning rate × steps / n"
    return found


FOR_EVER = 1e15
"""The time of a decay that leaves a rate as it is: so one compiled program serves all runs."""


def _natural_rule(lr: float, time: float = FOR_EVER) -> "ld.rules.NaturalGradient":
    """Natural gradient descent at the rate lr / (1 + alpha / time)."""
    return ld.rules.NaturalGradient(lr=ld.asymptotics.InverseTimeRate(lr, time))


LEFT = "ε_g at the time η α = 10"


def _at(t: np.ndarray, eg: Any, when: float) -> float:
    """A falling error at a time between two of its times."""
    return float(np.exp(np.interp(when, t, np.log(np.maximum(eg, 1e-300)))))


def _annealed(s: SimpleNamespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """eg α/σ² at the rate 1/(α + α₀) from zero error: times, measured, and its law.

    Along every direction of the error natural gradient has the rate 1: d eg/du = -2 eg/u +
    k σ²/(2 u²) with u = α + α₀.
    """
    alpha = np.concatenate([[0.0], np.geomspace(10.0, s.alpha_max, s.points)])
    rule, problem = _natural_rule(1 / s.time, s.time), ld.Problem(noise=s.noise)
    run = ld.solve_ode(problem, rule, ld.asymptotics.specialised_state(2, 0), alpha)
    u = alpha + s.time
    return alpha, np.asarray(run.eg) * alpha / s.noise**2, alpha / u * (1 - s.time / u)


NATURAL = Entry(
    "rattray1998-natural",
    RATTRAY,
    "natural gradient has no plateau, and annealed as 1/α reaches the error Kσ²/(2α)",
    "R",
    "b",
    settings={
        "lr": 0.02,
        "q": (0.2, 0.3),
        "r": (1e-3, 5e-4),
        "t_max": 12.0,
        "points": 81,
        "t_compared": 10.0,
        "lr_first": 0.15,
        "noise_first": 0.1,
        "alpha_first": 5.0,
        "q_first": ((0.3, 0.05), (0.05, 0.25)),
        "r_first": ((0.12, 0.03), (0.02, 0.1)),
        "noise": 0.01,
        "time": 100.0,
        "alpha_max": 1e5,
    },
    run=_natural,
    published=(
        *numbers("Q11", ".7957258701", source=OWN),
        *numbers("R11", ".2817780034", source=OWN),
        *numbers("left", "0.0116", {"rule": ("sgd",)}, within=1e-3, source="plateau at η → 0"),
        *numbers("left", "0", {"rule": ("natural",)}, within=1e-6, source="no plateau, remembered"),
        *numbers("scaled", "1", at={"alpha": 1e5}, within=0.01, source="K/2, remembered"),
        *numbers("scaled", "", at={"alpha": 1e5}, kind="shown", source="its law at small rates"),
    ),
    panels=(
        Panel("eg", "t", by="rule", log="y"),
        Panel("scaled", "alpha", log="x", title="annealed, K = 2"),
    ),
    note="K = M = 2; rates and starts are ours; the figures of the paper were not compared",
)

ENTRIES = (NATURAL,)
