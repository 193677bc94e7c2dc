"""Leen, Schottky & Saad 1999: annealed learning rates."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

LEEN = Publication("leen1999", "Leen, Schottky & Saad, Phys. Rev. E 59, 985 (1999); NIPS 10")
OWN = "computed for the atlas"


def _modes(k: int) -> np.ndarray:
    """Eigenvalues h_i of ⟨g'_i g'_k⟩ where K = M erf units have specialised, T = 1."""
    alone, pair = 2 / (np.pi * 3**0.5), 1 / np.pi
    return np.array([*[alone - pair] * (k - 1), alone + (k - 1) * pair])


def _prefactor(k: int, rate: float, elapsed: Any = 0.0) -> Any:
    """eg u/σ² with the learning rate η₀/u from zero error; NaN where that has no limit.

    elapsed: u at the start over u now. Each mode obeys d eg/du = -2 h η eg + (h η σ)²/2.
    """
    h = _modes(k)
    slow = 2 * rate * h - 1
    if not (slow > 0).all():
        return np.nan
    grown = 1 - np.asarray(elapsed)[..., None] ** slow
    return 0.5 * np.sum((rate * h) ** 2 / slow * grown, axis=-1)


def _best(k: int) -> tuple[float, float]:
    """The η₀ of the smallest prefactor, and that prefactor."""
    import scipy.optimize

    # Brent's method; the prefactor is convex where it exists.
    edge = 0.5 / _modes(k).min()
    options = {"xatol": 1e-12}
    found: Any = scipy.optimize.minimize_scalar(
        lambda rate: float(_prefactor(k, rate)), bounds=(1.0001 * edge, 4 * edge), options=options
    )
    return float(found.x), float(found.fun)


def _annealing(s: SimpleNamespace) -> "xarray.Dataset":
    best = np.array([_best(k) for k in s.k])
    ts = np.concatenate([[0.0], np.geomspace(10.0, s.alpha_max, s.points)])
    curves = [_scaled_error(s, k, rate, ts) for k, rate in zip(s.k, best[:, 0], strict=True)]
    u = ts + s.time
    pairs = zip(s.k, best[:, 0], strict=True)
    closed = [_prefactor(k, rate, s.time / u) * ts / u for k, rate in pairs]
    return labelled(
        {
            "best_rate": ("k", best[:, 0], "best η₀"),
            "best": ("k", best[:, 1], "smallest limit of ε_g α/σ²"),
            "edge": ("k", [0.5 / _modes(k).min() for k in s.k], "smallest η₀ that reaches 1/α"),
            "scaled_predicted": (("k", "alpha"), closed, "ε_g α/σ²"),
            "scaled": (("k", "alpha"), curves, "ε_g α/σ²"),
        },
        k=np.array(s.k),
        alpha=ts,
    )


def _scaled_error(s: SimpleNamespace, k: int, rate: float, ts: np.ndarray) -> np.ndarray:
    """eg α/σ² of the ODE with the rate η₀/(α + α₀) from the specialised state."""
    schedule = ld.asymptotics.InverseTimeRate(rate / s.time, s.time)
    start = ld.asymptotics.specialised_state(k, 0)
    problem, rule = ld.Problem(noise=s.noise), ld.SGD(lr=schedule)
    run = ld.solve_ode(problem, rule, start, ts, rtol=1e-10, atol=1e-16)
    return np.asarray(run.eg) * ts / s.noise**2


ANNEALING = Entry(
    "leen1999-annealing",
    LEEN,
    "a learning rate η₀/α makes the error fall as σ²/α, with a prefactor that has a best η₀",
    "A",
    "b",
    settings={
        "k": (1, 2, 3),
        "noise": 0.01,
        "time": 100.0,
        "alpha_max": 1e6,
        "points": 81,
    },
    run=_annealing,
    published=(
        *numbers("best_rate", "2.7207 12.7863 13.1905", {"k": (1, 2, 3)}, source=OWN),
        *numbers("best", "0.5 3.08951 4.85197", {"k": (1, 2, 3)}, source=OWN),
        *numbers("edge", "1.36035 10.1538", {"k": (1, 2)}, source=OWN),
        *numbers("scaled", "", {"k": (1, 2, 3)}, at={"alpha": 1e6}, kind="shown", source="1/α"),
    ),
    panels=(Panel("scaled", "alpha", by="k", log="x", title="lines: modes; crosses: ODE"),),
)

ENTRIES = (ANNEALING,)
