"""Equations that were printed wrong: a simulation rejects them, and accepts the corrected ones.

Other errata have their claims elsewhere. Constant momentum adds no order parameters ("algorithms";
the printed text has no equation that could be rejected). The concentration theorem also holds where
its assumptions do not ("concentration"). Eq. (13) is not the limit of Eq. (10) ("asymptotics").
Orders of remainders are in `test_errata_orders.py`.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import norm
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES
from validation.measure import single_steps
from validation.measure.ensembles import chain_ensemble
from validation.measure.sharing import whole_blocks
from validation.measure.single_steps import (
    BIASES,
    ENTRIES,
    LR,
    NOISE,
    N,
    Step,
    measured_step,
)

import learndyn as ld
from learndyn import plot
from learndyn.asymptotics import ridge
from learndyn.claims import Claim, Verdict
from learndyn.testing import z_limit, z_missed

FALSE_ALARM, SHIFT = 1e-4, 0.3
"""How likely each claim is to fail, over all its entries, where the mean is exactly the corrected
one; by how many standard errors the mean at finite n differs from that at most."""

drift = functools.partial(single_steps.drift, xla=FOR_ODES)
"""The library's drift of one step."""


@dataclasses.dataclass(frozen=True)
class Erratum:
    """What is right and what was printed, and how to measure it.

    measure: (key, size) -> entries, mean, error, corrected, printed; size: 1 in `quick`.
    """

    statement: str
    source: str
    setting: str
    printed: str
    measure: Callable[[jax.Array, int], tuple]


def one_step(step: Step, printed: Callable[[], np.ndarray]) -> Callable[[jax.Array, int], tuple]:
    def measure(key: jax.Array, size: int) -> tuple:
        mean, error = measured_step(step, key, 50_000 * size)
        return ENTRIES, mean, error, drift(step), printed()

    return measure


def opposite_sign() -> np.ndarray:
    """The drift where the terms linear in the error change sign, and the lr^2 term does not."""
    quadratic = drift(Step()) - drift(Step(batch_size=10**9))
    return 2 * quadratic - drift(Step())


def error_in_one_term() -> np.ndarray:
    """The drift with the error in one of the two terms of Q that are linear in lr.

    Without the error <a_k g'(lambda_k) lambda_i> is 0 for an odd g, and <c_i lambda_k> is left.
    Q_12 is the mean of both orders, since the printed matrix is not symmetric.
    """
    quadratic = drift(Step()) - drift(Step(batch_size=10**9))
    linear = drift(Step()) - quadratic
    return quadratic + np.where([name[0] == "Q" for name in ENTRIES], 0.5, 1.0) * linear


def fields_with_biases() -> np.ndarray:
    """The drift with <c_i (rho_n + b*_n)> in place of <c_i rho_n>, and likewise for Q."""
    c = single_steps.mean_slopes(xla=FOR_ODES)
    dq = np.outer(c, BIASES["b"])
    dq, dr = (dq + dq.T)[np.triu_indices(2)], np.outer(c, BIASES["b_teacher"])
    return drift(Step(biased=True)) - LR * np.concatenate([dq, dr.ravel()])


LARGE_N = 4000
"""At this N the exact means are within 0.1 standard errors of 512 runs of their limits."""
RIDGE = {"lr": 0.8, "weight_decay": 0.5, "noise": 0.1**0.5}
"""A rate below every critical one, and a decay that separates the two formulas."""


def measure_ridge(key: jax.Array, size: int) -> tuple:
    """Q and eg at the end of training, at n so large that 1/n is below the error."""
    problem = ld.Problem(ld.Linear(), ld.Linear(), noise=RIDGE["noise"])
    rule = ld.SGD(lr=RIDGE["lr"], weight_decay=RIDGE["weight_decay"])
    start = ld.Overlaps([[0.5]], [[0.6]], [[1.0]])
    found = chain_ensemble(
        problem,
        rule,
        start,
        [0.0, 20.0],
        n=LARGE_N,
        key=key,
        runs=whole_blocks(256 * size),
        fill_times=True,
        xla=FOR_CHAINS,
    )
    samples = np.stack([found["Q"][:, -1, 0, 0], found["eg"][:, -1]], axis=1)
    error = samples.std(axis=0, ddof=1) / len(samples) ** 0.5
    right = ridge(**RIDGE)
    lr, decay, noise2 = RIDGE["lr"], RIDGE["weight_decay"], RIDGE["noise"] ** 2
    gap = 2 * (1 + decay) - lr * (1 + decay) ** 2
    q = 1 / (1 + decay) + lr * noise2 / gap
    eg = decay**2 / (2 * (1 + decay) ** 2) + lr * noise2 / (2 * gap)
    corrected = np.array([float(right.q), float(right.eg)])
    return ("Q", "eg"), samples.mean(axis=0), error, corrected, np.array([q, eg])


FAR, AFTER, RATES = 1e6, 1.0, (1.0, 2.7, 3.3)
"""Q so large that nothing else drives it; a time; rates on both sides of the critical one, 3."""


def measure_critical_rate(key: jax.Array, size: int) -> tuple:
    """log(mean Q / Q at the start) per unit alpha: its sign decides about stability."""
    problem, start = ld.Problem(ld.Linear(), ld.Linear()), ld.Overlaps([[FAR]], [[0.0]], [[1.0]])
    rows, n, decay = [], LARGE_N, RIDGE["weight_decay"]
    for lr, one in zip(RATES, jax.random.split(key, len(RATES)), strict=True):
        rule, ts = ld.SGD(lr=lr, weight_decay=decay), [0.0, AFTER]
        found = chain_ensemble(
            problem,
            rule,
            start,
            ts,
            n=n,
            key=one,
            runs=whole_blocks(256 * size),
            fill_times=True,
            xla=FOR_CHAINS,
        )
        q = found["Q"][:, -1, 0, 0] / FAR
        kept = 1 - lr * decay / n
        step = kept**2 - 2 * kept * lr / n + lr**2 * (n + 2) / n**2  # of the mean, exactly
        printed = -lr * (2 * (1 + decay) - lr * (1 + decay) ** 2)
        error = q.std(ddof=1) / q.mean() / len(q) ** 0.5
        rows.append((np.log(q.mean()), error, n * AFTER * np.log(step), printed * AFTER))
    return tuple(f"lr = {lr:g}" for lr in RATES), *np.array(rows).T


def measure_relu(key: jax.Array, size: int) -> tuple:
    """E relu(x) relu(y) at three random covariances."""
    rows = []
    for one in jax.random.split(key, 3):
        root_key, sample_key = jax.random.split(one)
        root = jax.random.normal(root_key, (2, 2))
        fields = jax.random.normal(sample_key, (1_000_000 * size, 2)) @ root.T
        product = np.asarray(jnp.prod(jnp.maximum(fields, 0.0), axis=1))
        (a, c), (_, b) = np.asarray(root @ root.T)
        side, angle = np.sqrt(a * b - c**2), np.arcsin(c / np.sqrt(a * b))
        state = ld.Overlaps([[a]], [[c]], [[b]])
        eg = float(ld.generalisation_error(ld.Problem(ld.ReLU(), ld.ReLU()), state))
        right = (a + b) / 4 - eg  # eg = (<relu x relu x> - 2 <relu x relu y> + ...)/2
        error = product.std(ddof=1) / len(product) ** 0.5
        rows.append((product.mean(), error, right, (side + c * angle) / (2 * np.pi)))
    return ("first", "second", "third"), *np.array(rows).T


NOTE = "Unpublished notes on online SGD, whose section {} prints it otherwise"
STEP = f"one step of SGD on weights, erf, n = {N}, k = m = 2, lr = {LR:g}, noise {NOISE}"
STEADY = f"linear, k = m = 1, n = {LARGE_N}, kappa = 0.5, chains at alpha = 20"
ERRATA = {
    "ridge": Erratum(
        "Linear regression with decay ends at q* = [2m* + lr (rho - 2m* + s²)]/[2(1+k) - lr]",
        NOTE.format("6.5"),
        f"{STEADY}, lr = 0.8",
        "q* = m* + lr s²/[2(1+k) - lr (1+k)²], and eg* alike.",
        measure_ridge,
    ),
    "ridge-stability": Erratum(
        "Linear regression with decay is stable up to lr = 2 (1 + kappa): large q grows at the "
        "rate -lr [2 (1 + kappa) - lr]",
        NOTE.format("9.3"),
        f"linear, k = m = 1, n = {LARGE_N}, kappa = 0.5, "
        f"lr = {', '.join(f'{x:g}' for x in RATES)}, "
        f"chains from Q = {FAR:.0e}, to alpha = {AFTER:g}",
        "-lr [2 (1 + kappa) - lr (1 + kappa)²], stable up to 2/(1 + kappa), here 4/3.",
        measure_critical_rate,
    ),
    "relu-kernel": Erratum(
        "E relu(x) relu(y) = [√(ab - c²) + c (π/2 + arcsin(c/√(ab)))]/2π",
        NOTE.format("7.2"),
        "three random covariances [[a, c], [c, b]]",
        "The same without π/2.",
        measure_relu,
    ),
    "centred-fields": Erratum(
        "With biases the equations hold for the fields without their biases",
        NOTE.format("5.7"),
        f"{STEP}, with biases",
        "Averages over c (rho + b*) and c (lambda + b).",
        one_step(Step(biased=True), fields_with_biases),
    ),
    "error-in-both-terms": Erratum(
        "Both terms of dQ_ik/dalpha that are linear in lr contain the error",
        NOTE.format("5.7"),
        STEP,
        "The error in one of the two only.",
        one_step(Step(), error_in_one_term),
    ),
    "decay-per-step": Erratum(
        "The limit needs a decay of lr kappa/N in each step",
        NOTE.format("5.5"),
        f"{STEP}, kappa = 0.2",
        "A decay of lr kappa in each step: the drift N times as large.",
        one_step(Step(decay=0.2), lambda: drift(Step(decay=0.2 * N))),
    ),
    "sign": Erratum(
        "With error = student - teacher the linear terms of the ODE carry a minus sign",
        "Goldt et al. 2020, Eq. (9) with the definition under Eq. (3)",
        STEP,
        "The plus sign of Eq. (9) with that definition.",
        one_step(Step(), opposite_sign),
    ),
    "noise-once": Erratum(
        "Label noise enters dQ/dalpha once",
        "Goldt et al. 2020, Eq. (9b)",
        STEP,
        "Twice: in the error, and added.",
        one_step(Step(), lambda: drift(Step(), noise=2**0.5 * NOISE)),
    ),
    "batches": Erratum(
        "Batches multiply the lr² term by 1/B, in the limit n → ∞ too",
        "A web page on analytical learning dynamics",
        f"{STEP}, batches of 4",
        "Batches do not change the dynamics, but for its fluctuations.",
        one_step(Step(batch_size=4), lambda: drift(Step())),
    ),
    "sum-not-mean": Erratum(
        "A committee is the sum of its units",
        "A web page on analytical learning dynamics",
        STEP,
        "Their mean: v = v* = 1/2.",
        one_step(Step(), lambda: drift(Step(), unit=0.5)),
    ),
    "fixed-rate": Erratum(
        "n → ∞ at fixed lr keeps the lr² term",
        "A web page on analytical learning dynamics",
        STEP,
        "n → ∞ is the limit of small learning rates: no lr² term.",
        one_step(Step(), lambda: drift(Step(batch_size=10**9))),
    ),
}
IN_QUICK = ("ridge", "relu-kernel", "sign", "noise-once")


@pytest.mark.parametrize("name", ERRATA)
def test_erratum(lab: Lab, name: str) -> None:
    lab.skip_in_quick(name not in IN_QUICK)
    erratum = ERRATA[name]
    claim = Claim(
        id=f"erratum-{name}",
        family="errata",
        statement=erratum.statement,
        source=erratum.source,
        setting=erratum.setting,
        rule="Every |z| of the measured mean against the corrected equation is below the limit "
        f"that a true one exceeds with probability {FALSE_ALARM}.",
        control=f"Printed: {erratum.printed}",
    )

    def measure() -> xr.Dataset:
        size = lab.pick(1, 2, 4)
        entries, mean, error, corrected, printed = erratum.measure(lab.key(claim.id), size)
        rows = {"mean": mean, "error": error, "corrected": corrected, "printed": printed}
        variables = {name: ("entry", row) for name, row in rows.items()}
        return xr.Dataset(variables, coords={"entry": list(entries)})

    lab.settle(claim, measure, judge, draw)


def judge(dataset: xr.Dataset) -> Verdict:
    right = ((dataset["mean"] - dataset.corrected) / dataset.error).values
    wrong = ((dataset["mean"] - dataset.printed) / dataset.error).values
    allowed, worst = z_limit(len(right), FALSE_ALARM), int(np.abs(wrong).argmax())
    detail = (
        f"Largest |z| of the corrected equation {np.abs(right).max():.2f} (limit {allowed:.2f}, "
        f"{len(right)} entries), of the printed one {np.abs(wrong).max():.1f}."
    )
    return Verdict(
        predicted=float(dataset.corrected[worst]),
        measured=float(dataset["mean"][worst]),
        error=float(dataset.error[worst]),
        control=float(dataset.printed[worst]),
        passed=bool((np.abs(right) < allowed).all()),
        control_rejected=bool((np.abs(wrong) > allowed).any()),
        detail=detail,
        false_alarm=len(right) * float(norm.sf(allowed - SHIFT) + norm.sf(allowed + SHIFT))
        + z_missed(wrong, allowed),
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        rows = np.arange(dataset.sizes["entry"])
        scale = 1 / dataset.error
        shifted = lambda name: (dataset[name] - dataset.corrected) * scale
        ax.errorbar(rows, shifted("mean"), np.full(len(rows), 2.0), fmt="o", label="measured, ± 2")
        ax.axhline(0.0, color="k", label="corrected")
        finite = np.isfinite(dataset.printed.values)
        if finite.any():
            printed = np.where(finite, shifted("printed"), np.nan)
            ax.plot(rows, printed, "x", color="#D55E00", label="printed")
        if not finite.all():
            top = {"transform": ax.get_xaxis_transform(), "clip_on": False}
            ones = np.ones(np.sum(~finite))
            ax.plot(rows[~finite], ones, "^", color="#D55E00", label="printed: infinite", **top)
        ax.margins(x=0.06)
        ax.set_yscale("symlog", linthresh=5)
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, -12), max(high, 12))  # below 10 there are no ticks
        ax.set_xticks(rows, dataset.entry.values)
        ax.set(xlabel="quantity", ylabel="from the corrected value, in standard errors")
        ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=8)
    return figure
