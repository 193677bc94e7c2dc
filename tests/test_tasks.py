"""Several tasks: in turn, interleaved, replayed; drifting teachers."""

import math

import jax
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


@pytest.fixture(scope="module")
def switched():
    return ld.learn("ode", IN_TURN, RULE, similar(0.5), TS, HEADS)


@pytest.fixture(scope="module")
def replayed():
    return ld.learn("ode", IN_TURN, RULE, similar(0.5), TS, HEADS, REPLAY)


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


@pytest.mark.parametrize(
    ("similarity", "ten", "fifty"),
    [
        (0.0, 0.0044959848, 0.0143295207),
        (0.3, 0.0457723048, 0.0955292682),
        (0.55, 0.0797005351, 0.1204602386),
        (0.8, 0.0505637084, 0.0742368521),
        (1.0, 0.0007464387, 0.0006489047),
    ],
)
def test_forgetting_is_largest_at_intermediate_similarity(similarity, ten, fifty):
    schedule = [(100.0, (1, 0)), (math.inf, (0, 1))]
    ts = [0.0, 100.0, 110.0, 150.0]
    run = ld.learn("ode", IN_TURN, RULE, similar(similarity), ts, HEADS, schedule)
    forgotten = ld.to_dataset(run).learndyn.forgetting(since=100.0).isel(task=0)
    np.testing.assert_allclose(forgotten[1:], [ten, fifty], atol=2e-9)


def test_teachers_that_drift():
    start = ld.Overlaps(
        [[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1, 0.4], [0.4, 1]]
    )
    task = ld.Task(ld.Problem(noise=0.1), [1.0, 1.0])
    run = ld.learn("ode", [task], ld.SGD(lr=0.5), start, [0.0, 2.0, 5.0], drift=ld.Drift(0.1))
    q = [[0.473779792137, 0.239137776959], [0.239137776959, 0.453665363857]]
    np.testing.assert_allclose(run.Q[2], q, atol=2e-9)
    r = [[0.427874375133, 0.371931330440], [0.365908111310, 0.420603370257]]
    np.testing.assert_allclose(run.R[2], r, atol=2e-9)
    np.testing.assert_allclose(run.T[2], [[1.0, 0.147151776469], [0.147151776469, 1.0]], atol=2e-9)
    assert ld.to_dataset(run)["T"].dims == ("alpha", "teacher", "teacher_")
    np.testing.assert_array_equal(run.at(2).T, run.T[2])


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
        ({"level": "chain", "drift": ld.Drift(0.1)}, "at level 'ode' alone"),
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
