"""Saad & Solla, Phys. Rev. E 52, 4225 (1995): plateaus, learning rates, what cannot be learned."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, labelled

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
    found: Any = scipy.optimize.minimize_scalar(
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


def _realizable(s: SimpleNamespace) -> "xarray.Dataset":
    ts, rule = np.linspace(0.0, s.alpha_max, s.points), ld.SGD(lr=s.lr)
    teachers = {"isotropic": (1.0, 1.0, 1.0), "graded": s.graded}
    overlap = s.tiny * np.array(s.r)
    runs = {
        name: ld.to_dataset(
            ld.solve_ode(ld.Problem(), rule, ld.Overlaps(np.diag(s.q), overlap, np.diag(norms)), ts)
        )
        for name, norms in teachers.items()
    }
    found = along("task", runs)
    graded = runs["graded"]
    cosine = graded.R / np.sqrt(_diagonal(graded.Q) * np.array(s.graded))
    known = (np.abs(cosine) > 0.9).any("student").values
    when = np.where(known.any(axis=0), ts[known.argmax(axis=0)], np.inf)
    words = {"long_name": "teacher units of the graded task in the order of learning"}
    order = ("rank", np.argsort(when) + 1, words)
    return found.assign(order=order).assign_coords(rank=np.arange(len(when)) + 1)


def _diagonal(matrix: "xarray.DataArray") -> np.ndarray:
    """The diagonal of Q at all times, (alpha, student, 1)."""
    return np.diagonal(matrix.values, axis1=1, axis2=2)[:, :, None]


REALIZABLE = Entry(
    "saadsolla1995pre-realizable",
    SAADSOLLA,
    "K = M = 3: equal teacher units make a long plateau, graded ones are learned the largest first",
    "R",
    "c",
    settings={
        "lr": 0.5,
        "q": (0.1, 0.25, 0.4),
        "r": ((0.3, 0.7, 0.1), (0.9, 0.2, 0.5), (0.4, 0.6, 0.8)),
        "tiny": 1e-12,
        "graded": (1.0, 2.0, 3.0),
        "alpha_max": 2000.0,
        "points": 401,
    },
    run=_realizable,
    published=(
        *numbers("eg", ".03210", {"alpha": (400,)}, at={"task": "isotropic"}, source=OWN),
        *numbers("order", "3 2 1", {"rank": (1, 2, 3)}, source="the order follows n"),
    ),
    panels=(
        Panel("eg", "alpha", by="task", log="y"),
        Panel("R", at={"task": "isotropic", "alpha": 400.0}, title="R, equal units, α = 400"),
        Panel("R", at={"task": "graded", "alpha": 2000.0}, title="R, graded units, at the end"),
    ),
    note="the paper's R(0) is of order 10⁻¹²; ours is another draw",
)


def _unrealizable(s: SimpleNamespace) -> "xarray.Dataset":
    rates = np.array(s.lr)
    alone = [[_averaging_end(m, lr) for lr in s.lr] for m in s.m]
    more = {f"{k} ← {m}": _ode_end(s, k, m) for k, m in s.pairs}
    return labelled(
        {
            "alone": (("m", "lr"), alone, "final ε_g of one unit"),
            "more": ("students", list(more.values()), f"final ε_g, η = {s.lr_pairs:g}"),
        },
        m=np.array(s.m),
        lr=rates,
        students=list(more),
    )


def _averaging_end(m: int, lr: float) -> float:
    """eg at the fixed point where one unit has learned the sum of m teacher units."""
    sum_of_all = ld.Overlaps([[float(m)]], np.ones((1, m)), np.eye(m))
    return float(ld.asymptotics.fixed_point(ld.Problem(), ld.SGD(lr=lr), sum_of_all).eg)


def _ode_end(s: SimpleNamespace, k: int, m: int) -> float:
    start = ld.Overlaps(np.diag(s.q[:k]), np.array(s.r)[:k, :m], np.eye(m))
    run = ld.solve_ode(ld.Problem(), ld.SGD(lr=s.lr_pairs), start, np.array([0.0, s.alpha_max]))
    return float(run.eg[-1])


UNREALIZABLE = Entry(
    "saadsolla1995pre-unrealizable",
    SAADSOLLA,
    "fewer student than teacher units: what error remains",
    "R",
    "c",
    settings={
        "m": (2, 3),
        "lr": (1e-6, 0.1, 0.5),
        "pairs": ((2, 3), (2, 4)),
        "lr_pairs": 0.5,
        "q": (0.2, 0.3),
        "r": ((0.03, 0.01, 0.02, 0.005), (0.004, 0.02, 0.01, 0.03)),
        "alpha_max": 1e5,
    },
    run=_unrealizable,
    published=(
        *numbers(
            "alone", ".0301719 .030251 .030606", {"lr": (1e-6, 0.1, 0.5)}, at={"m": 2}, source=OWN
        ),
        *numbers(
            "alone", ".0797862 .079946 .080659", {"lr": (1e-6, 0.1, 0.5)}, at={"m": 3}, source=OWN
        ),
        *numbers(
            "more",
            ".018992",
            {"students": ("2 ← 3",)},
            source=OWN,
            missed="that run had not ended: the ODE rests at 0.0189879",
        ),
        *numbers("more", ".040889", {"students": ("2 ← 4",)}, source=OWN),
    ),
    panels=(Panel("alone", "lr", by="m", log="x"),),
    note="which K and M the paper shows is not known",
)

ENTRIES = (PLATEAU, LRMAX, REALIZABLE, UNREALIZABLE)
