"""Saad & Solla, Phys. Rev. E 52, 4225 (1995): plateaus, learning rates, what cannot be learned."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

SAADSOLLA = Publication("saadsolla1995pre", "Saad & Solla, Phys. Rev. E 52, 4225 (1995)")
OWN = "computed for the atlas"


def _plateau(s: SimpleNamespace) -> "xarray.Dataset":
    sizes, rates = np.array(s.k), np.array(s.lr)
    limits = [ld.asymptotics.plateau(int(k)) for k in sizes]
    finite = [ld.asymptotics.plateau(s.k_finite, lr) for lr in rates]
    rest, fastest = zip(*(_of_the_ode(s, int(k)) for k in sizes), strict=True)
    return labelled(
        {
            "eg_predicted": ("k", [float(one.eg) for one in limits], "ε_g of the plateau, η → 0"),
            "eg": ("k", rest, "ε_g of the plateau, η → 0"),
            "rate_predicted": (
                "k",
                [float(one.rate_over_lr) for one in limits],
                "growth rate of specialisation over η, η → 0",
            ),
            "rate": ("k", fastest, "growth rate of specialisation over η, η → 0"),
            "eg_finite": (
                "lr",
                [float(one.eg) for one in finite],
                f"ε_g of the plateau, K = {s.k_finite}",
            ),
            "rate_finite": (
                "lr",
                [float(one.rate) for one in finite],
                f"growth rate, K = {s.k_finite}",
            ),
        },
        k=sizes,
        lr=rates,
    )


def _of_the_ode(s: SimpleNamespace, k: int) -> tuple[float, float]:
    """eg and the largest growth rate over lr of the full ODE at a tiny rate."""
    point = ld.asymptotics.plateau(k, s.tiny_lr)
    near = ld.asymptotics.linearise(ld.Problem(), ld.SGD(lr=s.tiny_lr), point.state)
    eg = ld.generalisation_error(ld.Problem(), point.state)
    return float(eg), float(near.eigenvalues[0].real) / s.tiny_lr


PLATEAU = Entry(
    "saadsolla1995pre-plateau",
    SAADSOLLA,
    "the symmetric plateau of K = M erf units: its error and how fast it is left",
    "R",
    "a",
    settings={
        "k": (2, 3, 4, 5, 6, 8, 10),
        "lr": (0.1, 0.2, 0.3, 0.5, 1.0),
        "k_finite": 3,
        "tiny_lr": 1e-6,
    },
    quick={"k": (2, 3, 4)},
    run=_plateau,
    published=(
        *numbers(
            "eg",
            ".01161084 .02029659 .02837726 .03622632 .04396163 .05926340 .07445334",
            {"k": (2, 3, 4, 5, 6, 8, 10)},
            source=OWN,
        ),
        *numbers(
            "rate",
            ".0657498 .0461179 .0356474 .0290830 .0245708 .0187608 .0151766",
            {"k": (2, 3, 4, 5, 6, 8, 10)},
            source=OWN,
        ),
        *numbers(
            "eg_finite",
            ".021882 .023763 .026017 .032100 .066077",
            {"lr": (0.1, 0.2, 0.3, 0.5, 1.0)},
            source=OWN,
        ),
        *numbers(
            "rate_finite",
            ".0045346 .0088965 .0130507 .0205263 .0296706",
            {"lr": (0.1, 0.2, 0.3, 0.5, 1.0)},
            source=OWN,
        ),
    ),
    panels=(
        Panel("eg", "k", title="line: closed form; crosses: full ODE"),
        Panel("rate", "k", log="xy"),
        Panel("rate_finite", "lr"),
    ),
)


def _lrmax(s: SimpleNamespace) -> "xarray.Dataset":
    k = np.array(s.k)
    critical = np.asarray(ld.asymptotics.critical_lr_specialised(k))
    m, l = np.array(s.m), np.array(s.l)
    wider = ld.asymptotics.critical_lr_specialised(m[:, None], l)
    small = np.array(s.k_decay)
    limits = np.asarray(ld.asymptotics.critical_lr_specialised(small))
    shares = np.linspace(*s.share)
    decay = [
        [_decay(one, lr * x) for x in shares] for one, lr in zip(s.k_decay, limits, strict=True)
    ]
    best = [_fastest(*pair, *s.share[:2]) for pair in zip(s.k_decay, limits, strict=True)]
    lr, fastest = np.transpose(best)
    return labelled(
        {
            "critical": ("k", critical, "critical rate η_c, specialised state"),
            "critical_over_law": ("k", critical * k / (3**0.5 * np.pi), "η_c K/(√3π)"),
            "critical_wider": (("m", "l"), wider, "critical rate η_c"),
            "decay": (("k_decay", "share"), decay, "rate of the slowest decay"),
            "fastest": ("k_decay", fastest, "fastest decay of the slowest mode"),
            "fastest_lr": ("k_decay", lr, "rate η of the fastest decay"),
            "slowest": ("k_decay", [_decay(one, 1e-5) / 1e-5 for one in small],
                        "slowest decay over η, η → 0"),
        },
        k=k,
        m=m,
        l=l,
        k_decay=small,
        share=shares,
    )  # fmt: skip


def _decay(k: int, lr: float) -> float:
    """How fast the slowest perturbation of the specialised state of K = M units decays."""
    state = ld.asymptotics.specialised_state(k, 0)
    near = ld.asymptotics.linearise(ld.Problem(), ld.SGD(lr=lr), state)
    return -float(near.eigenvalues[0].real)


def _fastest(k: int, limit: float, low: float, high: float) -> tuple[float, float]:
    """The learning rate at which the slowest mode decays fastest, and how fast."""
    import scipy.optimize

    # Brent's method in an interval; the maximum is a kink, where two modes cross.
    found = scipy.optimize.minimize_scalar(
        lambda share: -_decay(k, limit * share), bounds=(low, high), options={"xatol": 1e-7}
    )
    return limit * float(found.x), -float(found.fun)


LRMAX = Entry(
    "saadsolla1995pre-lrmax",
    SAADSOLLA,
    "up to which learning rate the specialised state attracts, and at which it does so fastest",
    "R",
    "b",
    settings={
        "k": (1, 2, 3, 4, 5, 8, 10, 20, 100, 1000),
        "m": (2, 3),
        "l": (1, 2, 3),
        "k_decay": (1, 2, 3),
        "share": (0.02, 0.99, 98),
    },
    quick={"share": (0.5, 0.99, 25)},
    run=_lrmax,
    published=(
        *numbers(
            "critical",
            "4.055779 2.306828 1.620675 1.249393 1.016448 .651685 .525824 .267454 .0542283 "
            ".00543954",
            {"k": (1, 2, 3, 4, 5, 8, 10, 20, 100, 1000)},
            source=OWN,
        ),
        *numbers("critical_over_law", ".9997", {"k": (1000,)}, source=OWN),
        *numbers("critical_wider", "1.384025 .971889", {"l": (1, 2)}, at={"m": 2}, source=OWN),
        *numbers(
            "critical_wider", "1.096466 .820465 .653407", {"l": (1, 2, 3)}, at={"m": 3}, source=OWN
        ),
        *numbers("fastest", ".41409 .096306 .066335", {"k_decay": (1, 2, 3)}, source=OWN),
        *numbers("fastest_lr", "3.37982 2.1796 1.5202", {"k_decay": (1, 2, 3)}, source=OWN),
        *numbers("slowest", ".12252 .04418 .04363", {"k_decay": (1, 2, 3)}, source=OWN),
    ),
    panels=(
        Panel("critical", "k", log="xy"),
        Panel("decay", "share", by="k_decay", log="y", title="K = M, against η/η_c"),
    ),
    note="the law √3π/K of large K is remembered of the paper",
)

ENTRIES = (PLATEAU, LRMAX)
