"""eg of a state, on which all claims about errors rest, against an average over fresh samples."""

import dataclasses

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import erf, ndtr
from validation.lab import Lab
from validation.measure.figures import ODE, SGD, WRONG

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import relative_difference

MARGIN, NODES = 0.015, 0.006
"""Relative; what averages over nodes may be off, above all of signs. Samples have errors of 0.15 %
and less."""

Q = np.array([[0.8, 0.2, -0.1], [0.2, 0.5, 0.1], [-0.1, 0.1, 1.2]])
R = np.array([[0.4, 0.1], [0.0, 0.3], [0.2, -0.2]])
T = np.array([[1.0, 0.2], [0.2, 0.9]])
"""A state without any symmetry, so that every term of eg counts."""
LAYERS = {"v": [1.0, -0.7, 0.5], "v_teacher": [1.2, 0.8]}
BIASES = {"b": [0.3, -0.2, 0.1], "b_teacher": [0.6, -0.4]}
"""Second layers and biases of both signs and different sizes: no two units can be exchanged."""

SMALLER = 0.8
"""The factor of R in the control."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem, its units written once more in NumPy, and whether there are biases."""

    problem: ld.Problem
    units: object
    biased: bool = False

    @property
    def layers(self) -> dict:
        return LAYERS | (BIASES if self.biased else {})


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def phi(x: np.ndarray) -> np.ndarray:
    return erf(x / 2**0.5)


CASES = {
    "erf": Case(ld.Problem(), phi),
    "relu": Case(ld.Problem(ld.ReLU(), ld.ReLU()), relu),
    "tanh, biases": Case(ld.Problem(ld.Tanh(), ld.Tanh()), np.tanh, biased=True),
    "erf, biases": Case(ld.Problem(), phi, biased=True),
    "erf, logistic loss": Case(ld.Problem(loss=ld.Logistic()), phi),
}


def test_errors_of_states(lab: Lab) -> None:
    samples = lab.pick(2_000_000, 2_000_000, 20_000_000)
    claim = Claim(
        id="error-of-a-state",
        family="levels",
        statement="eg of a state, in closed form or by nodes, is the error on fresh samples",
        source="Goldt et al. 2020, Eq. (4); for classification the probability of a wrong sign",
        setting=f"k = 3, m = 2, {', '.join(CASES)}; {samples} samples of the fields each",
        rule=f"Every ratio is 1 within {100 * MARGIN:g} % (two one-sided tests, 5 %).",
        control=f"eg of the state with R multiplied by {SMALLER}.",
    )

    def measure() -> xr.Dataset:
        rows = []
        for name, case in CASES.items():
            seed = jax.random.bits(lab.key(f"{claim.id} {name}"), 4).tolist()
            losses = sampled(case, samples, np.random.default_rng(seed))
            error = losses.std(ddof=1) / samples**0.5
            right, wrong = (
                float(ld.generalisation_error(case.problem, ld.Overlaps(Q, r, T, **case.layers)))
                for r in (R, SMALLER * R)
            )
            rows.append((losses.mean(), error, right, wrong))
        names = ("measured", "error", "predicted", "wrong")
        columns = zip(names, np.array(rows).T, strict=True)
        return xr.Dataset({n: ("case", x) for n, x in columns}, coords={"case": list(CASES)})

    lab.settle(claim, measure, judge, draw)


def sampled(case: Case, samples: int, rng: np.random.Generator) -> np.ndarray:
    """(phi - phi*)²/2, or 1 where the signs differ, on draws of the fields."""
    covariance = np.block([[Q, R], [R.T, T]])
    fields = rng.normal(size=(samples, len(covariance))) @ np.linalg.cholesky(covariance).T
    shifts = {name: np.array(case.layers.get(name, 0.0)) for name in BIASES}
    student = case.units(fields[:, :3] + shifts["b"]) @ np.array(LAYERS["v"])
    teacher = case.units(fields[:, 3:] + shifts["b_teacher"]) @ np.array(LAYERS["v_teacher"])
    if isinstance(case.problem.loss, ld.Logistic):
        return (student * teacher < 0).astype(float)
    return 0.5 * (student - teacher) ** 2


def judge(dataset: xr.Dataset) -> Verdict:
    right, wrong = (
        relative_difference(dataset.measured, dataset.error, theory, MARGIN)
        for theory in (dataset.predicted, dataset.wrong)
    )
    worst = right.worst
    return Verdict(
        predicted=float(dataset.predicted[worst]),
        measured=float(dataset.measured[worst]),
        error=float(dataset.error[worst]),
        control=float(dataset.wrong[worst]),
        passed=right.equal,
        control_rejected=bool((np.abs(wrong.estimate) > MARGIN).all()),
        detail=f"Furthest: {dataset.case.values[worst]}, {100 * right.estimate[worst]:+.2f} ± "
        f"{100 * right.error[worst]:.2f} %; the control is off by at least "
        f"{100 * np.abs(wrong.estimate).min():.1f} %.",
        false_alarm=right.false_alarm(NODES)
        + float(ndtr((MARGIN - np.abs(wrong.estimate)) / wrong.error).sum()),
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
        rows = np.arange(dataset.sizes["case"])
        ratio, error = dataset.measured / dataset.predicted, 2 * dataset.error / dataset.predicted
        ax.axhspan(1 - MARGIN, 1 + MARGIN, color="0.92", zorder=0, label="margin")
        ax.axhline(1.0, color=ODE, lw=1, label="theory")
        ax.errorbar(rows, ratio, error, fmt="o", color=SGD, label="samples, ± 2 errors")
        ax.plot(rows, dataset.wrong / dataset.predicted, "x", color=WRONG, label="control")
        ax.set_xticks(rows, dataset.case.values, fontsize=7)
        ax.set(xlim=(-0.5, len(rows) - 0.5), ylabel=r"$\epsilon_g$ over theory")
        ax.legend(frameon=False, fontsize=7)
    return figure
