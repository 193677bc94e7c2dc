"""What stands around the programs of a sweep: making problems, planning, and running what is warm.

The sweep is of the ODE over learning rate and noise, 32 x 32, erf, K = M = 1; against it the
same 1024 runs in one compiled vmap, with the answers asserted equal.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld
from learndyn.sweeps import make_plan

SIZE = 32
"""1024 cells: 16 programs' worth at the default chunk of 64."""

TS = jnp.linspace(0.0, 20.0, 21)
"""Short runs, so that what stands around the programs has a large share of the time."""

PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.1)
START = ld.Overlaps(Q=[[0.5]], R=[[0.1]], T=[[1.0]])  # quick, so that overhead would show
GRID = {"lr": np.linspace(0.1, 1.0, SIZE), "noise": np.linspace(0.0, 1.0, SIZE)}
"""Rates far below 4.06, the critical one of a single erf unit, so that no cell diverges."""

MOST_FOR_A_PROBLEM = 0.5e-3
"""Seconds: a user's script that makes thousands of problems should not notice it."""

MOST_FOR_A_PLAN = 0.5
"""Seconds for 10^5 cells: a wait that a person at a prompt accepts."""

MOST_OVER_VMAP = 2.0
"""Time of a warm sweep over that of one vmap: more than half of it should be computing."""


def user(x):
    return jnp.sin(x)


def test_making_a_problem(race, say):
    def make(*functions):
        return lambda: ld.Problem(*functions, noise=0.3).noise

    own, users = race(make(), make(user, user), rounds=200)
    say(f"Problem(noise=0.3): {1e3 * own:.3f} ms; of a user's functions: {1e3 * users:.3f} ms")
    assert ld.Problem(user, noise=0.3).student(jnp.array(0.5)) == jnp.sin(0.5)
    assert max(own, users) < MOST_FOR_A_PROBLEM


def plan(over):
    options = {"seeds": None, "key": None, "chunk": 64, "cost": None, "keywords": {}}
    return make_plan(ld.solve_ode, PROBLEM, RULE, START, TS, over=over, **options)


def test_planning_many_cells(race, say):
    over = {"lr": np.linspace(0.1, 1.0, 500), "weight_decay": np.linspace(0.0, 1.0, 200)}

    def cells():
        return np.concatenate([item.cells for item in plan(over).items])

    (seconds,) = race(cells, rounds=3)
    say(f"plan of 500 x 200 cells: {seconds:.3f} s")
    np.testing.assert_array_equal(np.sort(cells()), np.arange(100_000))
    assert seconds < MOST_FOR_A_PLAN


@eqx.filter_jit
@eqx.filter_vmap
def errors(lr, noise):
    return ld.solve_ode(ld.Problem(noise=noise), ld.SGD(lr=lr), START, TS).eg


def test_a_warm_sweep(race, say):
    lr, noise = (jnp.ravel(x) for x in jnp.meshgrid(*GRID.values(), indexing="ij"))

    def sweep():
        return ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over=GRID).eg.values

    def chunks():
        runs = range(0, SIZE**2, 64)
        return [errors(lr[i : i + 64], noise[i : i + 64]) for i in runs]

    seconds, once, parts = race(sweep, lambda: errors(lr, noise), chunks, rounds=10)
    say(
        f"warm sweep of {SIZE}² ODEs: {1e3 * seconds:.0f} ms; one vmap {1e3 * once:.0f} ms, "
        f"ratio {seconds / once:.2f}; in vmaps of 64 {1e3 * parts:.0f} ms"
    )
    expected = np.reshape(jax.device_get(errors(lr, noise)), (SIZE, SIZE, len(TS)))
    np.testing.assert_allclose(sweep(), expected, rtol=1e-9)
    assert seconds < MOST_OVER_VMAP * once
