"""Claims without noise: how far a theory and its control are from what was measured, case by case.

Nothing is random there but the choice of the cases, so a margin is a bound on numerical errors and
on what an asymptotic theory leaves out, and no true claim fails by chance.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.measure.figures import SGD, WRONG

from learndyn import plot
from learndyn.claims import Verdict


def gaps(cases: Sequence[str], theory: np.ndarray, control: np.ndarray) -> xr.Dataset:
    """theory, control: (cases,) distances from what was measured, in the unit of the margin."""
    return xr.Dataset(
        {
            "theory": ("case", np.asarray(theory, float)),
            "control": ("case", np.asarray(control, float)),
        },
        coords={"case": list(cases)},
    )


def judge_gaps(margin: float, said: str) -> Callable[[xr.Dataset], Verdict]:
    """All of the theory's gaps are below the margin, and not all of the control's are.

    said: what differs, for the verdict's sentence.
    """

    def judge(dataset: xr.Dataset) -> Verdict:
        # NaN counts as a gap beyond every margin.
        theory, control = (dataset[name].fillna(np.inf).values for name in ("theory", "control"))
        worst = str(dataset.case.values[theory.argmax()])
        return Verdict(
            predicted=0.0,
            measured=float(theory.max()),
            error=0.0,
            control=float(control.max()),
            margin=margin,
            passed=bool((theory < margin).all()),
            control_rejected=not (control < margin).all(),
            detail=f"{said}: at most {theory.max():.2g} ({worst}), margin {margin:g}; by the "
            f"control up to {control.max():.2g}, beyond the margin in "
            f"{(control >= margin).sum()} of {len(control)} cases.",
            false_alarm=0.0,
        )

    return judge


SMALLEST = 1e-18
"""Gaps below this are drawn there: zero has no logarithm, and rounding leaves 1e-17."""


def draw_gaps(margin: float, label: str) -> Callable[[xr.Dataset], Figure]:
    """Both gaps of every case on a logarithmic axis, with the margin between them."""

    def draw(dataset: xr.Dataset) -> Figure:
        import matplotlib.pyplot as plt

        places = np.arange(dataset.sizes["case"])
        with plot.style():
            width = max(5.5, 0.16 * len(places))
            figure, ax = plt.subplots(figsize=(width, 3.8), layout="constrained")
            for name, colour, marker in (("theory", SGD, "o"), ("control", WRONG, "x")):
                heights = np.maximum(dataset[name].values, SMALLEST)
                ax.plot(places, heights, marker, color=colour, ms=4, label=name)
            ax.axhline(margin, color="0.5", ls=":", label="margin")
            ax.set(yscale="log", ylabel=label)
            ax.margins(x=0.04)
            ax.set_xticks(places, dataset.case.values, rotation=90, fontsize=6)
            ax.legend(frameon=False)
        return figure

    return draw


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's random numbers from a claim's key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
