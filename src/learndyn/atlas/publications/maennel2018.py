"""Maennel, Bousquet & Gelly 2018: small ReLU neurons turn to few directions."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

MAENNEL = Publication("maennel2018", "Maennel, Bousquet & Gelly, arXiv 1803.08367 (2018)")


def _quantise(s: SimpleNamespace) -> "xarray.Dataset":
    rng = np.random.default_rng(s.seed)
    x, y = rng.normal(size=(s.samples, 2)), rng.normal(size=s.samples)
    angles, signs = rng.uniform(0, 2 * np.pi, s.hidden), np.sign(rng.normal(size=s.hidden))
    wanted = {sign: ld.flow.extremal_directions(x, y, sign) for sign in (1, -1)}
    largest = max(_utility(x, y, one, sign).max() for sign, one in wanted.items())
    ends, moved = [], []
    for scale in s.scale:
        end, loss = _turned(s, x, y, angles, signs, scale, largest)
        ends.append(end)
        moved.append(loss)
    useful = signs * _utility(x, y, _unit(ends[-1]), 1) > s.useful * largest
    gaps = np.array([_gaps(end, signs, wanted) for end in ends])[:, useful]
    median = np.median(gaps, axis=1)
    slope = np.polyfit(np.log(s.scale), np.log(median), 1)[0]
    return labelled(
        {
            "gap": ("scale", median, "median angle to the nearest predicted direction"),
            "power": ((), slope, "power of the scale of that angle"),
            "loss": ("scale", moved, "relative change of the loss by then"),
            "angle": (("scale", "neuron"), np.sort(np.array(ends)[:, useful]), "angle at the end"),
        },
        scale=np.array(s.scale),
        neuron=np.arange(useful.sum()) + 1,
    )


def _utility(x: np.ndarray, y: np.ndarray, w: np.ndarray, sign: int) -> np.ndarray:
    """sign times the mean of y relu(w.x) for each row of w."""
    return sign * np.mean(y * np.maximum(w @ x.T, 0), axis=1)


def _unit(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _turned(
    s: SimpleNamespace,
    x: np.ndarray,
    y: np.ndarray,
    angles: np.ndarray,
    signs: np.ndarray,
    scale: float,
    largest: float,
) -> tuple[np.ndarray, float]:
    """Angles of the neurons, and by how much the loss has moved, at a share of the first jump."""
    import jax.numpy as jnp

    # The network divides fields by √2: with √2 w at twice the rate it is the plain one.
    w, v = jnp.asarray(2**0.5 * scale * _unit(angles)), jnp.asarray(scale * signs)
    model = ld.TwoLayer(w, v, None, ld.ReLU())
    steps = round(s.share * np.log(1 / scale) / largest / s.step)
    rates = {"w": 2 * s.step, "v": s.step}
    run = ld.flow.gradient_descent(model, ld.flow.Data(x, y), [0, steps], lr=rates)
    end, loss = np.asarray(run.last.w), np.asarray(run.loss)
    return np.arctan2(end[:, 1], end[:, 0]), float(1 - loss[-1] / loss[0])


def _gaps(angles: np.ndarray, signs: np.ndarray, wanted: dict[int, np.ndarray]) -> np.ndarray:
    """Each neuron's angle to the nearest direction that is predicted for its sign."""
    cosines = [
        np.max(wanted[int(sign)] @ one) if len(wanted[int(sign)]) else -1.0
        for one, sign in zip(_unit(angles), signs, strict=True)
    ]
    return np.arccos(np.clip(cosines, -1, 1))


QUANTISE = Entry(
    "maennel2018-quantise",
    MAENNEL,
    "small ReLU neurons in the plane turn to a few directions before the loss moves",
    "S",
    "b",
    own_setting=True,
    settings={
        "samples": 8,
        "hidden": 60,
        "seed": 14,
        "scale": (1e-4, 1e-6, 1e-8, 1e-10),
        "share": 0.75,
        "useful": 2 / 3,
        "step": 2e-3,
    },
    run=_quantise,
    published=(
        *numbers("power", "0.5", within=0.05, source="2 (1 − share), derived for the atlas"),
        *numbers("loss", "0", {"scale": (1e-10,)}, within=1e-3, source="slides: before it moves"),
    ),
    panels=(
        Panel("gap", "scale", log="xy"),
        Panel("angle", "neuron", by="scale", title="sorted"),
    ),
    note=(
        "slides that show the result were read; samples and neurons are ours, and directions are "
        "compared after 0.75 of the time of the first jump; neurons that grow at less than 2/3 of "
        "the fastest rate turn more slowly, with a smaller power, and are left out"
    ),
)

ENTRIES = (QUANTISE,)
