"""Learning curves on both sides: ensembles of SGD from one macroscopic state, and the ODE."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from validation.lab import Lab
from validation.lab.compiling import Runs, wide
from validation.measure.ensembles import chain_ensemble
from validation.measure.sharing import (
    NOTHING_SAVED,
    Savings,
    filled,
    whole_blocks,
    with_silent_units,
)
from validation.measure.theory import gradient_flow, solve_ode

import learndyn as ld
from learndyn.claims import Claim, Verdict
from learndyn.rules import AbstractRule
from learndyn.testing import in_units_of_one_run

RUNS = {"quick": wide(200, 1024), "standard": wide(200, 1024), "full": wide(1000, 4096)}
"""An estimate from 200 runs is good to 0.07; a true claim, biased by `BIAS`, then fails with
probability 3e-4, all its times together."""

MARGIN, BIAS = 0.5, 0.1
"""The allowed distance of ensemble mean and ODE, in standard deviations of a single run, and how
much of it the ODE leaves out: a bias of order 1/n over a scatter of order 1/sqrt(n)."""

SCATTER = 0.2
"""The largest relative scatter of a run: on the plateau's exit runs scatter by much more, and the
mean is no longer that of the ODE."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One setting: theory and experiment from exactly the same overlaps.

    times: at which the claim is decided. horizon: end of the drawn curves, reached by one more run
    on weights, to show what lies beyond. runs: size of the ensemble. level: "sgd", runs on weights,
    or "chain", their overlaps, which takes a tenth of the time. wrong_rule: the control's theory;
    None: the same rule without the lr^2 term. silent_units: add silent ones to
    chains and theories, so many units in all, to share programs with larger networks. saves: what
    else shares programs.
    """

    problem: ld.Problem
    rule: AbstractRule
    start: ld.Overlaps
    n: int
    times: tuple[float, ...]
    runs: int
    horizon: float
    averages: Any = None
    wrong_rule: AbstractRule | None = None
    level: str = "sgd"
    silent_units: int | None = None
    saves: Savings = NOTHING_SAVED

    @property
    def ensemble(self) -> str:
        """The ensemble in words, with its times."""
        runs = f"{self.runs} runs on weights"
        if self.level == "chain":
            runs = f"{self.runs} chains and one run on weights"
        return f"{runs}, compared at alpha = {', '.join(f'{t:g}' for t in self.times)}"


def sgd_run(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    ts: jax.Array,
    n: int,
    key: jax.Array,
    inputs: Any = None,
) -> ld.Trajectory:
    """SGD from weights with exactly the overlaps `start`, at random orientation."""
    weights_key, run_key = jax.random.split(key)
    weights = ld.weights_from_overlaps(weights_key, start, n=n)
    return ld.simulate_sgd(
        problem, rule, weights, ts, key=run_key, inputs=inputs, input_dtype=jnp.float32
    )


def measure_curve(curve: Curve, key: jax.Array) -> xr.Dataset:
    """Ensemble at `times`, one run and the ODE to `horizon`, and the wrong theory.

    Variables: eg (seed, alpha), theory and wrong (alpha); long_eg and long_R on `alpha_long`;
    theory_curve on `alpha_curve`.
    """
    long_ts = jnp.linspace(0.0, curve.horizon, 101)
    fine = np.linspace(0.0, curve.horizon, 401)
    ensemble_key, long_key = jax.random.split(key)
    runs, units = _runs(curve), curve.silent_units
    start = curve.start if units is None else with_silent_units(curve.start, units)
    alpha, eg = _ensemble(curve, runs, start, len(long_ts), ensemble_key)
    # One grid for all, so that each theory is compiled once.
    grid = np.union1d(fine, alpha)
    setting = {"start": start, "ts": grid, "averages": curve.averages}
    setting |= {"fill_times": curve.saves.fill_grid, "xla": curve.saves.xla_theory}
    right = solve_ode(curve.problem, curve.rule, **setting).eg
    if curve.wrong_rule is None:
        wrong = gradient_flow(curve.problem, curve.rule, **setting)
    else:
        wrong = solve_ode(curve.problem, curve.wrong_rule, **setting).eg
    at_times = np.searchsorted(grid, alpha)[1:]
    long = runs.one(long_key, long_ts)
    return xr.Dataset(
        {
            "eg": (("seed", "alpha"), eg[:, 1:]),
            "theory": ("alpha", np.asarray(right)[at_times]),
            "wrong": ("alpha", np.asarray(wrong)[at_times]),
            "long_eg": ("alpha_long", np.asarray(long.eg)),
            "long_R": (("alpha_long", "student", "teacher"), np.asarray(long.R)),
            "theory_curve": ("alpha_curve", np.asarray(right)),
        },
        coords={
            "alpha": alpha[1:],
            "alpha_long": np.asarray(long.alpha),
            "alpha_curve": grid,
        },
    )


def _ensemble(
    curve: Curve, runs: Runs, start: ld.Overlaps, long: int, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """The times met, and eg (runs, times). long: the number of times of the run that is drawn."""
    ts = jnp.array([0.0, *curve.times])
    times = len(ts)
    if curve.level == "chain":
        options = {"n": curve.n, "key": key, "runs": curve.runs, "averages": curve.averages}
        options |= {"fill_times": curve.saves.fill_times, "xla": curve.saves.xla_runs}
        found = chain_ensemble(curve.problem, curve.rule, start, ts, **options)
        return found["alpha"], found["eg"]
    if curve.saves.fill_times:  # one program for both kinds of run
        ts = filled(ts, long)
    found = runs(jax.random.split(key, curve.runs), ts)
    return found.alpha[0, :times], found.eg[:, :times]


def judge_curve(dataset: xr.Dataset, bias: float = BIAS) -> Verdict:
    """Equivalence of ensemble mean and ODE at every time, before the plateau's exit."""
    samples = dataset.eg.values
    right = in_units_of_one_run(samples, dataset.theory.values, MARGIN)
    wrong = in_units_of_one_run(samples, dataset.wrong.values, MARGIN)
    scatter = samples.std(axis=0, ddof=1) / samples.mean(axis=0)
    worst = right.worst
    before_exit = bool((scatter < SCATTER).all())
    detail = (
        f"Furthest at alpha = {dataset.alpha.values[worst]:.3g}: mean - ODE = "
        f"{right.estimate[worst]:+.3f} +- {right.error[worst]:.3f} standard deviations of a run "
        f"(margin {MARGIN}); {samples.shape[0]} runs, a run scatters by at most "
        f"{100 * scatter.max():.1f} %. Wrong theory: up to {np.abs(wrong.estimate).max():.1f}."
    )
    return Verdict(
        predicted=float(dataset.theory.values[worst]),
        measured=float(samples[:, worst].mean()),
        error=float(samples[:, worst].std(ddof=1) / np.sqrt(samples.shape[0])),
        control=float(dataset.wrong.values[worst]),
        passed=right.equal and before_exit,
        control_rejected=not wrong.equal,
        detail=detail,
        false_alarm=right.false_alarm(bias) + wrong.missed,
    )


RULE = (
    f"At every listed time the ensemble's mean eg differs from the ODE by less than {MARGIN} "
    "standard deviations of a single run (two one-sided tests, 5 % each), and a run scatters by "
    f"less than {100 * SCATTER:g} %: before the exit from the plateau."
)
CONTROL = "The ODE without the lr² term of dQ/dalpha: gradient flow."


def level_of(lab: Lab, weights: bool) -> str:
    """The level of a setting's ensemble: runs on weights where chosen, and always in full; else
    chains, whose law is that of weights (`test_levels.py`)."""
    return "sgd" if weights or lab.profile == "full" else "chain"


def runs_at(level: str, runs: int) -> int:
    """The number of runs of an ensemble of at least so many: whole blocks of chains."""
    return whole_blocks(runs) if level == "chain" else runs


def decided_at(times: tuple[float, ...], level: str, profile: str) -> tuple[float, ...]:
    """These times; on weights without the last, which costs most, in all but the full profile."""
    return times[:-1] if level == "sgd" and profile != "full" else times


def settle_curve(lab: Lab, claim: Claim, curve: Curve, draw: Any, bias: float = BIAS) -> None:
    """Measure, judge and draw one learning curve; bias: as `BIAS`."""
    judge = lambda dataset: judge_curve(dataset, bias)
    lab.settle(claim, lambda: measure_curve(curve, lab.key(claim.id)), judge, draw)


def _runs(curve: Curve) -> Runs:
    """Runs on weights, (key, times) -> trajectory."""

    def run(key: jax.Array, ts: jax.Array) -> ld.Trajectory:
        return sgd_run(curve.problem, curve.rule, curve.start, ts, curve.n, key)

    return Runs(run, curve.saves.xla_runs)
