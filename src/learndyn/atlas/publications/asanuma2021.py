"""Asanuma, Takagi, Nagano, Yoshida, Igarashi & Okada 2021: one linear layer that learns two tasks,
whose inputs and whose rules are more or less similar."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

ASANUMA = Publication(
    "asanuma2021",
    "Asanuma, Takagi, Nagano, Yoshida, Igarashi & Okada, J. Phys. Soc. Jpn. 90, 104001 (2021)",
)
OWN = "computed for the atlas"


def _start(c: float, v: float, first: bool, weights: Any = None) -> "ld.GroupedOverlaps":
    """Three groups of directions: seen by both tasks (a fraction c of each one's), by the first
    alone, by the second alone. The teacher's two units are the rules, each spread evenly over what
    its task sees."""
    shares = np.array([c, 1 - c, 1 - c]) / (2 - c)
    seen = np.array([1.0, 1.0, 0.0] if first else [1.0, 0.0, 1.0])
    # Where directions that are not seen have variance 0, fields have variance 1 at this one.
    spectrum = ld.Spectrum((2 - c) * seen, shares)
    own = shares[:, None, None]
    rules = np.array([[[1, v], [v, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]])
    q, r = (0 * own, 0 * own * np.ones((1, 2))) if weights is None else weights
    return ld.GroupedOverlaps(
        q, r, own * rules, spectrum, v_teacher=[1.0, 0.0] if first else [0, 1]
    )


def _curves(s: SimpleNamespace, c: float, v: float) -> np.ndarray:
    """Errors of both tasks at the times after the switch, (task, times)."""
    problem, rule, ts = ld.Problem(ld.Linear(), ld.Linear()), ld.SGD(lr=s.lr), _times(s)
    # A step meets 1/(2 - c) of all directions: times are steps over the directions of one task.
    first = ld.solve_ode(problem, rule, _start(c, v, True), [0.0, s.switch / (2 - c)])
    learned = first.Q_groups[-1], first.R_groups[-1]
    run = ld.solve_ode(problem, rule, _start(c, v, False, learned), ts / (2 - c))
    return np.array([_first_error(run, _start(c, v, True)), run.eg])


def _times(s: SimpleNamespace) -> np.ndarray:
    return np.linspace(0.0, s.alpha_max, s.points)


def _first_error(run: Any, first: Any) -> np.ndarray:
    """1/2 sum_l s_l (Q_l - 2 R_l + T_l) with the first task's eigenvalues and rule."""
    q, r = np.asarray(run.Q_groups)[:, :, 0, 0], np.asarray(run.R_groups)[:, :, 0, 0]
    t = np.asarray(run.T_groups)[:, 0, 0]
    return 0.5 * (q - 2 * r + t) @ np.asarray(first.spectrum.eigenvalues)


def _forgetting(s: SimpleNamespace) -> "xarray.Dataset":
    found = np.array([[_curves(s, c, v) for v in s.rules] for c in s.inputs])
    c, v = np.array(s.inputs)[:, None], np.array(s.rules)
    errors, dims = found[:, :, 0], ("inputs", "rules")
    return labelled(
        {
            "eg": ((*dims, "alpha"), errors, "error of the first task"),
            "peak": (dims, errors.max(axis=-1), "largest error of the first task"),
            "forgotten": (dims, errors[:, :, -1], "error of the first task at the end"),
            "forgotten_predicted": (dims, c * (1 - v), "c (1 - V)"),
        },
        inputs=np.array(s.inputs),
        rules=v,
        alpha=_times(s),
    )


FORGETTING = Entry(
    "asanuma2021-forgetting",
    ASANUMA,
    "a linear layer forgets c (1 - V): little where inputs differ or rules agree; it overshoots",
    "A",
    "b",
    settings={
        "lr": 0.5,
        "inputs": (0.25, 0.5, 0.75),
        "rules": (0.0, 0.5, 0.8, 1.0),
        "switch": 40.0,
        "alpha_max": 40.0,
        "points": 401,
    },
    run=_forgetting,
    published=(
        *(
            one
            for c, values in {0.25: ".25 .125 .05", 0.5: ".5 .25 .1", 0.75: ".75 .375 .15"}.items()
            for one in numbers(
                "forgotten", values, {"rules": (0.0, 0.5, 0.8)}, at={"inputs": c}, source=OWN
            )
        ),
        *numbers("peak", ".0099 .0132", {"inputs": (0.25, 0.5)}, at={"rules": 1.0}, source=OWN),
    ),
    panels=(
        Panel("forgotten", "rules", by="inputs"),
        Panel("eg", "alpha", by="inputs", at={"rules": 1.0}, title="the same rule: overshoot"),
        Panel("eg", "alpha", by="inputs", at={"rules": 0.5}, title="rules of overlap 1/2"),
    ),
    note="α = steps over the directions that one task sees; all numbers are ours",
)

ENTRIES = (FORGETTING,)
