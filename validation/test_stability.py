"""The learning rate at which a fixed point stops attracting, measured in chains."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS
from validation.measure.ensembles import chain_ensemble
from validation.measure.sharing import whole_blocks

import learndyn as ld
from learndyn import asymptotics, plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import difference

N, PERTURBATION, MARGIN, BIAS = 1000, 1e-3, 0.01, 0.004
"""At n = 1000 the rate at which a run stops settling is off by O(1/n), about 0.3 %."""

RATIOS = np.array([0.97, 1.0, 1.03])
"""Learning rates over the critical one: a parabola through the growth at three finds its zero."""

TS = np.array([0.0, 4.0, 12.0])
"""Decay or growth is measured between the last two: after the fast modes, before saturation."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A specialised state (m, l); wrong: the control's (m, l)."""

    activation: ld.Erf | ld.Linear
    m: int
    l: int
    wrong: tuple[int, int]
    control: str

    def problem(self) -> ld.Problem:
        return ld.Problem(self.activation, self.activation)

    def critical(self) -> float:
        return self._critical(self.m, self.l)

    def wrong_critical(self) -> float:
        return self._critical(*self.wrong)

    def _critical(self, m: int, l: int) -> float:
        state = asymptotics.specialised_state(m, l)
        return float(asymptotics.critical_lr(self.problem(), ld.SGD(lr=0.1), state))


SETTINGS = {
    "erf": Setting(ld.Erf(), 2, 0, (2, 1), "The rate with a superfluous unit, (M, L) = (2, 1)."),
    "superfluous": Setting(ld.Erf(), 2, 1, (2, 0), "The rate without the superfluous unit."),
    "linear": Setting(ld.Linear(), 2, 2, (2, 0), "2/M in place of 2/(M + L)."),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_critical_rate(lab: Lab, name: str) -> None:
    lab.skip_in_quick()
    setting = SETTINGS[name]
    claim = Claim(
        id=f"critical-lr-{name}",
        family="asymptotics",
        statement=f"Chains stop settling at a specialised state at its critical rate ({name})",
        source="Saad & Solla 1995, section V; linear: Goldt et al. 2020, the pole of Eq. (12)",
        setting=f"{name}, m = {setting.m}, L = {setting.l}, no noise, n = {N}; weights off by "
        f"|dw|^2/n = {PERTURBATION}, lr = {RATIOS[0]} to {RATIOS[-1]} of the critical rate",
        rule="The rate at which the mean growth of log eg vanishes (a parabola through it) is "
        f"within {MARGIN:.0%} of the critical one (two one-sided tests, 5 %).",
        control=setting.control,
    )

    def measure() -> xr.Dataset:
        problem, critical = setting.problem(), setting.critical()
        state = asymptotics.specialised_state(setting.m, setting.l)
        moved = ld.Overlaps(state.Q + PERTURBATION * jnp.eye(state.k), state.R, state.T)
        growth = []
        for ratio in RATIOS:
            rule = ld.SGD(lr=float(ratio * critical))
            key, runs = lab.key(f"{claim.id} {ratio}"), lab.pick(256, 512, 8192)
            found = chain_ensemble(
                problem,
                rule,
                moved,
                TS,
                n=N,
                key=key,
                runs=whole_blocks(runs),
                fill_times=True,
                xla=FOR_CHAINS,
            )
            growth.append(np.log(found["eg"][:, 2] / found["eg"][:, 1]) / (TS[2] - TS[1]))
        return xr.Dataset(
            {
                "growth": (("lr", "seed"), np.array(growth)),
                "wrong": setting.wrong_critical(),
                "critical": critical,
            },
            coords={"lr": RATIOS * critical},
        )

    lab.settle(claim, measure, judge, draw)


def crossing(dataset: xr.Dataset) -> tuple[float, float]:
    """Where the growth vanishes, and the standard error, in units of the critical rate."""
    ratios, runs = dataset.lr.values / float(dataset.critical), dataset.sizes["seed"]
    mean = dataset.growth.mean("seed").values
    error = dataset.growth.std("seed", ddof=1).values / runs**0.5
    # lr as a function of growth: its value at 0 is linear in the coefficients.
    powers = np.vander(mean, 3)
    at_zero = np.linalg.pinv(powers)[2]
    slope = np.polyfit(mean, ratios, 1)[0]
    return float(at_zero @ ratios), float(np.linalg.norm(at_zero * slope * error))


def judge(dataset: xr.Dataset) -> Verdict:
    found, error = crossing(dataset)
    critical = float(dataset.critical)
    wrong = float(dataset.wrong) / critical
    right, control = (difference(found, error, expected, MARGIN) for expected in (1.0, wrong))
    inside = bool(RATIOS[0] < found < RATIOS[-1])
    detail = (
        f"Growth vanishes at {found:.4f} ± {error:.4f} of the critical rate {critical:.6f}; the "
        f"wrong one is {wrong:.3f} of it; {dataset.sizes['seed']} runs at each of {len(RATIOS)} "
        "rates."
    )
    return Verdict(
        predicted=critical,
        measured=found * critical,
        error=error * critical,
        control=float(dataset.wrong),
        passed=inside and right.equal,
        control_rejected=not control.equal,
        detail=detail,
        false_alarm=right.false_alarm(BIAS) + control.missed,
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        error = 2 * dataset.growth.std("seed") / dataset.sizes["seed"] ** 0.5
        ax.errorbar(
            dataset.lr,
            dataset.growth.mean("seed"),
            error,
            fmt="o",
            label="chains, mean ± 2 standard errors",
        )
        ax.axhline(0.0, color="0.7", lw=1)
        critical = float(dataset.critical)
        room = critical * MARGIN
        ax.axvspan(
            critical - room, critical + room, color="0.9", zorder=0, label=f"within {MARGIN:.0%}"
        )
        ax.axvline(critical, color="k", label="critical rate")
        ax.axvline(float(dataset.wrong), color="#D55E00", ls="--", label="wrong rate (control)")
        ax.margins(x=0.1, y=0.1)
        ax.set(xlabel=r"$\eta$", ylabel=r"growth of $\log \epsilon_g$ per unit $\alpha$")
        ax.legend(frameon=False)
    return figure
