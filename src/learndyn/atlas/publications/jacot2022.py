"""Jacot, Ged, Şimşek, Hongler & Gabriel 2022: from saddle to saddle."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

JACOT = Publication("jacot2022", "Jacot et al., Saddle-to-saddle dynamics, arXiv 2106.15933")


def _regimes(s: SimpleNamespace) -> "xarray.Dataset":
    rng = np.random.default_rng(s.seed)
    d = len(s.singular)
    target = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.array(s.singular)
    widths = np.array(s.width)
    ways = np.empty((2, len(s.gamma), len(widths)))
    for j, width in enumerate(s.width):
        starts = [_drawn(rng, width, d) for _ in range(s.runs)]
        first, second = (np.stack(layer) for layer in zip(*starts, strict=True))
        for i, gamma in enumerate(s.gamma):
            scale = width ** (-gamma / 2)
            ways[:, i, j] = _distances(s, scale * first, scale * second, target)
    slopes = [[np.polyfit(np.log(widths), np.log(one), 1)[0] for one in way] for way in ways]
    found = labelled(
        {
            "way": (("to", "gamma", "width"), ways, "distance from the start"),
            "power": (("to", "gamma"), slopes, "power of the width"),
        },
        to=["minimum", "saddle"],
        gamma=np.array(s.gamma),
        width=widths,
    )
    found.gamma.attrs["long_name"] = "γ, weights have the variance width^−γ"
    found.width.attrs["long_name"] = "hidden units"
    return found


def _drawn(rng: np.random.Generator, width: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Two layers of N(0, 1) weights, turned so that all but 2 d hidden units are zero.

    Rotations of the hidden units change neither the network nor its flow.
    """
    both = np.linalg.qr(rng.normal(size=(width, 2 * d)))[1]
    return both[:, :d], both[:, d:].T


def _distances(
    s: SimpleNamespace, first: np.ndarray, second: np.ndarray, target: np.ndarray
) -> list[float]:
    """Means over runs of the way of the flow to its end, and of a bound on that to a saddle."""
    import jax

    data = ld.flow.Moments(sxx=np.eye(len(target)), syx=target)

    def end(first: Any, second: Any) -> Any:
        start = ld.flow.LinearNetwork([first, second])
        return ld.flow.gradient_flow(start, data, np.array([0.0, s.t_max]), rtol=1e-6).last.weights

    last = jax.vmap(end)(first, second)
    gaps = [
        np.sum((np.asarray(a) - b) ** 2, (1, 2)) for a, b in zip(last, (first, second), strict=True)
    ]
    # At any saddle one direction of the inputs and one of the outputs is not connected.
    least = [np.linalg.svd(w, compute_uv=False)[:, -1] for w in (first, second)]
    return [float(np.mean(np.hypot(*np.sqrt(gaps)))), float(np.mean(np.hypot(*least)))]


GAMMA = (0.5, 0.75, 1.0, 2.0)

REGIMES = Entry(
    "jacot2022-regimes",
    JACOT,
    "wide linear networks start near a minimum (γ < 1) or near a saddle (γ > 1)",
    "S",
    "b",
    own_setting=True,
    settings={
        "gamma": GAMMA,
        "width": (128, 512, 2048, 8192),
        "singular": (2.0, 1.2, 0.8),
        "runs": 64,
        "t_max": 40.0,
        "seed": 0,
    },
    quick={"width": (128, 512, 2048), "runs": 16},
    run=_regimes,
    published=(
        *numbers(
            "power",
            "-.25 -.125 0 0",
            {"gamma": GAMMA},
            at={"to": "minimum"},
            within=0.05,
            source="slides: (γ − 1)/2 for two layers, 0 from γ = 1; margin of the atlas",
        ),
        *numbers(
            "power",
            ".25 .125 0 -.5",
            {"gamma": GAMMA},
            at={"to": "saddle"},
            within=0.05,
            source="slides: (1 − γ)/2; margin of the atlas",
        ),
        *numbers(
            "way",
            "2.8284",
            at={"to": "minimum", "gamma": 2.0, "width": 2048},
            within=0.06,
            source="√(2 Σ sᵢ), derived for the atlas",
        ),
    ),
    panels=(
        Panel("way", "width", by="gamma", at={"to": "minimum"}, log="xy", title="to the end"),
        Panel("way", "width", by="gamma", at={"to": "saddle"}, log="xy", title="to a saddle"),
    ),
    note=(
        "the way of the flow stands for the distance to the nearest minimum, √(s²(W₁) + s²(W₂)) "
        "with the least singular values for that to a saddle; sizes and target are ours"
    ),
)

ENTRIES = (REGIMES,)
