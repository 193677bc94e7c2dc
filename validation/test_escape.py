"""When runs leave the symmetric plateau: against log N, run by run, and at the Langevin level."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, ensemble
from validation.measure.ensembles import chain_ensemble
from validation.measure.figures import ODE, SGD, WRONG
from validation.measure.plateaus import (
    LANES,
    PROBLEM,
    SOURCE,
    TIMES,
    exit_times,
    median,
    quantiles,
)
from validation.measure.sharing import whole_blocks

import learndyn as ld
from learndyn import asymptotics, plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import Equivalence, difference

ESCAPE_LR, STEP, SLOPE_MARGIN, SHIFT_MARGIN = 1.0, 0.25, 0.4, 0.45
"""k = m = 2, where |amplitude| of one mode decides: log |N(0, 1)| has standard deviation 1.11, so
a median of n runs has an error of 1.2 / (rate sqrt(n)): the slope one of 4 % and the Langevin
level against the chain one of 0.08 standard deviations of a run. That leaves more than 6 and 3.7
errors of room beyond the tests' own."""

SLOPE_BIAS, SHIFT_BIAS = 0.05, 0.1
"""Corrections of order 1/n to the slope; the Langevin level's finite dt and nodes."""

LATEST = 50.0
"""Where to stop, before log n / (2 rate) is added: three quarters of the runs have left."""

LANGEVIN_N, OTHER_N, LANGEVIN_RUNS, CHAIN_RUNS = 256, 32, 512, 1024
"""The control's N is eight times smaller, so that its runs leave log(8) / (2 rate) earlier: that is
1.04 / rate, 0.94 standard deviations of a run, twice the margin. The runs give the error of 0.08
that is stated above."""

RUNS = {64: 1024, 256: 256, 1024: 256, 2048: 256}
"""Chains by N: more where they cost little."""


def end(n: int, rate: float) -> float:
    return float(LATEST + np.log(n) / (2 * rate))


def escapes(plateau: ld.Overlaps, latest: float, n: int, key: jax.Array, runs: int) -> np.ndarray:
    """The times at which runs that start on the plateau leave it, as far as they do by `latest`."""
    ts, rule = np.linspace(0.0, latest, TIMES), ld.SGD(lr=ESCAPE_LR)
    found = chain_ensemble(
        PROBLEM,
        rule,
        plateau,
        ts,
        n=n,
        key=key,
        runs=whole_blocks(runs),
        fill_times=True,
        xla=FOR_CHAINS,
    )
    return exit_times(ts, found["eg"])


def test_escape_against_log_n(lab: Lab) -> None:
    lab.skip_in_quick()
    runs = {n: whole_blocks(lab.pick(1, 1, 4) * count) for n, count in RUNS.items()}
    claim = Claim(
        id="plateau-log-n",
        family="plateau",
        statement="The time spent on the plateau grows as log N / (2 rate)",
        source=SOURCE,
        setting=f"erf, k = m = 2, lr = {ESCAPE_LR}, no noise, started on the plateau, n = "
        f"{', '.join(map(str, runs))}; median time at which eg falls to half",
        rule=f"The slope of the median against log N is within {SLOPE_MARGIN:.0%} of 1/(2 rate) "
        "(two one-sided tests, 5 %).",
        control="No dependence on n; slope 1/rate: an escape that starts at amplitude 1/n.",
    )

    def measure() -> xr.Dataset:
        point, found = asymptotics.plateau(2, ESCAPE_LR), []
        rate = float(point.rate)
        for n, count in runs.items():
            key = lab.key(f"{claim.id} {n}")
            found.append(median(escapes(point.state, end(n, rate), n, key, count)))
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
    right, *wrong = (
        difference(slope / theory, error / theory, times, SLOPE_MARGIN) for times in (1.0, 0.0, 2.0)
    )
    medians = ", ".join(f"{value:.1f}" for value in dataset["median"].values)
    sizes = ", ".join(str(n) for n in dataset.n.values)
    return Verdict(
        predicted=theory,
        measured=slope,
        error=error,
        control=2.0 * theory,
        passed=right.equal,
        control_rejected=not any(one.equal for one in wrong),
        detail=f"Slope {slope:.2f} ± {error:.2f}, predicted {theory:.2f}; medians {medians} at "
        f"n = {sizes}.",
        false_alarm=right.false_alarm(SLOPE_BIAS) + sum(one.missed for one in wrong),
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
    lab.only_in_full()  # a minute; the Langevin level's moments are a claim of every standard run
    claim = Claim(
        id="plateau-langevin",
        family="plateau",
        statement="The Langevin equation leaves the plateau when the chain does",
        source="Central limit behind Theorem 1 of Goldt et al. 2020",
        setting=f"erf, k = m = 2, lr = {ESCAPE_LR}, no noise, started on the plateau, n = "
        f"{LANGEVIN_N}, dt = {STEP}; median time at which eg falls to half",
        rule=f"The medians agree within {SHIFT_MARGIN} standard deviations of a run "
        "(two one-sided tests, 5 %).",
        control=f"The chain at n = {OTHER_N}.",
    )

    def measure() -> xr.Dataset:
        point = asymptotics.plateau(2, ESCAPE_LR)
        found, keys = {}, jax.random.split(lab.key(claim.id), 3)
        for n, key in zip((LANGEVIN_N, OTHER_N), keys[:2], strict=True):
            latest = end(n, float(point.rate))
            found[f"chain, n = {n}"] = escapes(point.state, latest, n, key, CHAIN_RUNS)
        latest = end(LANGEVIN_N, float(point.rate))
        ts, n = jnp.linspace(0.0, latest, TIMES), jnp.asarray(LANGEVIN_N, float)
        eg = [
            _langevin(ld.SGD(lr=ESCAPE_LR), point.state, ts, n, jax.random.split(block, LANES))
            for block in jax.random.split(keys[2], whole_blocks(LANGEVIN_RUNS, LANES) // LANES)
        ]
        found[f"Langevin, n = {LANGEVIN_N}"] = exit_times(np.asarray(ts), np.concatenate(eg))
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

    def against(i: int) -> Equivalence:
        gap, error = found - dataset["median"].values[i], np.hypot(errors[i], errors[2])
        return Equivalence(gap / spread, error / spread, SHIFT_MARGIN)

    chains, other = against(0), against(1)
    return Verdict(
        predicted=float(right),
        measured=float(found),
        error=float(np.hypot(errors[0], errors[2])),
        control=float(wrong),
        passed=chains.equal,
        control_rejected=not other.equal,
        detail=f"Median time {found:.1f} ± {errors[2]:.1f}; of chains {right:.1f} ± "
        f"{errors[0]:.1f}, at n = {OTHER_N} {wrong:.1f}; a run scatters by {spread:.1f}.",
        false_alarm=chains.false_alarm(SHIFT_BIAS) + other.missed,
    )


def draw_langevin(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        chain, room = float(dataset["median"][0]), SHIFT_MARGIN * float(dataset.spread)
        ax.axhline(chain, color=ODE, lw=1, label="median of the chain")
        ax.axhspan(
            chain - room,
            chain + room,
            color="0.92",
            zorder=0,
            label=f"± {SHIFT_MARGIN} standard deviations of a run",
        )
        for colour, rows, label in (
            (SGD, [0, 2], "median ± 2 standard errors"),
            (WRONG, [1], "the same at another N (control)"),
        ):
            some = dataset.isel(level=rows)
            ax.errorbar(rows, some["median"], 2 * some.error, fmt="o", color=colour, label=label)
        ax.set_xticks(range(dataset.sizes["level"]), dataset.level.values)
        ax.margins(x=0.25, y=0.2)
        ax.set_ylabel(r"median time of escape $\alpha$")
        ax.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    return figure


@functools.partial(ensemble, xla=FOR_CHAINS)
def _langevin(
    rule: ld.SGD, start: ld.Overlaps, ts: jax.Array, n: jax.Array, keys: jax.Array
) -> jax.Array:
    # The default nodes give the noise that drives the escape within 1 %; a quarter of them lose
    # a fifth of it, and that is 2 units of alpha.
    def run(key: jax.Array) -> jax.Array:
        return ld.simulate_langevin(PROBLEM, rule, start, ts, n=n, key=key, dt=STEP).eg

    return jax.vmap(run)(keys)


DISTRIBUTION_N, QUANTILES = 250, [0.1, 0.25, 0.5, 0.75]
"""At this N corrections of order 1/n are below 1 %. The last decile is not asked for: it would take
runs until nearly all have left."""

QUANTILE_MARGIN, QUANTILE_BIAS, LONGER = 0.3, 0.07, 20.0
"""Margin and bias are in standard deviations of a run; 2048 runs give each quantile to 0.04 or
better, and what the prediction leaves out is of order 1/n, and a linear law of growth. With so much
more time 85 % of the runs have left, and the last quartile has been seen. The first decile
depends most on the spread."""


def test_distribution_of_times(lab: Lab) -> None:
    lab.skip_in_quick()
    runs = whole_blocks(lab.pick(2048, 2048, 16384))
    claim = Claim(
        id="plateau-escape",
        family="plateau",
        statement="Runs leave the symmetric plateau when its escape rate and their own noise say",
        source=SOURCE + "; the constant and the distribution from the diffusion on the plateau",
        setting=f"erf, k = m = 2, lr = {ESCAPE_LR}, no noise, n = {DISTRIBUTION_N}, {runs} chains "
        "started on the plateau; time at which eg falls to half",
        rule="The first decile and the three quartiles of the times are within "
        f"{QUANTILE_MARGIN} standard deviations of a run of the predicted ones (two one-sided "
        "tests, 5 %).",
        control="ln n / rate: every run starts its escape at amplitude 1/n; spreads of half the "
        "size, as of two modes with equal rates in place of one.",
    )

    def measure() -> xr.Dataset:
        problem, rule = PROBLEM, ld.SGD(lr=ESCAPE_LR)
        state = asymptotics.plateau(2, ESCAPE_LR).state
        theory = asymptotics.escape_time(problem, rule, state, DISTRIBUTION_N, runs=2000)
        rate, samples = float(theory.rate), np.asarray(theory.samples[:, 0])
        latest, key = end(DISTRIBUTION_N, rate) + LONGER, lab.key(claim.id)
        late = samples + np.log(DISTRIBUTION_N) / (2 * rate)
        narrow = samples.mean() + (samples - samples.mean()) / 2
        return xr.Dataset(
            {
                "time": ("seed", escapes(state, latest, DISTRIBUTION_N, key, runs)),
                "latest": latest,
                "spread": float(theory.std[0]),
                "theory": ("sample", samples),
                "wrong": (("control", "sample"), np.stack([late, narrow])),
            }
        )

    lab.settle(claim, measure, judge_times, draw_times)


def judge_times(dataset: xr.Dataset) -> Verdict:
    found, error = quantiles(dataset.time.values, QUANTILES)
    spread = float(dataset.spread)

    def against(samples: np.ndarray) -> Equivalence:
        gap = (found - np.quantile(samples, QUANTILES)) / spread
        return Equivalence(gap, error / spread, QUANTILE_MARGIN)

    right, wrong = against(dataset.theory.values), [against(row) for row in dataset.wrong.values]
    worst = right.worst
    listed = ", ".join(f"{x:.1f} ± {e:.1f}" for x, e in zip(found, error, strict=True))
    predicted = np.quantile(dataset.theory.values, QUANTILES)
    return Verdict(
        predicted=float(predicted[worst]),
        measured=float(found[worst]),
        error=float(error[worst]),
        control=float(np.quantile(dataset.wrong.values[0], QUANTILES)[worst]),
        passed=right.equal,
        control_rejected=not any(row.equal for row in wrong),
        detail=f"First decile and quartiles {listed}; predicted "
        f"{', '.join(f'{x:.1f}' for x in predicted)}; a run scatters by {spread:.1f}; "
        f"{dataset.sizes['seed']} runs.",
        false_alarm=right.false_alarm(QUANTILE_BIAS) + sum(row.missed for row in wrong),
    )


def draw_times(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    rows = {
        "chains": (dataset.time.values, SGD, "-"),
        "predicted": (dataset.theory.values, ODE, "-"),
        "amplitude 1/n (control)": (dataset.wrong.values[0], WRONG, "--"),
        "half the spread (control)": (dataset.wrong.values[1], WRONG, ":"),
    }
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        for label, (times, colour, style) in rows.items():
            times = np.sort(times)
            share = (np.arange(len(times)) + 0.5) / len(times)
            seen = times < float(dataset.latest)
            ax.plot(times[seen], share[seen], style, color=colour, label=label)
        ax.set(
            xlim=(0, float(dataset.latest)),
            ylim=(0, 1),
            xlabel=r"time of escape, $\alpha$ = steps / $n$",
        )
        ax.set_ylabel("fraction of runs that have left")
        ax.legend(frameon=False, fontsize=8)
    return figure
