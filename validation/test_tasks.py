"""Several tasks: the library's levels against weights that learn the tasks written out again."""

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, compiled, ensemble
from validation.measure import tasks_on_weights as by_hand
from validation.measure.figures import ODE, SGD, WRONG, against_weights
from validation.measure.gaps import generator
from validation.measure.sharing import filled
from validation.measure.theory import STEP, runge_kutta

import learndyn as ld
from learndyn import plot
from learndyn.claims import Claim, Verdict
from learndyn.testing import (
    Equivalence,
    in_units_of_one_run,
    two_sample_z,
    z_limit,
    z_missed,
)

N, RUNS, TS, SWITCH = 64, 768, np.array([1.0, 2.0, 4.0]), 1.0
"""A mean over so many runs is good to 0.036 standard deviations of a run."""

MARGIN, BIAS = 0.5, 0.25
"""The allowed distance of mean and ODE in standard deviations of a run, and how much of it the ODE
leaves out at this N: a bias of order 1/n over a scatter of order 1/sqrt(n)."""

FALSE_ALARM = 5e-5
"""How likely the comparison of two ensembles of one law is to fail."""

NOISE, ONE_BY_ONE = 0.3, np.eye(2)
START = ld.Overlaps(
    [[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1.0, 0.5], [0.5, 1.0]]
)
HEADS = np.array([[0.8, 0.6], [0.5, -0.7]])
"""A start without any symmetry, at which every term of the equations counts."""
FIRST, SECOND, REPLAY, MIXED = (1.0, 0.0), (0.0, 1.0), (0.25, 0.75), (0.3, 0.7)


@dataclasses.dataclass(frozen=True)
class Case:
    """Tasks by hand and by the ODE, and what the wrong theory has in their place."""

    statement: str
    control: str
    hand: by_hand.Setting
    wrong: by_hand.Setting
    heads: np.ndarray = dataclasses.field(default_factory=lambda: HEADS)


def setting(before: Any, after: Any, **own: Any) -> by_hand.Setting:
    common = {"v_teacher": ONE_BY_ONE, "lr": 1.0, "lr_second": 0.5, "noise": NOISE}
    return by_hand.Setting(**(common | own), switch=SWITCH, before=before, after=after)


CASES = {
    "switch": Case(
        "Two tasks in turn: R of all teachers moves, and the head of the active task alone",
        "The ODE without the switch.",
        setting(FIRST, SECOND),
        setting(FIRST, FIRST),
    ),
    "interleaved": Case(
        "Interleaved tasks move overlaps by the mean of the tasks' drifts, lr² terms included",
        "The ODE with the squared mean gradient in place of the mean squared gradient.",
        setting(MIXED, MIXED, lr_second=0.0),
        # With one fixed head for both, the mean of their gradients is that for the mean label.
        setting(FIRST, FIRST, lr_second=0.0, v_teacher=np.array([MIXED, MIXED])),
        HEADS[[0, 0]],
    ),
    "replay": Case(
        "The first task alone, then both at shares of 1/4 and 3/4",
        "The ODE without replay.",
        setting(FIRST, REPLAY),
        setting(FIRST, SECOND),
    ),
    "drift": Case(
        "Teachers that wander: R of a teacher decays at its rate, T of two at the sum of theirs",
        "The ODE in which T stays.",
        setting(FIRST, FIRST, v_teacher=np.ones((2, 2)), drift=(0.05, 0.15)),
        setting(FIRST, FIRST, v_teacher=np.ones((2, 2)), drift=(0.05, 0.15)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_means(lab: Lab, name: str) -> None:
    lab.skip_in_quick(name != "switch")
    case, runs = CASES[name], RUNS * lab.pick(1, 1, 4)
    claim = Claim(
        id=f"tasks-{name}",
        family="tasks",
        statement=case.statement,
        source="Derived here; Biehl and Schwarze (1993) for drift"
        if name == "drift"
        else "Derived here; Lee, Goldt and Saxe (2021) for two tasks in turn",
        setting=f"erf, k = m = 2, T_12 = 0.5, lr = 1, noise {NOISE}, n = {N}, alpha <= {TS[-1]:g}, "
        f"switch at {SWITCH:g}; {runs} runs on weights, written out again",
        rule="The mean of every Q, R, T, head and eg on weights differs from the ODE by less than "
        f"{MARGIN} standard deviations of a run at every time (two one-sided tests, 5 % each).",
        control=case.control,
    )
    lab.settle(claim, lambda: measure(case, runs, lab.key(claim.id)), judge, draw)


def measure(case: Case, runs: int, key: jax.Array) -> xr.Dataset:
    """Variables: weights (seed, p); theory and wrong (p); all of the coordinates that move."""
    start = (np.asarray(x) for x in (START.Q, START.R, START.T))
    given = {"n": N, "runs": runs, "rng": generator(key)}
    weights = by_hand.run(case.hand, *start, case.heads, TS, **given)
    frozen = case.hand.drift is not None
    theory = _theory(case.hand, case.heads)
    wrong = _with_frozen_teachers(case.hand) if frozen else _theory(case.wrong, case.heads)
    moves = np.ptp(weights, axis=0) > 1e-9
    return xr.Dataset(
        {
            "weights": (("seed", "p"), weights[:, moves]),
            "theory": ("p", theory[moves]),
            "wrong": ("p", wrong[moves]),
        }
    )


def _theory(case: by_hand.Setting, heads: np.ndarray) -> np.ndarray:
    """The ODE at all times; every case shares one program, in which teachers drift, if at rate
    0."""
    found = _solved(
        jnp.asarray(case.v_teacher),
        ld.SGD(case.lr, lr_second=case.lr_second),
        START,
        jnp.asarray(heads),
        _schedule(case.switch, case.before, case.after),
        jnp.asarray(case.noise),
        _rates(case),
        filled(np.append(0.0, TS)),
    )
    states = [x[1 : len(TS) + 1] for x in found]
    rows = by_hand.coordinates(case, *(np.asarray(x) for x in states[:4]))
    rows[:, -len(HEADS) :] = states[4]
    return rows.ravel()


def _rates(case: by_hand.Setting) -> jax.Array:
    return jnp.asarray((0.0, 0.0) if case.drift is None else case.drift)


def _schedule(switch: float, before: Any, after: Any) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray([switch, math.inf]), jnp.asarray([before, after])


def _tasks(v_teacher: jax.Array, noise: Any) -> list[ld.Task]:
    return [ld.Task(ld.Problem(noise=noise), v, head) for head, v in enumerate(v_teacher)]


def _solve(
    v_teacher: jax.Array,
    rule: ld.SGD,
    start: ld.Overlaps,
    heads: jax.Array,
    phases: tuple[jax.Array, jax.Array],
    noise: jax.Array,
    rates: jax.Array,
    ts: jax.Array,
) -> tuple[jax.Array, ...]:
    tasks, drift = _tasks(v_teacher, noise), ld.Drift(rates)
    schedule = list(zip(*phases, strict=True))
    run = ld.learn("ode", tasks, rule, start, ts, heads, schedule, drift=drift)
    return run.Q, run.R, run.T, run.heads, run.eg_tasks


_solved = compiled(_solve, FOR_ODES)


def _with_frozen_teachers(case: by_hand.Setting) -> np.ndarray:
    """The ODE of the first task whose R decays while T stays: -delta_n R_in added to dR_in."""
    rule = ld.SGD(case.lr, lr_second=case.lr_second)
    start = eqx.tree_at(
        lambda s: (s.v, s.v_teacher), START, (jnp.asarray(HEADS[0]), jnp.asarray(case.v_teacher[0]))
    )
    flow = ld.ode_term(ld.Problem(noise=case.noise), rule, start).vector_field

    def slope(y: jax.Array) -> jax.Array:
        state = flow.unpack(y)
        zero = jax.tree.map(jnp.zeros_like, state)
        decay = eqx.tree_at(lambda s: s.R, zero, jnp.asarray(case.drift) * state.R)
        return flow(0.0, y, None) - flow.pack(decay)

    at = compiled(slope, FOR_ODES)
    y, found, done = np.asarray(flow.pack(start)), [], 0
    for steps in np.round(TS / STEP).astype(int):
        for _ in range(done, steps):
            y = runge_kutta(lambda y: np.asarray(at(y)), y)
        done = steps
        state = flow.unpack(jnp.asarray(y))
        heads = np.stack([state.v, HEADS[1]])
        one = (np.asarray(x)[None] for x in (state.Q, state.R, START.T, heads))
        found.append(by_hand.coordinates(case, *one)[0])
    return np.concatenate(found)


def judge(dataset: xr.Dataset) -> Verdict:
    samples = dataset.weights.values
    right = in_units_of_one_run(samples, dataset.theory.values, MARGIN)
    wrong = in_units_of_one_run(samples, dataset.wrong.values, MARGIN)
    worst = right.worst
    return Verdict(
        predicted=float(dataset.theory.values[worst]),
        measured=float(samples[:, worst].mean()),
        error=float(samples[:, worst].std(ddof=1) / len(samples) ** 0.5),
        control=float(dataset.wrong.values[worst]),
        passed=right.equal,
        control_rejected=not wrong.equal,
        detail=f"Furthest of {samples.shape[1]} coordinates: mean - ODE = "
        f"{right.estimate[worst]:+.3f} +- {right.error[worst]:.3f} standard deviations of a run "
        f"(margin {MARGIN}); wrong theory: up to {np.abs(wrong.estimate).max():.1f}.",
        false_alarm=right.false_alarm(BIAS) + wrong.missed,
    )


def draw(dataset: xr.Dataset) -> Figure:
    return against_weights(dataset.weights.values, dataset, MARGIN, "Q, R, heads, T, eg")


# Chains: their law, and what they forget

LANES, SMALL = 128, 20
"""How many chains a call runs side by side: all claims of chains share one program. The law is
compared at an input dimension at which terms of order 1/n count."""


def _chains(
    v_teacher: jax.Array,
    rule: ld.SGD,
    starts: ld.Overlaps,
    heads: jax.Array,
    ends: jax.Array,
    shares: jax.Array,
    noise: jax.Array,
    rates: jax.Array,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, ...]:
    """A chain from each start with its own shares (lanes, 2, 2)."""

    def one(start: ld.Overlaps, shares: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        schedule = list(zip(ends, shares, strict=True))
        given = _tasks(v_teacher, noise), rule, start, ts, heads, schedule
        run = ld.learn("chain", *given, drift=ld.Drift(rates), n=n, key=key)
        return run.Q, run.R, run.T, run.heads, run.eg_tasks

    return jax.vmap(one)(starts, shares, keys)


_chained = ensemble(_chains, FOR_CHAINS)


def chains(
    case: by_hand.Setting,
    starts: list[ld.Overlaps],
    heads: np.ndarray,
    shares: np.ndarray,
    ts: np.ndarray,
    n: int,
    key: jax.Array,
) -> list[np.ndarray]:
    """Q, R, T, heads and the errors of the tasks of one chain from each of `LANES` starts."""
    found = _chained(
        jnp.asarray(case.v_teacher),
        ld.SGD(case.lr, lr_second=case.lr_second),
        jax.tree.map(lambda *x: jnp.stack(x), *starts),
        jnp.asarray(heads),
        jnp.asarray([case.switch, math.inf]),
        jnp.asarray(shares, float),
        jnp.asarray(case.noise),
        _rates(case),
        filled(np.append(0.0, ts)),
        jnp.asarray(n, float),
        jax.random.split(key, LANES),
    )
    return [np.asarray(x)[:, 1 : len(ts) + 1] for x in found]


LAWS = {
    "replay": ("two tasks with replay", "The chain without replay.", CASES["switch"].hand),
    "drift": (
        "teachers that wander",
        "The chain whose teachers stay.",
        dataclasses.replace(CASES["drift"].hand, drift=None),
    ),
}
"""What is learned, the control in words, and the control."""


@pytest.mark.parametrize("name", LAWS)
def test_law(lab: Lab, name: str) -> None:
    lab.skip_in_quick()
    what, control, wrong = LAWS[name]
    claim = Claim(
        id=f"tasks-law-{name}",
        family="tasks",
        statement=f"The overlap chain of {what} has the law of SGD on weights at n = {SMALL}",
        source="Derived here",
        setting=f"that of tasks-{name}; weights written out again",
        rule="Of the z scores between the two samples, of every Q, R, T, head and eg at every time "
        "and of all products of two, none is beyond the limit that equal laws exceed with "
        f"probability {FALSE_ALARM}.",
        control=control,
    )
    measured = lambda: measure_law(CASES[name].hand, wrong, lab.pick(8, 16, 128), lab.key(claim.id))
    lab.settle(claim, measured, judge_law, draw_law)


def measure_law(
    case: by_hand.Setting, wrong: by_hand.Setting, blocks: int, key: jax.Array
) -> xr.Dataset:
    keys = jax.random.split(key, 3)
    start = (np.asarray(x) for x in (START.Q, START.R, START.T))
    given = {"n": SMALL, "runs": blocks * LANES, "rng": generator(keys[0])}
    weights = by_hand.run(case, *start, HEADS, TS, **given)
    sides = {"chain": case, "wrong": wrong}
    found = {
        side: _law_of_chains(one, jax.random.split(key, blocks))
        for (side, one), key in zip(sides.items(), keys[1:], strict=True)
    }
    moves = np.ptp(weights, axis=0) > 1e-9
    found["weights"] = weights
    return xr.Dataset({name: (("seed", "p"), x[:, moves]) for name, x in found.items()})


def _law_of_chains(case: by_hand.Setting, keys: jax.Array) -> np.ndarray:
    """(runs, coordinates) at all times, as by hand."""
    shares = np.tile([case.before, case.after], (LANES, 1, 1))
    parts = []
    for key in keys:
        found = chains(case, [START] * LANES, HEADS, shares, TS, SMALL, key)
        at = [by_hand.coordinates(case, *(x[:, i] for x in found[:4])) for i in range(len(TS))]
        for i, rows in enumerate(at):
            rows[:, -len(HEADS) :] = found[4][:, i]
        parts.append(np.concatenate(at, axis=1))
    return np.concatenate(parts)


def judge_law(dataset: xr.Dataset) -> Verdict:
    weights = dataset.weights.values
    z, wrong = (np.abs(two_sample_z(dataset[x].values, weights)) for x in ("chain", "wrong"))
    limit = z_limit(len(z), FALSE_ALARM)
    last = {name: float(dataset[name].values[:, -1].mean()) for name in dataset}
    return Verdict(
        predicted=last["chain"],
        measured=last["weights"],
        error=float(weights[:, -1].std(ddof=1) * (2 / len(weights)) ** 0.5),
        control=last["wrong"],
        passed=bool(z.max() < limit),
        control_rejected=bool(wrong.max() > limit),
        detail=f"Largest |z| of {len(z)}: {z.max():.2f}, limit {limit:.2f}; of the "
        f"control {wrong.max():.1f}. Numbers are the mean error of the second task at the end.",
        false_alarm=FALSE_ALARM + z_missed(wrong, limit),
    )


def draw_law(dataset: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt
    from scipy import stats

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        for name, colour, label in (("chain", SGD, "chain"), ("wrong", WRONG, "control")):
            z = np.sort(two_sample_z(dataset[name].values, dataset.weights.values))
            normal = stats.norm.ppf((np.arange(len(z)) + 0.5) / len(z))
            ax.plot(normal, z, ".", color=colour, label=label)
        ax.plot([-3, 3], [-3, 3], color=ODE, lw=1, label="equal laws, if independent")
        ax.set(xlabel="quantile of a normal distribution", ylabel="z between chain and SGD")
        ax.legend(frameon=False)
    return figure


# Forgetting

HORIZONS = {10: (200, 0.55, 0.25), 50: (200, 0.55, 0.25), 1000: (64, 0.2, 0.6)}
"""For each time after the switch: the input dimension, the similarity with most forgetting, and how
far chains may be from the ODE, in units of the largest forgetting: at n = 64 a mean over few runs
is good to 6 % of it."""
LEFT_OUT = 10.0
"""What the ODE leaves out is at most this over n, in that unit: a tenth was measured at n = 64."""
SIMILARITIES = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.99])
"""Equal teachers, at 1, cannot drift, and these share the programs of those that do."""
OF_CHAINS = (0.0, 0.2, 0.55, 0.99)
LEARNED = 100.0
"""When the second task begins: the first one's error is then 1.3e-4 at every similarity."""
A, B = np.array([0.1, -0.05]), np.array([0.08, 0.06])
FORGETTING = by_hand.Setting(ONE_BY_ONE, 1.0, 1.0, 0.0, LEARNED, FIRST, SECOND)
SMALL_HEADS = np.array([[0.1, -0.05], [0.05, 0.1]])
RUNS_EACH = LANES // 8
"""Runs for each of four similarities, with the switch and without."""


def similar(similarity: float) -> ld.Overlaps:
    """The start of two teachers with this overlap."""
    r = np.stack([0.3 * A, 0.3 * (similarity * A + np.sqrt(1 - similarity**2) * B)], axis=1)
    t = [[1.0, similarity], [similarity, 1.0]]
    return ld.Overlaps(0.09 * np.array([[1, 0.1], [0.1, 1]]), r, t)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_forgetting(lab: Lab, horizon: int) -> None:
    lab.skip_in_quick()
    n, most, close = HORIZONS[horizon]
    blocks = lab.pick(1, 1, 4)
    claim = Claim(
        id=f"tasks-forgetting-{horizon}",
        family="tasks",
        statement=f"At alpha = {horizon} after the switch forgetting is largest at intermediate "
        f"similarity, V = {most:g}",
        source="Lee, Goldt and Saxe (2021), who do not name the time; the numbers are our own",
        setting=f"erf, k = 2, m = 1 + 1, a head each, lr = lr_second = 1, switch at "
        f"{LEARNED:g}; the ODE at {len(SIMILARITIES)} similarities, chains at n = {n} and V = 0, "
        f"0.2, 0.55, 0.99, {RUNS_EACH * blocks} runs each",
        rule="The ODE has its maximum at that V, chains forget more there than at V = 0 and at V = "
        f"0.99 beyond chance ({FALSE_ALARM}), and their means are within {close:g} of the maximum "
        "from the ODE at all four V (two one-sided tests, 5 % each).",
        control="The same rule for runs without the switch.",
    )
    measured = lambda: measure_forgetting(horizon, n, blocks, lab.key(f"tasks-forgetting-{n}"))
    judge = functools.partial(judge_forgetting, close=close, left_out=LEFT_OUT / n)
    lab.settle(claim, measured, judge, draw_forgetting)


_CHAINS: dict[Any, np.ndarray] = {}
"""Chains by what they are of: two horizons are times of the same runs."""


def measure_forgetting(horizon: int, n: int, blocks: int, key: jax.Array) -> xr.Dataset:
    """Variables: theory (v); chains and without (v_run, seed): forgetting at this horizon."""
    until = [float(one) for one, (size, _, _) in HORIZONS.items() if size == n]
    ts = np.array([LEARNED, *(LEARNED + one for one in until)])
    at = {"since": LEARNED}, {"alpha": LEARNED + horizon, "task": 0}
    errors = np.stack([_errors(v, ts) for v in SIMILARITIES])
    theory = _dataset(errors, ts).learndyn.forgetting(**at[0]).sel(at[1])
    name = n, blocks, str(jax.random.key_data(key))
    if name not in _CHAINS:
        _CHAINS[name] = _forgetful_chains(ts, n, jax.random.split(key, blocks))
    found = _dataset(_CHAINS[name], ts).learndyn.forgetting(**at[0]).sel(at[1]).values
    places = np.array(OF_CHAINS)
    return xr.Dataset(
        {
            "theory": ("v", theory.values),
            "chains": (("v_run", "seed"), found[0]),
            "without": (("v_run", "seed"), found[1]),
        },
        coords={"v": SIMILARITIES, "v_run": places},
    )


def _errors(v: float, ts: np.ndarray) -> np.ndarray:
    """(times, tasks) of the ODE."""
    start, phases = similar(v), _schedule(LEARNED, FIRST, SECOND)
    rule, noise, rates = ld.SGD(1.0, lr_second=1.0), jnp.asarray(0.0), jnp.zeros(2)
    given = (rule, start, jnp.asarray(SMALL_HEADS), phases, noise, rates)
    times = filled(np.append(0.0, ts))
    return np.asarray(_solved(jnp.asarray(ONE_BY_ONE), *given, times)[4])[1 : len(ts) + 1]


def _dataset(errors: np.ndarray, ts: np.ndarray) -> xr.Dataset:
    """A dataset of errors whose last axes are times and tasks."""
    dims = [f"run_{i}" for i in range(errors.ndim - 2)]
    return xr.Dataset(
        {"eg_tasks": ((*dims, "alpha", "task"), errors)}, {"alpha": ts, "task": range(2)}
    )


def _forgetful_chains(ts: np.ndarray, n: int, keys: jax.Array) -> np.ndarray:
    """Errors (with or without switch, similarities, runs, times, tasks)."""
    starts = [similar(v) for _ in range(2) for v in OF_CHAINS for _ in range(RUNS_EACH)]
    shares = np.repeat([[FIRST, SECOND], [FIRST, FIRST]], LANES // 2, axis=0)
    given = (FORGETTING, starts, SMALL_HEADS, shares, ts, n)
    blocks = [chains(*given, key)[4].reshape(2, 4, RUNS_EACH, len(ts), 2) for key in keys]
    return np.concatenate(blocks, axis=2)


def judge_forgetting(found: xr.Dataset, close: float, left_out: float) -> Verdict:
    most = float(found.v[int(np.argmax(found.theory.values))])
    inside = SIMILARITIES[0] < most < SIMILARITIES[-1] and most in found.v_run
    mean, error, excess = _excess(found.chains, most)
    _, _, control = _excess(found.without, most)
    largest = float(found.theory.max())
    theory = found.theory.sel(v=found.v_run).values
    near = Equivalence((mean - theory) / largest, error / largest, close)
    limit = z_limit(2, FALSE_ALARM)
    place = int(np.argmax(found.v_run.values == most))
    return Verdict(
        predicted=largest,
        measured=float(mean[place]),
        error=float(error[place]),
        control=float(found.without.sel(v_run=most, method="nearest").mean()),
        passed=bool(inside and excess.min() > limit and near.equal),
        control_rejected=bool(control.min() < limit),
        detail=f"The ODE forgets most at V = {most:g}. Chains at V = 0, 0.2, 0.55, 0.99: "
        f"{np.round(mean, 4)} +- {np.round(error, 4)}, the ODE {np.round(theory, 4)}; above both "
        f"ends by {excess.min():.0f} standard errors (limit {limit:.1f}), without the switch "
        f"{control.min():.1f}.",
        false_alarm=near.false_alarm(left_out) + FALSE_ALARM,
    )


def _excess(runs: xr.DataArray, most: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, their errors, and by how many errors the one at `most` is above those at the ends."""
    mean = runs.mean("seed").values
    error = (runs.std("seed", ddof=1) / runs.sizes["seed"] ** 0.5).values
    at, ends = int(np.argmin(np.abs(runs.v_run.values - most))), [0, -1]
    return mean, error, (mean[at] - mean[ends]) / np.hypot(error[at], error[ends])


def draw_forgetting(found: xr.Dataset) -> Figure:
    import matplotlib.pyplot as plt

    with plot.style():
        figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.plot(found.v, found.theory, color=ODE, label="ODE")
        sides = ("chains", SGD, "chains"), ("without", WRONG, "without the switch (control)")
        for name, colour, label in sides:
            mean, error, _ = _excess(found[name], 1.0)
            ax.errorbar(found.v_run, mean, 2 * error, fmt="o", ms=4, color=colour, label=label)
        ax.set(xlabel="similarity of the teachers V", ylabel="forgetting of the first task")
        ax.margins(x=0.04)
        ax.legend(frameon=False)
    return figure
