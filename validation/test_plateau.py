"""The symmetric plateau: its height, and the rate at which specialisation grows out of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS
from validation.measure.figures import ODE, SGD, WRONG
from validation.measure.plateaus import LANES, SOURCE, chains
from validation.measure.sharing import whole_blocks

import learndyn as ld
from learndyn import asymptotics, plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import relative_difference

HEIGHT_N, SIZE, HEIGHT_MARGIN, HEIGHT_BIAS = 10_000, 0.1, 0.01, 0.002
"""A run's mean over the window scatters by less than 1 %: with 64 runs six errors of room.

From other sizes |w|^2/N of the start, the differences between the student's units, which neither
grow nor decay as lr -> 0, are still relaxing when the plateau ends.
"""

RATES = {2: 1.0, 3: 0.5}
"""Learning rates by number of units: large enough that their plateaus differ measurably from that
of lr -> 0."""

WINDOW, END = 15.0, 25.0
"""When the height is taken: after the approach to the plateau, before runs leave it."""


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
        setting=f"erf, k = m = {m}, lr = {lr}, no noise, random weights with |w|^2/n = {SIZE}, "
        f"n = {HEIGHT_N}, alpha = {WINDOW:g} to {END:g}",
        rule=f"The mean eg is within {HEIGHT_MARGIN:.0%} of the plateau's (two one-sided tests, "
        "5 %).",
        control=f"The plateau of lr -> 0; that of k = m = {other} at the same lr.",
    )

    def measure() -> xr.Dataset:
        rng = np.random.default_rng(jax.random.bits(lab.key(claim.id + " starts"), 4).tolist())
        starts = [random_start(rng, m) for _ in range(LANES)]
        runs = whole_blocks(lab.pick(64, 64, 512), LANES)
        ts, eg, _ = chains(lr, starts, END, HEIGHT_N, lab.key(claim.id), runs, FOR_CHAINS)
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
    right, *controls = (
        relative_difference(mean, error, x, HEIGHT_MARGIN) for x in (theory, *wrong)
    )
    detail = (
        f"eg = {mean:.5f} ± {error:.5f} on the plateau, predicted {theory:.5f}; the controls "
        f"{wrong[0]:.5f} and {wrong[1]:.5f}; {len(heights)} runs."
    )
    return Verdict(
        predicted=theory,
        measured=float(mean),
        error=float(error),
        control=float(wrong[0]),
        passed=right.equal,
        control_rejected=not any(one.equal for one in controls),
        detail=detail,
        false_alarm=right.false_alarm(HEIGHT_BIAS) + sum(one.missed for one in controls),
    )


def draw_height(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.axvspan(WINDOW, END, color="0.95", zorder=0, label="where the height is taken")
        ax.plot(dataset.alpha, dataset.eg.isel(seed=slice(8)).T, color=SGD, lw=0.7)
        ax.plot([], [], color=SGD, lw=0.7, label="eight chains")
        ax.axhline(float(dataset.theory), color=ODE, lw=1, label="plateau of this lr")
        labels = "plateau of lr → 0 (control)", "plateau of another k = m (control)"
        for height, label, style in zip(dataset.wrong.values, labels, ("--", ":"), strict=True):
            ax.axhline(height, color=WRONG, ls=style, label=label)
        ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $n$", ylabel=r"$\epsilon_g$")
        ax.legend(frameon=False)
    return figure


RATE_N, KICK, GROWTH, RATE_MARGIN, RATE_BIAS = 2000, 0.03, 1.0, 0.05, 0.015
"""The pattern in R grows by e from 0.03. By then it saturates by about 1 % (an average over both
signs of it cancels what is of first order), and the mean of the runs has an error below 0.6 %."""


@pytest.mark.parametrize("m", RATES)
def test_escape_rate(lab: Lab, m: int) -> None:
    lab.skip_in_quick()
    lr = RATES[m]
    claim = Claim(
        id=f"plateau-rate-{m}",
        family="plateau",
        statement="Specialisation grows out of the symmetric plateau at its escape rate",
        source=SOURCE,
        setting=f"erf, k = m = {m}, lr = {lr}, no noise, n = {RATE_N}, started on the plateau "
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
        rate = float(point.rate)
        runs = {2: lab.pick(256, 512, 4096), 3: lab.pick(256, 256, 1024)}[m]
        runs = whole_blocks(runs, LANES)
        ts, _, r = chains(lr, kicked, GROWTH / rate, RATE_N, lab.key(claim.id), runs, FOR_CHAINS)
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
    right, *controls = (relative_difference(rate, error, x, RATE_MARGIN) for x in (theory, *wrong))
    detail = (
        f"Growth {rate:.5f} ± {error:.5f} per unit alpha, predicted {theory:.5f}, as lr -> 0 "
        f"{wrong[2]:.5f}; {len(last)} runs."
    )
    return Verdict(
        predicted=theory,
        measured=float(rate),
        error=float(error),
        control=float(wrong[0]),
        passed=right.equal,
        control_rejected=not any(one.equal for one in controls),
        detail=detail,
        false_alarm=right.false_alarm(RATE_BIAS) + sum(one.missed for one in controls),
    )


def draw_rate(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        runs, some = dataset.sizes["seed"], dataset.isel(alpha=slice(0, None, 20))
        error = 2 * some.pattern.std("seed") / runs**0.5
        mean = some.pattern.mean("seed")
        ax.errorbar(some.alpha, mean, error, fmt="o", color=SGD, label="chains, mean ± 2 errors")
        rates = [float(dataset.theory), *dataset.wrong.values]
        labels = "escape rate", "twice that (control)", "half of it (control)", "lr → 0 (control)"
        styles = "-", "--", ":", "-."
        for rate, label, style in zip(rates, labels, styles, strict=True):
            colour = ODE if label == labels[0] else WRONG
            growth = KICK * np.exp(rate * dataset.alpha)
            ax.plot(dataset.alpha, growth, color=colour, ls=style, label=label)
        ax.margins(x=0.03)
        ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $n$", ylabel="specialisation in R")
        ax.set_ylim(KICK / 1.3, KICK * 5)
        ax.legend(frameon=False)
    return figure
