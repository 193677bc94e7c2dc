"""The Langevin level: the chain's first two moments, to first order in 1/n, and the ODE's limit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, ensemble
from validation.measure.ensembles import chain_ensemble
from validation.measure.figures import ODE, SGD, WRONG
from validation.measure.sharing import LANES, whole_blocks
from validation.measure.theory import solve_ode

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import Equivalence

N, LR, NOISE, DT, RUNS, CHAINS = 256, 0.5, 0.1, 0.05, 1280, 8192
TS = np.array([0.0, 0.5, 1.0, 2.0])
"""RUNS give a variance to √(2/RUNS) = 4 %, CHAINS to 1.6 %; at this N corrections of order 1/n are
below 1 %; DT is a tenth of the first time."""

OVERLAPS = ([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1.0, 0.0], [0.0, 1.0]])
"""A start without any symmetry, at which every term of the equations counts."""

SPREAD, SHIFT, EULER = 0.2, 0.3, 0.03
"""Margins of the ratio of variances, of the means' distance in standard deviations of a run, and,
relative, of the noiseless Euler scheme from the ODE."""

SPREAD_BIAS, SHIFT_BIAS = 0.05, 0.1
"""What nodes, the finite dt, and orders beyond the first in 1/n leave out."""

NO_NOISE = 1e14
"""An N at which nothing is left of the noise."""


def test_moments(lab: Lab) -> None:
    lab.skip_in_quick()
    runs, chains = (whole_blocks(lab.pick(1, 1, 8) * count) for count in (RUNS, CHAINS))
    claim = Claim(
        id="levels-langevin",
        family="levels",
        statement="The Langevin equation has the means and variances of the chain at finite n, and "
        "the ODE as its limit",
        source="Central limit behind Theorem 1 of Goldt et al. 2020: dm = f dalpha + B dW/sqrt(n)",
        setting=f"erf, k = m = 2, lr = {LR}, noise {NOISE}, n = {N}, dt = {DT}, alpha = "
        f"{', '.join(f'{t:g}' for t in TS[1:])}, {runs} runs and {chains} chains from the "
        "same overlaps",
        rule="At every time the variance of each of the 7 entries of Q and R, over the chain's, is "
        f"1 within {SPREAD} on average over the entries, and each mean is within {SHIFT} standard "
        "deviations of a run of the chain's (two one-sided tests, 5 %); eg at n = "
        f"{NO_NOISE:.0e} is the ODE's within {EULER:.0%}.",
        control=f"Deviations from the mean over sqrt(2): the noise of n = {2 * N}.",
    )

    def measure() -> xr.Dataset:
        problem, rule, start = ld.Problem(noise=NOISE), ld.SGD(lr=LR), ld.Overlaps(*OVERLAPS)
        keys = jax.random.split(lab.key(claim.id))
        chain = chain_ensemble(
            problem, rule, start, TS, n=N, key=keys[0], runs=chains, fill_times=True, xla=FOR_CHAINS
        )
        found = entries(langevin(problem, rule, start, N, keys[1], runs))
        still = langevin(problem, rule, start, NO_NOISE, keys[1], LANES)
        mean = found.mean(axis=0)
        sides = {
            "chain": entries(chain),
            "langevin": found,
            "wrong": mean + (found - mean) / 2**0.5,
        }
        axes = {name: (f"seed_{name}", "alpha", "entry") for name in sides}
        return xr.Dataset(
            {name: (axes[name], x) for name, x in sides.items()}
            | {
                "euler": ("alpha", still["eg"][0, 1:]),
                "ode": (
                    "alpha",
                    np.asarray(
                        solve_ode(problem, rule, start, TS, fill_times=True, xla=FOR_ODES).eg
                    )[1:],
                ),
            },
            coords={"alpha": TS[1:]},
        )

    lab.settle(claim, measure, judge, draw)


@functools.partial(ensemble, xla=FOR_CHAINS)
def _runs(
    problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps, n: jax.Array, keys: jax.Array
) -> ld.Trajectory:
    run = functools.partial(ld.simulate_langevin, problem, rule, start, jnp.asarray(TS), dt=DT)
    return jax.vmap(lambda key: run(n=n, key=key))(keys)


def langevin(
    problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps, n: float, key: jax.Array, runs: int
) -> dict[str, np.ndarray]:
    """Q, R and eg, (runs, times, ...)."""
    size, blocks = jnp.asarray(n, float), jax.random.split(key, runs // LANES)
    found = [_runs(problem, rule, start, size, jax.random.split(one, LANES)) for one in blocks]
    names = ("Q", "R", "eg")
    return {
        name: np.concatenate([np.asarray(getattr(part, name)) for part in found]) for name in names
    }


def entries(ensemble: dict[str, np.ndarray]) -> np.ndarray:
    """(runs, times, entries) of the upper triangle of Q and of R, without the start."""
    i, j = np.triu_indices(2)
    q, r = ensemble["Q"][:, 1:, i, j], ensemble["R"][:, 1:]
    return np.concatenate([q, r.reshape(*r.shape[:2], -1)], axis=-1)


def moments(dataset: xr.Dataset, side: str) -> tuple[Equivalence, Equivalence]:
    """Mean ratio of the variances to the chain's, less 1, and the distances of the means."""
    x, y = dataset[side].values, dataset.chain.values
    spread = y.std(axis=0, ddof=1)
    gap = (x.mean(axis=0) - y.mean(axis=0)) / spread
    shifts = Equivalence(gap, np.full(gap.shape, (1 / len(x) + 1 / len(y)) ** 0.5), SHIFT)
    # Each run's share of the mean ratio: entries of one run depend on each other.
    scaled = [((z - z.mean(axis=0)) ** 2 / spread**2).mean(axis=-1) for z in (x, y)]
    error = np.sqrt(sum(z.var(axis=0, ddof=1) / len(z) for z in scaled))
    return Equivalence(scaled[0].mean(axis=0) - 1, error, SPREAD), shifts


def judge(dataset: xr.Dataset) -> Verdict:
    spread, shift = moments(dataset, "langevin")
    wrong = moments(dataset, "wrong")
    euler = np.abs(dataset.euler / dataset.ode - 1).values.max()
    at = spread.worst
    detail = (
        f"Variances over the chain's: {1 + spread.estimate[at]:.3f} ± {spread.error[at]:.3f} where "
        f"they are furthest from 1, {1 + wrong[0].estimate[at]:.3f} in the control; means at most "
        f"{np.abs(shift.estimate).max():.3f} standard deviations apart; without noise "
        f"{euler:.1e} from the ODE."
    )
    return Verdict(
        predicted=1.0,
        measured=float(1 + spread.estimate[at]),
        error=float(spread.error[at]),
        control=float(1 + wrong[0].estimate[at]),
        passed=spread.equal and shift.equal and bool(euler < EULER),
        control_rejected=not (wrong[0].equal and wrong[1].equal),
        detail=detail,
        false_alarm=spread.false_alarm(SPREAD_BIAS)
        + shift.false_alarm(SHIFT_BIAS)
        + min(one.missed for one in wrong),
    )


def draw(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        chain = dataset.chain.std("seed_chain").values.ravel()
        for side, colour, label in (
            ("langevin", SGD, f"Langevin, n = {N}"),
            ("wrong", WRONG, f"Langevin, n = {2 * N} (control)"),
        ):
            spread = dataset[side].std(f"seed_{side}").values.ravel()
            ax.plot(chain, spread, "o", color=colour, label=label)
        ax.axline((chain.min(), chain.min()), slope=1, color=ODE, label="equal")
        ax.margins(x=0.05)
        ax.set(xlabel="standard deviation, chain", ylabel="standard deviation, Langevin")
        ax.legend(frameon=False)
    return figure
