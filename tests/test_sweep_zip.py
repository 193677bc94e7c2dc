"""Values that go together: `zip` of a sweep, the diagonal of its grid."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from toy_sweep import KEY, PROBLEM, RULE, START, TS, assert_same, sweep

import learndyn as ld

pytest.importorskip("zarr")

PAIRS = {"lr": [0.1, 0.9, 0.3], "noise": [0.0, 0.1, 0.2]}


def test_values_that_go_together_are_the_diagonal_of_the_grid(tmp_path):
    path = tmp_path / "run.zarr"
    over = {"weight_decay": [0.0, 0.5]}
    found = sweep(over=over, zip=PAIRS)
    assert found.seen.dims == ("weight_decay", "point", "seed", "alpha")
    assert found.lr.dims == found.noise.dims == ("point",)
    np.testing.assert_array_equal(found.lr, PAIRS["lr"])
    whole = sweep(over={**over, **PAIRS})
    for i in range(3):
        np.testing.assert_array_equal(found.seen[:, i], whole.seen[:, i, i])
    assert_same(sweep(path, over=over, zip=PAIRS), found)
    assert_same(ld.open_sweep(path), found)
    more = {"lr": [0.5, *PAIRS["lr"]], "noise": [0.4, *PAIRS["noise"]]}
    assert_same(sweep(path, over=over, zip=more), sweep(over=over, zip=more))
    other = {"lr": more["lr"], "noise": more["noise"][::-1]}
    with pytest.raises(ValueError, match=r"point: \[\{lr: 0.5, noise: 0.4\}.*asked"):
        sweep(path, over=over, zip=other)


def test_of_sizes_activations_and_starts():
    def level(problem, rule, start, ts, k):
        return {"k_used": jnp.asarray(k), "at_one": problem.student(rule.lr), "b": start}

    def start(key, k):
        return jnp.ones(k)

    found = sweep(
        level=level,
        start=start,
        over={},
        zip={"k": [1, 3], "student": [ld.Linear(), ld.Quadratic()], "lr": [0.5, 3.0]},
        cost=lambda values: values["k"] * values["lr"],
    )
    np.testing.assert_allclose(found.at_one, np.outer([0.5, 9.0], [1, 1]))
    np.testing.assert_array_equal(found.k_used[:, 0], found.k)
    np.testing.assert_array_equal(found.student_activation, ["Linear", "Quadratic"])


@pytest.mark.nightly
def test_of_n_and_noise_at_a_level_of_the_library():
    run = functools.partial(ld.sweep, ld.simulate_chain, PROBLEM, RULE, START, TS, key=KEY)
    found = run(zip={"n": [5, 9], "noise": [0.0, 0.3]})
    whole = run(over={"n": [5, 9], "noise": [0.0, 0.3]})
    for i in range(2):
        np.testing.assert_array_equal(found.Q[i], whole.Q[i, i])
    assert "n" not in found.attrs
    assert "point" in found.alpha_actual.dims


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"lr": [0.1], "noise": [0.1, 0.2]}, r"equally many; got \{'lr': 1, 'noise': 2\}"),
        ({"lr": [0.1], "weight_decay": [0.1]}, "both in over and in zip"),
        ([0.1], "zip must be a dict"),
        ({"what": [0.1]}, "there is no 'what'"),
        ({"lr": [-0.1]}, "lr"),
        ({"lr": []}, "at least one value"),
    ],
)
def test_refusals(pairs, message):
    with pytest.raises(ValueError, match=message):
        sweep(over={"weight_decay": [0.0]}, zip=pairs)
