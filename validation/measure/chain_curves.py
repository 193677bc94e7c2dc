"""Learning curves at large n, by chains."""

import dataclasses
import functools

import jax
import numpy as np
import xarray as xr
from validation.measure.ensembles import chain_ensemble
from validation.measure.sharing import NOTHING_SAVED, Savings
from validation.measure.theory import solve_ode

import learndyn as ld
from learndyn.rules import AbstractRule


@dataclasses.dataclass(frozen=True)
class ChainCurve:
    """A learning curve at large n: chains and ODE from the same overlaps.

    times: increasing, > 0, where the claim is decided. wrong_*: the control's theory, each
    None where it is the same. saves: what shares programs.
    """

    problem: ld.Problem
    rule: AbstractRule
    start: ld.Overlaps
    n: int
    times: tuple[float, ...]
    runs: int
    wrong_rule: AbstractRule | None = None
    wrong_problem: ld.Problem | None = None
    saves: Savings = NOTHING_SAVED


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
        fill_times=curve.saves.fill_times,
        xla=curve.saves.xla_runs,
    )
    alpha = ensemble["alpha"]
    grid = np.union1d(np.linspace(0.0, alpha[-1], 101), alpha)
    solve = functools.partial(
        solve_ode,
        start=curve.start,
        ts=grid,
        fill_times=curve.saves.fill_grid,
        xla=curve.saves.xla_theory,
    )
    right = solve(curve.problem, curve.rule)
    wrong = solve(curve.wrong_problem or curve.problem, curve.wrong_rule or curve.rule)
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
