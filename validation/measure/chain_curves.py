"""Learning curves at large n, by chains."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import xarray as xr
from validation.measure.ensembles import chain_ensemble
from validation.measure.theory import solve_ode

import learndyn as ld


@dataclasses.dataclass(frozen=True)
class ChainCurve:
    """A learning curve at large n: chains and ODE from the same overlaps.

    times: increasing, > 0, where the claim is decided. wrong_*: the control's theory, each
    None where it is the same. costly: see `chain_ensemble`.
    """

    problem: ld.Problem
    rule: ld.SGD
    start: ld.Overlaps
    n: int
    times: tuple[float, ...]
    runs: int = 512
    averages: Any = None
    ode_rule: ld.SGD | None = None
    wrong_rule: ld.SGD | None = None
    wrong_problem: ld.Problem | None = None
    wrong_start: ld.Overlaps | None = None
    jump_ts: Any = None
    costly: bool = False


def measure_chain_curve(curve: ChainCurve, key: jax.Array) -> xr.Dataset:
    """What `judge_curve` and `learning_curve` need, by chains.

    Variables: eg (seed, alpha), theory and wrong (alpha); long_eg, the first run; theory_curve
    and wrong_curve on `alpha_curve`.
    """
    ts = np.array([0.0, *curve.times])
    ensemble = chain_ensemble(
        curve.problem,
        curve.rule,
        curve.start,
        ts,
        n=curve.n,
        key=key,
        runs=curve.runs,
        averages=curve.averages,
        costly=curve.costly,
    )
    alpha = ensemble["alpha"]
    grid = np.union1d(np.linspace(0.0, alpha[-1], 101), alpha)
    solve = functools.partial(solve_ode, ts=grid, averages=curve.averages, jump_ts=curve.jump_ts)
    rule = curve.ode_rule or curve.rule
    right = solve(curve.problem, rule, curve.start)
    wrong = solve(
        curve.wrong_problem or curve.problem,
        curve.wrong_rule or rule,
        curve.wrong_start or curve.start,
    )
    at = np.searchsorted(grid, alpha)
    return xr.Dataset(
        {
            "eg": (("seed", "alpha"), ensemble["eg"][:, 1:]),
            "theory": ("alpha", np.asarray(right.eg)[at][1:]),
            "wrong": ("alpha", np.asarray(wrong.eg)[at][1:]),
            "long_eg": ("alpha_long", ensemble["eg"][0]),
            "theory_curve": ("alpha_curve", np.asarray(right.eg)),
            "wrong_curve": ("alpha_curve", np.asarray(wrong.eg)),
        },
        coords={"alpha": alpha[1:], "alpha_long": alpha, "alpha_curve": grid},
    )
