"""Where learning with noisy labels ends, held against a formula without any statistics."""

from typing import Any

import numpy as np
import xarray as xr
from validation.measure.sharing import with_silent_units
from validation.measure.theory import solve_ode

import learndyn as ld
from learndyn import asymptotics
from learndyn.claims import Verdict

NOISE, TOLERANCE = 0.01, 2e-3
"""At this noise formulas to first order in noise² are wrong by 1e-4 at most; there is nothing
random, so the tolerance need only be above that."""

RULE = f"Every end state is within {100 * TOLERANCE:g} % of the formula."


def table(x: str, values: object, measured: list, right: list, wrong: list) -> xr.Dataset:
    """Final errors over noise² against `x`: measured, by the formula, by the one that must fail."""
    rows = {"measured": measured, "predicted": right, "wrong": wrong}
    variables = {name: (x, np.asarray(row, float)) for name, row in rows.items()}
    return xr.Dataset(variables, coords={x: np.asarray(values)})


def judge_exact(dataset: xr.Dataset) -> Verdict:
    """End states against a formula, and against the one that must fail."""
    right = np.abs(dataset.measured / dataset.predicted - 1).values
    wrong = np.abs(dataset.measured / dataset.wrong - 1).values
    worst = int(right.argmax())
    detail = (
        f"Furthest from the formula {100 * right.max():.4f} %, from the wrong one "
        f"{100 * wrong.max():.2f} % ({right.size} settings)."
    )
    return Verdict(
        predicted=float(dataset.predicted[worst]),
        measured=float(dataset.measured[worst]),
        error=0.0,
        control=float(dataset.wrong[worst]),
        passed=bool((right < TOLERANCE).all()),
        control_rejected=bool((wrong > TOLERANCE).any()),
        detail=detail,
        false_alarm=0.0,  # nothing random
    )


def denoising_end(
    m: int, z: int, v_teacher: float, lr: float, silent_units: int | None = None, **savings: Any
) -> float:
    """eg / noise² of the ODE with both layers, long after it started from the denoising state.

    silent_units: add silent ones, so many units in all, to share programs with larger networks.
    savings: those of `solve_ode`.
    """
    start = asymptotics.denoising_state(m, z, v_teacher)
    start = start if silent_units is None else with_silent_units(start, silent_units)
    # eg is 1e-7 of the overlaps, and their errors must be well below that.
    options = {"rtol": 1e-12, "atol": 1e-14}
    rule = ld.SGD(lr=lr, lr_second=lr)
    run = solve_ode(ld.Problem(noise=NOISE), rule, start, [0.0, 80.0 / lr], **options, **savings)
    return float(run.eg[-1]) / NOISE**2
