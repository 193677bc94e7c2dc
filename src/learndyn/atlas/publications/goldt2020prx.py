"""Goldt, Mézard, Krzakala & Zdeborová 2020: the hidden manifold."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import along, labelled

if TYPE_CHECKING:
    import xarray

PRX = Publication(
    "goldt2020prx", "Goldt, Mézard, Krzakala & Zdeborová, Phys. Rev. X 10, 041044 (2020)"
)
OWN = "an ODE of groups written for the atlas"


def _online(s: SimpleNamespace) -> "xarray.Dataset":
    ts = np.union1d(np.linspace(0.0, s.alpha_max, s.points), s.times)
    return along("latent", {d: _learned(s, d, ts) for d in s.latent})


def _learned(s: SimpleNamespace, d: int, ts: np.ndarray) -> "xarray.Dataset":
    """Theory and SGD for d latent variables, of which labels are a function."""
    inputs, weights = _drawn(s.n, d, s.seed)
    problem, rule = ld.Problem(), ld.SGD(lr=s.lr)
    start: Any = ld.overlaps(weights, inputs)  # in groups
    theory = np.asarray(ld.solve_ode(problem, rule, start, ts).eg)
    # The same fields at the start, and then white inputs with a teacher that sees them.
    white = np.asarray(ld.solve_ode(problem, rule, start.fields, ts).eg)
    measured = _by_sgd(s, problem, rule, weights, inputs, ts)
    ratio = np.abs(np.log(measured / theory))[np.isin(ts, s.times)].max()
    return labelled(
        {
            "eg": ("alpha", measured),
            "eg_predicted": ("alpha", theory),
            "white": ("alpha", white, "ε_g of white inputs with the same fields at the start"),
            "ratio": ((), ratio, "largest |ln(SGD/theory)|"),
            "unseen": ((), start.T_unseen[0, 0], "what inputs do not show of a teacher field"),
        },
        alpha=ts,
    )


def _drawn(n: int, d: int, seed: int) -> tuple[Any, Any]:
    """Inputs sign(F z/√d), and weights of two units of each network."""
    import jax.numpy as jnp

    rng = np.random.default_rng(seed)
    latent, teacher, student = (rng.normal(size=size) for size in ((n, d), (2, d), (2, n)))
    inputs = ld.HiddenManifold(jnp.sign, latent)
    return inputs, inputs.weights(0.5 * student, teacher)


def _by_sgd(
    s: SimpleNamespace, problem: Any, rule: Any, weights: Any, inputs: Any, ts: np.ndarray
) -> np.ndarray:
    """Mean eg over runs of SGD from the same weights, measured on these inputs."""
    import jax
    import jax.numpy as jnp

    def run(key: Any) -> Any:
        options = {"key": key, "inputs": inputs, "input_dtype": jnp.float32}
        return ld.simulate_sgd(problem, rule, weights, ts, **options).eg

    return np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(0), s.runs))).mean(axis=0)


TIMES = (1.0, 5.0, 20.0)

ONLINE = Entry(
    "goldt2020prx-online",
    PRX,
    "inputs sign(F z), labels of z: the error ends where the inputs do not show the teacher",
    "C+R",
    "b",
    settings={
        "n": 500,
        "latent": (250, 1000),
        "lr": 0.3,
        "seed": 11,
        "runs": 16,
        "alpha_max": 50.0,
        "points": 51,
        "times": TIMES,
    },
    quick={"latent": (250,), "runs": 2, "alpha_max": 5.0, "points": 6, "times": (1.0, 5.0)},
    run=_online,
    published=(
        *numbers(
            "eg_predicted",
            ".28995517 .15515223 .13421660",
            {"alpha": TIMES},
            at={"latent": 250},
            source=OWN,
        ),
        *numbers(
            "eg_predicted",
            ".39301154 .32368663 .30859328",
            {"alpha": TIMES},
            at={"latent": 1000},
            source=OWN,
        ),
        *numbers("unseen", ".28003902 .75591312", {"latent": (250, 1000)}, source=OWN),
        *numbers(
            "ratio",
            "0 0",
            {"latent": (250, 1000)},
            within=0.05,
            source="Gaussian equivalence; margin of the atlas",
        ),
        *numbers("white", ".01439969", {"alpha": (20,)}, at={"latent": 250}, source=OWN),
    ),
    panels=(
        Panel("eg", "alpha", by="latent", log="y", title="K = M = 2, latent variables"),
        Panel("white", "alpha", by="latent", log="y", title="as if inputs were white"),
    ),
    note=(
        "the sizes of the published figures are not known for certain: these are 500 inputs of 250 "
        "and of 1000 latent variables; runs of SGD measure their error on the same inputs"
    ),
)

ENTRIES = (ONLINE,)
