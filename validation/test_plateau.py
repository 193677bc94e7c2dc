"""The symmetric plateau: its height, the rate at which runs leave it, and when they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.claims import Claim, Verdict
from validation.figures import ODE, SGD, WRONG
from validation.lab import Lab
from validation.statistics import is_equal

import learndyn as ld
from learndyn import asymptotics, plot

LANES, TIMES = 64, 201
"""Runs side by side and times kept: the same in every claim, so that they share programs."""

PROBLEM = ld.Problem()
SOURCE = "Saad & Solla, PRE 52, 4225 (1995), section IV; Biehl, Riegler & Wöhler (1996)"


@jax.jit
def _chains(
    rule: ld.SGD, starts: ld.Overlaps, ts: jax.Array, n: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def run(start: ld.Overlaps, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = ld.simulate_chain(PROBLEM, rule, start, ts, n=n, key=key)
        return found.eg, found.R

    return jax.vmap(run)(starts, keys)


@jax.jit
def _langevin(
    rule: ld.SGD, start: ld.Overlaps, ts: jax.Array, n: jax.Array, keys: jax.Array
) -> jax.Array:
    # The default nodes give the noise that drives the escape within 1 %; a quarter of them lose
    # a fifth of it, and that is 2 units of alpha.
    def run(key: jax.Array) -> jax.Array:
        return ld.simulate_langevin(PROBLEM, rule, start, ts, n=n, key=key, dt=STEP).eg

    return jax.vmap(run)(keys)


def chains(
    lr: float, starts: list[ld.Overlaps], end: float, n: int, key: jax.Array, runs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, eg (runs, times) and R (runs, times, k, m); run i is from starts[i % len(starts)]."""
    ts, found = jnp.linspace(0.0, end, TIMES), []
    stacked = jax.tree_util.tree_map(
        lambda *leaves: jnp.stack(leaves), *(starts * (LANES // len(starts)))
    )
    for block in jax.random.split(key, runs // LANES):
        keys = jax.random.split(block, LANES)
        found.append(_chains(ld.SGD(lr=lr), stacked, ts, jnp.asarray(n, float), keys))
    return np.asarray(ts), *(np.concatenate(part) for part in zip(*found, strict=True))


HEIGHT_N, SIZE, HEIGHT_MARGIN = 10_000, 0.1, 0.01
"""A run's mean over the window scatters by less than 1 %: with 64 runs six errors of room.

From other sizes |w|^2/N of the start, the differences between the student's units, which neither
grow nor decay as lr -> 0, are still relaxing when the plateau ends.
"""

RATES = {2: 1.0, 3: 0.5}
"""Units, and the learning rate."""

WINDOW, END = 15.0, 25.0


@pytest.mark.parametrize("m", RATES)
def test_height(lab: Lab, m: int) -> None:
    lab.skip_in_quick()
    lr, other = RATES[m], 5 - m
    claim = Claim(
        id=f"plateau-height-{m}",
        family="plateau",
        statement="From small random weights runs come to rest at the symmetric fixed point of "
        "their learning rate",
        source=SOURCE,
        setting=f"erf, K = M = {m}, lr = {lr}, no noise, random weights with |w|^2/N = {SIZE}, "
        f"N = {HEIGHT_N}, alpha = {WINDOW:g} to {END:g}",
        rule=f"The mean eg is within {HEIGHT_MARGIN:.0%} of the plateau's (two one-sided tests, "
        "5 %).",
        control=f"The plateau of lr -> 0; that of K = M = {other} at the same lr.",
    )

    def measure() -> xr.Dataset:
        rng = np.random.default_rng(jax.random.bits(lab.key(claim.id + " starts"), 4).tolist())
        starts = [random_start(rng, m) for _ in range(LANES)]
        runs = lab.pick(64, 64, 512)
        ts, eg, _ = chains(lr, starts, END, HEIGHT_N, lab.key(claim.id), runs)
        wrong = [asymptotics.plateau(m), asymptotics.plateau(other, lr)]
        return xr.Dataset(
            {
                "eg": (("seed", "alpha"), eg),
                "theory": float(asymptotics.plateau(m, lr).eg),
                "wrong": ("control", [float(point.eg) for point in wrong]),
            },
            coords={"alpha": ts},
        )

    lab.settle(claim, measure, judge_height, draw_height)


def random_start(rng: np.random.Generator, m: int) -> ld.Overlaps:
    """Overlaps of independent Gaussian weights with an orthonormal teacher."""
    w = rng.normal(scale=SIZE**0.5, size=(m, HEIGHT_N))
    return ld.Overlaps(w @ w.T / HEIGHT_N, w[:, :m] / HEIGHT_N**0.5, jnp.eye(m))


def judge_height(dataset: xr.Dataset) -> Verdict:
    heights = dataset.eg.sel(alpha=slice(WINDOW, END)).mean("alpha").values
    theory, wrong = float(dataset.theory), dataset.wrong.values
    mean, error = heights.mean(), heights.std(ddof=1) / len(heights) ** 0.5

    def equal(height: float) -> bool:
        return is_equal(mean / height, error / height, 1.0, HEIGHT_MARGIN)

    detail = (
        f"eg = {mean:.5f} ± {error:.5f} on the plateau, predicted {theory:.5f}; the controls "
        f"{wrong[0]:.5f} and {wrong[1]:.5f}; {len(heights)} runs."
    )
    return Verdict(
        predicted=theory,
        measured=float(mean),
        error=float(error),
        passed=equal(theory),
        control_rejected=not any(equal(height) for height in wrong),
        detail=detail,
    )


def draw_height(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.plot(dataset.alpha, dataset.eg.isel(seed=slice(8)).T, color=SGD, lw=0.7)
        ax.axhline(float(dataset.theory), color=ODE, label="plateau")
        for height in dataset.wrong.values:
            ax.axhline(height, color=WRONG, ls="--", label="wrong (control)")
        ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $N$", ylabel=r"$\epsilon_g$")
        ax.legend(frameon=False)
    return figure


RATE_N, KICK, GROWTH, RATE_MARGIN = 2000, 0.03, 1.0, 0.05
"""The pattern in R grows by e from 0.03. By then it saturates by about 1 % (an average over both
signs of it cancels what is of first order), and the mean of the runs has an error below 0.6 %."""


@pytest.mark.parametrize("m", RATES)
def test_escape_rate(lab: Lab, m: int) -> None:
    if lab.profile == "quick" and m != 2:
        pytest.skip("not in the quick profile")
    lr = RATES[m]
    claim = Claim(
        id=f"plateau-rate-{m}",
        family="plateau",
        statement="Specialisation grows out of the symmetric plateau at its escape rate",
        source=SOURCE,
        setting=f"erf, K = M = {m}, lr = {lr}, no noise, N = {RATE_N}, started on the plateau "
        f"with R changed by ±{KICK} (1 - 1/M), until that has grown by e",
        rule=f"log(mean pattern / {KICK}) / alpha is within {RATE_MARGIN:.0%} of the rate (two "
        "one-sided tests, 5 %).",
        control="Twice the rate; half of it; the rate of lr -> 0, times lr.",
    )

    def measure() -> xr.Dataset:
        point = asymptotics.plateau(m, lr)
        pattern, state = np.eye(m) - 1 / m, point.state
        kicked = [
            ld.Overlaps(state.Q, state.R + sign * KICK * pattern, state.T) for sign in (1, -1)
        ]
        rate, runs = (
            float(point.rate),
            {2: lab.pick(256, 1024, 4096), 3: lab.pick(256, 256, 1024)}[m],
        )
        ts, _, r = chains(lr, kicked, GROWTH / rate, RATE_N, lab.key(claim.id), runs)
        # Runs alternate between the two signs.
        signs = np.resize([1.0, -1.0], runs)[:, None]
        size = signs * np.einsum("stin,in->st", r, pattern) / (m - 1)
        small = float(asymptotics.plateau(m).rate_over_lr) * lr
        return xr.Dataset(
            {
                "pattern": (("seed", "alpha"), size),
                "theory": rate,
                "wrong": ("control", [2 * rate, rate / 2, small]),
            },
            coords={"alpha": ts},
        )

    lab.settle(claim, measure, judge_rate, draw_rate)


def judge_rate(dataset: xr.Dataset) -> Verdict:
    last, end = dataset.pattern.values[:, -1], float(dataset.alpha[-1])
    theory, wrong = float(dataset.theory), dataset.wrong.values
    mean = last.mean()
    rate = np.log(mean / KICK) / end
    error = last.std(ddof=1) / len(last) ** 0.5 / mean / end

    def equal(value: float) -> bool:
        return is_equal(rate / value, error / value, 1.0, RATE_MARGIN)

    detail = (
        f"Growth {rate:.5f} ± {error:.5f} per unit alpha, predicted {theory:.5f}, as lr -> 0 "
        f"{wrong[2]:.5f}; {len(last)} runs."
    )
    return Verdict(
        predicted=theory,
        measured=float(rate),
        error=float(error),
        passed=equal(theory),
        control_rejected=not any(equal(value) for value in wrong),
        detail=detail,
    )


def draw_rate(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        runs, some = dataset.sizes["seed"], dataset.isel(alpha=slice(0, None, 20))
        error = 2 * some.pattern.std("seed") / runs**0.5
        ax.errorbar(some.alpha, some.pattern.mean("seed"), error, fmt="o", color=SGD, label="SGD")
        ax.plot(dataset.alpha, KICK * np.exp(float(dataset.theory) * dataset.alpha), color=ODE)
        for rate in dataset.wrong.values:
            ax.plot(dataset.alpha, KICK * np.exp(rate * dataset.alpha), color=WRONG, ls="--")
        ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $N$", ylabel="specialisation in R")
        ax.set_ylim(KICK / 1.3, KICK * 5)
        ax.legend(frameon=False)
    return figure


ESCAPE_LR, STEP, SLOPE_MARGIN, SHIFT_MARGIN = 1.0, 0.25, 0.4, 0.45
"""K = M = 2, where |amplitude| of one mode decides: log |N(0, 1)| has standard deviation 1.11, so
a median of n runs has an error of 1.2 / (rate sqrt(n)): the slope one of 5 % and
the Langevin level against the chain one of 0.08 standard deviations of a run. That leaves more
than 3.7 errors of room beyond the tests' own."""

LATEST = 50.0
"""Where to stop, before log n / (2 rate) is added: three quarters of the runs have left."""

LANGEVIN_N, OTHER_N, LANGEVIN_RUNS, CHAIN_RUNS = 256, 32, 384, 512

RUNS = {64: 512, 256: 512, 1024: 128, 4096: 64, 16384: 64}


def end(n: int, rate: float) -> float:
    return float(LATEST + np.log(n) / (2 * rate))


def exit_times(ts: np.ndarray, eg: np.ndarray) -> np.ndarray:
    """When eg first falls to half of its start; the last time for runs that have not yet."""
    level = 0.5 * eg[:, :1]
    below = eg < level
    i = np.maximum(below.argmax(axis=1), 1)
    rows = np.arange(len(eg))
    before, after = eg[rows, i - 1], eg[rows, i]
    part = (before - level[:, 0]) / np.where(before > after, before - after, 1.0)
    times = ts[i - 1] + part * (ts[1] - ts[0])
    return np.where(below.any(axis=1), times, ts[-1])


def median(times: np.ndarray) -> tuple[float, float]:
    """With its standard error, by resampling."""
    draws = np.random.default_rng(0).choice(times, (500, len(times)))
    return float(np.median(times)), float(np.median(draws, axis=1).std())


def test_escape_against_log_n(lab: Lab) -> None:
    if lab.profile == "quick":
        pytest.skip("not in the quick profile")
    runs = lab.pick(RUNS, RUNS, {n: 4 * count for n, count in RUNS.items()})
    claim = Claim(
        id="plateau-log-n",
        family="plateau",
        statement="The time spent on the plateau grows as log N / (2 rate)",
        source=SOURCE,
        setting=f"erf, K = M = 2, lr = {ESCAPE_LR}, no noise, started on the plateau, N = "
        f"{', '.join(map(str, runs))}; median time at which eg falls to half",
        rule=f"The slope of the median against log N is within {SLOPE_MARGIN:.0%} of 1/(2 rate) "
        "(two one-sided tests, 5 %).",
        control="No dependence on N; slope 1/rate: an escape that starts at amplitude 1/N.",
    )

    def measure() -> xr.Dataset:
        point, found = asymptotics.plateau(2, ESCAPE_LR), []
        rate = float(point.rate)
        for n, count in runs.items():
            key = lab.key(f"{claim.id} {n}")
            ts, eg, _ = chains(ESCAPE_LR, [point.state], end(n, rate), n, key, count)
            found.append(median(exit_times(ts, eg)))
        return xr.Dataset(
            {
                "median": ("n", [value for value, _ in found]),
                "error": ("n", [error for _, error in found]),
                "runs": ("n", list(runs.values())),
                "rate": rate,
            },
            coords={"n": list(runs)},
        )

    lab.settle(claim, measure, judge_slope, draw_slope)


def fitted(dataset: xr.Dataset) -> tuple[float, float, float]:
    """Slope of the median against log n, its standard error, and the intercept."""
    weights, log_n = dataset.runs.values, np.log(dataset.n.values)
    values, centre = dataset["median"].values, np.average(np.log(dataset.n.values), weights=weights)
    x = weights * (log_n - centre)
    slope, error = x @ values, np.linalg.norm(x * dataset.error.values)
    slope, error = float(slope / (x @ log_n)), float(error / (x @ log_n))
    return slope, error, float(np.average(values, weights=weights) - slope * centre)


def judge_slope(dataset: xr.Dataset) -> Verdict:
    slope, error, _ = fitted(dataset)
    theory = 0.5 / float(dataset.rate)

    def equal(times: float) -> bool:
        return is_equal(slope / theory, error / theory, times, SLOPE_MARGIN)

    medians = ", ".join(f"{value:.1f}" for value in dataset["median"].values)
    sizes = ", ".join(str(n) for n in dataset.n.values)
    return Verdict(
        predicted=theory,
        measured=slope,
        error=error,
        passed=equal(1.0),
        control_rejected=not (equal(0.0) or equal(2.0)),
        detail=f"Slope {slope:.2f} ± {error:.2f}, predicted {theory:.2f}; medians {medians} at "
        f"N = {sizes}.",
    )


def draw_slope(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    n, theory = dataset.n.values, 0.5 / float(dataset.rate)
    slope, _, intercept = fitted(dataset)
    first = intercept + slope * np.log(n[0])
    step = theory * np.log(n / n[0])
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.errorbar(n, dataset["median"], 2 * dataset.error, fmt="o", color=SGD, label="SGD")
        ax.plot(n, first + step, color=ODE, label=r"slope $1/2\lambda$")
        ax.plot(n, first + 2 * step, color=WRONG, ls="--", label=r"slope $1/\lambda$ (control)")
        ax.plot(n, first + 0 * step, color=WRONG, ls=":", label="no dependence (control)")
        ax.set(xscale="log", xlabel="N", ylabel=r"median time of escape $\alpha$")
        ax.legend(frameon=False)
    return figure


def test_langevin_escape(lab: Lab) -> None:
    if lab.profile == "quick":
        pytest.skip("not in the quick profile")
    claim = Claim(
        id="plateau-langevin",
        family="plateau",
        statement="The Langevin equation leaves the plateau when the chain does",
        source="Central limit behind Theorem 1 of Goldt et al. 2020",
        setting=f"erf, K = M = 2, lr = {ESCAPE_LR}, no noise, started on the plateau, N = "
        f"{LANGEVIN_N}, dt = {STEP}; median time at which eg falls to half",
        rule=f"The medians agree within {SHIFT_MARGIN} standard deviations of a run "
        "(two one-sided tests, 5 %).",
        control=f"The chain at N = {OTHER_N}.",
    )

    def measure() -> xr.Dataset:
        point = asymptotics.plateau(2, ESCAPE_LR)
        found, keys = {}, jax.random.split(lab.key(claim.id), 3)
        for n, key in zip((LANGEVIN_N, OTHER_N), keys[:2], strict=True):
            latest = end(n, float(point.rate))
            ts, eg, _ = chains(ESCAPE_LR, [point.state], latest, n, key, CHAIN_RUNS)
            found[f"chain, N = {n}"] = exit_times(ts, eg)
        latest = end(LANGEVIN_N, float(point.rate))
        ts, n = jnp.linspace(0.0, latest, TIMES), jnp.asarray(LANGEVIN_N, float)
        eg = [
            _langevin(ld.SGD(lr=ESCAPE_LR), point.state, ts, n, jax.random.split(block, LANES))
            for block in jax.random.split(keys[2], LANGEVIN_RUNS // LANES)
        ]
        found[f"Langevin, N = {LANGEVIN_N}"] = exit_times(np.asarray(ts), np.concatenate(eg))
        values = np.array([median(times) for times in found.values()])
        return xr.Dataset(
            {
                "median": ("level", values[:, 0]),
                "error": ("level", values[:, 1]),
                # The standard deviation of log |N(0, 1)|, over the rate.
                "spread": np.pi / 8**0.5 / float(point.rate),
            },
            coords={"level": list(found)},
        )

    lab.settle(claim, measure, judge_langevin, draw_langevin)


def judge_langevin(dataset: xr.Dataset) -> Verdict:
    spread = float(dataset.spread)
    (right, wrong, found), errors = dataset["median"].values, dataset.error.values

    def equal(i: int) -> bool:
        gap = float(found - dataset["median"][i]) / spread
        return is_equal(gap, float(np.hypot(errors[i], errors[2])) / spread, 0.0, SHIFT_MARGIN)

    return Verdict(
        predicted=float(right),
        measured=float(found),
        error=float(np.hypot(errors[0], errors[2])),
        passed=equal(0),
        control_rejected=not equal(1),
        detail=f"Median time {found:.1f} ± {errors[2]:.1f}; of chains {right:.1f} ± "
        f"{errors[0]:.1f}, at N = {OTHER_N} {wrong:.1f}; a run scatters by {spread:.1f}.",
    )


def draw_langevin(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.errorbar(dataset.level, dataset["median"], 2 * dataset.error, fmt="o", color=SGD)
        ax.set_ylabel(r"median time of escape $\alpha$")
    return figure
