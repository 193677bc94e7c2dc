"""A run's bits depend on its own values, its key and `chunk`, and on nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.sweeps import make_plan, run

TS = jnp.linspace(0.0, 1.0, 3)
PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])
KEY = jax.random.key(5)
LRS = np.linspace(0.1, 1.3, 9).tolist()
NOISES = [0.0, 0.3, 0.7]


def rough(problem, rule, start, ts, *, key):
    """A level in a microsecond that magnifies a difference in the last bit a thousandfold."""
    drawn = jax.random.normal(key)

    def step(_, x):
        return jnp.sin(3.0 * x + rule.lr) + 0.1 * jnp.exp(-problem.noise * x * x) * drawn

    x = jax.lax.fori_loop(0, 30, step, jnp.stack([rule.lr, rule.lr * problem.noise, rule.lr**2]))
    return {"seen": x}


def seen(over, seeds, **keywords):
    ds = ld.sweep(rough, PROBLEM, RULE, START, TS, over=over, seeds=seeds, key=KEY, **keywords)
    return ds.seen


@pytest.mark.parametrize("chunk", [1, 12])
class TestBitsAreTheSame:
    """What is compared is 9 x 3 x 2 runs, in other orders, grids and shares."""

    def test_in_any_order(self, chunk):
        whole = seen({"lr": LRS, "noise": NOISES}, 2, chunk=chunk)
        for number in range(3):
            draw = np.random.default_rng(number).random
            other = seen({"lr": LRS, "noise": NOISES}, 2, chunk=chunk, cost=lambda _: draw())  # noqa: B023
            np.testing.assert_array_equal(other, whole)

    def test_in_other_grids(self, chunk):
        whole = seen({"lr": LRS, "noise": NOISES}, 3, chunk=chunk)
        few = seen({"lr": LRS[4:6], "noise": NOISES[1:]}, 2, chunk=chunk)
        np.testing.assert_array_equal(few, whole[4:6, 1:, :2])
        one = seen({"lr": LRS[8:], "noise": NOISES[2:]}, 1, chunk=chunk)
        np.testing.assert_array_equal(one, whole[8:, 2:, :1])


@pytest.mark.nightly
def test_bits_of_optimised_programs():
    """The ODE would differ for each of these widths were they not rounded up to whole vectors."""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    script = Path(__file__).parent / "helpers" / "sweep_bits.py"
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:3] == ["3 0", "7 0", "12 0"]


def test_a_neighbour_that_raises_changes_nothing():
    def fails(problem, rule, start, ts, *, key, n):
        def check(n):
            if n == 4.0:
                raise RuntimeError("four")
            return n

        n = jax.pure_callback(check, jax.ShapeDtypeStruct((), float), n, vmap_method="sequential")
        return rough(problem, rule, start, ts, key=key) | {"n_seen": n}

    def one(values):
        over = {"lr": LRS[:2], "n": values}
        return ld.sweep(fails, PROBLEM, RULE, START, TS, over=over, seeds=2, key=KEY, chunk=8)

    with pytest.warns(RuntimeWarning, match="4 of 12 runs"):
        hurt = one([1.0, 4.0, 2.0])
    assert (hurt.result.sel(n=4.0) == ld.Result.ERROR).all()
    assert np.isnan(hurt.seen.sel(n=4.0)).all()
    np.testing.assert_array_equal(hurt.seen.sel(n=[1.0, 2.0]), one([1.0, 2.0]).seen)


@pytest.mark.parametrize("over", [{}, {"batch_size": [1, 4]}])
def test_a_run_without_numbers_to_sweep_goes_through_a_program(over):
    def level(problem, rule, start, ts):
        return {"seen": jnp.float64(isinstance(start.Q, jax.core.Tracer))}

    assert (ld.sweep(level, PROBLEM, RULE, START, TS, over=over).seen == 1.0).all()


def test_keys_of_few_seeds_begin_those_of_many():
    few, many = (jax.random.key_data(jax.random.split(KEY, count)) for count in (16, 40))
    np.testing.assert_array_equal(few, many[:16])


def test_every_item_has_as_many_lanes():
    options = {"cost": None, "keywords": {}, "seeds": 5, "key": KEY}
    for chunk, lanes in ((1, 1), (3, 8), (8, 8), (12, 16), (64, 64)):
        plan = make_plan(
            rough, PROBLEM, RULE, START, TS, over={"lr": LRS}, chunk=chunk, **options
        )  # fmt: skip
        assert {item.lanes for item in plan.items} == {lanes}
        assert max(len(item.cells) for item in plan.items) == min(chunk, plan.cells)
        assert len(next(iter(run(plan, plan.items[:1]))).cells) == min(chunk, plan.cells)
