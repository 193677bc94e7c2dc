"""Linear networks, where the mean is known exactly at every n, not only in the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_ODES, FOR_SGD, Runs, wide
from validation.measure.learning_curves import sgd_run
from validation.measure.theory import solve_ode

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import z_limit, z_missed, z_scores

N, K, M, LR, NOISE = 100, 4, 2, 0.1, 0.3
"""With lr K = 0.4 the end by the control, 2 + lr K in place of 2 - lr K, is a third lower."""
FALSE_ALARM = 2e-4
"""How likely this claim is to fail although it is true, over all its times."""


def exact_mean(eg0: float, steps: np.ndarray, h: float, n: int) -> np.ndarray:
    """E eg after `steps` steps of online SGD at input dimension n, h = lr K.

    e' = e (1 - 2 h/n + h^2 (n + 2)/n^2) + h^2 sigma^2 / (2 n), from Gaussian fourth moments.
    """
    factor = 1 - 2 * h / n + h**2 * (n + 2) / n**2
    fixed = h**2 * NOISE**2 / (2 * n) / (1 - factor)
    return fixed + (eg0 - fixed) * factor**steps


def limit(eg0: float, alpha: np.ndarray, h: float) -> np.ndarray:
    """The same for n -> infinity: Goldt et al. 2020, Eq. (12), with its approach."""
    fixed = NOISE**2 * h / (4 - 2 * h)
    return fixed + (eg0 - fixed) * np.exp(-h * (2 - h) * alpha)


def test_mean_at_finite_n(lab: Lab) -> None:
    claim = Claim(
        id="linear-finite-n",
        family="linear",
        statement="The mean error of a linear network is the exact finite-n formula, and its "
        "limit is the ODE",
        source="Goldt et al. 2020, Eq. (12); exact mean at finite n from fourth moments",
        setting=f"linear, n = {N}, k = {K}, m = {M}, lr = {LR}, noise {NOISE}",
        rule="Every |z| of the ensemble's mean against the exact formula is below the limit "
        f"that a true theory exceeds with probability {FALSE_ALARM}; the ODE solution equals "
        "its formula to 1e-8.",
        control="The formula with 2 + lr K in place of 2 - lr K in the denominator of Eq. (12).",
    )

    def measure() -> xr.Dataset:
        start_key, key = jax.random.split(lab.key(claim.id))
        start = ld.overlaps(ld.init_weights(start_key, n=N, k=K, m=M, scale=0.5))
        ts = jnp.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])
        problem, rule = ld.Problem(ld.Linear(), ld.Linear(), noise=NOISE), ld.SGD(lr=LR)
        keys = jax.random.split(key, wide(lab.pick(1000, 4000, 100_000), 10_000))
        eg = Runs(lambda one: sgd_run(problem, rule, start, ts, N, one).eg, FOR_SGD, batch=8)(keys)
        ode = solve_ode(
            problem, rule, start, ts, rtol=1e-11, atol=1e-13, fill_times=True, xla=FOR_ODES
        )
        steps = np.round(np.asarray(ts) * N)
        eg0, h = float(ode.eg[0]), LR * K
        wrong_end = NOISE**2 * h / (4 + 2 * h)
        return xr.Dataset(
            {
                "eg": (("seed", "alpha"), eg[:, 1:]),
                "exact": ("alpha", exact_mean(eg0, steps, h, N)[1:]),
                "limit": ("alpha", limit(eg0, np.asarray(ts), h)[1:]),
                "ode": ("alpha", np.asarray(ode.eg)[1:]),
                "wrong_end": wrong_end,
            },
            coords={"alpha": np.asarray(ts)[1:]},
        )

    lab.settle(claim, measure, judge, draw)


def judge(dataset: xr.Dataset) -> Verdict:
    samples = dataset.eg.values
    z = z_scores(samples, dataset.exact.values)
    allowed = z_limit(len(z), FALSE_ALARM)
    error = samples[:, -1].std(ddof=1) / np.sqrt(len(samples))
    wrong = (samples[:, -1].mean() - float(dataset.wrong_end)) / error
    ode_gap = float(np.abs(dataset.ode / dataset.limit - 1).max())
    detail = (
        f"Largest |z| against the exact mean {np.abs(z).max():.2f} (limit {allowed:.2f}) over "
        f"{len(z)} times and {len(samples)} runs; ODE against its formula {ode_gap:.1e}; wrong "
        f"formula at z = {wrong:.1f}."
    )
    return Verdict(
        predicted=float(dataset.exact[-1]),
        measured=float(samples[:, -1].mean()),
        error=float(error),
        control=float(dataset.wrong_end),
        passed=bool(np.abs(z).max() < allowed) and ode_gap < 1e-8,
        control_rejected=bool(abs(wrong) > allowed),
        detail=detail,
        false_alarm=FALSE_ALARM + z_missed(wrong, allowed),
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        error = dataset.eg.std("seed") / np.sqrt(dataset.sizes["seed"])
        ax.errorbar(dataset.alpha, dataset.eg.mean("seed"), 2 * error, fmt="o", label="SGD")
        ax.plot(dataset.alpha, dataset.exact, "k-", label=f"exact mean at n = {N}")
        ax.plot(dataset.alpha, dataset.limit, "k:", label="n → ∞")
        ax.axhline(float(dataset.wrong_end), color="#D55E00", ls="--", label="wrong (control)")
        ax.set(yscale="log", xscale="log", xlabel=r"$\alpha$ = steps / $n$")
        ax.set_ylabel(r"mean $\epsilon_g$")
        ax.legend(frameon=False)
    return figure
