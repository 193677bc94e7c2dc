"""Orders that were printed wrong: of what a theorem needs, of what an expansion leaves out."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS
from validation.measure.ensembles import chain_ensemble
from validation.measure.sharing import whole_blocks

import learndyn as ld
from learndyn import plot
from learndyn.asymptotics import (
    denoising_state,
    eg_linear,
    eg_response,
    eg_specialised,
    fixed_point,
    specialised_state,
)
from learndyn.claims import Claim, Verdict
from learndyn.testing import difference, power_law

SIZES = 256 * 2 ** np.arange(5)
"""Sizes at which the slope is that of large n within BIAS."""
LOUD, ALPHA, LR, R0 = 5.0, 1.0, 0.5, 0.3
"""Noise LOUD N^(1/4): all else adds less than 1/500 to the variance of a step."""
BAND, BIAS = 0.05, 0.005
"""Margin of the slope; orders in 1/n that the power leaves out bend the line by less than BIAS."""


def test_scatter_decides_the_rate(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="erratum-scatter",
        family="errata",
        statement="Where the mean square of a step about its mean is O(N^(-1 - 2 e2)), overlaps "
        "concentrate at the rate min(e2, 1/2): at 1/4 for e2 = 1/4",
        source="Unpublished notes on online SGD, whose section 3.2 asks any e2 > 0 for rate 1/2",
        setting=f"linear, k = m = 1, lr = {LR}, label noise {LOUD:g} N^(1/4): R still follows its "
        f"own ODE; chains to alpha = {ALPHA:g}, n = {SIZES[0]} to {SIZES[-1]}",
        rule=f"Slope of log E|R - R(alpha)| against log N: -1/4 ± {BAND} (two one-sided tests).",
        control="Printed: -1/2.",
    )

    def measure() -> xr.Dataset:
        theory = 1 - (1 - R0) * np.exp(-LR * ALPHA)
        start, rows = ld.Overlaps([[0.5]], [[R0]], [[1.0]]), []
        for n in SIZES:
            problem = ld.Problem(ld.Linear(), ld.Linear(), noise=LOUD * n**0.25)
            key, runs = lab.key(f"scatter at {n}"), lab.pick(2048, 2048, 16384)
            setting = {"n": int(n), "key": key, "runs": whole_blocks(runs)}
            setting |= {"fill_times": True, "xla": FOR_CHAINS}
            found = chain_ensemble(problem, ld.SGD(lr=LR), start, [0.0, ALPHA], **setting)
            gap = np.abs(found["R"][:, -1, 0, 0] - theory)
            rows.append((gap.mean(), gap.std(ddof=1) / len(gap) ** 0.5))
        gap, error = np.array(rows).T
        return xr.Dataset({"gap": ("n", gap), "error": ("n", error)}, coords={"n": SIZES})

    lab.settle(claim, measure, judge_scatter, draw_scatter)


def judge_scatter(dataset: xr.Dataset) -> Verdict:
    slope, error = power_law(dataset.n.values, dataset.gap.values, dataset.error.values)
    right, wrong = (difference(slope, error, expected, BAND) for expected in (-0.25, -0.5))
    return Verdict(
        predicted=-0.25,
        measured=slope,
        error=error,
        control=-0.5,
        passed=right.equal,
        control_rejected=not wrong.equal,
        detail=f"Slope {slope:.3f} ± {error:.3f}.",
        false_alarm=right.false_alarm(BIAS) + wrong.missed,
    )


def draw_scatter(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        n, gap = dataset.n, dataset.gap
        ax.errorbar(n, gap, 2 * dataset.error, fmt="o", label="measured, ± 2 errors")
        for power, style in ((0.25, "k-"), (0.5, "k:")):
            label = f"$N^{{-{power:g}}}$"
            ax.plot(n, float(gap[0]) * (n / float(n[0])) ** -power, style, lw=1, label=label)
        ax.margins(x=0.05)
        ax.set(xscale="log", yscale="log", xlabel="$n$", ylabel=r"E$|R - R(\alpha)|$")
        ax.legend(frameon=False)
    return figure


NOISES = np.array([0.1, 0.05, 0.025])
"""Small next to labels of order 1, and halved twice, as RATES are."""

RATES = np.array([0.04, 0.02, 0.01])
"""Halved twice: two halvings give the order twice, and the difference is its error."""
STRONG = np.array([0.5, 2.0, 8.0])
"""Noise that nobody would call small."""
ORDER_BAND, EXACT = 0.05, 1e-9
"""Margin of an order, whose next order is a few percent of it; what rounding and the fixed point's
tolerance may leave of an exact formula."""


def test_remainders(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="erratum-remainders",
        family="errata",
        statement="Beyond Eq. (10) remains O(noise⁴), beyond Eq. (15) O(lr² noise²), and beyond "
        "Eq. (12) nothing, at any noise",
        source="Goldt et al. 2020, Eqs. (10), (12), (15), printed with remainders O(noise³), "
        "O(noise³), O(lr noise²)",
        setting="fixed points of the ODE: erf, m = k = 2, lr = 0.2, noise 0.1, 0.05, 0.025; "
        "linear, m = 2, k = 3, lr = 0.3, noise 0.5, 2, 8; "
        "erf, m = 1, k = 2, both layers, lr = 0.04, 0.02, 0.01",
        rule=f"Orders of eg / formula - 1 in noise and in lr, by halving: 2 and 1, ± "
        f"{ORDER_BAND}; for Eq. (12) at most {EXACT:g}.",
        control="Printed: orders 1 and 0; for Eq. (12), a remainder that grows with the noise as "
        "that of Eq. (10) does.",
    )
    lab.settle(claim, measure_remainders, judge_remainders, draw_remainders)


def measure_remainders() -> xr.Dataset:
    """eg over its formula, less 1."""
    ten, twelve, fifteen = [], [], []
    for noise in NOISES:
        loud, two = ld.Problem(noise=noise), specialised_state(2)
        end = fixed_point(loud, ld.SGD(lr=0.2), two)
        ten.append(end.eg / eg_specialised(2, 0, 0.2, noise))
    for noise in STRONG:
        loud = ld.Problem(ld.Linear(), ld.Linear(), noise=noise)
        end = fixed_point(loud, ld.SGD(lr=0.3), specialised_state(2, 1))
        twelve.append(end.eg / eg_linear(0.3, noise, k=3))
    for lr in RATES:
        both = ld.SGD(lr=lr, lr_second=lr)
        response = eg_response(ld.Problem(), both, denoising_state(1, 2, 2.0))
        fifteen.append(response / (lr * 2.0**2 / (2 * 3**0.5 * 2 * np.pi)))
    rows = {"ten": ("noise", ten), "twelve": ("strong", twelve), "fifteen": ("lr", fifteen)}
    values = {name: (dim, np.array(row, float) - 1) for name, (dim, row) in rows.items()}
    return xr.Dataset(values, coords={"noise": NOISES, "strong": STRONG, "lr": RATES})


def orders(left: xr.DataArray) -> np.ndarray:
    """The order of what a formula leaves out, from each halving."""
    return np.log2(np.abs(left.values[:-1] / left.values[1:]))


def judge_remainders(dataset: xr.Dataset) -> Verdict:
    ten, fifteen = orders(dataset.ten), orders(dataset.fifteen)
    error = abs(ten[1] - ten[0])
    exact = float(np.abs(dataset.twelve).max())
    # What Eq. (12) would be off by at these noises if its remainder were that of Eq. (10).
    as_ten = np.abs(dataset.ten.values[0]) * (dataset.strong.values / dataset.noise.values[0]) ** 2
    far = bool((np.abs(dataset.twelve.values) < 0.01 * as_ten).all())
    near = lambda order, value: abs(order[-1] - value) < ORDER_BAND
    return Verdict(
        predicted=2.0,
        measured=float(ten[-1]),
        error=float(error),
        control=1.0,
        passed=bool(near(ten, 2) and near(fifteen, 1) and exact < EXACT),
        control_rejected=bool(not near(ten, 1) and not near(fifteen, 0) and far),
        detail=f"Eq. (10): order {ten[-1]:.3f} in the noise, (15): {fifteen[-1]:.3f} in lr, "
        f"(12): at most {exact:.1e} off, where a remainder as that of (10) would be "
        f"{as_ten.min():.1e} or more.",
        false_alarm=0.0,  # nothing is drawn
    )


def draw_remainders(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        for name, dim, label in (
            ("ten", "noise", "Eq. (10), against noise"),
            ("twelve", "strong", "Eq. (12), against noise"),
            ("fifteen", "lr", "Eq. (15), against lr"),
        ):
            ax.plot(dataset[dim], np.abs(dataset[name]), "o-", ms=4, label=label)
        ax.margins(x=0.05)
        ax.set(xscale="log", yscale="log", xlabel="noise or lr", ylabel="|eg / formula - 1|")
        ax.legend(frameon=False)
    return figure
