"""Chizat, Oyallon & Bach 2019: lazy training."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

CHIZAT = Publication("chizat2019", "Chizat, Oyallon & Bach, NeurIPS 2019, arXiv 1812.07956")

WEIGHTS = (
    (0.8, -0.3, 0.5, 0.9),
    (-0.6, 1.1, 0.2, -0.7),
    (0.4, 0.7, -1.2, 0.6),
    (-1.0, 0.1, 0.3, 0.8),
)
"""Four hidden units: three input weights and the output weight of each, before they are scaled."""

X = ((0.9, -0.2, 0.4), (-0.5, 0.8, 0.7))
Y = (1.0, -0.6)
"""Two samples of three inputs: fewer than there are weights, so that the loss ends at 0."""


def _lazy(s: SimpleNamespace) -> "xarray.Dataset":
    alphas = np.array(s.alpha)
    single = np.array([_moves(s, alpha, doubled=False) for alpha in s.alpha])
    double = np.array([_moves(s, alpha, doubled=True) for alpha in s.alpha])
    slope = lambda values: np.diff(np.log(values))[-1] / np.diff(np.log(alphas))[-1]
    words = ("relative change of the weights", "relative change of the kernel")
    return labelled(
        {
            "weights": ("alpha_scale", single[:, 0], words[0]),
            "kernel": ("alpha_scale", single[:, 1], words[1]),
            "kernel_doubled": ("alpha_scale", double[:, 1], f"{words[1]}, doubled"),
            "weights_slope": ((), slope(single[:, 0]), f"exponent of the {words[0]}"),
            "kernel_slope": ((), slope(single[:, 1]), f"exponent of the {words[1]}"),
            "doubled_slope": ((), slope(double[:, 1]), f"exponent of the {words[1]}, doubled"),
        },
        alpha_scale=alphas,
    )


def _moves(s: SimpleNamespace, alpha: float, *, doubled: bool) -> tuple[float, float]:
    """How far weights and kernel move, relative to their size, until the labels are fitted.

    A network of two linear layers whose weights are √α times as large is α times the network; the
    labels are y more than it says at the start. doubled: with a copy of the opposite sign, so that
    it says 0 at the start.
    """
    weights = alpha**0.5 * np.array(s.start_weights)
    first, second = weights[:, :3], weights[:, 3:].T
    if doubled:
        first, second = np.concatenate([first, first]), np.concatenate([second, -second], axis=1)
    x, start = np.array(s.x), ld.flow.LinearNetwork([first, second])
    labels = x @ (second @ first).T + np.array(s.y)[:, None]
    data = ld.flow.Data(x, labels)
    # Rates fall as 1/α, as the kernel grows so.
    run = ld.flow.gradient_flow(start, data, np.array([0.0, s.t_max / alpha]))
    before, after = (np.asarray(ld.flow.ntk(model, x)) for model in (start, run.last))
    gap = sum(np.sum((a - b) ** 2) for a, b in zip(run.last.weights, (first, second), strict=True))
    size = np.sum(first**2) + np.sum(second**2)
    return float(np.sqrt(gap / size)), float(
        np.linalg.norm(after - before) / np.linalg.norm(before)
    )


LAZY = Entry(
    "chizat2019-lazy",
    CHIZAT,
    "the larger the scale α of a network, the less its weights and its kernel move",
    "S+R",
    "b",
    settings={
        "alpha": (16.0, 64.0, 256.0, 1024.0),
        "start_weights": WEIGHTS,
        "x": X,
        "y": Y,
        "t_max": 100.0,
    },
    run=_lazy,
    published=(
        *numbers("weights_slope", "-1", within=0.05, source="slides; margin of the atlas"),
        *numbers("kernel_slope", "-1", within=0.05, source="slides; margin of the atlas"),
        *numbers("doubled_slope", "-2", within=0.05, source="slides; margin of the atlas"),
    ),
    panels=(
        Panel("weights", "alpha_scale", log="xy"),
        Panel("kernel", "alpha_scale", log="xy"),
        Panel("kernel_doubled", "alpha_scale", log="xy"),
    ),
    note="slides that show the result were read, the paper is remembered; the network is ours",
)

ENTRIES = (LAZY,)
