"""Figures of claims, drawn from stored datasets alone."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from learndyn import plot
from learndyn.testing import in_units_of_one_run

ODE, SGD, WRONG = "#1f1f1f", "#0072B2", "#D55E00"
"""The colours of theory, runs and controls in every figure."""

SECOND = "#56B4E9"
"""The colour of a second kind of runs: a single one next to a mean, small n next to large."""


def learning_curve(
    dataset: xr.Dataset, insets: tuple[float, ...] = (), label: str = "SGD"
) -> Figure:
    """Theory as a line, the ensemble as points with bars, one long run as crosses.

    insets: times at which the long run's overlaps R are shown. label: what ran.
    """
    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        _draw_long(left, dataset, label)
        _draw_overlaps(left, dataset, insets)
        _draw_deviations(right, dataset)
    return figure


def against_weights(samples: np.ndarray, dataset: xr.Dataset, margin: float, names: str) -> Figure:
    """Differences of the means of runs on weights from the theory and from the control, in units of
    a run's scatter, at all coordinates, which are of `names`."""
    places = np.arange(samples.shape[1])
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.axhspan(-margin, margin, color="0.92", zorder=0)
        for name, colour, label in (("theory", SGD, "ODE"), ("wrong", WRONG, "control")):
            found = in_units_of_one_run(samples, dataset[name].values, margin)
            ax.errorbar(
                places, found.estimate, 2 * found.error, fmt="o", ms=3, color=colour, label=label
            )
        ax.set(xlabel=f"coordinates of {names} at all times")
        ax.set_ylabel("(mean on weights - theory) / std of a run")
        ax.margins(x=0.04)
        ax.legend(frameon=False)
    return figure


def _draw_long(ax: plt.Axes, dataset: xr.Dataset, label: str) -> None:
    ax.plot(dataset.alpha_curve, dataset.theory_curve, color=ODE, lw=1.5, label="ODE")
    if "wrong_curve" in dataset:
        ax.plot(
            dataset.alpha_curve,
            dataset.wrong_curve,
            "--",
            color=WRONG,
            lw=1.5,
            label="wrong theory (control)",
        )
    goes_on = float(dataset.alpha_long[-1]) > float(dataset.alpha[-1])
    one = f"{label}, one run" + (": leaves a plateau\nat a random time" if goes_on else "")
    ax.plot(dataset.alpha_long, dataset.long_eg, "x", color=SECOND, ms=5, zorder=1.5, label=one)
    mean, spread = dataset.eg.mean("seed"), dataset.eg.std("seed", ddof=1)
    ax.errorbar(
        dataset.alpha, mean, spread, fmt="o", ms=3, color=SGD, label=f"{label}, mean ± one run"
    )
    bottom = {"transform": ax.get_xaxis_transform(), "clip_on": False}
    ax.plot(
        dataset.alpha,
        np.full(dataset.sizes["alpha"], 0.02),
        "|",
        color="0.5",
        ms=8,
        label="times of the verdict",
        **bottom,
    )
    ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $n$", ylabel=r"$\epsilon_g$")
    ax.margins(x=0.03)
    ax.legend(frameon=False, loc="upper right", fontsize=8)


def _draw_overlaps(ax: plt.Axes, dataset: xr.Dataset, times: tuple[float, ...]) -> None:
    for number, alpha in enumerate(times):
        state = dataset.long_R.sel(alpha_long=alpha, method="nearest")
        inset = ax.inset_axes((0.08 + 0.24 * number, 0.06, 0.2, 0.3))
        inset.imshow(state, vmin=-1, vmax=1, cmap="RdBu_r")
        inset.set(xticks=[], yticks=[])
        inset.set_title(rf"$R$, $\alpha$ = {float(state.alpha_long):.0f}", fontsize=7)


def _draw_deviations(ax: plt.Axes, dataset: xr.Dataset) -> None:
    runs, spread = dataset.sizes["seed"], dataset.eg.std("seed", ddof=1)
    mean = dataset.eg.mean("seed")
    ax.axhspan(-0.5, 0.5, color="0.92", zorder=0)
    theories = ("theory", SGD, "from the ODE"), ("wrong", WRONG, "from the wrong theory (control)")
    for name, colour, which in theories:
        deviation = (mean - dataset[name]) / spread
        ax.errorbar(
            dataset.alpha, deviation, 2 / np.sqrt(runs), fmt="o", ms=4, color=colour, label=which
        )
    ax.set(
        xscale="log",
        xlabel=r"$\alpha$ = steps / $n$",
        ylabel="(mean − theory) / std of a run",
    )
    ax.set_yscale("symlog", linthresh=1)
    ax.margins(x=0.08, y=0.15)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)


def scaling(dataset: xr.Dataset) -> Figure:
    """Mean distance from the ODE: its largest value against n, and against time at two n."""
    mean = dataset.distance.mean("seed")
    error = dataset.distance.std("seed", ddof=1) / np.sqrt(dataset.distance.count("seed"))
    peak = mean.argmax("alpha")
    constant = float(dataset.predicted.max())
    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        left.errorbar(
            dataset.n,
            mean.isel(alpha=peak),
            2 * error.isel(alpha=peak),
            fmt="o",
            ms=4,
            color=SGD,
            label="measured, ± 2 standard errors",
        )
        left.plot(
            dataset.n, constant / np.sqrt(dataset.n), color=ODE, label=r"predicted $C/\sqrt{N}$"
        )
        left.plot(
            dataset.n,
            constant / 8 * (dataset.n / 64) ** -0.25,
            "--",
            color=WRONG,
            label="slope −1/4",
        )
        left.set(xscale="log", yscale="log", xlabel="$n$")
        left.margins(x=0.04)
        left.set_ylabel(r"max over $\alpha$ of E$|m^\mu - m(\alpha)|$")
        left.legend(frameon=False)
        right.plot(dataset.alpha, dataset.predicted, color=ODE, label="predicted")
        for n, colour in ((dataset.n[0], SECOND), (dataset.n[-1], SGD)):
            scale = np.sqrt(float(n))
            right.errorbar(
                dataset.alpha,
                scale * mean.sel(n=n),
                2 * scale * error.sel(n=n),
                fmt="o",
                ms=4,
                color=colour,
                label=f"n = {int(n)}",
            )
        right.set(xlabel=r"$\alpha$ = steps / $n$")
        right.margins(x=0.04)
        right.set_ylabel(r"$\sqrt{N}$ E$|m^\mu - m(\alpha)|$")
        right.legend(frameon=False)
    return figure


def discrepancy_map(dataset: xr.Dataset) -> Figure:
    """Root mean square distance from the ODE: a map at the largest n, and its fall with n."""
    rms = 100 * np.sqrt(dataset.square)
    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        image = left.imshow(rms.isel(n=-1).T, origin="lower", aspect="auto", cmap="viridis")
        left.set_xticks(range(dataset.sizes["lr"]), [f"{x:g}" for x in dataset.lr.values])
        left.set_yticks(range(dataset.sizes["noise"]), [f"{x:g}" for x in dataset.noise.values])
        left.set(xlabel="learning rate", ylabel=r"noise $\sigma$")
        left.set_title(f"n = {int(dataset.n[-1])}")
        figure.colorbar(image, ax=left, label=r"rms of $\epsilon_g$/ODE − 1 (%)")
        _draw_falls(right, rms)
    return figure


def _draw_falls(ax: plt.Axes, rms: xr.DataArray) -> None:
    """A colour for each learning rate, a line style for each noise."""
    colours = plt.cm.viridis(np.linspace(0, 0.9, rms.sizes["lr"]))
    styles = ("o-", "s--", "^-.", "v:")[: rms.sizes["noise"]]
    for lr, colour in zip(rms.lr.values, colours, strict=True):
        for noise, style in zip(rms.noise.values, styles, strict=True):
            ax.plot(rms.n, rms.sel(lr=lr, noise=noise), style, ms=3, lw=0.8, color=colour)
        ax.plot([], [], color=colour, label=f"lr = {lr:g}")
    for noise, style in zip(rms.noise.values, styles, strict=True):
        ax.plot([], [], style, color="0.5", ms=3, lw=0.8, label=rf"$\sigma$ = {noise:g}")
    guide = 0.7 * float(rms.min("lr").min("noise")[0]) * np.sqrt(float(rms.n[0]) / rms.n)
    ax.plot(rms.n, guide, color=ODE, lw=1, label="$N^{-1/2}$")
    ax.set(xscale="log", yscale="log", xlabel="$n$")
    ax.set_ylabel(r"rms of $\epsilon_g$/ODE − 1 (%)")
    ax.margins(x=0.04)
    ax.legend(frameon=False, fontsize=7, ncols=2)


def departure(dataset: xr.Dataset) -> Figure:
    """Mean error with fresh samples and with training sets, against the ODE."""
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.plot(dataset.alpha, dataset.theory, color=ODE, label="ODE")
        for load, rows in dataset.eg.groupby("load"):
            rows = rows.squeeze("load")
            label = f"{load:g} N samples" if np.isfinite(load) else "fresh samples"
            error = 2 * rows.std("seed", ddof=1) / np.sqrt(dataset.sizes["seed"])
            ax.errorbar(dataset.alpha, rows.mean("seed"), error, fmt="o--", ms=4, label=label)
        ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $n$", ylabel=r"mean $\epsilon_g$")
        ax.legend(frameon=False)
    return figure


def final_errors(
    dataset: xr.Dataset,
    xlabel: str,
    wrong: str,
    over: str = "",
    points: str = "end state of the ODE",
) -> Figure:
    """Final errors over noise² as points, the formula as a line, the control as dashes.

    Points have bars where the dataset has an `error`, the standard error.
    """
    (x,) = dataset.measured.dims
    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.margins(x=0.04)
        ax.plot(dataset[x], dataset.predicted, color=ODE, label="formula")
        ax.plot(dataset[x], dataset.wrong, "--", color=WRONG, label=f"{wrong} (control)")
        if "error" in dataset:
            points = f"{points} ± 2 standard errors"
            bars = 2 * dataset.error
            ax.errorbar(dataset[x], dataset.measured, bars, fmt="o", ms=4, color=SGD, label=points)
        else:
            ax.plot(dataset[x], dataset.measured, "x", color=SGD, label=points)
        if np.issubdtype(dataset[x].dtype, np.integer):
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel=xlabel, ylabel=rf"$\epsilon_g^*/\sigma^2${over}")
        ax.legend(frameon=False)
    return figure


def overlaps_of_runs(groups: dict[str, xr.DataArray], runs: int = 4) -> Figure:
    """The overlaps R of the first few runs of each group, a row of matrices for each."""
    with plot.style():
        figure, axes = plt.subplots(len(groups), runs, figsize=(5.5, 4.4), layout="constrained")
        for row, (name, r) in zip(axes, groups.items(), strict=True):
            for ax, one in zip(row, r.values, strict=False):
                image = ax.imshow(one, vmin=-1, vmax=1, cmap="RdBu_r")
                for (i, n), value in np.ndenumerate(one):
                    ink = "white" if abs(value) > 0.6 else "black"
                    text = f"{value + 0.0:.2f}"
                    ax.text(n, i, text, ha="center", va="center", fontsize=7, color=ink)
                ax.set(xticks=[], yticks=[])
            row[0].set_ylabel(name)
        figure.supxlabel("teacher units")
        figure.supylabel("student units")
        figure.colorbar(image, ax=axes, label="$R$", shrink=0.6)
    return figure
