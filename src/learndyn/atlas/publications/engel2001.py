"""Engel & Van den Broeck 2001, and Barkai, Seung & Sompolinsky 1994: rules for one linear unit that
learns the sign of a teacher's field."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

ENGEL = Publication(
    "engel2001", "Engel & Van den Broeck, Statistical Mechanics of Learning, Cambridge (2001)"
)
BARKAI = Publication("barkai1995", "Barkai, Seung & Sompolinsky, NIPS 7, 303 (1994)")
OWN = "computed for the atlas"
RULES = ("hebb", "perceptron", "adatron")


def _error(s: SimpleNamespace, flip: float, ts: np.ndarray) -> np.ndarray:
    """eg of the three rules, (rule, alpha)."""
    problem = ld.Problem(ld.Linear(), ld.Sign(flip=flip), ld.Perceptron())
    start = ld.Overlaps(Q=[[s.q]], R=[[s.r]], T=[[1.0]])
    # Their __init__ is that of a base class, which type checkers do not see.
    kinds: tuple[Any, ...] = (ld.rules.Hebb, ld.rules.Perceptron, ld.rules.AdaTron)
    return np.array([ld.solve_ode(problem, rule(lr=s.lr), start, ts).eg for rule in kinds])


def _laws(s: SimpleNamespace) -> "xarray.Dataset":
    ts = np.union1d(np.concatenate([[0.0], np.geomspace(0.1, s.alpha_max, s.points)]), s.times)
    eg, powers = _error(s, 0.0, ts), np.array([1 / 2, 1 / 3, 1.0])
    scaled = eg[:, -1] * ts[-1] ** powers
    late = [(2 * np.pi) ** -0.5, (2 / 3) ** (1 / 3) / np.pi, 3 / (3 * s.lr - s.lr**2)]
    return labelled(
        {
            "eg": (("rule", "alpha"), eg),
            "scaled": ("rule", scaled, "ε_g α^power at the end; the power is 1/2, 1/3, 1"),
            "late": ("rule", late, "its limit"),
        },
        rule=list(RULES),
        alpha=ts,
    )


LAWS = Entry(
    "engel2001-rules",
    ENGEL,
    "three laws of a student that learns a sign: Hebb α^(-1/2), perceptron α^(-1/3), AdaTron 1/α",
    "R",
    "b",
    settings={
        "lr": 1.0,
        "q": 1.0,
        "r": 0.2,
        "alpha_max": 1e4,
        "points": 121,
        "times": (1.0, 5.0, 20.0),
    },
    run=_laws,
    published=(
        *(
            one
            for rule, values in {
                "hebb": ".302887 .167948 .087888",
                "perceptron": ".338121 .166963 .097455",
                "adatron": ".360983 .198417 .067868",
            }.items()
            for one in numbers("eg", values, {"alpha": (1, 5, 20)}, at={"rule": rule}, source=OWN)
        ),
        *numbers("scaled", ".398931 .278135 1.499737", {"rule": RULES}, source=f"α = 10⁴, {OWN}"),
        *numbers(
            "late", ".39894 .278069 1.5", {"rule": RULES}, source="the laws, remembered: limits"
        ),
    ),
    panels=(Panel("eg", "alpha", by="rule", log="xy"),),
    note="the laws are remembered from the book; the curves start from R = 0.2, Q = 1",
)


def _noise(s: SimpleNamespace) -> "xarray.Dataset":
    ts = np.concatenate([[0.0], np.geomspace(0.1, s.alpha_max, s.points), [s.settled]])
    ts = np.sort(ts)
    eg = np.array([_error(s, p, ts) for p in s.p])
    # AdaTron's weights shrink to nothing, so that its direction is lost to rounding later.
    settled = eg[:, :, np.argmin(np.abs(ts - s.settled))]
    share = 1 - 2 * np.array(s.p)
    return labelled(
        {
            "eg": (("p", "rule", "alpha"), eg),
            "cosine": (("p", "rule"), np.cos(np.pi * settled), "cosine at α = 60"),
            "perceptron": ("p", eg[:, 1, -1], "ε_g where the perceptron rests"),
            "perceptron_predicted": ("p", np.arccos(share) / np.pi, "arccos(1 - 2p)/π"),
            "hebb": ("p", eg[:, 0, -1] * ts[-1] ** 0.5, "ε_g √α of Hebb's rule at the end"),
            "hebb_predicted": ("p", 1 / (share * (2 * np.pi) ** 0.5), "1/((1 - 2p)√(2π))"),
        },
        p=np.array(s.p),
        rule=list(RULES),
        alpha=ts,
    )


NOISE = Entry(
    "barkai1995-noise",
    BARKAI,
    "wrong labels: the perceptron rests at the cosine 1 - 2p, Hebb's rule goes on to zero error",
    "A",
    "b",
    settings={
        "lr": 1.0,
        "q": 1.0,
        "r": 0.2,
        "p": (0.05, 0.1, 0.2),
        "alpha_max": 2e3,
        "points": 120,
        "settled": 60.0,
    },
    run=_noise,
    published=(
        *numbers("perceptron", ".204833", {"p": (0.1,)}, source=OWN),
        *numbers("perceptron", "", {"p": (0.05, 0.2)}, kind="shown", source="arccos(1 - 2p)/π"),
        *numbers("hebb", "", {"p": (0.05, 0.1, 0.2)}, kind="shown", source="α = 2000"),
        *numbers(
            "cosine",
            ".876378 .794783 .637349",
            {"p": (0.05, 0.1, 0.2)},
            at={"rule": "adatron"},
            source=f"fixed point, {OWN}",
        ),
    ),
    panels=(
        Panel("eg", "alpha", by="rule", at={"p": 0.1}, log="xy", title="one label in ten is wrong"),
        Panel("cosine", "p", by="rule"),
    ),
    note="the improved rule of the abstract, which reaches α^(-1/2), is not made here",
)

ENTRIES = (LAWS, NOISE)
