"""Carrasco-Davis & Grant 2025: the primer's replications."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, ensemble
from learndyn.atlas._starts import start

if TYPE_CHECKING:
    import xarray

PRIMER = Publication(
    "primer2025",
    "Carrasco-Davis & Grant, Analytical simulated dynamics, ICLR Blogposts 2025 (draft)",
)


def _figures(s: SimpleNamespace) -> "xarray.Dataset":
    return along("network", {name: _kind(s, name) for name in s.networks})


def _kind(s: SimpleNamespace, network: str) -> "xarray.Dataset":
    """All sizes of one kind of network: the ODE, one run of SGD, how well they are aligned."""
    problem = ld.Problem(noise=s.noise)
    rule = ld.SGD(lr=s.lr, lr_second=None if network == "committee" else s.lr)
    return along("k", {k: _one(s, problem, rule, k) for k in s.k})


def _one(s: SimpleNamespace, problem: Any, rule: Any, k: int) -> "xarray.Dataset":
    ts = np.concatenate([[0.0], np.geomspace(0.1, s.alpha_max, s.points)])
    early = ts[ts <= 1.001 * s.simulated_until]
    initial = start(f"{s.start}-k{k}")
    theory = ld.to_dataset(ld.solve_ode(problem, rule, initial, ts))
    size = {"n": s.n, "runs": 1, "seed": s.seed}
    run = ensemble(s.level, problem, rule, initial, early, **size).isel(seed=0)
    inner = sum(_product(theory[name], run[name]) for name in ("Q", "R"))
    own = sum(_product(theory[name], theory[name]) for name in ("Q", "R"))
    other = sum(_product(run[name], run[name]) for name in ("Q", "R"))
    aligned: Any = inner / (own * other) ** 0.5
    aligned = aligned.reindex(alpha=ts)
    words = "cosine of measured and predicted order parameters"
    return theory.rename(eg="eg_predicted").assign(
        eg=run.eg.reindex(alpha=ts).assign_attrs(theory.eg.attrs),
        alignment=aligned.assign_attrs(long_name=words),
        typical_alignment=aligned.median().assign_attrs(long_name=f"median {words}"),
        final=theory.eg.isel(alpha=-1, drop=True).assign_attrs(long_name="final ε_g"),
    )


def _product(a: "xarray.DataArray", b: "xarray.DataArray") -> "xarray.DataArray":
    rows = a * b
    return rows.sum([dim for dim in rows.dims if dim != "alpha"])


FIGURES = Entry(
    "primer2025-fig1-3",
    PRIMER,
    "committee and two-layer network follow the ODE; the error drops where K ≥ M",
    "S",
    "c",
    settings={
        "lr": 0.2,
        "noise": 0.01,
        "n": 784,
        "k": (2, 4, 6),
        "networks": ("committee", "two-layer"),
        "start": "goldt2020-fig1b",
        "alpha_max": 1e4,
        "points": 101,
        "level": "sgd",
        "simulated_until": 300.0,
        "seed": 1,
    },
    quick={"k": (2, 4), "level": "chain", "simulated_until": 100.0},
    run=_figures,
    published=(
        *numbers(
            "final",
            ".036 8.75e-6",
            {"k": (2, 4)},
            at={"network": "committee"},
            source="from these starts, for the atlas",
        ),
        *(
            one
            for network in ("committee", "two-layer")
            for one in numbers(
                "typical_alignment",
                "1 1 1",
                {"k": (2, 4, 6)},
                at={"network": network},
                kind="read off",
                source="caption: near 1",
            )
        ),
    ),
    panels=(
        Panel("eg", "alpha", by="k", at={"network": "committee"}, log="xy", title="committee"),
        Panel("eg", "alpha", by="k", at={"network": "two-layer"}, log="xy", title="both layers"),
        Panel("alignment", "alpha", by="k", at={"network": "committee"}, log="x"),
    ),
    note="rate, noise and K are not in the text; those of Goldt et al. are taken",
)

ENTRIES = (FIGURES,)
