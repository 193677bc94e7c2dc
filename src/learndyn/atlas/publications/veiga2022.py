"""Veiga, Stephan, Loureiro, Krzakala & Zdeborová 2022: phase diagram of SGD at high dimension."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import ensemble, labelled, mean_and_error
from learndyn.atlas._starts import start

if TYPE_CHECKING:
    import xarray

VEIGA = Publication(
    "veiga2022",
    "Veiga, Stephan, Loureiro, Krzakala & Zdeborová, NeurIPS 2022, arXiv 2202.00293",
)
DRAWN = "read off the commands of the vector figure"


def _fig3(s: SimpleNamespace) -> "xarray.Dataset":
    ts = np.concatenate([[0.0], np.geomspace(1.0, s.alpha_max, s.points)])
    rule, initial, noises = ld.SGD(lr=s.lr), start(s.start), np.array(s.Delta)
    runs = [
        ld.to_dataset(ld.solve_ode(ld.Problem(noise=delta**0.5), rule, initial, ts))
        for delta in s.Delta
    ]
    near = ld.asymptotics.denoising_state(4, 2, 0.25)
    rest = [
        float(ld.asymptotics.fixed_point(ld.Problem(noise=delta**0.5), rule, near).eg)
        for delta in s.Delta
    ]
    found = labelled(
        {
            "risk": (("Delta", "alpha"), [run.eg.values for run in runs], "population risk R"),
            "rest": ("Delta", rest, "R at the fixed point"),
            "response": (
                (),
                float(ld.asymptotics.eg_specialised(4, 0, s.lr / 32)),
                "R/Δ at the fixed point, small Δ",
            ),
        },
        Delta=noises,
        alpha=ts,
    )
    return found.assign_attrs({name: runs[0].attrs[name] for name in ("rule", "level")})


FIG3 = Entry(
    "veiga2022-fig3",
    VEIGA,
    "the risk R(t) at the learning rate of Saad and Solla ends on a level set by the noise Δ",
    "C",
    "b",
    settings={
        "lr": 8.0,
        "Delta": (1e-2, 1e-3, 1e-4, 0.0),
        "start": "veiga2022-fig3",
        "alpha_max": 1e4,
        "points": 121,
    },
    run=_fig3,
    published=(
        *numbers(
            "risk",
            "1.07e-3 6.95e-8",
            {"Delta": (1e-2, 0.0)},
            at={"alpha": 1e4},
            kind="read off",
            source=DRAWN,
            missed="still depends on the start, which is not given",
        ),
        *numbers(
            "risk",
            "1.14e-4 1.15e-5",
            {"Delta": (1e-3, 1e-4)},
            at={"alpha": 1e4},
            kind="read off",
            source=DRAWN,
        ),
        *numbers(
            "rest",
            "1.122e-3 1.1452e-4 1.1477e-5",
            {"Delta": (1e-2, 1e-3, 1e-4)},
            source="computed for the atlas",
        ),
        *numbers("response", ".1148012", source="computed for the atlas"),
    ),
    panels=(Panel("risk", "alpha", by="Delta", log="xy", title="p = 8, k = 4"),),
    note="the start is not given: rows of W⁰ in the teachers' span fit the early risk, and of six "
    "such draws that one is taken whose R(100) is nearest",
)


def _fig246(s: SimpleNamespace) -> "xarray.Dataset":
    powers = np.array(s.power)
    rates = s.lr / s.n**powers
    ends = ld.asymptotics.eg_denoising(4, 2, 0.25, rates, s.Delta**0.5)
    sizes = np.array(s.sizes)
    roots = ld.asymptotics.eg_denoising(4, 2, 0.25, s.lr / sizes**0.5, s.Delta_sizes**0.5)
    found = [_finite_size(s, int(n)) if n in s.simulated else (np.nan, np.nan) for n in s.sizes]
    means, errors = np.transpose(found)
    return labelled(
        {
            "final": ("power", ends, f"final risk, d = {s.n}, γ = p/d^power"),
            "limit": ("n", roots, "final risk at γ = p/√d, N → ∞"),
            "finite": ("n", means, "final risk at γ = p/√d, at this d"),
            "finite_error": ("n", errors),
        },
        power=powers,
        n=sizes,
    )


def _finite_size(s: SimpleNamespace, n: int) -> tuple[float, float]:
    """Mean risk of runs in n dimensions that begin where the ODE ends, and its standard error."""
    problem, rule = ld.Problem(noise=s.Delta_sizes**0.5), ld.SGD(lr=s.lr / n**0.5)
    near = ld.asymptotics.denoising_state(4, 2, 0.25)
    ts = np.linspace(0.0, s.alpha_max, 201)
    runs = ensemble("chain", problem, rule, near, ts, n=n, runs=s.runs, seed=s.seed)
    return mean_and_error(runs.eg, burn_in=0.5)


FIG246 = Entry(
    "veiga2022-fig2-4-6",
    VEIGA,
    "the final risk against the scaling of the learning rate γ and against the dimension d",
    "C",
    "b",
    settings={
        "lr": 8.0,
        "n": 1000,
        "Delta": 1e-3,
        "power": (0.0, 0.25, 0.375, 0.5),
        "sizes": (30, 100, 1000),
        "Delta_sizes": 1e-2,
        "simulated": (30, 100),
        "runs": 64,
        "alpha_max": 2000.0,
        "seed": 0,
    },
    quick={"simulated": (30,), "runs": 16},
    run=_fig246,
    published=(
        *numbers(
            "final",
            "1.148e-4 1.694e-5 6.995e-6 2.924e-6",
            {"power": (0.0, 0.25, 0.375, 0.5)},
            source="computed for the atlas",
        ),
        *numbers(
            "final",
            "1.1e-4 1.7e-5 3.0e-6",
            {"power": (0.0, 0.25, 0.5)},
            kind="read off",
            source=f"Fig. 6, {DRAWN}",
        ),
        *numbers(
            "limit",
            "1.74e-4 9.38e-5 2.92e-5",
            {"n": (30, 100, 1000)},
            source="computed for the atlas",
        ),
        *numbers(
            "finite",
            "1.29e-4 8.4e-5 3.1e-5",
            {"n": (30, 100, 1000)},
            kind="read off",
            source=f"Fig. 4b, {DRAWN}",
            missed="cause unknown: simulation at this d agrees with the theory",
        ),
    ),
    panels=(
        Panel("final", "power", log="y", title="Fig. 6"),
        Panel("finite", "n", log="xy", title="Fig. 4b, at finite d"),
        Panel("limit", "n", log="xy", title="Fig. 4b, N → ∞"),
    ),
    note="d = 1000 in Fig. 6 is inferred from its first times",
)

ENTRIES = (FIG3, FIG246)
