"""Features in pairs: every two values of any two settings meet in some row, and each row is held to
plain SGD in NumPy, which shares nothing with the library."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import plain_sgd
import pytest
from allpairspy import AllPairs
from as_library import layers_of, overlaps_of, problem_of, rule_of
from faults import Fault, forget
from plain_sgd import CLASSIFICATION, Setting

import learndyn as ld
from learndyn.averages import _samples as samples
from learndyn.dynamics import _grouped_flow as grouped_module
from learndyn.dynamics._averages_errors import errors_along
from learndyn.dynamics._diffusion import diffusion, noise_averages, noise_error
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics.chain import _loop as chain_loop
from learndyn.dynamics.chain import _step as chain_step
from learndyn.rules import Clipped

FACTORS = {
    "rule": [
        *("sgd", "feedback", "node", "clipped", "clipped batch", "dropout", "input noise"),
        *("local", "reader", "perceptron"),
    ],
    "student": ["erf", "relu", "leaky", "tanh", "linear", "quadratic", "own"],
    "teacher": ["erf", "relu", "tanh", "linear", "sign", "flipped", "multi-index"],
    "loss": ["squared", "logistic", "hinge", "perceptron", "own"],
    "noise": [0.0, 0.3],
    "biases": ["none", "fixed", "trained"],
    "second": [False, True],
    "batch": [1, 3],
    "decay": [0.0, 0.3],
    "momentum": ["none", "constant", "slow"],
    "rates": ["constant", "schedule", "per unit"],
    "spherical": [False, True],
    "groups": [False, True],
}


def can_be(row):
    """Whether the library has this combination; of the first few values, whether it can be."""
    of = dict(zip(FACTORS, row, strict=False))
    is_classification = of.get("loss", "hinge") in CLASSIFICATION
    return not (
        (of.get("teacher") == "flipped" and not is_classification)
        or (of.get("teacher") == "multi-index" and of.get("noise", 0.0) > 0)
        or (of.get("rule") in ("input noise", "reader") and of.get("groups", False))
    )


def the_array():
    """The rows, from a deterministic greedy search."""
    rows = AllPairs(list(FACTORS.values()), filter_func=can_be)
    return [_setting(dict(zip(FACTORS, row, strict=True))) for row in rows]


def _setting(of):
    """Quadratic units learn by a quarter of the rates, at which no run diverges in a few steps."""
    slower = {"lr": 0.18, "lr_second": 0.12, "lr_bias": 0.28}
    return Setting(**of, **(slower if of["student"] == "quadratic" else {}))


ROWS = the_array()
NAMES = [f"{i}" for i in range(len(ROWS))]
AT_REST = [row for row in ROWS if row.momentum == "none"]
AT_REST_NAMES = [name for name, row in zip(NAMES, ROWS, strict=True) if row.momentum == "none"]
"""Rows without velocities, which neither the theory of noise nor files have."""


# The drift, against one step at n = 1e8

ALPHA = 0.2
ROUNDING = 1e-6
"""What steps of size 1e-8 lose, and constant momentum before it is in full swing."""

ORDERS = {
    False: ("Q", "R", "v", "b", "S", "U", "V", "velocity_v", "velocity_b"),
    True: ("Q", "R", "S", "U", "V", "v", "b", "velocity_v", "velocity_b"),
}
"""In which order a vector field has the coordinates: with groups, what each of them has first."""


def theory_of(row, start, at):
    """dy/dalpha and eg by name, and how large an error of its averages the library states of each;
    at: the coordinates y, by name."""
    flow = ld.ode_term(problem_of(row), rule_of(row), overlaps_of(row, start)).vector_field
    names = [name for name in ORDERS[row.groups] if name in at]
    y = jnp.concatenate([jnp.asarray(at[name]) for name in names])

    @eqx.filter_jit
    def found(flow, y):
        drift, eg = flow(ALPHA, y, None), flow.error_by(flow.averages, flow.unpack(y))
        told = errors_along(flow, jnp.array([ALPHA]), y[None])
        relative, of_eg = (told.get(f"averages_error_{x}", jnp.zeros(1)) for x in ("drift", "eg"))
        return drift, eg, relative[0] * jnp.max(jnp.abs(drift)), of_eg[0]

    drift, eg, error, eg_error = (np.asarray(x) for x in found(flow, y))
    ends = np.cumsum([at[name].size for name in names])[:-1]
    parts = dict(zip(names, np.split(drift, ends), strict=True))
    return parts | {"eg": eg[None]}, dict.fromkeys(names, error) | {"eg": eg_error}


def misses_of(row):
    """By name: largest difference of theory and experiment over what it may be."""
    start = plain_sgd.start_of(row)
    at, means = plain_sgd.limit_step(row, start, ALPHA, seed=1)
    means["eg"] = plain_sgd.error_at(row, start, seed=2)[:, None]
    theory, errors = theory_of(row, start, at)
    comparisons = len(ROWS) * sum(x.shape[1] for x in means.values())
    limit = plain_sgd.t_limit(comparisons)
    found = {}
    for name, sets in means.items():
        standard = sets.std(0, ddof=1) / len(sets) ** 0.5
        allowed = limit * standard + errors[name] + ROUNDING
        found[name] = float(np.max(np.abs(sets.mean(0) - theory[name]) / allowed))
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_drift_is_the_mean_step(row):
    misses = misses_of(row)
    assert max(misses.values()) < 1, (row, misses)


# The law at finite n, against SGD on all weights

N, STEPS, RUNS = 16, 4, 8192
NODES = ld.averages.GaussHermite(2)
"""They make eg, at which this test does not look: the fewest that keep all symmetries."""


def by_chain(row, start, keys):
    level = functools.partial(ld.simulate_chain, n=N)
    return _runs(level, row, overlaps_of(row, start), keys)


def by_weights(row, start, keys):
    vectors = plain_sgd.weights_of(row, start, N)
    units, teachers = vectors[plain_sgd.UNITS], vectors[plain_sgd.TEACHERS]
    inputs = ld.Structured(plain_sgd.variances(row, N)) if row.groups else ld.Gaussian()
    level = functools.partial(ld.simulate_sgd, inputs=inputs, keep_weights=False)
    return _runs(level, row, ld.Weights(units, teachers, **layers_of(row, start)), keys)


def _runs(level, row, start, keys):
    """(runs, p) Q, R, v and b after a few steps."""
    ts, problem, rule = jnp.array([0.0, STEPS / N]), problem_of(row), rule_of(row)
    one = lambda key: level(problem, rule, start, ts, key=key, averages=NODES)
    run = jax.jit(jax.vmap(one))(keys)
    last = lambda x: np.asarray(x)[:, -1]
    b = np.zeros((len(keys), plain_sgd.K)) if run.b is None else last(run.b)
    q = last(run.Q)[:, *np.triu_indices(plain_sgd.K)]
    return np.concatenate([q, last(run.R).reshape(len(q), -1), last(run.v), b], axis=1)


LEVELS = {"chain": by_chain, "sgd": by_weights}


@functools.cache
def right_runs(row, runs):
    """Runs of plain SGD, for both levels; four times as many as theirs, since they cost nothing."""
    return plain_sgd.finite_runs(row, plain_sgd.start_of(row), N, STEPS, 4 * runs, seed=4)


def law_misses(row, level, runs=RUNS):
    """Largest |z| of moments over what it may be."""
    start, right = plain_sgd.start_of(row), right_runs(row, runs)
    found = LEVELS[level](row, start, jax.random.split(jax.random.key(5), runs))
    z = plain_sgd.law_difference(found, right, plain_sgd.one_vector(start))
    return float(np.abs(z).max() / plain_sgd.t_limit(2 * len(ROWS) * z.size, sets=1000))


@pytest.mark.nightly
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_few_steps_have_the_law_of_plain_sgd(row, level):
    assert law_misses(row, level) < 1, row


# The noise of the Langevin level, against that of one step at n = 1e8

NODES_MISS = 0.02
"""What nodes may miss of the largest entry of the diffusion matrix, as in `test_writings`."""

WARNED = 0.5
"""Beyond this share of it the library warns of its nodes: what it tells is then allowed. Of node
perturbation with a teacher of two fields and its square, the tails are so long that NumPy's own
means of 64 sets scatter by a half."""


def noise_misses(row):
    """Largest difference of the diffusion matrix and the covariance of a step over what it may
    be."""
    start = plain_sgd.start_of(row)
    sets = plain_sgd.limit_covariance(row, start, ALPHA, seed=6)
    problem, rule, state = problem_of(row), rule_of(row), overlaps_of(row, start)
    flow = ld.ode_term(problem, rule, state).vector_field
    nodes = noise_averages(problem, rule, flow.start)
    y = flow.pack(flow.start)
    found = np.asarray(diffusion(flow, nodes, jnp.asarray(ALPHA), y))
    told = float(noise_error(flow, nodes, jnp.array([ALPHA]), y[None]))
    limit = plain_sgd.t_limit(len(ROWS) * found.size)
    missed = (told if told > WARNED else NODES_MISS) * np.abs(found).max()
    allowed = limit * sets.std(0, ddof=1) / len(sets) ** 0.5 + missed
    return float(np.max(np.abs(sets.mean(0) - found) / allowed))


@pytest.mark.nightly
@pytest.mark.parametrize("row", AT_REST, ids=AT_REST_NAMES)
def test_diffusion_is_the_covariance_of_a_step(row):
    assert noise_misses(row) < 1, row


# Files: a run that is saved, loaded and continued is the one that never stopped


def goes_on(row, folder):
    """The last overlaps of a chain that stopped in between, and of one that did not."""
    start = overlaps_of(row, plain_sgd.start_of(row))
    chain = functools.partial(
        ld.simulate_chain, problem_of(row), rule_of(row), start, n=N, key=jax.random.key(8)
    )
    whole, part = (chain(jnp.arange(3) * size / N, averages=NODES) for size in (2, 1))
    loaded = ld.load(ld.save(part, folder / "part.nc"))
    return ld.continue_run(loaded, jnp.arange(2, 5) / N, averages=NODES), whole


@pytest.mark.nightly
@pytest.mark.parametrize("row", AT_REST, ids=AT_REST_NAMES)
def test_a_saved_chain_goes_on_as_if_it_had_not_stopped(row, tmp_path):
    """Its law is that of plain SGD, by the test above."""
    more, whole = goes_on(row, tmp_path)
    for name in ("Q", "R", "v", "b"):
        found, right = getattr(more, name), getattr(whole, name)
        if right is not None:
            np.testing.assert_allclose(found[-1], right[-1], rtol=1e-10, atol=1e-12)


# By day: a few rows that have much at once, and faults that they are to see

LINE = {"student": "linear", "teacher": "linear", "biases": "trained", "second": True}
BY_DAY = {
    "slow": Setting(**LINE, noise=0.3, batch=3, decay=0.3, momentum="slow", rates="per unit"),
    "slow groups": Setting(
        **LINE, noise=0.3, momentum="slow", rates="schedule", spherical=True, groups=True
    ),
    "chain": Setting(
        **LINE,
        momentum="constant",
        rule="clipped batch",
        batch=2,
        decay=0.3,
        rates="schedule",
        spherical=True,
    ),
    "multi-index": Setting(student="linear", teacher="multi-index"),
}


def plain_layers():
    """The layers of one unit each, without biases."""
    return ld.Overlaps([[1.0]], [[0.0]], [[1.0]]).layers


def worst_of(name):
    """What the test of this row by day finds: more than 1 is a fault."""
    row = BY_DAY[name]
    if name == "chain":
        return law_misses(row, "chain", runs=RUNS // 2)
    if name == "multi-index":
        # eg itself is in the rows by night: it takes seconds to get ready.
        rho, layers = np.random.default_rng(0).normal(size=(5, 2)), plain_layers()
        clean = samples.clean_teacher_output(problem_of(row), jnp.asarray(rho), layers)
        right = plain_sgd.of_two_fields(rho) + plain_sgd.CURVED
        return np.abs(clean - right).max() / 1e-9
    return max(misses_of(row).values())


@pytest.mark.parametrize("name", BY_DAY)
def test_rows_that_have_much_at_once(name):
    assert worst_of(name) < 1


FAULTS = {
    "slow momentum moves the biases twice as fast": (
        "slow",
        Fault(OverlapFlow, "_momentum_drift", "-lr_b * velocity.b", "-2 * lr_b * velocity.b"),
    ),
    "the chain's biases forget momentum": (
        "chain",
        Fault(
            *(chain_loop, "chain_step", "b, u_b = _moved(b, u_b, rates.b, beta,"),
            "b, u_b = _moved(b, u_b, rates.b, 0.0 * beta,",
        ),
    ),
    "the chain reads its schedule one step late": (
        "chain",
        Fault(chain_loop, "chain_step", "alpha = step /", "alpha = jnp.maximum(step - 1, 0) /"),
    ),
    "eg of a multi-index teacher is that at zeta = 0": (
        "multi-index",
        Fault(samples, "clean_teacher_output", "if not uses_zeta(", "if True or not uses_zeta("),
    ),
    "slow momentum's dU lacks the decay": (
        "slow",
        Fault(
            *(OverlapFlow, "velocity_drift", "push = with_velocities + kappa * S"),
            "push = with_velocities",
        ),
    ),
    "groups on a sphere leave S of slow momentum as it is": (
        "slow groups",
        Fault(grouped_module, "_on_sphere", "change.S - h[:, None] * at.S", "change.S"),
    ),
    "slow momentum takes unit i's rate for unit k": (
        "slow",
        Fault(OverlapFlow, "velocity_drift", "lr * S.T + S * rates.w", "lr * S.T + S * lr"),
    ),
    "groups exchange the pushes on velocities of v and b": (
        "slow groups",
        Fault(
            *(GroupedFlow, "_vector_drift", "Vectors(dv, db, push_v, push_b)"),
            "Vectors(dv, db, push_b, push_v)",
        ),
    ),
    "the chain's sphere brings velocities to length 1, too": (
        "chain",
        Fault(chain_step, "_on_sphere", "[:, None] < k", "[:, None] < 2 * k"),
    ),
    "a clipped batch is as long as its samples": (
        "chain",
        Fault(Clipped, "modulation", "/ len(sample.y) ** 2", "/ len(sample.y)"),
    ),
}
"""What each is seen by. The first five are faults that no test saw for long; the others are in
places where two or three features meet."""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_still_have_their_lines(fault):
    """A line that has been written anew takes its fault away, which only the night would notice."""
    FAULTS[fault][1].faulty()


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen_by_day(fault, monkeypatch):
    name, change = FAULTS[fault]
    try:
        change.put(monkeypatch)
        assert worst_of(name) > 1
    finally:
        monkeypatch.undo()
        forget()


def test_a_fault_that_is_nowhere():
    with pytest.raises(ValueError, match="must have once"):
        Fault(OverlapFlow, "pack", "no such line", "").faulty()
