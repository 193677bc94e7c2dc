"""Several tasks: in turn, interleaved, replayed; drifting teachers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld

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
FEW = ld.weights_from_overlaps(KEY, similar(0.5), 10)


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


def test_a_level_may_be_its_function(switched):
    run = ld.learn(ld.solve_ode, IN_TURN, RULE, similar(0.5), TS, HEADS)
    np.testing.assert_array_equal(run.eg_tasks, switched.eg_tasks)
    with pytest.raises(ValueError, match="or its function"):
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


# Bad input


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"heads": HEADS[:1]}, "every task needs a head; got 1 heads"),
        ({"schedule": [(math.inf, (0.5, 0.6))]}, "sum to 1"),
        ({"schedule": [(math.inf, (1.5, -0.5))]}, ">= 0 and sum to 1"),
        ({"schedule": [(math.inf, (1.0,))]}, "2 shares"),
        ({"schedule": [(5.0, (1, 0)), (5.0, (0, 1)), (math.inf, (1, 0))]}, "increase"),
        ({"schedule": [(5.0, (1, 0))]}, "math.inf"),
        ({"schedule": 3}, "list of phases"),
        ({"ts": [0.0, 2.0, 1.0]}, "strictly increasing"),
        ({"start": similar(1.0), "drift": ld.Drift(0.1)}, "singular T"),
        ({"drift": ld.Drift([0.1, 0.2, 0.3])}, "2 teacher units"),
        ({"level": "langevin"}, "level must be one of"),
        ({"level": "sgd"}, "starts from Weights"),
        ({"level": "chain", "start": similar(1.0), "drift": ld.Drift(0.1)}, "singular T"),
        ({"level": "chain", "drift": ld.Drift(101.0), "n": 100, "key": KEY}, "at most n"),
        ({"level": "sgd", "start": FEW, "drift": ld.Drift(11.0), "key": KEY}, "at most n"),
        ({"rule": ld.SGD(lr=0.1, momentum=0.5)}, "no momentum"),
        ({"tasks": []}, "at least one ld.Task"),
        ({"tasks": [ld.Task(ld.Problem(), [1.0])]}, "2 teacher units"),
    ],
)
def test_bad_input(changed, message):
    given = {"level": "ode", "tasks": IN_TURN, "rule": RULE, "start": similar(0.5), "ts": TS}
    given |= {"heads": HEADS} | changed
    with pytest.raises(ValueError, match=message):
        ld.learn(**given)


def test_bad_tasks():
    with pytest.raises(ValueError, match="problem must be a Problem"):
        ld.Task(3, [1.0])
    with pytest.raises(ValueError, match="one list"):
        ld.Task(ld.Problem(), [[1.0]])
    with pytest.raises(ValueError, match="v_teacher must be finite"):
        ld.Task(ld.Problem(), [1.0, math.nan])
    with pytest.raises(ValueError, match="number of a head"):
        ld.Task(ld.Problem(), [1.0], head=-1)
    with pytest.raises(ValueError, match="rate must be one finite number >= 0"):
        ld.Drift(-0.1)
    both = [ld.Task(ld.Problem(), [1.0, 0.0], share=0.5), IN_TURN[1]]
    with pytest.raises(ValueError, match="must have a share"):
        ld.learn("ode", both, RULE, similar(0.5), TS, HEADS)


def test_a_run_of_several_tasks_says_how_it_goes_on(switched):
    with pytest.raises(ValueError, match=r"run.heads\[-1\]"):
        ld.continue_run(switched, [35.0, 40.0])
    with pytest.raises(ValueError, match="saved time"):
        ld.to_dataset(switched).learndyn.forgetting(since=21.0)


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
