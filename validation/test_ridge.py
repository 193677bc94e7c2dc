"""Linear regression with weight decay: where it ends, for weak decay and strong."""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS
from validation.measure.ensembles import chain_ensemble
from validation.measure.figures import ODE, SGD, WRONG
from validation.measure.sharing import whole_blocks

import learndyn as ld
from learndyn import asymptotics, plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import Equivalence, relative_difference

N, LR, NOISE, DECAYS = 500, 0.8, 0.1**0.5, (0.0, 0.1, 0.5, 2.0)
"""At this LR the terms in lr² are of the size of those in lr. DECAYS reach from none to one at
which the student keeps a third of the teacher."""

TS = np.array([0.0, 10.0, 15.0, 20.0])
"""The slowest mode, that of R without decay, has the rate lr = 0.8: by alpha = 10 it is 3e-4 of
itself."""

MARGIN, BIAS = 0.03, 0.006
"""Relative. At this N a correction of order 1/n; 512 runs have errors below 0.35 %."""

QUANTITIES = ("R", "Q", "eg")


def test_steady_states(lab: Lab) -> None:
    lab.skip_in_quick()
    runs = whole_blocks(lab.pick(512, 512, 8192))
    claim = Claim(
        id="ridge-steady-states",
        family="linear",
        statement="Linear regression with weight decay ends at m* = 1/(1 + kappa), and at the q* "
        "and error of the corrected formulas",
        source="Unpublished notes on online SGD, section 6.5, corrected (see the errata)",
        setting=f"linear, k = m = 1, lr = {LR}, noise² = {NOISE**2:g}, kappa = "
        f"{', '.join(f'{x:g}' for x in DECAYS)}, n = {N}, {runs} chains, mean over alpha = "
        f"{', '.join(f'{t:g}' for t in TS[1:])}",
        rule=f"R, Q and eg are within {MARGIN:.0%} of the formulas for every kappa (two one-sided "
        "tests, 5 %).",
        control="The same without the decay in the denominator, 2 - lr for 2 (1 + kappa) - lr.",
    )

    def measure() -> xr.Dataset:
        problem = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE)
        start = ld.Overlaps([[0.5]], [[0.6]], [[1.0]])
        found, right, wrong = [], [], []
        for decay in DECAYS:
            rule, key = ld.SGD(lr=LR, weight_decay=decay), lab.key(f"{claim.id} {decay}")
            ensemble = chain_ensemble(
                problem, rule, start, TS, n=N, key=key, runs=runs, fill_times=True, xla=FOR_CHAINS
            )
            late = [ensemble[name][:, 1:].reshape(runs, -1).mean(axis=1) for name in QUANTITIES]
            found.append(late)
            end = asymptotics.ridge(LR, decay, NOISE)
            right.append([float(end.m), float(end.q), float(end.eg)])
            wrong.append(without_decay(decay))
        table = {"theory": right, "wrong": wrong}
        return xr.Dataset(
            {"found": (("kappa", "quantity", "seed"), np.array(found))}
            | {name: (("kappa", "quantity"), np.array(rows)) for name, rows in table.items()},
            coords={"kappa": list(DECAYS), "quantity": list(QUANTITIES)},
        )

    lab.settle(claim, measure, judge, draw)


def without_decay(decay: float) -> list[float]:
    """R, Q and eg with 2 - lr in place of 2 (1 + kappa) - lr."""
    m = 1 / (1 + decay)
    q = (2 * m + LR * (1 - 2 * m + NOISE**2)) / (2 - LR)
    return [m, q, 0.5 * (1 - 2 * m + q)]


def compared(dataset: xr.Dataset, theory: xr.DataArray) -> Equivalence:
    mean, runs = dataset.found.mean("seed"), dataset.sizes["seed"]
    error = dataset.found.std("seed", ddof=1) / runs**0.5
    return relative_difference(mean, error, theory, MARGIN)


def judge(dataset: xr.Dataset) -> Verdict:
    right, wrong = compared(dataset, dataset.theory), compared(dataset, dataset.wrong)
    worst = np.unravel_index(right.worst, right.error.shape)
    shown = dataset.isel(kappa=worst[0], quantity=worst[1])
    detail = (
        f"Furthest from its formula: {shown['quantity'].item()} at kappa = {shown.kappa.item():g}, "
        f"{100 * right.estimate[worst]:+.2f} ± {100 * right.error[worst]:.2f} %; from the wrong "
        f"ones up to {100 * np.abs(wrong.estimate).max():.0f} %."
    )
    return Verdict(
        predicted=float(shown.theory),
        measured=float(shown.found.mean()),
        error=float(right.error[worst] * shown.theory),
        control=float(shown.wrong),
        passed=right.equal,
        control_rejected=not wrong.equal,
        detail=detail,
        false_alarm=right.false_alarm(BIAS) + wrong.missed,
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    decays = np.linspace(0.0, max(DECAYS), 101)
    with plot.style():
        figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
        end = asymptotics.ridge(LR, jnp.asarray(decays), NOISE)
        for ax, name, curve in zip(axes, QUANTITIES, (end.m, end.q, end.eg), strict=True):
            row = dataset.sel(quantity=name)
            error = 2 * row.found.std("seed") / dataset.sizes["seed"] ** 0.5
            ax.plot(decays, curve, color=ODE, label="formula")
            ax.errorbar(dataset.kappa, row.found.mean("seed"), error, fmt="o", ms=4, color=SGD)
            ax.plot(dataset.kappa, row.wrong, "x", color=WRONG, label="control")
            ax.set(xlabel=r"weight decay $\kappa$", title=name)
        axes[0].legend(frameon=False)
    return figure
