"""Lee, Goldt & Saxe 2021; Lee, Sarao Mannelli, Clopath, Goldt & Saxe 2022: what is forgotten of a
first task while a second one, more or less similar, is learned."""

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

LEE2021 = Publication("lee2021", "Lee, Goldt & Saxe, ICML 2021, arXiv 2107.04384")
LEE2022 = Publication(
    "lee2022", "Lee, Sarao Mannelli, Clopath, Goldt & Saxe, ICML 2022, arXiv 2205.09029"
)
OWN = "computed for the atlas"
SIMILARITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8, 0.85, 0.9, 1.0)
COMMON = {
    "lr": 1.0,
    "q": ((0.09, 0.009), (0.009, 0.09)),
    "a": (0.1, -0.05),
    "b": (0.08, 0.06),
    "scale": 0.3,
    "heads": ((0.1, -0.05), (0.05, 0.1)),
    "switch": 100.0,
    "similarity": SIMILARITIES,
}


def _start(s: SimpleNamespace, v: float) -> "ld.Overlaps":
    """Two teachers of overlap v, each of which the student has a little of."""
    a, b = s.scale * np.array(s.a), s.scale * np.array(s.b)
    r = np.stack([a, v * a + math.sqrt(1 - v**2) * b], axis=1)
    return ld.Overlaps(s.q, r, [[1.0, v], [v, 1.0]])


def _errors(s: SimpleNamespace, v: float, replay: float, horizons: tuple) -> np.ndarray:
    """Errors of both tasks at the switch and at each horizon, (times, tasks)."""
    tasks = [ld.Task(ld.Problem(), row, head) for head, row in enumerate(np.eye(2))]
    schedule = [(s.switch, (1, 0)), (math.inf, (replay, 1 - replay))]
    ts = np.array([0.0, s.switch, *(s.switch + t for t in horizons)])
    rule = ld.SGD(lr=s.lr, lr_second=s.lr)
    run = ld.learn("ode", tasks, rule, _start(s, v), ts, s.heads, schedule)
    return np.asarray(run.eg_tasks)[1:]


def _similarity(s: SimpleNamespace) -> "xarray.Dataset":
    found = np.array([_errors(s, v, 0.0, s.horizons) for v in s.similarity])
    forgotten = (found[:, 1:, 0] - found[:, :1, 0]).T
    return labelled(
        {
            "forgetting": (("horizon", "similarity"), forgotten, "forgetting of the first task"),
            "second": (("horizon", "similarity"), found[:, 1:, 1].T, "error of the second task"),
            "worst": (
                "horizon",
                np.array(s.similarity)[forgotten.argmax(axis=1)],
                "V of most forgetting",
            ),
        },
        horizon=np.array(s.horizons),
        similarity=np.array(s.similarity),
    )


PLACES = (0.0, 0.2, 0.4, 0.55, 0.8, 1.0)

SIMILARITY = Entry(
    "lee2021-similarity",
    LEE2021,
    "forgetting is largest at intermediate similarity of two tasks, at each of three horizons",
    "A+C",
    "b",
    settings=COMMON | {"horizons": (10, 50, 1000)},
    run=_similarity,
    published=(
        *(
            one
            for horizon, values in {
                10: ".0044960 .0263122 .0651959 .0797005 .0505637 .0007464",
                50: ".0143295 .0781133 .1043532 .1204602 .0742369 .0006489",
                1000: ".0185444 .1570428 .1143335 .1114296 .0742425 .0006619",
            }.items()
            for one in numbers(
                "forgetting", values, {"similarity": PLACES}, at={"horizon": horizon}, source=OWN
            )
        ),
        *numbers("worst", ".55 .55 .2", {"horizon": (10, 50, 1000)}, source=OWN),
    ),
    panels=(
        Panel("forgetting", "similarity", by="horizon", title="first task"),
        Panel("second", "similarity", by="horizon", log="y", title="second task"),
    ),
    note="the time after the switch decides where the maximum is; sizes and starts are ours",
)


def _maslow(s: SimpleNamespace) -> "xarray.Dataset":
    found = np.array([[_errors(s, v, p, (s.horizon,)) for v in s.similarity] for p in s.replay])
    forgotten = found[:, :, 1, 0] - found[:, :, 0, 0]
    return labelled(
        {
            "forgetting": (("replay", "similarity"), forgotten, "forgetting of the first task"),
            "second": (("replay", "similarity"), found[:, :, 1, 1], "error of the second task"),
            "worst": (
                "replay",
                np.array(s.similarity)[forgotten.argmax(axis=1)],
                "V of most forgetting",
            ),
        },
        replay=np.array(s.replay),
        similarity=np.array(s.similarity),
    )


MASLOW = Entry(
    "lee2022-maslow",
    LEE2022,
    "replay of one step in five: far less is forgotten, and most of it at higher similarity",
    "A",
    "b",
    settings=COMMON | {"horizon": 50, "replay": (0.0, 0.2)},
    run=_maslow,
    published=(
        *numbers(
            "forgetting",
            ".0034076 .0128431 .0233271 .0265285",
            {"similarity": (0.0, 0.3, 0.8, 0.85)},
            at={"replay": 0.2},
            source=OWN,
        ),
        *numbers("worst", ".55 .85", {"replay": (0.0, 0.2)}, source=OWN),
    ),
    panels=(
        Panel("forgetting", "similarity", by="replay", title="first task, 50 after the switch"),
        Panel("second", "similarity", by="replay", log="y", title="second task"),
    ),
    note="of the paper's interventions replay alone is made here; regularisers are not",
)

ENTRIES = (SIMILARITY, MASLOW)
