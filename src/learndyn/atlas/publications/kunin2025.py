"""Kunin et al. 2025, Alternating gradient flows: learning in steps."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

KUNIN = Publication("kunin2025", "Kunin et al., Alternating gradient flows, arXiv 2506.06489")
OWN = "computed for the atlas"

START = (
    (-0.8, -1.32, -0.25, 0.42),
    (1.14, 0.11, -0.55, -0.78),
    (0.75, 1.63, 0.27, -1.23),
    (-0.96, 1.6, 0.2, -1.73),
    (-0.08, -1.16, -0.63, -0.49),
    (-0.71, 0.55, -0.06, -0.59),
)
"""Weights of four hidden units over the scale: three inputs, then three outputs."""


def _linear(s: SimpleNamespace) -> "xarray.Dataset":
    strengths, weights = np.array(s.strengths), s.scale * np.array(s.start_weights)
    size = len(strengths)
    sxx, syx = np.eye(size), np.diag(strengths)
    w1, w2 = weights[:size].T, weights[size:]
    told = ld.flow.linear_jump_times(w1, w2, sxx, syx)
    levels = ld.flow.linear_jumps(sxx, syx).loss
    ts = np.linspace(0.0, s.t_max, s.points)
    model = ld.flow.LinearNetwork([w1, w2])
    run = ld.flow.gradient_flow(model, ld.flow.Moments(sxx, syx), ts)
    # Half of a mode takes three quarters of its drop.
    measured = ld.flow.jump_times(run, levels, 0.75)
    found = labelled(
        {
            "loss": ("t", run.loss, "loss"),
            "time_predicted": ("mode", told.times, "time of half height"),
            "time": ("mode", measured, "time of half height"),
            "share": ("mode", np.sqrt(told.squares) / s.scale, "share R_kk of the start"),
            "level": ("plateau", levels, "loss on the plateau"),
        },
        t=ts,
        mode=np.arange(size) + 1,
        plateau=np.arange(len(levels)),
    )
    found.t.attrs["long_name"] = "time"
    return found


LINEAR = Entry(
    "kunin2025-agf-linear",
    KUNIN,
    "the loss staircase of a linear network: when each mode is learned from a random small start",
    "S",
    "b",
    settings={
        "strengths": (3.0, 2.0, 1.0),
        "start_weights": START,
        "scale": 1e-4,
        "t_max": 14.0,
        "points": 7001,
    },
    run=_linear,
    published=(
        *numbers("time", "3.219576 4.713231 8.977306", {"mode": (1, 2, 3)}, source=OWN),
        *numbers("share", "1.564385 1.611273 1.785338", {"mode": (1, 2, 3)}, source=OWN),
        *numbers("level", "7 2.5 .5", {"plateau": (0, 1, 2)}, source="Σ s²/2 of what is left"),
    ),
    panels=(
        Panel("loss", "t"),
        Panel("time", "mode", title="line: theory; crosses: flow"),
    ),
    note="the slides' formula per neuron gives wrong later times; times here are by rotated units",
)


def _template(p: int, waves: dict[int, float]) -> np.ndarray:
    """A template (p,) with these amplitudes |x̂| of its frequencies, all phases 0."""
    sites = np.arange(p)
    return np.sum([2 * r / p * np.cos(2 * np.pi * k * sites / p) for k, r in waves.items()], axis=0)


def _modular(s: SimpleNamespace) -> "xarray.Dataset":
    x = _template(s.p, {k + 1: r for k, r in enumerate(s.amplitudes)})
    told, jumps = ld.flow.modular_utility(x), ld.flow.modular_jumps(x)
    single = _template(s.p, {1: s.amplitudes[0]})
    scaled, alone = np.linspace(0.0, s.t_max, s.points), single @ single / 2
    runs = [_flow(s, single, hidden, scaled / s.scale) for hidden in s.few]
    shares = np.array([np.asarray(run.loss) / alone for run in runs])
    six = ld.flow.ModularAddition(*ld.flow.modular_neurons(single, 1))
    rest = float(ld.flow.loss(six, ld.flow.modular_data(single)))
    found = labelled(
        {
            "loss": (("hidden", "t"), shares, "loss over that of zero, one frequency"),
            "utility_predicted": (
                "frequency",
                np.sqrt(2 / (27 * s.p**3)) * told.amplitudes**3,
                "largest utility",
            ),
            "utility": ("frequency", told.maxima, "largest utility"),
            "level": ("plateau", jumps.loss, "loss on the plateau, all frequencies"),
            "left": ("hidden", shares[:, -1], "share of the loss that H neurons leave"),
            "six": ((), rest / alone, "share of the loss that six neurons leave"),
        },
        t=scaled,
        frequency=told.frequencies,
        plateau=np.arange(len(jumps.loss)),
        hidden=np.array(s.few),
    )
    found.t.attrs["long_name"] = "time times the scale"
    return found


def _flow(s: SimpleNamespace, x: np.ndarray, hidden: int, ts: np.ndarray) -> Any:
    """Gradient flow of `hidden` neurons from the first of the stored directions."""
    theta = np.array(s.start_weights)[:hidden]
    theta = s.scale * theta / np.linalg.norm(theta, axis=(1, 2), keepdims=True)
    model = ld.flow.ModularAddition(*theta.transpose(1, 0, 2))
    return ld.flow.gradient_flow(model, ld.flow.modular_data(x), ts, rtol=s.rtol)


def _directions(hidden: int, p: int) -> tuple:
    """Directions of neurons, (hidden, 3, p), from a recurrence, so that no generator is needed.

    Weyl's sequence of the golden ratio, stretched to (-1, 1).
    """
    steps = np.arange(1, hidden * 3 * p + 1)
    spread = 2 * ((steps**2 * 0.6180339887498949) % 1.0) - 1
    return tuple(
        tuple(tuple(round(float(z), 3) for z in row) for row in unit)
        for unit in spread.reshape(hidden, 3, p)
    )


MODULAR = Entry(
    "kunin2025-agf-modular",
    KUNIN,
    "addition modulo p is learned one frequency after another; six neurons fit one exactly",
    "S",
    "b",
    settings={
        "p": 7,
        "amplitudes": (6.0, 4.0, 2.5),
        "scale": 1e-3,
        "start_weights": _directions(2, 7),
        "few": (1, 2),
        "t_max": 0.45,
        "points": 401,
        "rtol": 1e-6,
    },
    run=_modular,
    published=(
        *numbers("utility", "", {"frequency": (1, 2, 3)}, kind="shown", source="√(2/27p³)|x̂|³"),
        *numbers("level", "3.178571 .892857", {"plateau": (1, 2)}, source=OWN),
        *numbers(
            "left", ".888889 .555581", {"hidden": (1, 2)}, kind="printed", source="8/9 and 5/9"
        ),
        *numbers("six", "0", within=1e-12, source="six neurons fit exactly"),
    ),
    panels=(
        Panel("loss", "t", by="hidden", title="one frequency, one and two neurons"),
        Panel("level", "plateau", title="three frequencies"),
    ),
    note="the template is ours; its amplitudes are those of the atlas's numbers",
)

ENTRIES = (LINEAR, MODULAR)
