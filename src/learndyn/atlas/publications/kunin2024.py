"""Kunin et al. 2024, Get rich quick: one linear neuron between lazy and rich learning."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

KUNIN = Publication("kunin2024", "Kunin et al., Get rich quick, NeurIPS 2024, arXiv 2406.06158")
OWN = "computed for the atlas"


def _layers(delta: float, beta: np.ndarray) -> tuple[float, np.ndarray]:
    """a > 0 and w of a balance delta = a² - |w|² and a function a w = beta."""
    root = np.hypot(delta, 2 * np.linalg.norm(beta))
    # The smaller root by the larger, which does not cancel.
    square = (root + delta) / 2 if delta > 0 else 2 * beta @ beta / (root - delta)
    return square**0.5, beta / square**0.5


def _fig2_4(s: SimpleNamespace) -> "xarray.Dataset":
    begin, end = np.array(s.beta_start), np.array(s.beta_end)
    ts = np.linspace(0.0, s.t_max, s.points)
    data = ld.flow.Data(np.eye(2), end, "sum")
    closed, flown = [], []
    for delta in s.delta:
        a, w = _layers(delta, begin)
        closed.append(_curve(*ld.flow.linear_neuron_data(data, a, w, ts), end))
        run = ld.flow.gradient_flow(ld.flow.LinearNeuron(a, w), data, ts)
        flown.append(_curve(run.model.a, run.model.w, end))
    large = np.array(s.large)
    up = np.array([_kernel_move(delta, begin, end) for delta in s.large])
    down = np.array([_kernel_move(-delta, begin, end) for delta in s.large])
    found = labelled(
        {
            "error_predicted": (("delta", "t"), [x[0] for x in closed], "loss"),
            "error": (("delta", "t"), [x[0] for x in flown], "loss"),
            "aligned_predicted": (("delta", "t"), [x[1] for x in closed], "cosine of w and β*"),
            "aligned": (("delta", "t"), [x[1] for x in flown], "cosine of w and β*"),
            "moved_predicted": (("delta", "t"), [x[2] for x in closed], "kernel distance S"),
            "moved": (("delta", "t"), [x[2] for x in flown], "kernel distance S"),
            "balanced": ((), _kernel_move(0.0, begin, end), "final kernel distance, δ = 0"),
            "upstream": ("large", up * large**4, "S δ⁴ at the end, δ > 0"),
            "downstream": ("large", (1 - down) * large**2, "(1 − S) δ² at the end, δ < 0"),
        },
        delta=np.array(s.delta),
        t=ts,
        large=large,
    )
    found.t.attrs["long_name"] = "time"
    found.large.attrs["long_name"] = "|δ|"
    return found


def _curve(a, w, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss, alignment and kernel distance along a run, for white inputs in two dimensions."""
    a, w = np.asarray(a), np.asarray(w)
    loss = 0.5 * np.sum((a[:, None] * w - end) ** 2, axis=1)
    cosine = w @ end / np.linalg.norm(w, axis=1) / np.linalg.norm(end)
    kernels = a[:, None, None] ** 2 * np.eye(2) + w[:, :, None] * w[:, None, :]
    units = kernels / np.linalg.norm(kernels, axis=(1, 2), keepdims=True)
    return loss, cosine, 0.5 * np.sum((units - units[0]) ** 2, axis=(1, 2))


def _kernel_move(delta: float, begin: np.ndarray, end: np.ndarray) -> float:
    """Kernel distance between the start and the end of the flow."""
    a, w = _layers(delta, begin)
    late_a, late_w = ld.flow.linear_neuron(a, w, end, np.array([0.0, 1e6]))
    return float(_curve(late_a, late_w, end)[2][-1])


FIG2_4 = Entry(
    "kunin2024-fig2-4",
    KUNIN,
    "one linear neuron: loss, alignment and kernel distance for layers balanced by δ",
    "C",
    "a",
    settings={
        "beta_start": (-1.0, 0.0),
        "beta_end": (0.0, 1.0),
        "delta": (-4.0, -1.0, 0.0, 1.0, 4.0),
        "large": (4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
        "t_max": 20.0,
        "points": 201,
    },
    run=_fig2_4,
    published=(
        *numbers("balanced", "0.2", source="1/5, derived for the atlas"),
        *numbers(
            "upstream",
            "0.376 0.463 0.490 0.4976 0.49939 0.49985",
            {"large": (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)},
            source=OWN,
        ),
        *numbers("downstream", "1.9996", {"large": (128.0,)}, source=OWN),
        *numbers(
            "moved",
            "",
            {"delta": (-4.0, -1.0, 0.0, 1.0, 4.0)},
            at={"t": 20.0},
            kind="shown",
            source="curves",
        ),
    ),
    panels=(
        Panel("error", "t", by="delta", log="y"),
        Panel("aligned", "t", by="delta"),
        Panel("moved", "t", by="delta"),
    ),
    note="the notebook's kernel distance has a₀² where a² belongs",
)


def _fig4b(s: SimpleNamespace) -> "xarray.Dataset":
    x, y = np.array([s.x]), np.array([s.y])
    begin, ts = np.array(s.beta_start), np.array([0.0, s.t_max])
    closed, flown = [], []
    for delta in s.delta:
        a, w = _layers(delta, begin)
        closed.append(np.asarray(ld.flow.implicit_bias(x, y, a, w).beta))
        run = ld.flow.gradient_flow(ld.flow.LinearNeuron(a, w), ld.flow.Data(x, y, "sum"), ts)
        flown.append(np.asarray(run.last.a * run.last.w))
    words = {"first": "first coefficient at the end", "second": "second coefficient at the end"}
    data: dict[str, tuple] = {}
    for place, (name, text) in enumerate(words.items()):
        data[f"{name}_predicted"] = ("delta", np.array(closed)[:, place], text)
        data[name] = ("delta", np.array(flown)[:, place], text)
    best = np.linalg.pinv(x) @ y
    data["shortest"] = ("input", best, "solution of least norm")
    return labelled(data, delta=np.array(s.delta), input=[1, 2])


DELTAS = (-8.0, -2.0, 0.0, 2.0, 8.0)
"""A larger first layer, balanced layers, and a larger second layer."""

FIG4B = Entry(
    "kunin2024-fig4b",
    KUNIN,
    "which of many interpolating solutions a linear neuron learns depends on the balance δ",
    "C+S",
    "a",
    settings={
        "x": (0.5, 1.0),
        "y": 1.1,
        "beta_start": (0.1, 0.0),
        "delta": DELTAS,
        "t_max": 200.0,
    },
    run=_fig4b,
    published=(
        *numbers(
            "first", "1.988494 1.456724 .696085 .527641 .520593", {"delta": DELTAS}, source=OWN
        ),
        *numbers(
            "second", ".105753 .371638 .751957 .836180 .839704", {"delta": DELTAS}, source=OWN
        ),
        *numbers("shortest", ".44 .88", {"input": (1, 2)}, source="x⁺y"),
    ),
    panels=(Panel("first", "delta"), Panel("second", "delta")),
    note="Theorem 3.1 as printed fails where a changes sign; crosses are ends of the flow",
)

ENTRIES = (FIG2_4, FIG4B)
