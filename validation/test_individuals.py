"""Large initial weights: runs differ by where they start, and the ODE knows by how much."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import norm
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, wide
from validation.measure.ensembles import runs_from
from validation.measure.learning_curves import BIAS, MARGIN
from validation.measure.sharing import with_silent_units
from validation.measure.theory import SLOW, odes_from

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import Equivalence, in_units_of_one_run

N, M, SCALE, LR, NOISE = 784, 4, 3.0, 0.2, 0.01
TIMES = (1.0, 2.0, 5.0, 10.0)
"""The setting of Goldt et al. 2020, Fig. 1b, but for SCALE, the standard deviation of the weights:
at 3 a start explains most of how runs differ."""

RUNS, UNITS, EXPLAINED = wide(512, 2048), 6, 0.5
"""The means are good to 0.045 of the margin's unit. The share that own starts explain is
0.8 to 0.97, with a standard error of 0.02: no true claim fails in 10^5."""


@pytest.mark.parametrize("k", [2, 4, 6])
def test_large_weights(lab: Lab, k: int) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id=f"limits-individuals-k{k}",
        family="limits",
        statement=f"From large random weights, runs of {k} units follow each its own ODE, and "
        "their mean is the mean of the ODEs",
        source="Goldt et al. 2020, Theorem 1, for every start",
        setting=f"erf, n = {N}, m = {M}, k = {k}, lr = {LR}, noise {NOISE}, student weights "
        f"N(0, {SCALE:g}²), {RUNS} starts of random weights with one chain each",
        rule=f"At every time the mean difference from the own ODE is within {MARGIN} standard "
        "deviations of that difference (two one-sided tests, 5 %); at the last time the own ODE "
        f"explains more than {100 * EXPLAINED:g} % of the variance between runs.",
        control="Each run's own ODE without the lr² term of dQ/dalpha.",
    )

    def measure() -> xr.Dataset:
        start_key, run_key = jax.random.split(lab.key(claim.id))
        starts = jax.vmap(lambda one: with_silent_units(one, UNITS))(random_starts(start_key, k))
        ts, problem, rule = jnp.array([0.0, *TIMES]), ld.Problem(noise=NOISE), ld.SGD(lr=LR)
        keys = jax.random.split(run_key, RUNS)
        eg = runs_from(problem, rule, starts, ts, n=N, keys=keys, xla=FOR_CHAINS)
        average = jax.tree.map(lambda x: jnp.concatenate([x, x.mean(0, keepdims=True)]), starts)
        solve = functools.partial(odes_from, problem, starts=average, xla=FOR_ODES)
        theory = np.asarray(solve(rule, ts=ts))
        slow = np.asarray(solve(ld.SGD(lr=LR * SLOW), ts=ts / SLOW))
        return xr.Dataset(
            {
                "eg": (("seed", "alpha"), np.asarray(eg)[:, 1:]),
                "theory": (("seed", "alpha"), theory[:-1, 1:]),
                "wrong": (("seed", "alpha"), slow[:-1, 1:]),
                "shared": ("alpha", theory[-1, 1:]),
            },
            coords={"alpha": list(TIMES)},
        )

    lab.settle(claim, measure, judge, draw)


def random_starts(key: jax.Array, k: int) -> ld.Overlaps:
    def start(one: jax.Array) -> ld.Overlaps:
        return ld.overlaps(ld.init_weights(one, n=N, k=k, m=M, scale=SCALE))

    return jax.vmap(start)(jax.random.split(key, RUNS))


def judge(dataset: xr.Dataset) -> Verdict:
    eg, last = dataset.eg.values, dataset.eg.values[:, -1]
    right, wrong = means(eg, dataset.theory.values), means(eg, dataset.wrong.values)
    share, share_error = explained(last, dataset.theory.values[:, -1])
    wrong_share, _ = explained(last, dataset.wrong.values[:, -1])
    detail = (
        f"Mean difference from the own ODE at most {np.abs(right.estimate).max():.3f} standard "
        f"deviations of a difference, without the lr² term {np.abs(wrong.estimate).max():.1f}; it "
        f"explains {100 * share:.1f} ± {100 * share_error:.1f} % of the variance between runs, "
        f"without that term {100 * wrong_share:.1f} %."
    )
    return Verdict(
        predicted=float(dataset.theory[:, -1].mean()),
        measured=float(last.mean()),
        error=float((last - dataset.theory.values[:, -1]).std(ddof=1) / len(last) ** 0.5),
        control=float(dataset.wrong[:, -1].mean()),
        passed=right.equal and share > EXPLAINED,
        control_rejected=not (wrong.equal and wrong_share > EXPLAINED),
        detail=detail,
        false_alarm=right.false_alarm(BIAS)
        + float(norm.sf((share - EXPLAINED) / share_error))
        + wrong.missed,
    )


def means(eg: np.ndarray, theory: np.ndarray) -> Equivalence:
    """Mean differences from each run's own prediction, in standard deviations of a difference."""
    return in_units_of_one_run(eg - theory, np.zeros(eg.shape[1]), MARGIN)


def explained(eg: np.ndarray, theory: np.ndarray) -> tuple[float, float]:
    """The share of the variance between runs that the predictions explain, and its error."""
    squares, spread = (eg - theory) ** 2, (eg - eg.mean()) ** 2
    rest = squares.mean() / spread.mean()
    parts = (squares - rest * spread) / spread.mean()
    return float(1 - rest), float(parts.std(ddof=1) / len(eg) ** 0.5)


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for seed in range(20):
            left.plot(dataset.alpha, dataset.theory[seed], color="0.6", lw=0.8)
            left.plot(dataset.alpha, dataset.eg[seed], ".", color="#0072B2")
        left.set(xlabel=r"$\alpha$ = steps / $n$", ylabel=r"$\epsilon_g$")
        left.set_title("20 runs (points) and their ODEs", fontsize=9)
        right.plot(dataset.theory[:, -1], dataset.eg[:, -1], ".", color="#0072B2", label="runs")
        span = [float(dataset.theory[:, -1].min()), float(dataset.theory[:, -1].max())]
        right.plot(span, span, "k-", lw=1, label="equal")
        right.plot(
            dataset.wrong[:, -1], dataset.eg[:, -1], ".", ms=3, color="#D55E00", label="without lr²"
        )
        right.axhline(float(dataset.shared[-1]), color="0.6", ls="--", label="one ODE for all")
        right.set(xlabel=r"$\epsilon_g$ of the own ODE", ylabel=r"$\epsilon_g$ of the run")
        right.margins(x=0.05)
        right.legend(frameon=False)
    return figure
