"""Linear networks and ridge regression: the mean error is known exactly at every n."""

import dataclasses

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
from learndyn.testing import z_limit, z_missed

FALSE_ALARM = 1e-4
"""How likely the claim is to fail although it is true, over all its comparisons."""

LR, NOISE = 0.5, 0.3
"""At n = 3 the variance of eg is finite up to lr = 0.88."""

START = {"Q": [[0.5]], "R": [[0.2]], "T": [[1.0]]}
"""A student neither as long as its teacher nor along it, so that Q, R and T all enter eg."""

EG_START = 0.5 * (0.5 - 2 * 0.2 + 1.0)
"""eg = (Q - 2 R + T)/2 of that start."""
TS = np.array([0.0, 1.0, 2.0, 5.0])
"""In the limit eg approaches its end at the rate lr (2 - lr) = 0.75: by the last time 2 % are
left."""

SIZES = (3, 10, 100)
"""So small that means differ from the limit N -> infinity."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A rule; share: of the runs of the setting with the most."""

    batch_size: int = 1
    decay: float = 0.0
    share: int = 1

    @property
    def name(self) -> str:
        return f"ridge, kappa = {self.decay:g}" if self.decay else f"batches of {self.batch_size}"

    def rule(self) -> ld.SGD:
        return ld.SGD(LR, weight_decay=self.decay, batch_size=self.batch_size)

    def limit(self) -> np.ndarray:
        """The mean of eg as N -> infinity, at `TS`."""
        if self.decay:
            found = asymptotics.ridge_curve(TS, LR, self.decay, NOISE, m_start=0.2, q_start=0.5)
            return np.asarray(found.eg)
        options = {"k": 1, "batch_size": self.batch_size}
        return np.asarray(asymptotics.eg_linear_curve(TS, EG_START, LR, NOISE, **options))

    def exact(self, steps: np.ndarray, n: int) -> np.ndarray:
        """The mean of eg after so many steps."""
        if self.decay:
            start = {"m_start": 0.2, "q_start": 0.5}
            return np.asarray(
                asymptotics.ridge_finite_n(steps, n, LR, self.decay, NOISE, **start).eg
            )
        options = {"k": 1, "batch_size": self.batch_size}
        found = asymptotics.eg_linear_finite_n(steps, EG_START, n, LR, NOISE, **options)
        return np.asarray(found)


SETTINGS = (
    Setting(),
    Setting(batch_size=4),
    Setting(decay=0.1, share=4),
    Setting(decay=0.5, share=4),
    Setting(decay=2.0, share=4),
)


def test_exact_means(lab: Lab) -> None:
    lab.skip_in_quick()  # linear-finite-n has such a mean
    runs = whole_blocks(lab.pick(10_240, 51_200, 409_600))
    claim = Claim(
        id="exact-means",
        family="linear",
        statement="At n = 3, 10 and 100 the mean error of linear networks, with batches and with "
        "weight decay, is exactly what fourth moments of Gaussian inputs say",
        source="Goldt et al. 2020, Eqs. (2)-(3), averaged exactly; Eq. (12) is the limit",
        setting=f"linear, k = m = 1, lr = {LR}, noise {NOISE}, B = 1 and 4, kappa = 0, 0.1, 0.5, "
        f"2, alpha = {', '.join(f'{t:g}' for t in TS[1:])}, up to {runs} chains each "
        f"({runs // 4} at n = {SIZES[-1]})",
        rule="No |z| of a sample mean is beyond the limit that true means exceed with probability "
        f"{FALSE_ALARM}, over all N, settings and times.",
        control="The limit N -> infinity in place of the formula at N.",
    )

    def measure() -> xr.Dataset:
        problem, start = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE), ld.Overlaps(**START)
        rows = []
        for setting in SETTINGS:
            key = lab.key(f"{claim.id} {setting.name}")
            limit = setting.limit()
            for n in SIZES:
                # At n = 100 a run takes ten times as long, and scatters less.
                count = runs // setting.share // (4 if n == SIZES[-1] else 1)
                found = chain_ensemble(
                    problem,
                    setting.rule(),
                    start,
                    TS,
                    n=n,
                    key=key,
                    runs=whole_blocks(count),
                    fill_times=True,
                    xla=FOR_CHAINS,
                )
                eg, steps = found["eg"][:, 1:], np.round(found["alpha"] * n)
                error = eg.std(axis=0, ddof=1) / len(eg) ** 0.5
                rows.append((eg.mean(axis=0), error, setting.exact(steps, n)[1:], limit[1:]))
        shape = (len(SETTINGS), len(SIZES), len(TS) - 1)
        names = ("mean", "error", "exact", "limit")
        columns = zip(names, zip(*rows, strict=True), strict=True)
        return xr.Dataset(
            {
                name: (("setting", "n", "alpha"), np.array(values).reshape(shape))
                for name, values in columns
            },
            coords={"setting": [s.name for s in SETTINGS], "n": list(SIZES), "alpha": TS[1:]},
        )

    lab.settle(claim, measure, judge, draw)


def judge(dataset: xr.Dataset) -> Verdict:
    z = ((dataset["mean"] - dataset.exact) / dataset.error).values
    wrong = ((dataset["mean"] - dataset.limit) / dataset.error).values
    limit = z_limit(z.size, FALSE_ALARM)
    detail = (
        f"Largest |z| of {z.size} means {np.abs(z).max():.2f}, limit {limit:.2f}; against the "
        f"limit N -> infinity {np.abs(wrong).max():.0f}."
    )
    shown = dataset.isel(setting=0, n=0, alpha=-1)
    passed, rejected = bool(np.abs(z).max() < limit), bool(np.abs(wrong).max() > limit)
    return Verdict(
        predicted=float(shown.exact),
        measured=float(shown["mean"]),
        error=float(shown.error),
        control=float(shown.limit),
        passed=passed,
        control_rejected=rejected,
        detail=detail,
        false_alarm=FALSE_ALARM + z_missed(wrong, limit),
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    shorter = lambda name: name.replace("batches of", "B =").replace("ridge, kappa", "κ")
    names = [shorter(str(name)) for name in dataset.setting.values]
    alphas = ", ".join(f"{alpha:g}" for alpha in dataset.alpha.values)
    with plot.style():
        figure, axes = plt.subplots(1, len(SIZES), figsize=(10, 3.4), layout="constrained")
        for ax, n in zip(axes, SIZES, strict=True):
            row = dataset.sel(n=n)
            groups, times = row["mean"].shape
            # A gap after the times of each setting.
            x = np.add.outer(np.arange(groups) * (times + 1), np.arange(times)).ravel()
            ratio = (row["mean"] / row.exact).values.ravel()
            error = 2 * (row.error / row.exact).values.ravel()
            ax.axhline(1.0, color=ODE, label="exact mean")
            ax.errorbar(x, ratio, error, fmt="o", ms=3, color=SGD, label="chains, ± 2 errors")
            ax.plot(x, (row.limit / row.exact).values.ravel(), "x", color=WRONG, label="n → ∞")
            ax.set_xticks(x.reshape(groups, times).mean(axis=1), names)
            ax.tick_params(axis="x", length=0, labelsize=8)
            ax.margins(x=0.04)
            ax.set(title=f"n = {n}", xlabel=rf"setting, each at $\alpha$ = {alphas}")
        axes[0].set_ylabel(r"mean $\epsilon_g$ / exact")
        axes[0].legend(frameon=False)
    return figure
