"""Where theory stops: learning rates, noise and sizes; finite training sets; large weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, FOR_SGD, Runs, wide
from validation.measure.ensembles import chain_ensemble
from validation.measure.figures import departure, discrepancy_map
from validation.measure.learning_curves import MARGIN, sgd_run
from validation.measure.sharing import whole_blocks
from validation.measure.theory import solve_ode

import learndyn as ld
from learndyn.claims import Claim, Verdict
from learndyn.testing import difference, in_units_of_one_run, power_law

OVERLAPS = ([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1.0, 0.0], [0.0, 1.0]])
"""A start without any symmetry, at which every term of the equations counts."""
START = ld.Overlaps(*OVERLAPS)

PROGRESS = 4.0
"""Runs are compared at alpha = PROGRESS / lr: equally far along, before the plateau's exit."""
BAND, CURVATURE = 0.25, 0.08
"""Margin of the slopes, whose standard errors are near 0.03, and how much corrections of order 1/n
bend them at most."""


def test_map(lab: Lab) -> None:
    lab.skip_in_quick()
    rates, noises = np.array([0.2, 0.4, 0.8, 1.6]), np.array([0.0, 0.1, 0.5])
    sizes = np.array([64, 192, 640, 2048, 8192])[: lab.pick(4, 4, 5)]
    # More where they cost little: slopes then are good to 0.03.
    runs = {n: whole_blocks(lab.pick(256, 1024 if n < 256 else 256, 2048)) for n in sizes.tolist()}
    claim = Claim(
        id="limits-map",
        family="limits",
        statement="Squared distances of eg from the ODE shrink as 1/n at every learning rate and "
        "noise, and grow with the learning rate",
        source="Goldt et al. 2020, section 3: bounds of learning rate and noise are left open",
        setting=f"erf, k = m = 2, lr = {', '.join(f'{x:g}' for x in rates)}, noise "
        f"{', '.join(f'{x:g}' for x in noises)}, n = {sizes[0]} to {sizes[-1]}, at least "
        f"{min(runs.values())} chains each, at lr alpha = {PROGRESS:g}",
        rule=f"The slope of log E(eg - ODE)²/ODE² against log N is -1 ± {BAND} in every cell (two "
        "one-sided tests, 5 %), and at the largest n it is larger at the largest lr than at the "
        "smallest, whatever the noise.",
        control="Slopes -1/2 and -2.",
    )

    def measure() -> xr.Dataset:
        found = np.empty((len(rates), len(noises), len(sizes), 4))
        for i, j in itertools.product(range(len(rates)), range(len(noises))):
            setting = ld.Problem(noise=noises[j]), ld.SGD(lr=rates[i]), START
            ts = [0.0, PROGRESS / rates[i]]
            for number, (n, count) in enumerate(runs.items()):
                key = lab.key(f"{claim.id} {i} {j} {n}")
                eg = chain_ensemble(
                    *setting, ts, n=n, key=key, runs=count, fill_times=True, xla=FOR_CHAINS
                )["eg"][:, 1]
                # The ODE at the time that was met: alpha n is not always a whole number.
                met = [0.0, np.round(ts[1] * n) / n]
                found[i, j, number] = discrepancy(
                    eg, float(solve_ode(*setting, met, fill_times=True, xla=FOR_ODES).eg[1])
                )
        names = ("square", "square_error", "bias", "bias_error")
        axes = ("lr", "noise", "n")
        variables = {name: (axes, found[..., k]) for k, name in enumerate(names)}
        return xr.Dataset(variables, coords={"lr": rates, "noise": noises, "n": sizes})

    lab.settle(claim, measure, judge_map, discrepancy_map)


def discrepancy(eg: np.ndarray, theory: float) -> tuple[float, float, float, float]:
    """Mean square and mean of eg/ODE - 1, each with its standard error."""
    gap = eg / theory - 1
    rows = gap**2, gap
    means = [(float(row.mean()), float(row.std(ddof=1) / len(row) ** 0.5)) for row in rows]
    return *means[0], *means[1]


def judge_map(dataset: xr.Dataset) -> Verdict:
    cells = [
        power_law(dataset.n.values, dataset.square.values[i, j], dataset.square_error.values[i, j])
        for i, j in itertools.product(range(dataset.sizes["lr"]), range(dataset.sizes["noise"]))
    ]
    values, errors = np.array(cells).T
    right, *wrong = (difference(values, errors, x, BAND) for x in (-1.0, -0.5, -2.0))
    grows = bool((dataset.square[-1, :, -1] > dataset.square[0, :, -1]).all())
    slope, error = max(cells, key=lambda cell: abs(cell[0] + 1))
    largest = dataset.square[..., -1].values ** 0.5
    needed = float(dataset.n[-1]) * (largest / 0.01) ** 2
    detail = (
        f"Slope furthest from -1: {slope:.3f} ± {error:.3f} of {len(cells)} cells; root mean "
        f"square at the largest n from {100 * largest.min():.1f} % to {100 * largest.max():.1f} %; "
        f"grows with lr: {grows}. For 1 % one needs n = {needed.min():.2g} to {needed.max():.2g}."
    )
    alarm = right.false_alarm(CURVATURE) + sum(one.missed for one in wrong)
    passed, rejected = right.equal and grows, not any(one.equal for one in wrong)
    return Verdict(-1.0, slope, error, passed, rejected, detail, alarm, control=-0.5)


N, LR, NOISE, SET_RUNS, SET_BIAS = 200, 0.2, 0.1, wide(512, 1024), 0.2
"""512 runs: as for the learning curves through chains; at this N the bias is below 0.2."""
TIMES = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
"""At the last one the sets of LOADS have been seen 8 times and twice."""
LOADS = (1, 4)
"""Samples of a training set over N: few enough to matter by the last time."""


def test_training_set(lab: Lab) -> None:
    lab.skip_in_quick()
    sets = " and ".join(f"{load * N}" for load in LOADS)
    claim = Claim(
        id="limits-training-set",
        family="limits",
        statement="SGD that sees the same samples again leaves the ODE of fresh ones, further "
        "the fewer they are",
        source="Goldt et al. 2020, section 2: the theory is that of online learning",
        setting=f"erf, k = m = 2, n = {N}, lr = {LR}, noise {NOISE}, SGD on weights from the "
        f"ODE's overlaps, {SET_RUNS} runs: fresh samples, and sets of {sets} in random order",
        rule=f"Fresh samples: at every time within {MARGIN} standard deviations of a run of the "
        "ODE (two one-sided tests, 5 %). Sets: the same test fails, and at the last time the "
        "smaller set is further away.",
        control="The same ODE for training sets.",
    )

    def measure() -> xr.Dataset:
        problem, rule = ld.Problem(noise=NOISE), ld.SGD(lr=LR)
        curves = [fixed_set_runs(lab, problem, rule, load) for load in (None, *LOADS)]
        theory = solve_ode(problem, rule, START, TIMES, fill_times=True, xla=FOR_ODES).eg
        loads = [np.inf, *LOADS]
        return xr.Dataset(
            {
                "eg": (("load", "seed", "alpha"), np.stack(curves)[..., 1:]),
                "theory": ("alpha", np.asarray(theory)[1:]),
            },
            coords={"load": loads, "alpha": TIMES[1:]},
        )

    lab.settle(claim, measure, judge_sets, departure)


def fixed_set_runs(lab: Lab, problem: ld.Problem, rule: ld.SGD, load: int | None) -> np.ndarray:
    """eg of SGD on `load` N samples a run, None: fresh ones; (seed, alpha)."""
    inputs = None if load is None else ld.TrainingSet(p=load * N)
    ts = jnp.asarray(TIMES)
    keys = jax.random.split(lab.key(f"training set {load}"), SET_RUNS)
    return Runs(lambda key: sgd_run(problem, rule, START, ts, N, key, inputs).eg, FOR_SGD)(keys)


def judge_sets(dataset: xr.Dataset) -> Verdict:
    theory, samples = dataset.theory.values, dataset.eg.values
    fresh, small, large = (in_units_of_one_run(rows, theory, MARGIN) for rows in samples)
    worst = fresh.worst
    detail = (
        f"Furthest from the ODE, in standard deviations of a run: fresh samples "
        f"{fresh.estimate[worst]:+.3f} ± {fresh.error[worst]:.3f}; at the last time sets of "
        f"{LOADS[0]} N {small.estimate[-1]:+.2f}, of {LOADS[1]} N {large.estimate[-1]:+.2f}."
    )
    order = samples.mean(axis=1)[:, -1]
    further = bool(order[1] > order[2] > order[0])
    return Verdict(
        predicted=float(theory[worst]),
        measured=float(samples[0, :, worst].mean()),
        error=float(samples[0, :, worst].std(ddof=1) / samples.shape[1] ** 0.5),
        control=float(samples[1, :, worst].mean()),
        passed=fresh.equal and further,
        control_rejected=not small.equal and not large.equal,
        detail=detail,
        false_alarm=fresh.false_alarm(SET_BIAS) + small.missed + large.missed,
    )
