"""Several tasks in pairs: in turn, interleaved, replayed, with teachers that drift, at every level
against plain SGD in NumPy, which shares nothing with the library."""

import dataclasses
import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import plain_sgd
import plain_tasks
import pytest
from allpairspy import AllPairs
from as_library import layers_of, overlaps_of, problem_of, rule_of
from faults import Fault, forget
from plain_sgd import Setting
from plain_tasks import Tasks

import learndyn as ld
from learndyn.averages import QuasiMonteCarlo
from learndyn.tasks import _chain as chain_module
from learndyn.tasks._flow import TaskFlow
from learndyn.tasks._types import Schedule

FACTORS = {
    "level": ["ode", "chain", "sgd"],
    "when": ["in turn", "interleaved", "replay"],
    "rule": ["sgd", "feedback", "node", "clipped batch", "dropout", "local"],
    "student": ["erf", "relu", "linear", "tanh"],
    "teachers": [("erf", "erf"), ("erf", "relu"), ("linear", "sign")],
    "losses": [("squared", "squared"), ("squared", "own"), ("hinge", "perceptron")],
    "noises": [(0.0, 0.0), (0.3, 0.0)],
    "heads": [(0, 1), (0, 0)],
    "biases": ["none", "fixed", "trained"],
    "second": [False, True],
    "batch": [1, 3],
    "decay": [0.0, 0.3],
    "rates": ["constant", "schedule", "per unit"],
    "spherical": [False, True],
    "drift": [0.0, 2.0],
}


@dataclasses.dataclass(frozen=True)
class Row:
    level: str
    when: str
    tasks: Tasks


LAYERS = np.array([[0.9, -0.6], [0.4, 0.7]])
TEACHERS = np.array([[1.0, 0.3], [0.0, -0.8]])


def row_of(level, when, rule, student, teachers, losses, noises, heads, *rest):
    *shared, drift = rest
    names = ("biases", "second", "batch", "decay", "rates", "spherical")
    common = {"rule": rule, "student": student} | dict(zip(names, shared, strict=True))
    settings = [
        Setting(teacher=teacher, loss=loss, noise=noise, **common)
        for teacher, loss, noise in zip(teachers, losses, noises, strict=True)
    ]
    layers = LAYERS[: 1 + max(heads)]
    return Row(level, when, Tasks(tuple(settings), heads, layers, TEACHERS, drift))


ROWS = [row_of(*row) for row in AllPairs(list(FACTORS.values()))]


# One row, as the library has it

PHASES = {
    "in turn": ((1, 0), (0, 1)),
    "interleaved": ((0.3, 0.7),) * 2,
    "replay": ((1, 0), (0.25, 0.75)),
}
"""The shares of the two tasks until the switch, and after it."""


def tasks_of(row):
    both = zip(row.tasks.settings, row.tasks.teachers, row.tasks.heads, strict=True)
    return [ld.Task(problem_of(one), teacher, head) for one, teacher, head in both]


def schedule_of(row, switch):
    first, second = PHASES[row.when]
    return [(switch, first), (math.inf, second)]


def learn(row, level, start, ts, switch, **keywords):
    rule, drift = rule_of(row.tasks.settings[0]), None
    if row.tasks.drift:
        drift = ld.Drift(row.tasks.drift)
    given = (tasks_of(row), rule, start, ts, row.tasks.layers, schedule_of(row, switch))
    return ld.learn(level, *given, drift=drift, **keywords)


# The law at finite n

N, STEPS, SWITCH, RUNS = 16, 4, 2, 8192


def law_misses(row, runs=RUNS):
    """Largest |z| of moments over what it may be."""
    first = row.tasks.settings[0]
    start = plain_sgd.start_of(first)
    before, after = PHASES[row.when]
    shares = np.array([before] * SWITCH + [after] * (STEPS - SWITCH))
    right = plain_tasks.runs_of_tasks(row.tasks, shares, start, N, 4 * runs, seed=4)
    found = _runs(row, first, start, jax.random.split(jax.random.key(5), runs))
    centre = _at_start(row, first, start)
    z = plain_sgd.law_difference(found, right, centre)
    return float(np.abs(z).max() / plain_sgd.t_limit(2 * len(ROWS) * z.size, sets=1000))


def _runs(row, first, start, keys):
    ts, nodes = jnp.array([0.0, STEPS / N]), ld.averages.GaussHermite(2)
    if row.level == "chain":
        given, more = overlaps_of(first, start), {"n": N}
    else:
        vectors = plain_sgd.weights_of(first, start, N)
        units, teachers = vectors[plain_sgd.UNITS], vectors[plain_sgd.TEACHERS]
        given, more = ld.Weights(units, teachers, **layers_of(first, start)), {}
    one = functools.partial(learn, row, row.level, given, ts, SWITCH / N, averages=nodes, **more)
    run = jax.jit(jax.vmap(lambda key: one(key=key)))(keys)
    return _vector(run, len(keys))


def _vector(run, count):
    """(runs, p) the last state, in the order of `plain_tasks.tasks_vector`."""
    last = lambda x: np.asarray(x)[:, -1]
    flat = lambda x: last(x).reshape(count, -1)
    corner = lambda x: x[:, *np.triu_indices(2)]
    t = np.broadcast_to(np.asarray(run.T), (count, 2, 2)) if run.T.ndim < 4 else last(run.T)
    b = np.zeros((count, 2)) if run.b is None else last(run.b)
    parts = [corner(last(run.Q)), corner(t), flat(run.R), flat(run.heads), b]
    return np.concatenate(parts, axis=1)


def _at_start(row, first, start):
    vectors = plain_sgd.weights_of(first, start, N)[None]
    parts = (vectors[:, plain_sgd.UNITS], vectors[:, plain_sgd.TEACHERS])
    return plain_tasks.tasks_vector(*parts, row.tasks.layers[None], start.b[None], N)[0]


# The limit, against one step at n = 1e8

ALPHA, SHORT, BEND = 0.2, 1e-4, 5e-4
"""When the ODE starts, how long it runs, and what its drift may change meanwhile."""
COARSE = 0.02
"""Averages that miss a larger share of the drift would hide faults."""


def drift_misses(row):
    """By name: largest difference of theory and experiment over what it may be."""
    first, tasks = row.tasks.settings[0], row.tasks
    start = plain_sgd.start_of(first)
    shares = PHASES[row.when][1]
    wanted = _mean_step(row, start, shares)
    given = overlaps_of(first, start)
    run = _limit(row, given)
    slope = lambda x: np.asarray(x[1] - x[0]) / SHORT
    found = {"Q": slope(run.Q)[np.triu_indices(2)], "R": slope(run.R).ravel()}
    found |= {f"head {i}": slope(run.heads)[i] for i in range(len(tasks.layers))}
    found |= {"b": slope(run.b)} if first.biases == "trained" else {}
    found |= {f"eg {i}": np.asarray(run.eg_tasks[0, i])[None] for i in range(2)}
    size = max(np.abs(found[x]).max() for x in found if not x.startswith("eg"))
    told = {x: _told(run, x) for x in ("drift", "eg")}
    comparisons = len(ROWS) * sum(x.shape[1] for x in wanted.values())
    limit = plain_sgd.t_limit(comparisons)
    misses = {}
    for name, sets in wanted.items():
        allowed = limit * sets.std(0, ddof=1) / len(sets) ** 0.5
        allowed += told["eg"] if name.startswith("eg") else told["drift"] * size + BEND * (1 + size)
        misses[name] = float(np.max(np.abs(sets.mean(0) - found[name]) / allowed))
    if tasks.drift:
        free = start.gram.sum(0)[plain_sgd.TEACHERS, plain_sgd.TEACHERS].copy()
        np.fill_diagonal(free, 0.0)
        misses["T"] = float(np.abs(slope(run.T) + 2 * tasks.drift * free).max() / BEND / (1 + size))
    return misses


def _limit(row, given):
    """The ODE over this short time, with more nodes where the default ones are told to be coarse:
    they may be, for rules with draws and losses that jump."""
    ask = functools.partial(learn, row, "ode", given, jnp.array([ALPHA, ALPHA + SHORT]), ALPHA / 2)
    with warnings.catch_warnings():
        # What averages miss is allowed for.
        warnings.filterwarnings("ignore", "the error of the Gaussian averages", RuntimeWarning)
        run = ask()
        if _told(run, "drift") > COARSE:
            run = ask(averages=QuasiMonteCarlo(2**17))
    return run


def _told(run, of):
    """The error of averages at the start, 0 where they are exact."""
    return float(np.asarray(run.stats.get(f"averages_error_{of}", [0.0]))[0])


def _mean_step(row, start, shares):
    """The mean change of what is learned per unit of time, in sets of samples, and eg."""
    tasks, found = row.tasks, {}
    sets = plain_sgd.SETS
    for i, setting in enumerate(tasks.settings):
        own = dataclasses.replace(
            start, v=tasks.layers[tasks.heads[i]], v_teacher=tasks.teachers[i]
        )
        at, means = plain_sgd.limit_step(setting, own, ALPHA, seed=1)
        means[f"head {tasks.heads[i]}"] = means.pop("v", np.zeros((sets, 2)))
        for name, value in means.items():
            found[name] = found.get(name, 0.0) + shares[i] * value
        found[f"eg {i}"] = plain_sgd.error_at(setting, own, seed=2)[:, None]
    found["R"] = found["R"] - tasks.drift * at["R"]
    return found


def worst_of(row):
    return max(drift_misses(row).values()) if row.level == "ode" else law_misses(row)


@pytest.mark.nightly
@pytest.mark.parametrize("row", ROWS, ids=map(str, range(len(ROWS))))
def test_tasks_are_those_of_plain_sgd(row):
    assert worst_of(row) < 1, row


FAULTS = {
    "heads learn at the full rate in a share of the steps": (
        10,
        Fault(TaskFlow, "__call__", "add(share * one.h)", "add(one.h)"),
    ),
    "overlaps with teachers that drift stay": (
        13,
        Fault(TaskFlow, "_drifting", "R=rows.R - delta * state.R, T=dt", "T=dt"),
    ),
    "a task begins one step late": (
        12,
        Fault(Schedule, "at_step", 'side="right"', 'side="left"'),
    ),
    "teachers that drift shrink": (
        21,
        Fault(chain_module, "wander_of", "part * (2.0 - part)", "part * part"),
    ),
}
"""The number of the row that each is seen by."""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_still_have_their_lines(fault):
    """A line that has been written anew takes its fault away, which only the night would notice."""
    FAULTS[fault][1].faulty()


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault, monkeypatch):
    number, change = FAULTS[fault]
    try:
        change.put(monkeypatch)
        assert worst_of(ROWS[number]) > 1
    finally:
        monkeypatch.undo()
        forget()
