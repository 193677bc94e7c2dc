"""Saxe, McClelland & Ganguli 2014: deep linear networks learn mode by mode."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

import learndyn as ld
from learndyn.atlas._entry import Entry, Panel, Publication, numbers
from learndyn.atlas._measure import labelled

if TYPE_CHECKING:
    import xarray

SAXE = Publication("saxe2014", "Saxe, McClelland & Ganguli, ICLR 2014, arXiv 1312.6120")


def _modes(s: SimpleNamespace) -> "xarray.Dataset":
    strengths = np.array(s.strengths)
    ts = np.linspace(0.0, s.t_max, s.points)
    root = s.u_start**0.5 * np.eye(len(strengths))
    data = ld.flow.Moments(np.eye(len(strengths)), np.diag(strengths))
    run = ld.flow.gradient_flow(ld.flow.LinearNetwork([root, root]), data, ts)
    first, second = (np.asarray(w) for w in run.model.weights)
    measured = np.einsum("tij,tji->ti", second, first)
    exact = ld.flow.linear_modes(np.full(len(strengths), s.u_start), strengths, ts)
    half = [np.interp(x / 2, row, ts) for x, row in zip(strengths, measured.T, strict=True)]
    found = labelled(
        {
            "u": (("t", "strength"), measured, "mode strength u"),
            "u_predicted": (("t", "strength"), exact, "mode strength u"),
            "half": ("strength", half, "time of half height"),
            "half_predicted": (
                "strength",
                np.log(strengths / s.u_start - 1) / (2 * strengths),
                "time of half height",
            ),
        },
        t=ts,
        strength=strengths,
    )
    found.t.attrs["long_name"] = "time"
    return found


MODES = Entry(
    "saxe2014-modes",
    SAXE,
    "from small aligned weights each mode is a sigmoid, the strongest first",
    "R+S",
    "b",
    settings={"strengths": (3.0, 2.0, 1.0), "u_start": 1e-3, "t_max": 8.0, "points": 2001},
    run=_modes,
    published=(
        *numbers("half", "1.33434", {"strength": (3.0,)}, source="computed for the atlas"),
        *numbers(
            "u",
            "",
            {"strength": (3.0, 2.0, 1.0)},
            at={"t": 2.0},
            kind="shown",
            source="sigmoid against the flow",
        ),
    ),
    panels=(Panel("u", "t", by="strength", title="lines: closed form; crosses: flow"),),
    note="slides that show the result were read, the paper is remembered; the setting is ours",
)

ENTRIES = (MODES,)
