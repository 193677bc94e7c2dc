"""Several tasks: in turn, interleaved, replayed; drifting teachers."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.dynamics import LEVELS

A, B = np.array([0.1, -0.05]), np.array([0.08, 0.06])
HEADS = [[0.1, -0.05], [0.05, 0.1]]
RULE = ld.SGD(lr=1.0, lr_second=1.0)
IN_TURN = [ld.Task(ld.Problem(), [1.0, 0.0], 0, until=20.0), ld.Task(ld.Problem(), [0.0, 1.0], 1)]
REPLAY = [(20.0, (1, 0)), (math.inf, (0.25, 0.75))]
TS = [0.0, 20.0, 25.0, 35.0]


def similar(similarity):
    """The start of two teachers with this overlap."""
    r = np.stack([0.3 * A, 0.3 * (similarity * A + np.sqrt(1 - similarity**2) * B)], axis=1)
    t = [[1.0, similarity], [similarity, 1.0]]
    return ld.Overlaps(0.09 * np.array([[1, 0.1], [0.1, 1]]), r, t)


KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def switched():
    return ld.learn("ode", IN_TURN, RULE, similar(0.5), TS, HEADS)


@pytest.fixture(scope="module")
def replayed():
    return ld.learn("ode", IN_TURN, RULE, similar(0.5), TS, HEADS, REPLAY)


DRIFTING = (
    ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1, 0.4], [0.4, 1]]),
    ld.Task(ld.Problem(noise=0.1), [1.0, 1.0]),
    ld.SGD(lr=0.5),
)
DRIFT_TS = [0.0, 2.0, 5.0]


@pytest.fixture(scope="module")
def drifting():
    start, task, rule = DRIFTING
    return ld.learn("ode", [task], rule, start, DRIFT_TS, drift=ld.Drift(0.1))


# Against numbers of an independent program


def test_switch(switched):
    expected = [
        [0.1653522947, 0.1659015563],
        [0.0009040269, 0.1685050027],
        [0.0277183357, 0.0721421541],
        [0.1178481212, 0.0013357924],
    ]
    np.testing.assert_allclose(switched.eg_tasks, expected, atol=5e-10)
    heads = [[0.8158204055, -0.428827222], [0.9110887675, -0.010047756]]
    np.testing.assert_allclose(switched.heads[-1], heads, atol=2e-9)
    q = [[1.2713512, -0.3308384336], [-0.3308384336, 0.289092698]]
    np.testing.assert_allclose(switched.Q[-1], q, atol=2e-9)


def test_a_state_on_the_way_has_the_head_of_the_first_task(switched):
    assert switched.heads.shape == (4, 2, 2)
    state = switched.at(1)
    np.testing.assert_array_equal(state.v, switched.heads[1, 0])
    assert np.abs(switched.heads[1, 0] - switched.heads[1, 1]).max() > 0.01
    np.testing.assert_array_equal(state.Q, switched.Q[1])


def test_a_level_may_be_its_function(switched):
    run = ld.learn(ld.solve_ode, IN_TURN, RULE, similar(0.5), TS, HEADS)
    np.testing.assert_array_equal(run.eg_tasks, switched.eg_tasks)
    with pytest.raises(ValueError, match="exact and whose cost"):
        ld.learn(ld.simulate_langevin, IN_TURN, RULE, similar(0.5), TS, HEADS)


def test_replay_after_the_first_task_alone(replayed):
    expected = [[0.0106302041, 0.0989862093], [0.0411574862, 0.0148557534]]
    np.testing.assert_allclose(replayed.eg_tasks[2:], expected, atol=5e-10)
    r = [[0.7550822947, 1.0323530809], [-0.5363249986, -0.1168438309]]
    np.testing.assert_allclose(replayed.R[-1], r, atol=2e-9)


# Similarity; forgetting after 10, 50 and 1000, without replay and with 20 % of it; the error of the
# second task at 10 and 50, and that of a student that begins with it
SCAN = [
    [0.0, 0.0044959848, 0.0143295207, 0.0185443554, 0.0021818973, 0.0034075551, -0.0001254248]
    + [0.0192138088, 0.0005513126, 0.0090369819, 0.0004948062],
    [0.2, 0.026312241, 0.07811326, 0.1570427854, 0.0111769917, 0.0119664624, -0.0001121469]
    + [0.0249042051, 0.0013690098, 0.0089627517, 0.0005561038],
    [0.3, 0.0457723048, 0.0955292682, 0.1353007019, 0.0205602017, 0.0128431358, -0.0001220376]
    + [0.0251804758, 0.0009290957, 0.0089627557, 0.0005824797],
    [0.55, 0.0797005351, 0.1204602386, 0.1114295667, 0.0408360258, 0.0070178818, -0.0001168442]
    + [0.0162762329, 0.0001580288, 0.0090928123, 0.0006340087],
    [0.7, 0.0684277469, 0.1038333025, 0.1039133937, 0.0377401771, 0.0121355713, -8.74973e-05]
    + [0.0084547643, 9.53851e-05, 0.0093017639, 0.0006543791],
    [0.85, 0.0395739438, 0.0570056654, 0.0568492382, 0.0230207339, 0.0265285342, 6.5512e-06]
    + [0.0032206769, 5.70845e-05, 0.0097145904, 0.0006668845],
    [1.0, 0.0007464387, 0.0006489047, 0.000661907, 0.0001452279, -8.20154e-05, -0.000121738]
    + [0.0001119741, 4.35526e-05, 0.0114439579, 0.0006738858],
]
LONG = [0.0, 100.0, 110.0, 150.0, 1100.0]


@pytest.mark.parametrize("row", SCAN, ids=lambda row: f"{row[0]:g}")
def test_scan_of_similarity(row):
    """Forgetting is largest at intermediate similarity; where depends on the horizon."""
    similarity, *expected = row

    def dataset(schedule, ts):
        run = ld.learn("ode", IN_TURN, RULE, similar(similarity), ts, HEADS, schedule)
        return ld.to_dataset(run)

    alone = dataset([(100.0, (1, 0)), (math.inf, (0, 1))], LONG)
    replay = dataset([(100.0, (1, 0)), (math.inf, (0.2, 0.8))], LONG)
    # Two phases of the second task, so that one compiled program serves all three runs.
    scratch = dataset([(100.0, (0, 1)), (math.inf, (0, 1))], [0.0, 10.0, 20.0, 50.0, 150.0])
    forgotten = [run.learndyn.forgetting(since=100.0).isel(task=0)[1:] for run in (alone, replay)]
    second = alone["eg_tasks"].isel(task=1).sel(alpha=[110.0, 150.0])
    own = scratch["eg_tasks"].isel(task=1).sel(alpha=[10.0, 50.0])
    np.testing.assert_allclose(np.concatenate([*forgotten, second, own]), expected, atol=2e-9)


def test_teachers_that_drift(drifting):
    run = drifting
    q = [[0.473779792137, 0.239137776959], [0.239137776959, 0.453665363857]]
    np.testing.assert_allclose(run.Q[2], q, atol=2e-9)
    r = [[0.427874375133, 0.371931330440], [0.365908111310, 0.420603370257]]
    np.testing.assert_allclose(run.R[2], r, atol=2e-9)
    np.testing.assert_allclose(run.T[2], [[1.0, 0.147151776469], [0.147151776469, 1.0]], atol=2e-9)
    assert ld.to_dataset(run)["T"].dims == ("alpha", "teacher", "teacher_")
    np.testing.assert_array_equal(run.at(2).T, run.T[2])


@pytest.mark.nightly
def test_a_linear_student_of_a_teacher_that_drifts():
    start, task = ld.Overlaps([[0.25]], [[0.2]], [[1.0]]), ld.Problem(ld.Linear(), ld.Linear())
    task = ld.Task(dataclasses.replace(task, noise=jnp.asarray(0.3)), [1.0])
    run = ld.learn("ode", [task], ld.SGD(lr=0.5), start, [0.0, 300.0], drift=ld.Drift(0.1))
    # R = 1/(1 + delta/lr), Q = (2 R - lr (2 R - 1 - sigma**2))/(2 - lr)
    r, q = 0.8333333333333334, 0.918888888888889
    np.testing.assert_allclose([run.R[1, 0, 0], run.Q[1, 0, 0]], [r, q], atol=1e-8)


@pytest.mark.nightly
def test_hebb_with_decay_follows_a_teacher_that_drifts():
    task = ld.Task(ld.Problem(ld.Linear(), ld.Sign(), ld.Hebb()), [1.0])
    start = ld.Overlaps([[1.0]], [[0.2]], [[1.0]])
    rule = ld.SGD(lr=1.0, weight_decay=0.3)
    run = ld.learn("ode", [task], rule, start, [0.0, 200.0], drift=ld.Drift(0.1))
    found = [run.R[1, 0, 0], run.Q[1, 0, 0], run.eg[1]]
    np.testing.assert_allclose(found, [1.9947114020071635, 6.971831436396512, 0.227418], atol=1e-6)


@pytest.mark.nightly
def test_a_perceptron_follows_a_teacher_that_drifts():
    task = ld.Task(ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron()), [1.0])
    start, ts = ld.Overlaps([[1.0]], [[0.2]], [[1.0]]), [0.0, 5.0, 20.0, 400.0]
    run = ld.learn("ode", [task], ld.SGD(lr=1.0), start, ts, drift=ld.Drift(0.05))
    r = [0.2, 0.7935096925955883, 1.050016683453187, 1.2309690593339213]
    q = [1.0, 0.9784046976457791, 1.5423917808070864, 2.1185569378427185]
    np.testing.assert_allclose(run.R[:, 0, 0], r, atol=1e-7)
    np.testing.assert_allclose(run.Q[:, 0, 0], q, atol=1e-7)
    np.testing.assert_allclose(run.eg[2:], [0.179320, 0.179171], atol=1e-6)


# What a run holds


def test_the_error_is_that_of_the_task_learned_next_or_the_weighted_mean(switched, replayed):
    np.testing.assert_allclose(switched.eg, [*switched.eg_tasks[:1, 0], *switched.eg_tasks[1:, 1]])
    np.testing.assert_array_equal(switched.v[3], switched.heads[3, 1])
    mean = np.asarray(replayed.eg_tasks[2:]) @ [0.25, 0.75]
    np.testing.assert_allclose(replayed.eg[2:], mean)
    assert np.isnan(replayed.v[2:]).all()


def test_dataset_has_the_dimension_task(switched):
    dataset = ld.to_dataset(switched)
    assert dataset["eg_tasks"].dims == ("alpha", "task")
    assert dataset["heads"].dims == ("alpha", "head", "student")


def test_transfer_is_the_error_from_scratch_less_the_own(switched):
    dataset = ld.to_dataset(switched)
    found = dataset.learndyn.transfer(dataset, since=20.0)
    assert found.sel(alpha=20.0).values == pytest.approx(
        np.asarray(switched.eg_tasks[0] - switched.eg_tasks[1])
    )


def test_forgetting_since_a_time_that_is_not_saved(switched):
    with pytest.raises(ValueError, match="saved time"):
        ld.to_dataset(switched).learndyn.forgetting(since=21.0)


# Momentum


@pytest.mark.nightly
@pytest.mark.parametrize("momentum", [0.5, ld.SlowMomentum(1.0)], ids=["heavy", "slow"])
@pytest.mark.parametrize("level", ["ode", "chain", "sgd"])
def test_one_task_is_the_run_of_its_problem(level, momentum):
    """With the same random numbers."""
    state, task, _ = DRIFTING
    start = ld.Overlaps(state.Q, state.R, state.T, v=[0.8, 1.1], v_teacher=[1.0, 1.0])
    start = ld.weights_from_overlaps(KEY, start, 30) if level == "sgd" else start
    rule = ld.SGD(lr=0.5, lr_second=0.3, momentum=momentum)
    own = {"ode": {}, "chain": {"n": 30, "key": KEY}, "sgd": {"key": KEY}}[level]
    run = ld.learn(level, [task], rule, start, DRIFT_TS, **own)
    alone = LEVELS[level].function(task.problem, rule, start, DRIFT_TS, **own)
    for name in ("Q", "R", "v", "eg"):
        np.testing.assert_allclose(getattr(run, name), getattr(alone, name), rtol=1e-9, atol=1e-12)
    if level == "sgd":
        # Where a run goes on, so does its velocity.
        half = ld.learn(level, [task], rule, start, [0.0, 1.0, 2.0], **own)
        more = ld.continue_run(half, [2.0, 3.0, 5.0])
        np.testing.assert_array_equal(more.Q[-1], run.Q[-1])
        with pytest.raises(ValueError, match="velocity must be that of a run"):
            ld.learn(level, [task], ld.SGD(lr=0.5), start, DRIFT_TS, velocity=half.velocity, **own)


@pytest.mark.nightly
@pytest.mark.parametrize("momentum", [0.5, ld.SlowMomentum(0.5)], ids=["heavy", "slow"])
@pytest.mark.parametrize("level", ["chain", "sgd"])
def test_momentum_of_two_tasks_at_finite_n(level, momentum):
    """A head that is no longer trained goes on by its velocity."""
    n, runs, ts = 400, 24, [0.0, 5.0, 6.0, 10.0]
    rule = ld.SGD(lr=0.4, lr_second=0.4, momentum=momentum)
    schedule, start = [(5.0, (1, 0)), (math.inf, (0, 1))], similar(0.5)
    start = eqx.tree_at(lambda s: (s.Q, s.R), start, (start.Q * 4, start.R * 2))
    heads = [[1.0, 0.5], [0.5, 1.0]]

    def one(key):
        first, second = jax.random.split(key)
        if level == "chain":
            given = start, ts, heads, schedule
            return ld.learn(level, IN_TURN, rule, *given, n=n, key=second)
        weights = ld.weights_from_overlaps(first, start, n)
        return ld.learn(level, IN_TURN, rule, weights, ts, heads, schedule, key=second)

    found = jax.vmap(one)(jax.random.split(jax.random.key(7), runs))
    theory = ld.learn("ode", IN_TURN, rule, start, ts, heads, schedule)
    for name in ("Q", "R", "heads"):
        each = np.asarray(getattr(found, name))[:, 1:]
        error = each.std(axis=0, ddof=1) / np.sqrt(runs)
        # 33 numbers at Student's t with 23 degrees of freedom: 4.5 has a chance of half a percent.
        # What is not trained yet does not scatter: it has to agree to rounding.
        z = (each.mean(axis=0) - getattr(theory, name)[1:]) / np.maximum(error, 1e-12)
        assert np.abs(z).max() < 4.5
    if momentum != 0.5:
        # Control: where a head stays once it is no longer trained, as without a velocity.
        goes_on = found.heads[:, 3, 0] - found.heads[:, 1, 0]
        error = goes_on.std(axis=0, ddof=1) / np.sqrt(runs)
        assert np.abs(goes_on.mean(axis=0) / error).max() > 10.0


# Runs that go on


def test_an_ode_of_several_tasks_goes_on(replayed, tmp_path):
    """From a trajectory and from a file, as if it had never stopped."""
    first = ld.learn("ode", IN_TURN, RULE, similar(0.5), [0.0, 20.0, 21.0, 22.0], HEADS, REPLAY)
    ld.save(ld.to_dataset(first), tmp_path / "first.nc")
    stored = ld.load(tmp_path / "first.nc")
    assert [task.head for task in ld.tasks_of(stored)] == [0, 1]
    np.testing.assert_array_equal(ld.tasks_of(stored)[1].v_teacher, [0.0, 1.0])
    for run in (first, stored):
        more = ld.continue_run(run, [22.0, 25.0, 30.0, 35.0])
        for name in ("eg_tasks", "Q", "R", "heads"):
            found, whole = getattr(more, name)[1::2], getattr(replayed, name)[2:]
            np.testing.assert_allclose(found, whole, atol=1e-9)
    # Control: without its schedule it would go on with the second task alone.
    other = ld.learn("ode", IN_TURN, RULE, first.at(-1), more.alpha, first.heads[-1])
    assert np.abs(other.eg_tasks[1] - replayed.eg_tasks[2]).max() > 1e-3


def test_a_file_without_tasks_is_read_and_says_how_it_goes_on(switched):
    """As written before datasets stored them."""
    dataset = ld.to_dataset(switched)
    del dataset.attrs["tasks"]
    assert ld.problem_of(dataset) == ld.Problem()
    assert ld.overlaps_at(dataset, 20.0).k == 2
    with pytest.raises(ValueError, match=r"no attribute 'tasks'.*ld.learn\(level, tasks"):
        ld.continue_run(dataset, [35.0, 40.0])
    with pytest.raises(ValueError, match="no attribute 'tasks'"):
        ld.tasks_of(ld.to_dataset({"x": ("alpha", [0.0])}, ts=[0.0]))


@pytest.mark.nightly(by_day=["sgd"])
@pytest.mark.parametrize("level", ["chain", "sgd"])
def test_simulations_of_drifting_teachers_go_on(level):
    """With the same random numbers, and with the lengths to which the teachers return."""
    start, task, rule = DRIFTING
    own = {"key": KEY, "drift": ld.Drift(0.1)} | ({"n": 20} if level == "chain" else {})
    start = ld.weights_from_overlaps(KEY, start, 20) if level == "sgd" else start
    whole = ld.learn(level, [task], rule, start, [0.0, 2.0, 5.0], **own)
    first = ld.learn(level, [task], rule, start, [0.0, 1.0, 2.0], **own)
    runs = [first, ld.to_dataset(first)] if level == "chain" else [first]
    for run in runs:
        more = ld.continue_run(run, [2.0, 3.0, 5.0])
        for name in ("eg_tasks", "Q", "R", "T"):
            found, expected = getattr(more, name)[-1], getattr(whole, name)[-1]
            np.testing.assert_allclose(found, expected, rtol=0 if level == "sgd" else 1e-9)
    if level == "sgd":
        with pytest.raises(ValueError, match="goes on from weights"):
            ld.continue_run(ld.to_dataset(first), [2.0, 3.0])


# Batches, sweeps, and what judges runs


@pytest.mark.nightly
def test_an_ensemble_of_teachers():
    """Under jit and vmap, the mean of its dataset is that of the runs alone."""
    similarities = [0.2, 0.5, 0.8]
    each = [similar(x) for x in similarities]
    starts = jax.tree.map(lambda *x: jnp.stack(x), *each)
    learned = lambda start: ld.learn("ode", IN_TURN, RULE, start, TS, HEADS)
    runs = jax.jit(jax.vmap(learned))(starts)
    alone = np.stack([learned(start).eg_tasks for start in each])
    np.testing.assert_allclose(runs.eg_tasks, alone, atol=1e-9)
    dataset = ld.to_dataset(runs, over={"similarity": similarities})
    mean = dataset.mean("similarity")["eg_tasks"]
    np.testing.assert_allclose(mean, alone.mean(axis=0), atol=1e-9)
    assert dataset.learndyn.forgetting(since=20.0).dims == ("similarity", "alpha", "task")


@pytest.mark.nightly
def test_traced_input_that_is_bad_is_told_by_the_result():
    def learned(rate):
        start, task, rule = DRIFTING
        return ld.learn("ode", [task], rule, start, DRIFT_TS, drift=ld.Drift(rate))

    found = jax.vmap(learned)(jnp.array([0.1, -0.1]))
    assert found.result.tolist() == [ld.Result.SUCCESS, ld.Result.INVALID_INPUT]
    assert np.isnan(found.eg_tasks[1]).all()


def taught(problem, rule, start, ts):
    tasks = [ld.Task(problem, [1.0, 0.0], 0, until=20.0), ld.Task(problem, [0.0, 1.0], 1)]
    return ld.learn("ode", tasks, rule, start, ts, HEADS)


def of_similarity(similarity):
    other = jnp.sqrt(1 - similarity**2) * B
    r = jnp.stack([0.3 * jnp.asarray(A), 0.3 * (similarity * A + other)], axis=1)
    t = jnp.eye(2) + similarity * (1 - jnp.eye(2))
    return ld.Overlaps(0.09 * np.array([[1, 0.1], [0.1, 1]]), r, t)


@pytest.mark.nightly
def test_sweeps_over_tasks(tmp_path):
    """Over rates, with a store that goes on, and over the similarity of two teachers."""
    given = ld.Problem(), RULE, of_similarity, TS
    store = tmp_path / "run.zarr"
    ld.sweep(taught, *given, over={"similarity": [0.5], "lr": [0.5, 1.0]}, store=store)
    more = {"similarity": [0.5, 0.8], "lr": [0.5, 1.0]}
    dataset = ld.sweep(taught, *given, over=more, store=store)
    run = ld.learn("ode", IN_TURN, RULE, similar(0.8), TS, HEADS)
    found = dataset["eg_tasks"].sel(similarity=0.8, lr=1.0)
    np.testing.assert_allclose(found, run.eg_tasks, atol=1e-9)
    assert bool(dataset["done"].all())


@pytest.mark.nightly
def test_runs_are_judged_against_the_theory(replayed, switched):
    one = lambda key: ld.learn(
        "chain", IN_TURN, RULE, similar(0.5), TS, HEADS, REPLAY, n=1000, key=key
    )
    runs = jax.vmap(one)(jax.random.split(jax.random.key(11), 64))
    found = ld.testing.assert_runs_match(replayed, runs)
    assert found.mean.shape == (3, 2)
    assert ld.compare(replayed, runs).verdict == "agree"
    # Controls: the theory without replay
    with pytest.raises(AssertionError, match="does not follow the theory"):
        ld.testing.assert_runs_match(switched, runs)
    other = ld.compare(switched, runs)
    assert other.verdict == "differ"
    assert float(abs(other["z_eg_tasks"]).max()) > 2 * other.limit
    with pytest.raises(ValueError, match="at least 8 runs; got 2"):
        ld.compare(replayed, runs[:2])
    with pytest.raises(ValueError, match="batch of two or more"):
        ld.testing.assert_runs_match(replayed, runs[0])


# Finite n against the ODE; chain and weights have the same law


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["chain", "sgd"])
def test_simulations_follow_the_ode(level, replayed, switched):
    n, runs = 400, 24
    start = similar(0.5)

    def one(key):
        first, second = jax.random.split(key)
        if level == "chain":
            return ld.learn(level, IN_TURN, RULE, start, TS, HEADS, REPLAY, n=n, key=second)
        weights = ld.weights_from_overlaps(first, start, n)
        return ld.learn(level, IN_TURN, RULE, weights, TS, HEADS, REPLAY, key=second)

    found = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(3), runs)).eg_tasks)
    error = found[:, 1:].std(axis=0, ddof=1) / np.sqrt(runs)
    # Six comparisons at Student's t with 23 degrees of freedom: 4 has a chance of 0.3 percent. The
    # mean's own distance from the limit, of order 1/n, is below a third of these errors.
    distance = lambda run: np.abs(found.mean(axis=0) - run.eg_tasks)[1:] / error
    assert distance(replayed).max() < 4.0
    # Control: the theory without replay is refused.
    assert distance(switched)[1:].min() > 10.0


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["chain", "sgd"])
def test_teachers_that_drift_at_finite_n(level, drifting):
    n, runs = 400, 48
    start, task, rule = DRIFTING

    def one(key):
        first, second = jax.random.split(key)
        given = (level, [task], rule)
        if level == "chain":
            return ld.learn(*given, start, DRIFT_TS, n=n, key=second, drift=ld.Drift(0.1))
        weights = ld.weights_from_overlaps(first, start, n)
        return ld.learn(*given, weights, DRIFT_TS, key=second, drift=ld.Drift(0.1))

    found = jax.vmap(one)(jax.random.split(jax.random.key(5), runs))
    frozen = ld.learn("ode", [task], rule, start, DRIFT_TS)
    for name in ("Q", "R", "T"):
        each = np.asarray(getattr(found, name))[:, 1:]
        error = each.std(axis=0, ddof=1) / np.sqrt(runs)
        distance = lambda values, each=each, error=error: np.abs(each.mean(axis=0) - values) / error
        # Twenty numbers that are not the same twice, at Student's t with 47 degrees of freedom: 4
        # has a chance of half a percent.
        assert distance(getattr(drifting, name)[1:]).max() < 4.0
        # Control: teachers that stay are refused.
        stays = getattr(frozen, name) if name == "T" else getattr(frozen, name)[1:]
        assert distance(stays).max() > 10.0


@pytest.mark.nightly
def test_chain_and_weights_have_one_law_under_drift():
    """In 10 dimensions and 30 steps, where no limit is near: means and squares of all overlaps."""
    runs, (start, task, _) = 6000, DRIFTING
    given = ([task], ld.SGD(lr=1.0))

    def on_weights(key):
        first, second = jax.random.split(key)
        weights = ld.weights_from_overlaps(first, start, 10)
        return ld.learn("sgd", *given, weights, [0.0, 3.0], key=second, drift=ld.Drift(0.5))

    def in_chain(key):
        return ld.learn("chain", *given, start, [0.0, 3.0], n=10, key=key, drift=ld.Drift(0.5))

    def moments(one, seed):
        found = jax.vmap(one)(jax.random.split(jax.random.key(seed), runs))
        last = [np.asarray(x)[:, -1].reshape(runs, -1) for x in (found.Q, found.R, found.T)]
        each = np.concatenate(last, axis=1)
        each = np.concatenate([each, each**2], axis=1)
        return each.mean(axis=0), each.std(axis=0) / np.sqrt(runs)

    (ours, error), (theirs, other) = moments(in_chain, 1), moments(on_weights, 2)
    # Twenty numbers: 4 standard errors have a chance of a tenth of a percent.
    assert (np.abs(ours - theirs) / np.hypot(error, other)).max() < 4.0
    # T wanders by an exact law: its mean is a**60 T + (1 - a**60), a = 1 - 0.5/10.
    kept = 0.95**60
    mean = kept * np.array([[1, 0.4], [0.4, 1]]) + (1 - kept) * np.eye(2)
    assert (np.abs(ours[8:12] - mean.ravel()) / error[8:12]).max() < 4.0
