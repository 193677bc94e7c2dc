"""Mori, Sarao Mannelli & Mignacco 2025: in which order tasks are best learned."""

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

MORI = Publication("mori2025", "Mori, Sarao Mannelli & Mignacco, ICLR 2025, arXiv 2409.18061")
OWN = "computed for the atlas"


def _protocols(s: SimpleNamespace) -> "xarray.Dataset":
    tasks = [ld.Task(ld.Problem(), row, head) for head, row in enumerate(np.eye(2))]
    start = ld.Overlaps(s.q, s.r, [[1.0, s.similarity], [s.similarity, 1.0]])
    ts, rule = np.linspace(0.0, s.alpha_max, s.points), ld.SGD(lr=s.lr, lr_second=s.lr)
    found = []
    for focus, after in s.protocols.values():
        # Shares of the first task: all, then `focus`, then `after`
        shares = [(p, 1 - p) for p in (1.0, focus, after)]
        schedule = list(zip((s.switch, s.second_switch, math.inf), shares, strict=True))
        run = ld.learn("ode", tasks, rule, start, ts, s.heads, schedule)
        found.append(np.asarray(run.eg_tasks).T)
    return labelled(
        {
            "eg": (("protocol", "task", "alpha"), found, "generalisation error of each task"),
            "mean": (("protocol", "alpha"), np.mean(found, axis=1), "mean error of both tasks"),
        },
        protocol=list(s.protocols),
        task=["first task", "second task"],
        alpha=ts,
    )


PROTOCOLS = Entry(
    "mori2025-protocols",
    MORI,
    "first focus on the new task, then interleave: the best of four ways to learn a second task",
    "R",
    "b",
    settings={
        "lr": 1.0,
        "q": ((0.09, 0.009), (0.009, 0.09)),
        "r": ((0.03, 0.0357846097), (-0.015, 0.0080884573)),
        "similarity": 0.5,
        "heads": ((0.1, -0.05), (0.05, 0.1)),
        "switch": 20.0,
        "second_switch": 35.0,
        "alpha_max": 60.0,
        "points": 121,
        "protocols": {
            "new alone": (0.0, 0.0),
            "1/4 replay": (0.25, 0.25),
            "half and half": (0.5, 0.5),
            "focus, then half": (0.0, 0.5),
        },
    },
    run=_protocols,
    published=tuple(
        one
        for task, values in {
            "first task": ".0106302 .0411575",
            "second task": ".0989862 .0148558",
        }.items()
        for one in numbers(
            "eg",
            values,
            {"alpha": (25, 35)},
            at={"protocol": "1/4 replay", "task": task},
            source=OWN,
        )
    ),
    panels=(
        Panel("eg", "alpha", by="protocol", at={"task": "first task"}, log="y", title="first task"),
        Panel("eg", "alpha", by="protocol", at={"task": "second task"}, log="y", title="second"),
        Panel("mean", "alpha", by="protocol", log="y", title="both"),
    ),
    note="the protocols are ours, not the optimal one of the paper",
)

ENTRIES = (PROTOCOLS,)
