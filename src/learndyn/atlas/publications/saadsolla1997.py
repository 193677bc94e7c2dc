"""Saad & Solla, NIPS 9, 260 (1996): output noise and weight decay."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

SAADSOLLA = Publication("saadsolla1997", "Saad & Solla, NIPS 9, 260 (1996)")
OWN = "computed for the atlas"


def _noise(s: SimpleNamespace) -> "xarray.Dataset":
    problem, k, lr = ld.Problem(noise=s.noise), np.array(s.k), np.array(s.lr)
    rest = [
        [
            float(
                ld.asymptotics.fixed_point(
                    problem, ld.SGD(lr=rate), ld.asymptotics.specialised_state(units, 0)
                ).eg
            )
            for rate in s.lr
        ]
        for units in s.k
    ]
    closed = ld.asymptotics.eg_specialised(k[:, None], 0, lr, s.noise)
    return labelled(
        {
            "eg": (("k", "lr"), rest, "final ε_g of the full ODE"),
            "closed": (("k", "lr"), closed, "final ε_g to first order in σ²"),
        },
        k=k,
        lr=lr,
    )


NOISE = Entry(
    "saadsolla1997-noise",
    SAADSOLLA,
    "output noise leaves a final error that grows with the learning rate",
    "A",
    "b",
    settings={"k": (1, 2, 3), "lr": (0.1, 0.5), "noise": 0.1},
    run=_noise,
    published=(
        *numbers("eg", "9.420e-5 5.2355e-4", {"lr": (0.1, 0.5)}, at={"k": 1}, source=OWN),
        *numbers("eg", "1.91978e-4 1.16780e-3", {"lr": (0.1, 0.5)}, at={"k": 2}, source=OWN),
        *numbers("eg", "2.93589e-4 1.98194e-3", {"lr": (0.1, 0.5)}, at={"k": 3}, source=OWN),
    ),
    panels=(
        Panel("eg", "lr", by="k", title="full ODE"),
        Panel("closed", "lr", by="k", title="closed form, small σ"),
    ),
    note="the figures were not read",
)


def _decay(s: SimpleNamespace) -> "xarray.Dataset":
    problem, decays = ld.Problem(noise=s.noise), np.array(s.weight_decay)
    point = ld.asymptotics.specialised_state(2, 0)
    ends, overlaps = [], []
    for decay in s.weight_decay:
        rule = ld.SGD(lr=s.lr, weight_decay=decay)
        found = ld.asymptotics.fixed_point(problem, rule, point)
        # The next decay is not far away.
        point = found.state
        ends.append(float(found.eg))
        overlaps.append(np.asarray(found.state.R).ravel())
    return labelled(
        {
            "eg": ("weight_decay", ends, "final ε_g"),
            "largest": ("weight_decay", np.max(overlaps, axis=1), "largest R"),
            "smallest": ("weight_decay", np.min(overlaps, axis=1), "smallest R"),
        },
        weight_decay=decays,
    )


DECAYS = (0.0, 1e-4, 7.5e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)

DECAY = Entry(
    "saadsolla1997-decay",
    SAADSOLLA,
    "weight decay helps the final error hardly at all, and then destroys specialisation",
    "A",
    "b",
    settings={"lr": 0.3, "noise": 0.3, "weight_decay": DECAYS},
    run=_decay,
    published=(
        *numbers(
            "eg",
            ".0056318 .0056286 .0056192 .0056205 .0057148 .0068367 .0127651 .0243546",
            {"weight_decay": DECAYS},
            source=OWN,
        ),
        *numbers("largest", ".3587", {"weight_decay": (0.1,)}, source=OWN),
        *numbers("smallest", ".3587", {"weight_decay": (0.1,)}, source=OWN),
    ),
    panels=(Panel("eg", "weight_decay", log="x"), Panel("largest", "weight_decay", log="x")),
    note="the figures were not read",
)

ENTRIES = (NOISE, DECAY)
