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


def _fig1(s: SimpleNamespace) -> "xarray.Dataset":
    cells = [(scale, delta) for scale in s.scale for delta in s.delta]
    found = np.array(
        [[_student(s, scale, delta, seed) for seed in range(s.seeds)] for scale, delta in cells]
    )  # cell, seed, (kernel distance, test loss), step
    shaped = found.reshape(len(s.scale), len(s.delta), *found.shape[1:]).mean(axis=2)
    kernel, kernel_error = _largest(found[:, :, 0])
    loss, loss_error = _largest(found[:, :, 1])
    dims = ("scale", "delta", "step")
    data = labelled(
        {
            "kernel": (dims, shaped[:, :, 0], "kernel distance S"),
            "loss": (dims, shaped[:, :, 1], "test loss"),
            "largest_kernel": ("step", kernel, "largest kernel distance"),
            "largest_kernel_error": ("step", kernel_error),
            "largest_loss": ("step", loss, "largest test loss"),
            "largest_loss_error": ("step", loss_error),
        },
        scale=np.array(s.scale),
        delta=np.array(s.delta),
        step=np.array(s.steps),
    )
    data.scale.attrs["long_name"] = "scale τ"
    data.step.attrs["long_name"] = "steps"
    return data


def _largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest mean over seeds of (cells, seeds, steps), and its standard error."""
    means = values.mean(axis=1)
    errors = values.std(axis=1, ddof=1) / values.shape[1] ** 0.5
    best, steps = means.argmax(axis=0), np.arange(means.shape[1])
    return means[best, steps], errors[best, steps]


def _student(s: SimpleNamespace, scale: float, delta: float, seed: int) -> np.ndarray:
    """Kernel distances and test losses of one student after each number of steps."""
    import jax.numpy as jnp

    rng = np.random.default_rng(seed)
    teacher, signs = _unit_rows(rng, 3, s.d), np.sign(rng.normal(size=3))
    half, half_signs = _unit_rows(rng, s.m // 2, s.d), np.sign(rng.normal(size=s.m // 2))
    # Each neuron has |w| = scale * turn and |a| = scale / turn, so that a² - |w|² = delta; its
    # twin of the opposite sign makes the network 0 at the start.
    ratio = delta / scale**2
    turn = ((np.hypot(2, ratio) - ratio) / 2) ** 0.5
    w = scale * turn * np.concatenate([half, half])
    a = scale / turn * np.concatenate([half_signs, -half_signs])
    x, tests = _unit_rows(rng, s.n, s.d), _unit_rows(rng, s.tests, s.d)
    labels = lambda inputs: np.maximum(inputs @ teacher.T, 0) @ signs
    # The network divides fields by √d, and its loss is half the mean of squares.
    model = ld.TwoLayer(jnp.asarray(w * s.d**0.5), jnp.asarray(a), None, ld.ReLU())
    rates = {"w": 2 * s.rate / scale**2 * s.d, "v": 2 * s.rate / scale**2}
    data = ld.flow.Data(x, labels(x))
    run = ld.flow.gradient_descent(model, data, [0, *s.steps], lr=rates)
    weights = np.asarray(run.model.w) / s.d**0.5, np.asarray(run.model.v)
    kernels = [_relu_kernel(x, *one) for one in zip(*weights, strict=True)]
    outputs = [np.maximum(tests @ w.T, 0) @ a for w, a in zip(*weights, strict=True)]
    distance = [0.5 * np.sum((one - kernels[0]) ** 2) for one in kernels]
    loss = [np.mean((one - labels(tests)) ** 2) for one in outputs]
    return np.array([distance, loss])[:, 1:]


def _unit_rows(rng: np.random.Generator, count: int, d: int) -> np.ndarray:
    rows = rng.normal(size=(count, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _relu_kernel(x: np.ndarray, w: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The neural tangent kernel of a ReLU network on its samples, of norm 1."""
    fields = x @ w.T
    units, slopes = np.maximum(fields, 0), (fields > 0) * a
    kernel = units @ units.T + (x @ x.T) * (slopes @ slopes.T)
    return kernel / np.linalg.norm(kernel)


PRINTED = "notebook plot_fig1b, the largest mean over 16 seeds on a grid of 17 × 17"

FIG1 = Entry(
    "kunin2024-fig1",
    KUNIN,
    "ReLU student and teacher: kernels move from small starts, fastest where the readout is larger",
    "C",
    "b",
    settings={
        "d": 100,
        "n": 1000,
        "m": 50,
        "rate": 5e-3,
        "scale": (0.1, 0.21, 0.45, 0.95, 2.0),
        "delta": (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0),
        "seeds": 16,
        "steps": (10, 100, 1000),
        "tests": 2000,
    },
    quick={"scale": (0.1, 2.0), "delta": (-1.0, 0.0, 0.25, 1.0), "seeds": 4, "steps": (10, 100)},
    run=_fig1,
    published=(
        *numbers(
            "largest_kernel",
            ".2385023795 .5370317735",
            {"step": (100, 1000)},
            kind="printed",
            source=PRINTED,
        ),
        *numbers(
            "largest_loss",
            ".0135510858 .0079020691",
            {"step": (100, 1000)},
            kind="printed",
            source=PRINTED,
        ),
    ),
    panels=(
        Panel("kernel", "delta", by="scale", at={"step": 100}, title="after 100 steps"),
        Panel("loss", "delta", by="scale", at={"step": 100}, title="after 100 steps"),
        Panel("largest_kernel", "step", log="xy"),
    ),
    note=(
        "teachers and samples are drawn anew, so that numbers agree within the scatter of seeds; "
        "the rate in the notebook's name, 0.005, is the one that gives its numbers: one of its "
        "remarks has 0.05"
    ),
)

ENTRIES = (FIG2_4, FIG4B, FIG1)
