"""Yoshida & Okada 2019: plateaus and the spectrum of the inputs."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

YOSHIDA = Publication("yoshida2019", "Yoshida & Okada, NeurIPS 2019, arXiv 2001.03371")
OWN = "an ODE of groups written for the atlas"

SPECTRA = {
    "all 1": ((1.0, 1.0, 1.0), (0.5, 0.3, 0.2)),
    "0.5, 1.5": ((0.5, 0.5, 1.5), (0.3, 0.2, 0.5)),
    "0.1, 1.9": ((0.1, 0.1, 1.9), (0.3, 0.2, 0.5)),
    "0.4, 1, 2.5": ((0.4, 1.0, 2.5), (0.5, 0.3, 0.2)),
    "all 0.25": ((0.25, 0.25, 0.25), (0.5, 0.3, 0.2)),
}
"""Eigenvalues and the share of directions that have each: always three groups, for which one
program is compiled; groups of the same eigenvalue are as one."""


def _spectrum(s: SimpleNamespace) -> "xarray.Dataset":
    ts = np.linspace(0.0, s.alpha_max, s.points)
    curves = [_curve(s, spectrum, ts) for spectrum in s.spectra.values()]
    passes = [ts[np.argmax(eg < s.level)] if eg[-1] < s.level else np.nan for eg in curves]
    return labelled(
        {
            "eg": (("spectrum", "alpha"), curves),
            "below": ("spectrum", passes, "first even time at which ε_g is below 0.001"),
        },
        spectrum=list(s.spectra),
        alpha=ts,
    )


def _curve(s: SimpleNamespace, spectrum: Any, ts: np.ndarray) -> np.ndarray:
    """eg of two units that learn from two, with weights spread evenly over all directions.

    spectrum: eigenvalues, and the share of directions of each.
    """
    eigenvalues, shares = map(np.array, spectrum)
    spread = lambda whole: shares[:, None, None] * np.asarray(whole)
    start = ld.GroupedOverlaps(
        Q=spread(np.diag(s.q)),
        R=spread(np.diag(s.r)),
        T=spread(np.eye(2)),
        spectrum=ld.Spectrum(eigenvalues, shares),
    )
    return np.asarray(ld.solve_ode(ld.Problem(), ld.SGD(lr=s.lr), start, ts).eg)


NAMES = ("all 1", "0.5, 1.5", "0.1, 1.9", "0.4, 1, 2.5")

SPECTRUM = Entry(
    "yoshida2019-spectrum",
    YOSHIDA,
    "the plateau is shorter where eigenvalues of the inputs differ, and lower where they are small",
    "A",
    "b",
    settings={
        "lr": 0.5,
        "q": (0.2, 0.3),
        "r": (1e-3, 5e-4),
        "spectra": SPECTRA,
        "alpha_max": 400.0,
        "points": 201,
        "level": 1e-3,
    },
    run=_spectrum,
    published=(
        *numbers("below", "302 288 258 268", {"spectrum": NAMES}, source=OWN),
        *numbers(
            "eg",
            ".01372 .008514 .001403 .003817",
            {"spectrum": NAMES},
            at={"alpha": 200},
            source=OWN,
        ),
        *numbers("eg", "7.3e-4", {"spectrum": ("all 0.25",)}, at={"alpha": 100}, source=OWN),
    ),
    panels=(Panel("eg", "alpha", by="spectrum", log="y", title="eigenvalues of the inputs"),),
    note="K = M = 2; the spectra of the paper's figures were not read: these have mean 1, or 0.25",
)

ENTRIES = (SPECTRUM,)
