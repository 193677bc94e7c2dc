"""Whether chains and SGD on weights have one law, and a wrong chain another."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.measure.figures import ODE, SGD, WRONG

from learndyn import plot
from learndyn.claims import Verdict
from learndyn.testing import two_sample_z, z_limit, z_missed

FALSE_ALARM = 5e-5
"""How often one comparison of two equal laws is called unequal."""


def judge_laws(dataset: xr.Dataset, control: str) -> Verdict:
    """chain, weights, wrong: (run, quantity), eg last. control: what the wrong chain is of."""
    z = np.abs(two_sample_z(dataset.chain.values, dataset.weights.values))
    wrong = np.abs(two_sample_z(dataset.chain.values, dataset.wrong.values))
    limit = z_limit(len(z), FALSE_ALARM)
    last = dataset.chain.values[:, -1], dataset.weights.values[:, -1]
    means = [side.mean() for side in last]
    error = float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in last)))
    detail = (
        f"Largest |z| of {len(z)}: {z.max():.2f}, limit {limit:.2f}; against {control} "
        f"{wrong.max():.1f}. Mean eg at the end: chain {means[0]:.5g}, weights {means[1]:.5g}, "
        f"difference's error {error:.2g}."
    )
    alarm = FALSE_ALARM + z_missed(wrong, limit)
    passed, rejected = bool(z.max() < limit), bool(wrong.max() > limit)
    return Verdict(
        float(means[0]),
        float(means[1]),
        error,
        passed,
        rejected,
        detail,
        alarm,
        control=float(dataset.wrong.values[:, -1].mean()),
    )


def draw_laws(dataset: xr.Dataset, control: str) -> Figure:
    """Quantiles of z between chain and weights, and between the wrong chain and them."""
    import matplotlib.pyplot as plt
    from scipy import stats

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        for side, colour in (("weights", SGD), ("wrong", WRONG)):
            z = np.sort(two_sample_z(dataset.chain.values, dataset[side].values))
            normal = stats.norm.ppf((np.arange(len(z)) + 0.5) / len(z))
            label = {"weights": "SGD on weights", "wrong": f"{control} (control)"}[side]
            ax.plot(normal, z, ".", color=colour, label=label)
        ax.plot([-3, 3], [-3, 3], color=ODE, lw=1, label="equal laws, if independent")
        ax.set(xlabel="quantile of a normal distribution", ylabel="z between chain and SGD")
        ax.legend(frameon=False)
    return figure
