"""Bocchi and colleagues 2026: quadratic units, their plateau and their manifold of solutions."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, labelled

if TYPE_CHECKING:
    import xarray

BOCCHI = Publication("bocchi2026", "Bocchi et al., arXiv 2604.03068 (2026)")
OWN = "derived for the atlas, at small η"


def _quadratic(s: SimpleNamespace) -> "xarray.Dataset":
    return along("k", {k: _learned(s, k) for k in s.k})


def _learned(s: SimpleNamespace, k: int) -> "xarray.Dataset":
    """k units, whose outputs are averaged, learn from m that are orthonormal."""
    m = s.m
    overlap = s.r * np.random.default_rng(s.seed).normal(size=(k, m))
    start = ld.Overlaps(
        s.q * np.eye(k), overlap, np.eye(m), v=np.ones(k) / k, v_teacher=np.ones(m) / m
    )
    problem = ld.Problem(ld.Quadratic(), ld.Quadratic())
    # In units of k the flow of the overlaps does not depend on how outputs are averaged.
    t = np.linspace(0.0, s.t_max, s.points)
    run = ld.solve_ode(problem, ld.SGD(lr=s.lr * k), start, t / s.lr)
    size = np.linalg.norm(np.asarray(run.R), axis=(1, 2))
    early = (t >= s.grows[0]) & (t <= s.grows[1])
    # The nearest point: the rotation of the start's polar decomposition.
    left, _, right = np.linalg.svd(overlap, full_matrices=False)
    nearest = (k / m) ** 0.5 * left @ right
    found = labelled(
        {
            "eg": ("t", run.eg),
            "plateau": ((), np.interp(s.on_plateau, t, run.eg), "ε_g of the plateau"),
            "rate": (
                (),
                np.polyfit(t[early], np.log(size[early]), 1)[0],
                "growth rate of R, over η",
            ),
            "miss": ((), np.abs(run.R[-1] - nearest).max(), "end of R less the nearest solution"),
            "far": ((), np.abs(nearest - overlap).max(), "nearest solution less the start"),
        },
        t=t,
    )
    found.t.attrs["long_name"] = "time η α/K"
    return found


K = (2, 4, 6)

QUADRATIC = Entry(
    "bocchi2026-quadratic",
    BOCCHI,
    "quadratic units leave the plateau alike for every K, and end in the nearest solution",
    "A",
    "b",
    settings={
        "k": K,
        "m": 2,
        "lr": 2e-3,
        "q": 0.4,
        "r": 1e-4,
        "seed": 0,
        "t_max": 12.0,
        "points": 241,
        "on_plateau": 2.0,
        "grows": (1.5, 3.0),
    },
    quick={"k": (2, 4)},
    run=_quadratic,
    published=(
        *numbers(
            "plateau", ".75 .66667 .625", {"k": K}, within=5e-3, source=f"1/M + 1/(K + 2), {OWN}"
        ),
        *numbers("rate", "2 2 2", {"k": K}, within=0.06, source=f"4/M, {OWN}"),
        *numbers("miss", "0 0 0", {"k": K}, within=1e-2, source=f"polar decomposition, {OWN}"),
    ),
    panels=(Panel("eg", "t", by="k", log="y", title="M = 2"),),
    note=(
        "of the abstract's claims: more units change the escape by a prefactor only (here K, the "
        "unit of time), and a conserved quantity (here the directions of R, by symmetry) picks the "
        "nearest of the solutions"
    ),
)

ENTRIES = (QUADRATIC,)
