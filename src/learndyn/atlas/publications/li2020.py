"""Li, Luo & Lyu 2020: gradient flow from small weights is greedy low-rank learning."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

LI = Publication("li2020", "Li, Luo & Lyu, Towards resolving the implicit bias, arXiv 2012.09839")
OWN = "computed for the atlas"

SXX = (
    (0.4136012472952317, 0.20483544376248475, -0.0790341098819002, -0.2845369282107613),
    (0.20483544376248475, 1.053767782374756, -0.21355290315628567, -0.28796265227728157),
    (-0.0790341098819002, -0.21355290315628567, 0.9216784184302282, 0.664838140029133),
    (-0.2845369282107613, -0.28796265227728157, 0.664838140029133, 2.1855368656183622),
)
SYX = (
    (0.8536873665071318, 0.9878768709285974, 0.539766305508138, -1.0956877949957413),
    (-0.24539643132179012, -1.1086463046053827, -2.0606047394790865, 0.1539151786145979),
    (-0.13698280836935492, -0.32984668477178875, 1.771722694497384, -0.16665988195384024),
)
"""Second moments that do not commute."""

START = (
    (0.13, -0.13, 0.64, 0.1),
    (-0.54, 0.36, 1.3, 0.95),
    (-0.7, -1.27, -0.62, 0.04),
    (-2.33, -0.22, -1.25, -0.73),
    (-0.54, -0.32, 0.41, 1.04),
    (-0.13, 1.37, -0.67, 0.35),
    (0.9, 0.09, -0.74, -0.92),
)
"""Weights of four hidden units over the scale: four inputs, then three outputs."""


def _greedy(s: SimpleNamespace) -> "xarray.Dataset":
    sxx, syx = np.array(s.sxx), np.array(s.syx)
    jumps, greedy = ld.flow.linear_jumps(sxx, syx), ld.flow.greedy_low_rank(sxx, syx)
    ts, scales = np.linspace(0.0, s.t_max, s.points), np.array(s.scales)
    runs = [_flow(s, sxx, syx, scale, ts) for scale in s.scales]
    times = np.array([np.asarray(ld.flow.jump_times(run, jumps.loss)) for run in runs])
    slopes = (times[1] - times[0]) / np.log(scales[0] / scales[1])
    ranks = np.arange(len(jumps.times)) + 1
    found = labelled(
        {
            "loss": (("scale", "t"), [run.loss for run in runs], "loss above least squares"),
            "time": ("rank", jumps.times, "time of the jump over log(1/scale)"),
            "slope_predicted": ("rank", jumps.times, "slope of jump times in log(1/scale)"),
            "slope": ("rank", slopes, "slope of jump times in log(1/scale)"),
            "level": ("plateau", jumps.loss, "loss on the plateau"),
            "greedy_gap": (
                (),
                np.abs(np.asarray(greedy.maps) - np.asarray(jumps.maps)).max(),
                "greedy low-rank learning against reduced-rank regression",
            ),
        },
        t=ts,
        scale=scales,
        rank=ranks,
        plateau=np.arange(len(jumps.loss)),
    )
    found.t.attrs["long_name"] = "time"
    return found


def _flow(s: SimpleNamespace, sxx, syx, scale: float, ts: np.ndarray) -> "ld.flow.Run":
    weights = scale * np.array(s.start_weights)
    inputs = sxx.shape[0]
    model = ld.flow.LinearNetwork([weights[:inputs].T, weights[inputs:]])
    return ld.flow.gradient_flow(model, ld.flow.Moments(sxx, syx), ts)


GREEDY = Entry(
    "li2020-greedy",
    LI,
    "from small weights a linear network learns rank after rank, each by reduced-rank regression",
    "S",
    "b",
    own_setting=True,
    settings={
        "sxx": SXX,
        "syx": SYX,
        "start_weights": START,
        "scales": (1e-6, 1e-8),
        "t_max": 40.0,
        "points": 4001,
    },
    run=_greedy,
    published=(
        *numbers("time", ".33333 .62471 1.41872", {"rank": (1, 2, 3)}, source=OWN),
        *numbers(
            "slope", "", {"rank": (1, 2, 3)}, kind="shown", within=0.01, source="claimed to 0.01"
        ),
        *numbers("level", "8.23303 1.22770 .241224", {"plateau": (0, 1, 2)}, source=OWN),
        *numbers("greedy_gap", "0", within=1e-9, source="2e-12, computed for the atlas"),
    ),
    panels=(
        Panel("loss", "t", by="scale", title="gradient flow"),
        Panel("slope", "rank", title="line: theory; crosses: flow"),
    ),
    note="slides that show the result were read; the moments are ours",
)

ENTRIES = (GREEDY,)
