"""The three conditions of the concentration theorem, each with its exponent."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES
from validation.measure.ensembles import chain_ensemble, distances
from validation.measure.sharing import whole_blocks
from validation.measure.theory import drift_at, solve_ode

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import Equivalence, difference, power_law

TINY = np.array([4, 8, 16, 32])
"""Sizes at which the O(1/n^2) mismatch of one step stands out from the step's own scatter."""

LARGER = 64 * 2 ** np.arange(7)
"""Sizes at which the mean square of a step is that of large n."""

T = np.linspace(0.0, 5.0, 11)
"""The distance is the largest over these times, as in `test_concentration.py`."""

OVERLAPS = ([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1.0, 0.0], [0.0, 1.0]])
"""A start without any symmetry, at which every term of the equations counts."""
START, PROBLEM = ld.Overlaps(*OVERLAPS), ld.Problem(noise=0.1)
OFFSET, POWERS, LR = 0.4, np.array([0.25, 0.5, 1.0]), 1.0
"""At n = 256, the smallest N, N^-1/4 moves R_11 = 0.12 by OFFSET / 4 = 0.1, more than the scatter
of a run, of order 1/16. POWERS lie below, at and above 1/2, where the law min(e0, 1/2) bends. At
this LR, of single steps, terms of every order in lr count."""

BAND = {"mean": 0.3, "square": 0.08, "start": 0.05}
"""The standard errors are 0.042 and at most 0.007: over 4 of them of room each. Higher
orders in 1/n bend the lines by less than a fifth of this."""


def test_exponents(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="concentration-conditions",
        family="concentration",
        statement="The mean of a step misses f/N by O(N^-2), its mean square is O(N^-2), and a "
        "start off by N^-e0 leaves the rate min(e0, 1/2)",
        source="Goldt et al. 2020, Theorem 1: conditions on mean, mean square and start",
        setting=f"erf, k = m = 2; single steps at lr = {LR}, n = {TINY[0]} to {TINY[-1]}; "
        f"runs at lr = 0.2 to alpha = {T[-1]:g} from R_11 off by {OFFSET} N^-e0, e0 = 1/4, 1/2, 1",
        rule=f"Slopes against log N: mismatch -2 ± {BAND['mean']}, mean square -2 ± "
        f"{BAND['square']}, distance -min(e0, 1/2) ± {BAND['start']} (two one-sided tests, 5 %).",
        control="Slopes -3/2 and -1 of the mean and the mean square of a step; -1/2 whatever e0.",
    )

    def measure() -> xr.Dataset:
        sizes = 256 * 2 ** np.arange(lab.pick(4, 5, 8))
        mean, mean_error, _, _ = steps(lab, TINY, lab.pick(500, 500, 8000))
        _, _, square, square_error = steps(lab, LARGER, 20)
        runs = [lab.pick(1024, 1024 if n < 2048 else 512, 2048) for n in sizes]
        found, error = starts(lab, sizes, runs)
        return xr.Dataset(
            {
                "mean": ("n_mean", mean),
                "mean_error": ("n_mean", mean_error),
                "square": ("n_square", square),
                "square_error": ("n_square", square_error),
                "distance": (("power", "n"), found),
                "distance_error": (("power", "n"), error),
            },
            coords={"n_mean": TINY, "n_square": LARGER, "power": POWERS, "n": sizes},
        )

    lab.settle(claim, measure, judge, draw)


def steps(lab: Lab, sizes: np.ndarray, blocks: int) -> np.ndarray:
    """The mismatch of the mean of single steps at each n (summed over Q), mean square, errors."""
    problem, start, rule = PROBLEM, START, ld.SGD(lr=LR)
    drift = drift_at(problem, rule, start, xla=FOR_ODES)[:3] @ np.array(
        [1.0, 2.0, 1.0]
    )  # the sum over Q
    rows = []
    for n in sizes:
        key, ts = lab.key(f"a step at {n}"), [0.0, 1.0 / n]
        found = chain_ensemble(
            problem,
            rule,
            start,
            ts,
            n=n,
            key=key,
            runs=whole_blocks(256 * blocks),
            fill_times=True,
            xla=FOR_CHAINS,
        )
        step_q = found["Q"][:, 1] - np.asarray(start.Q)
        step_r = found["R"][:, 1] - np.asarray(start.R)
        mismatch = step_q.sum(axis=(1, 2)) - float(drift) / n
        square = ((step_q - step_q.mean(0)) ** 2 + (step_r - step_r.mean(0)) ** 2).sum(axis=(1, 2))
        rows.append((*mean_and_error(mismatch), *mean_and_error(square)))
    return np.array(rows).T


def starts(lab: Lab, sizes: np.ndarray, runs: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Largest mean distance from the ODE of the limiting start, and its error: (power, n)."""
    problem, start, rule = PROBLEM, START, ld.SGD(lr=0.2)
    theory = solve_ode(problem, rule, start, T, fill_times=True, xla=FOR_ODES)
    rows = []
    for power in POWERS:
        for n, count in zip(sizes, runs, strict=True):
            r = start.R.at[0, 0].add(OFFSET * float(n) ** -power)
            shifted = ld.Overlaps(start.Q, r, start.T)
            key = lab.key(f"start {n} {power}")
            found = chain_ensemble(
                problem,
                rule,
                shifted,
                T,
                n=n,
                key=key,
                runs=whole_blocks(count),
                fill_times=True,
                xla=FOR_CHAINS,
            )
            gap = distances(found, theory)[:, 1:]  # the start itself would decide nothing
            rows.append(mean_and_error(gap[:, gap.mean(axis=0).argmax()]))
    table = np.array(rows).reshape(len(POWERS), len(sizes), 2)
    return table[..., 0], table[..., 1]


def mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    return float(samples.mean()), float(samples.std(ddof=1) / len(samples) ** 0.5)


def slopes(dataset: xr.Dataset) -> dict[str, tuple[float, float]]:
    """Fitted exponent and standard error, by condition."""
    found = {}
    for name in ("mean", "square"):
        rows = dataset[name].values, dataset[f"{name}_error"].values
        found[name] = power_law(dataset[f"n_{name}"].values, *rows)
    for number, power in enumerate(POWERS):
        rows = dataset.distance.values[number], dataset.distance_error.values[number]
        found[f"start {power:g}"] = power_law(dataset.n.values, *rows)
    return found


def judge(dataset: xr.Dataset) -> Verdict:
    found = slopes(dataset)

    def against(exponents: dict[str, float]) -> list[Equivalence]:
        return [difference(*found[name], value, band(name)) for name, value in exponents.items()]

    expected = {"mean": -2.0, "square": -2.0}
    expected |= {f"start {power:g}": -min(power, 0.5) for power in POWERS}
    right = against(expected)
    wrong = against({"mean": -1.5, "square": -1.0, "start 0.25": -0.5})
    listed = [f"{name}: {slope:.3f} ± {error:.3f}" for name, (slope, error) in found.items()]
    slope, error = found["start 0.25"]
    detail = "Slopes " + ", ".join(listed) + "."
    alarm = sum(one.false_alarm(0.2 * one.margin) for one in right)
    alarm += sum(one.missed for one in wrong)
    passed, rejected = all(one.equal for one in right), not any(one.equal for one in wrong)
    return Verdict(-0.25, slope, error, passed, rejected, detail, alarm, control=-0.5)


def band(name: str) -> float:
    return BAND[name.split()[0]]


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for name, label in (("mean", "mismatch of the mean"), ("square", "mean square")):
            x = dataset[f"n_{name}"]
            error = 2 * dataset[f"{name}_error"]
            left.errorbar(x, np.abs(dataset[name]), error, fmt="o", ms=4, label=label)
            left.plot(x, float(dataset[name][0] * x[0] ** 2) / x**2.0, "k:", lw=1)
        left.set(xscale="log", yscale="log", xlabel="$n$", ylabel="of a single step")
        left.legend(frameon=False, title="dotted: $N^{-2}$")
        for number, power in enumerate(POWERS):
            rows = dataset.distance[number], 2 * dataset.distance_error[number]
            right.errorbar(dataset.n, *rows, fmt="o-", ms=4, label=rf"$\epsilon_0$ = {power:g}")
        right.set(xscale="log", yscale="log", xlabel="$n$")
        right.set_ylabel(r"max over $\alpha$ of E$|m^\mu - m(\alpha)|$")
        right.legend(frameon=False, title=r"start off by $N^{-\epsilon_0}$")
    return figure
