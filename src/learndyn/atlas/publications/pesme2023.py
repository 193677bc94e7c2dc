"""Pesme & Flammarion 2023: saddle to saddle in diagonal linear networks."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

PESME = Publication("pesme2023", "Pesme & Flammarion, NeurIPS 2023, arXiv 2304.00488")

X = (
    (0.0, 0.3, -0.3, -0.9, -0.5, -1.0),
    (0.1, 1.3, -0.5, -0.6, 0.5, 0.4),
    (0.1, -0.9, 0.0, 0.7, -1.3, -0.5),
    (-1.9, -1.3, -1.8, -0.2, -1.3, 0.3),
    (0.2, -0.2, -2.5, -0.5, 0.0, 0.1),
    (-1.5, -0.5, -1.0, -0.8, 1.1, -0.8),
    (0.0, 0.9, -0.6, -0.1, 0.1, 0.1),
)
Y = (-1.2, 0.1, 1.4, -1.5, 0.9, 0.1, -0.6)


def _jumps(s: SimpleNamespace) -> "xarray.Dataset":
    data = ld.flow.Data(np.array(s.x), np.array(s.y))
    jumps = ld.flow.diagonal_jumps(data)
    logs = -np.log(np.array(s.scales))
    reach = np.linspace(0.0, s.reach, s.points)
    runs = [_flow(s, data, scale, reach * size) for scale, size in zip(s.scales, logs, strict=True)]
    times = np.array([ld.flow.jump_times(run, jumps.loss) for run in runs])
    count = np.arange(len(jumps.times)) + 1
    last = np.asarray(jumps.beta)[-1]
    found = labelled(
        {
            "loss": (("scale", "t"), [run.loss for run in runs], "loss"),
            "time": ("jump", jumps.times, "time of the jump over log(1/scale)"),
            "slope_predicted": ("jump", jumps.times, "slope of jump times in log(1/scale)"),
            "slope": (
                "jump",
                (times[1] - times[0]) / (logs[1] - logs[0]),
                "slope of jump times in log(1/scale)",
            ),
            "beta": ("input", last, "coefficients at the end"),
        },
        t=reach,
        scale=np.array(s.scales),
        jump=count,
        input=np.arange(len(last)) + 1,
    )
    found.t.attrs["long_name"] = "time over log(1/scale)"
    return found


def _flow(s: SimpleNamespace, data: "ld.flow.Data", scale: float, ts: np.ndarray) -> "ld.flow.Run":
    d = len(s.x[0])
    model = ld.flow.DiagonalNetwork(np.full(d, scale), np.zeros(d))
    return ld.flow.gradient_flow(model, data, ts, rtol=1e-8)


JUMPS = Entry(
    "pesme2023-jumps",
    PESME,
    "a diagonal linear network jumps from saddle to saddle at times that an algorithm knows",
    "S",
    "b",
    own_setting=True,
    settings={"x": X, "y": Y, "scales": (1e-32, 1e-64), "reach": 18.0, "points": 3001},
    run=_jumps,
    published=(
        *numbers(
            "time",
            "2.31023 4.90750 6.01206 7.42796 8.20654 15.30777",
            {"jump": range(1, 7)},
            source="computed for the atlas by separate code",
        ),
        *numbers(
            "beta",
            "0.685803 -0.224843 -0.663495 1.672392 0.800942 -0.767258",
            {"input": range(1, 7)},
            source="computed for the atlas by separate code",
        ),
        *numbers(
            "slope", "", {"jump": range(1, 7)}, kind="shown", within=0.01, source="claimed to 0.01"
        ),
    ),
    panels=(
        Panel("loss", "t", by="scale", title="gradient flow"),
        Panel("slope", "jump", title="line: algorithm; crosses: flow"),
    ),
    note="slides print two tables of times without the data behind them: these data are ours",
)

ENTRIES = (JUMPS,)
