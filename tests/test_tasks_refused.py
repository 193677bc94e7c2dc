"""What runs of several tasks refuse, and what they tell of averages that are too coarse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.dynamics import _averages_errors

A, B = np.array([0.1, -0.05]), np.array([0.08, 0.06])
HEADS = [[0.1, -0.05], [0.05, 0.1]]
RULE = ld.SGD(lr=1.0, lr_second=1.0)
IN_TURN = [ld.Task(ld.Problem(), [1.0, 0.0], 0, until=20.0), ld.Task(ld.Problem(), [0.0, 1.0], 1)]
TS = [0.0, 20.0, 25.0, 35.0]


def similar(similarity):
    """The start of two teachers with this overlap."""
    r = np.stack([0.3 * A, 0.3 * (similarity * A + np.sqrt(1 - similarity**2) * B)], axis=1)
    t = [[1.0, similarity], [similarity, 1.0]]
    return ld.Overlaps(0.09 * np.array([[1, 0.1], [0.1, 1]]), r, t)


GROUPS = {
    "Q": [[[0.2, 0.0], [0.0, 0.2]]],
    "R": [[[0.1, 0.0], [0.0, 0.1]]],
    "T": [[[1.0, 0.0], [0.0, 1.0]]],
    "spectrum": ld.Spectrum([1.0], [1.0]),
}
KEY = jax.random.key(3)
RANDOM = {"n": 100, "key": KEY}
FEW = ld.weights_from_overlaps(KEY, similar(0.5), 10)
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
        ({"level": "langevin"}, "choice of a task is noise"),
        ({"level": "sde"}, "level must be one of"),
        ({"level": "chain", "key": KEY}, "needs n and key.*got a call without n"),
        ({"level": "sgd", "start": FEW}, "got a call without key"),
        ({"n": 100}, "level 'ode' may have .*got a call with n"),
        ({"heads": [[0.1, math.nan], [1.0, 1.0]]}, "heads must be finite"),
        ({"tasks": 3}, "at least one ld.Task; got 3"),
        ({"drift": 0.1}, "drift must be ld.Drift"),
        ({"start": ld.GroupedOverlaps(**GROUPS)}, "GroupedOverlaps|white"),
        ({"level": "sgd", "key": KEY}, "starts from Weights"),
        ({"level": "chain", "start": similar(1.0), "drift": ld.Drift(0.1)} | RANDOM, "singular T"),
        ({"level": "chain", "drift": ld.Drift(101.0)} | RANDOM, "at most n"),
        ({"level": "sgd", "start": FEW, "drift": ld.Drift(11.0), "key": KEY}, "at most n"),
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
    for rate in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="rate must be one finite number >= 0"):
            ld.Drift(rate)
    with pytest.raises(ValueError, match="norms must be finite numbers > 0"):
        ld.Drift(0.1, norms=[1.0, 0.0])
    both = [ld.Task(ld.Problem(), [1.0, 0.0], share=0.5), IN_TURN[1]]
    with pytest.raises(ValueError, match="must have a share"):
        ld.learn("ode", both, RULE, similar(0.5), TS, HEADS)


# Averages that are too coarse

TANH = ld.Problem(ld.Tanh(), ld.Tanh())
SIGNS = ld.Problem(jnp.tanh, jnp.sign)


@pytest.mark.nightly
def test_coarse_averages_are_told_of():
    start, task = ld.Overlaps([[0.2]], [[0.1]], [[1.0]]), ld.Task(TANH, [1.0])
    few = ld.averages.QuasiMonteCarlo(points=16)
    with pytest.warns(RuntimeWarning, match=r"of the drift at alpha = \d"):
        run = ld.learn("ode", [task], ld.SGD(lr=0.5), start, [0.0, 5.0], averages=few)
    assert run.stats["averages_error_drift"].shape == (2,)


@pytest.mark.nightly
def test_a_run_with_coarse_averages_is_made_again(monkeypatch):
    """As by `solve_ode`, whose numbers it then has."""
    start, problem, rule = ld.Overlaps([[0.2]], [[0.1]], [[1.0]]), SIGNS, ld.SGD(lr=0.5)
    task = ld.Task(problem, [1.0])

    def learned():
        return ld.learn("ode", [task], rule, start, [0.0, 5.0])

    first = learned()
    # Where every error counts as too large, finer averages are tried as long as they help.
    monkeypatch.setattr(_averages_errors, "_FINE", 0.0)
    monkeypatch.setattr(_averages_errors, "_UNFELT", 0.0)
    again, alone = learned(), ld.solve_ode(problem, rule, start, [0.0, 5.0])
    error = lambda run: float(run.stats["averages_error"].max())
    assert 0.0 < error(again) < 0.5 * error(first)
    np.testing.assert_allclose(again.Q, alone.Q, rtol=1e-9)
