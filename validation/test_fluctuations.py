"""The Gaussian fluctuations about the ODE: their whole covariance, not only their size."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS
from validation.measure.ensembles import chain_ensemble, distances
from validation.measure.figures import ODE, SGD, WRONG
from validation.measure.sharing import whole_blocks
from validation.measure.theory import fluctuations

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import Equivalence, relative_difference

LR, NOISE, RUNS = 0.2, 0.1, 4096
"""Rate and noise of the atlas's entry on Theorem 1, as in `test_concentration.py`."""
T = np.array([0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0])
"""Closest together in the beginning, where the overlaps move fastest."""

ENTRY, SIZE, CONSTANT = 0.2, 0.08, 0.05
"""Margins of one entry of the whitened covariance, of its mean trace, and of C(T), relative.

With 4096 runs their errors are at most 0.022, 0.009 and 0.007: of some 500 entries in a claim
each has 6 errors of room beyond the tests' own, of the others the tightest 4.5.
"""


def bias(n: np.ndarray) -> np.ndarray:
    """What corrections of order 1/n do to these, at most."""
    return 4.0 / n


SMALL = {"Q": [[0.3, 0.05], [0.05, 0.25]], "R": [[0.12, 0.03], [0.02, 0.1]]}
LARGE = {"Q": [[1.0, 0.1], [0.1, 0.8]], "R": [[0.12, 0.02], [-0.03, 0.07]]}
"""Starts without any symmetry, shorter than the teacher and of its length."""

CASES = {
    "large-start": (LARGE, None),
    "small-start": (SMALL, None),
    "both-layers": (SMALL, LR),
}


def setting(case: str) -> tuple[ld.Problem, ld.SGD, ld.Overlaps]:
    overlaps, lr_second = CASES[case]
    v = None if lr_second is None else [0.8, 0.6]
    start = ld.Overlaps(**overlaps, T=jnp.eye(2), v=v)
    return ld.Problem(noise=NOISE), ld.SGD(lr=LR, lr_second=lr_second), start


@pytest.mark.parametrize("case", CASES)
def test_covariance(lab: Lab, case: str) -> None:
    lab.skip_in_quick()
    sizes = lab.pick((200, 400), (200, 400), (200, 800, 3200))
    claim = Claim(
        id=f"fluctuations-{case}",
        family="fluctuations",
        statement=f"Runs scatter about the ODE as the linearised noise says ({case}): the whole "
        "covariance of Q, R and v, and C(T)",
        source="Central limit behind Theorem 1 of Goldt et al. 2020; Lyapunov equation",
        setting=f"erf, k = m = 2, lr = {LR}, noise {NOISE}, alpha <= {T[-1]:g}, "
        f"{whole_blocks(RUNS)} chains at each N of {', '.join(map(str, sizes))}",
        rule="Measured covariances, whitened by the predicted ones, are the unit matrix: each "
        f"entry within {ENTRY}, the mean of a run's squared length within {100 * SIZE:g} %, at "
        f"every n and time; C(T) at the largest n within {100 * CONSTANT:g} % (two one-sided "
        "tests, 5 %).",
        control="Half the covariance: the noise of batches of 2, about the same mean.",
    )

    def measure() -> xr.Dataset:
        problem, rule, start = setting(case)
        right = fluctuations(problem, rule, start, T, fill_times=True, xla=FOR_CHAINS)
        found, lengths = [], []
        for n in sizes:
            key = lab.key(f"{claim.id} {n}")
            ensemble = chain_ensemble(
                problem,
                rule,
                start,
                T,
                n=n,
                key=key,
                runs=whole_blocks(RUNS),
                fill_times=True,
                xla=FOR_CHAINS,
            )
            found.append(coordinates(ensemble, both=rule.lr_second is not None) * n**0.5)
            lengths.append(distances(ensemble, right.mean)[:, 1:] * n**0.5)
        return xr.Dataset(
            {
                "x": (("n", "seed", "alpha", "p"), np.stack(found)),
                "distance": (("n", "seed", "alpha"), np.stack(lengths)),
                "predicted": (("alpha", "p", "p_"), np.asarray(right.covariance)[1:]),
                "wrong": (("alpha", "p", "p_"), np.asarray(right.covariance)[1:] / 2),
                "norm": ("alpha", np.asarray(right.mean_norm)[1:]),
            },
            coords={"n": list(sizes), "alpha": T[1:]},
        )

    lab.settle(claim, measure, judge, draw)


def coordinates(ensemble: dict[str, np.ndarray], *, both: bool) -> np.ndarray:
    """(runs, times, p) about their mean: upper triangle of Q, R, and v."""
    i, j = np.triu_indices(2)
    parts = [ensemble["Q"][:, 1:, i, j], ensemble["R"][:, 1:].reshape(-1, len(T) - 1, 4)]
    x = np.concatenate([*parts, ensemble["v"][:, 1:]] if both else parts, axis=-1)
    return x - x.mean(axis=0)


def judge(dataset: xr.Dataset) -> Verdict:
    entries, sizes = compared(dataset, dataset.predicted.values)
    wrong = compared(dataset, dataset.wrong.values)
    peak = int(dataset.norm.values.argmax())
    last = dataset.distance.values[-1, :, peak]
    constant, predicted = last.mean(), float(dataset.norm[peak])
    error = last.std(ddof=1) / len(last) ** 0.5
    at_peak = relative_difference(constant, error, predicted, CONSTANT)
    furthest = np.unravel_index(sizes.worst, sizes.error.shape)
    detail = (
        f"C(T) {constant:.4f} ± {error:.4f} at n = {int(dataset.n[-1])}, predicted "
        f"{predicted:.4f}; whitened variance {1 + sizes.estimate[furthest]:.3f} ± "
        f"{sizes.error[furthest]:.3f} where it is furthest from 1; largest deviation of one entry "
        f"{np.abs(entries.estimate).max():.2f}."
    )
    passed = entries.equal and sizes.equal and at_peak.equal
    allowed = bias(dataset.n.values)
    alarm = entries.false_alarm(allowed[:, None, None, None])
    alarm += sizes.false_alarm(allowed[:, None])
    alarm += at_peak.false_alarm(allowed[-1])
    alarm += min(found.missed for found in wrong)
    rejected = not all(found.equal for found in wrong)
    return Verdict(predicted, constant, error, passed, rejected, detail, alarm)


def compared(dataset: xr.Dataset, covariance: np.ndarray) -> tuple[Equivalence, Equivalence]:
    """The whitened sample against a white one: each entry, and its mean squared length."""
    x, runs = dataset.x.values, dataset.sizes["seed"]
    root = np.linalg.cholesky(covariance)  # (alpha, p, p)
    white = np.linalg.solve(root, x.transpose(0, 2, 3, 1))  # (n, alpha, p, seed)
    gap = np.einsum("naps,naqs->napq", white, white) / (runs - 1) - np.eye(x.shape[-1])
    spread = np.sqrt((1 + np.eye(x.shape[-1])) / runs)
    entries = Equivalence(gap, np.broadcast_to(spread, gap.shape), ENTRY)
    squares = (white**2).mean(axis=2) * runs / (runs - 1)  # (n, alpha, seed)
    size, error = squares.mean(axis=-1), squares.std(axis=-1, ddof=1) / runs**0.5
    return entries, Equivalence(size - 1, error, SIZE)


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    predicted = np.sqrt(np.einsum("app->ap", dataset.predicted.values))
    wrong = np.sqrt(np.einsum("app->ap", dataset.wrong.values))
    measured = dataset.x.values.std(axis=1, ddof=1)
    with plot.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for values, n in zip(measured, dataset.n.values, strict=True):
            left.plot(predicted.ravel(), values.ravel(), "o", ms=3, label=f"n = {n}")
        line = np.array([predicted.min(), predicted.max()])
        left.plot(line, line, color=ODE, label="theory")
        left.plot(
            predicted.ravel(), wrong.ravel(), ".", ms=2, color=WRONG, label="half the covariance"
        )
        left.set(xscale="log", yscale="log", xlabel=r"predicted std of $\sqrt{N}\,m$")
        left.set_ylabel("measured std")
        left.legend(frameon=False)
        mean = dataset.distance.mean("seed")
        error = 2 * dataset.distance.std("seed", ddof=1) / dataset.sizes["seed"] ** 0.5
        right.plot(dataset.alpha, dataset.norm, color=ODE, label="predicted")
        last = int(dataset.n[-1])
        right.errorbar(
            dataset.alpha, mean[-1], error[-1], fmt="o", ms=4, color=SGD, label=f"n = {last}"
        )
        right.set(xscale="log", xlabel=r"$\alpha$ = steps / $n$")
        right.set_ylabel(r"$\sqrt{N}$ E$|m^\mu - m(\alpha)|$")
        right.legend(frameon=False)
    return figure
