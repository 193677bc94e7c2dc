"""Where learning with noisy labels ends: closed forms against chains, and the best schedule."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_SGD, Runs, wide
from validation.measure.ensembles import chain_ensemble
from validation.measure.learning_curves import sgd_run
from validation.measure.sharing import whole_blocks

import learndyn as ld
from learndyn import asymptotics, plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import difference, relative_difference

NOISE, MARGIN, BIAS = 0.02, 0.03, 0.013
"""The formulas are exact as noise -> 0 and n -> infinity; at this noise and n what they leave
out is below 0.1 % and 1.2 %. Standard errors are 0.2 %, so a true claim has eight of room."""

TS = np.array([0.0, *np.arange(120.0, 181.0, 10.0)])
"""The ODE is, from alpha = 120 on, within 0.3 % of its end in every setting."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A state and rule whose final eg / noise**2 has a closed form; wrong: the control's."""

    words: str
    source: str
    student: ld.Erf | ld.ReLU
    rule: Callable[[], ld.SGD]
    state: Callable[[], ld.Overlaps]
    formula: Callable[[], jax.Array]
    wrong: Callable[[], jax.Array]
    control: str


SETTINGS = {
    "specialised": Setting(
        "erf, m = 2, L = 3, lr = 0.4, first layer",
        "Goldt et al. 2020, Eq. (10), as a rational function of M, L, lr",
        ld.Erf(),
        lambda: ld.SGD(lr=0.4),
        lambda: asymptotics.specialised_state(2, 3),
        lambda: asymptotics.eg_specialised(2, 3, 0.4),
        lambda: asymptotics.eg_specialised_small_lr(2, 3, 0.4),
        "Its first order in lr, Eq. (11).",
    ),
    "denoising": Setting(
        "erf, m = 2, Z = 2, v* = 2, lr = 0.2, both layers",
        "Goldt et al. 2020, Fig. 3c and Eq. (15), exact in lr",
        ld.Erf(),
        lambda: ld.SGD(lr=0.2, lr_second=0.2),
        lambda: asymptotics.denoising_state(2, 2, 2.0),
        lambda: asymptotics.eg_denoising(2, 2, 2.0, 0.2),
        lambda: asymptotics.eg_specialised(2, 2, 0.2),
        "A student that wastes its surplus units: L = 2 of them with v = 1, first layer alone.",
    ),
    "relu": Setting(
        "ReLU, k = m = 2, lr = 0.5, first layer",
        "the fixed point of the exact ReLU ODE; Goldt et al. 2020 measured it",
        ld.ReLU(),
        lambda: ld.SGD(lr=0.5),
        lambda: asymptotics.specialised_state(2),
        lambda: asymptotics.eg_relu(2, 0.5),
        lambda: asymptotics.eg_zero_error_small_lr(
            ld.Problem(ld.ReLU(), ld.ReLU(), noise=1.0),
            ld.SGD(lr=0.5),
            asymptotics.specialised_state(2),
        ),
        "Its first order in lr.",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_final_error(lab: Lab, name: str) -> None:
    lab.skip_in_quick(name != "specialised")
    setting = SETTINGS[name]
    n, runs = lab.pick(200, 400, 1000), lab.pick(256, 256, 1024)
    claim = Claim(
        id=f"asymptotic-error-{name}",
        family="asymptotics",
        statement=f"Label noise leaves the error that the closed form says ({name})",
        source=setting.source,
        setting=f"{setting.words}; noise {NOISE}, n = {n}, chains from the noiseless state, "
        f"averaged over alpha = {TS[1]:g} to {TS[-1]:g}",
        rule=f"Measured over predicted eg is within {MARGIN:.0%} of 1 (two one-sided tests, 5 %).",
        control=setting.control,
    )

    def measure() -> xr.Dataset:
        problem = ld.Problem(setting.student, setting.student, noise=NOISE)
        rule, state, key = setting.rule(), setting.state(), lab.key(claim.id)
        found = chain_ensemble(
            problem,
            rule,
            state,
            TS,
            n=n,
            key=key,
            runs=whole_blocks(runs),
            fill_times=True,
            xla=FOR_CHAINS,
        )
        return xr.Dataset(
            {
                "eg": (("seed", "alpha"), found["eg"]),
                "theory": NOISE**2 * float(setting.formula()),
                "wrong": NOISE**2 * float(setting.wrong()),
            },
            coords={"alpha": found["alpha"]},
        )

    lab.settle(claim, measure, judge_error, draw_error)


def judge_error(dataset: xr.Dataset) -> Verdict:
    late = dataset.eg.values[:, 1:].mean(axis=1)
    mean, error = late.mean(), late.std(ddof=1) / len(late) ** 0.5
    theory, wrong = float(dataset.theory), float(dataset.wrong)
    found, control = (relative_difference(mean, error, x, MARGIN) for x in (theory, wrong))
    detail = (
        f"Measured / predicted = {mean / theory:.4f} ± {error / theory:.4f} over {len(late)} runs; "
        f"against the wrong theory {mean / wrong:.3f}."
    )
    return Verdict(
        predicted=theory,
        measured=float(mean),
        error=float(error),
        control=wrong,
        passed=found.equal,
        control_rejected=not control.equal,
        detail=detail,
        false_alarm=found.false_alarm(BIAS) + control.missed,
    )


def draw_error(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        late = dataset.isel(alpha=slice(1, None))
        error = 2 * late.eg.std("seed") / late.sizes["seed"] ** 0.5
        ax.errorbar(late.alpha, late.eg.mean("seed"), error, fmt="o", ms=4, label="chains")
        ax.axhline(float(dataset.theory), color="k", label="closed form")
        ax.axhline(float(dataset.wrong), color="#D55E00", ls="--", label="wrong (control)")
        ax.set(xlabel=r"$\alpha$ = steps / $n$", ylabel=r"mean $\epsilon_g$")
        ax.legend(frameon=False)
    return figure


N, HORIZON, GAIN_MARGIN, GAIN_BIAS = 784, 30.0, 0.15, 0.02
"""The bias is that of the ODE at finite n, a few percent of 1/sqrt(n)."""
START = ([[0.3, 0.05], [0.05, 0.25]], [[0.32, 0.03], [0.02, 0.3]])
"""Each student unit leans towards one teacher unit, so that no plateau takes up the horizon."""


def test_optimal_schedule(lab: Lab) -> None:
    lab.only_in_full()  # a minute of compiling; algorithm-schedule is in every standard run
    claim = Claim(
        id="optimal-schedule",
        family="asymptotics",
        statement="The schedule found through the ODE beats the best constant rate in SGD, by as "
        "much as the ODE says",
        source="Saad & Rattray 1997; gradients through the ODE of Goldt et al. 2020, Eq. (9)",
        setting=f"erf, k = m = 2, noise 0.3, n = {N}, eg at alpha = {HORIZON:g}, SGD on weights",
        rule="log(eg of the constant rate / eg of the schedule), of ensemble means, is more than "
        f"five standard errors above 0 and within {GAIN_MARGIN} of the ODE's (two one-sided "
        "tests, 5 %).",
        control="A schedule gains nothing: ratio 1.",
    )

    def measure() -> xr.Dataset:
        problem = ld.Problem(noise=0.3)
        start = ld.Overlaps(*START, jnp.eye(2))
        best = asymptotics.optimal_schedule(problem, ld.SGD(lr=0.1), start, HORIZON, steps=100)
        ts, runs = jnp.array([0.0, HORIZON]), wide(400, 1024)
        knots, rate = best.schedule.alpha, best.constant.schedule(0.0)
        constant = asymptotics.PiecewiseRate(knots, jnp.full_like(knots, rate))  # one program
        schedules = {"schedule": best.schedule, "constant": constant}
        runs_with = Runs(
            lambda key, lr: sgd_run(problem, ld.SGD(lr=lr), start, ts, N, key).eg[-1], FOR_SGD
        )
        finals = {}
        for name, lr in schedules.items():
            keys = jax.random.split(lab.key(f"{claim.id} {name}"), runs)
            finals[name] = ("seed", runs_with(keys, lr))
        grid = np.linspace(0.0, HORIZON, 121)
        return xr.Dataset(
            finals
            | {"log_gain": float(jnp.log(best.gain))}
            | {
                f"lr_{name}": ("alpha", [float(lr(t)) for t in grid])
                for name, lr in schedules.items()
            },
            coords={"alpha": grid},
        )

    lab.settle(claim, measure, judge_gain, draw_gain)


def judge_gain(dataset: xr.Dataset) -> Verdict:
    logs, squares = [], []
    for name in ("constant", "schedule"):
        eg = dataset[name].values
        logs.append(np.log(eg.mean()))
        squares.append(eg.var(ddof=1) / len(eg) / eg.mean() ** 2)
    gain, error, theory = logs[0] - logs[1], sum(squares) ** 0.5, float(dataset.log_gain)
    right, wrong = (difference(gain, error, x, GAIN_MARGIN) for x in (theory, 0.0))
    detail = (
        f"eg of the best constant rate over that of the schedule: {np.exp(gain):.3f} ± "
        f"{np.exp(gain) * error:.3f} in SGD, {np.exp(theory):.3f} in the ODE."
    )
    return Verdict(
        predicted=theory,
        measured=float(gain),
        error=float(error),
        control=0.0,
        passed=right.equal and bool(gain > 5 * error),
        control_rejected=not wrong.equal,
        detail=detail,
        false_alarm=right.false_alarm(GAIN_BIAS) + wrong.missed,
    )


def draw_gain(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for number, name in enumerate(("constant", "schedule")):
            left.plot(dataset.alpha, dataset[f"lr_{name}"], label=name)
            right.plot(np.full(dataset.sizes["seed"], number), dataset[name], "o", ms=3, alpha=0.5)
        left.set(xlabel=r"$\alpha$ = steps / $n$", ylabel=r"$\eta(\alpha)$")
        left.legend(frameon=False)
        right.set(xlim=(-0.5, 1.5), ylabel=rf"$\epsilon_g$ of SGD at $\alpha$ = {HORIZON:g}")
        right.set_xticks([0, 1], ["constant", "schedule"])
    return figure
