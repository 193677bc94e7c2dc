"""The eight equations of the specialised ansatz, K = 4 ... 4096, next to the full ODE.

Half of the units are paired with a teacher unit, half are superfluous. Same start, times and
tolerances; the answers must agree wherever both run.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import learndyn as ld

SIZES = (4, 8, 16, 64, 256, 1024, 4096)
"""Student units, over three decades: a cost that grows with K would show."""

FULL = (4, 8, 16)
"""Sizes at which the full ODE still takes less than a second."""

TS = jnp.linspace(0.0, 100.0, 101)
"""At lr = 1/K the units are specialised by alpha = 100."""

PROBLEM = ld.Problem(noise=0.1)
"""Label noise keeps eg far above the 1e-8 to which the answers are compared."""


def start(k):
    shares = {"C": 0.1 / k, "S": 0.1 / k, "D": 0.1 / k, "U": 0.1 / k, "F": 0.1 / k}
    return ld.asymptotics.SpecialisedOverlaps(k // 2, k // 2, Q=0.8, R=0.7, E=0.3, **shares)


def rule(k):
    return ld.SGD(lr=1.0 / k)


def reduced(k):
    return ld.asymptotics.solve_reduced(PROBLEM, rule(k), start(k), TS).eg


@eqx.filter_jit
def solve(lr, state):
    return ld.solve_ode(PROBLEM, ld.SGD(lr=lr), state, TS).eg


def full(k):
    return solve(jnp.asarray(1.0 / k), start(k).expanded())


def test_cost_does_not_grow(race, say):
    times = {k: race(lambda k=k: reduced(k), rounds=5)[0] for k in SIZES}
    say(
        "reduced dynamics, erf, alpha <= 100: "
        + ", ".join(f"K = {k}: {1e3 * t:.1f} ms" for k, t in times.items())
    )
    assert all(np.isfinite(reduced(k)).all() for k in SIZES)
    assert times[SIZES[-1]] < 3 * times[SIZES[0]]


def test_against_the_full_ode(race, say):
    for k in FULL:
        miss = float(np.abs(reduced(k) - full(k)).max())
        assert miss < 1e-8
        few, many = race(lambda k=k: reduced(k), lambda k=k: full(k), rounds=2)
        say(
            f"K = {k}: reduced {1e3 * few:.2f} ms, full ODE {1e3 * many:.2f} ms, ratio "
            f"{many / few:.1f}, difference in eg {miss:.0e}"
        )
    assert many > few
