"""Count the bits of ODE solves that depend on the order or the grid of their sweep.

The tests compile without optimisations, so that no loop goes in vectors and hardly a bit differs;
this program compiles as XLA does by default. `python sweep_bits.py` prints, for widths that do
not fill vectors, the number of results that differ.
"""

import jax
import jax.numpy as jnp
import numpy as np

import learndyn as ld

TS = jnp.linspace(0.0, 6.0, 7)
PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
START = ld.Overlaps(
    Q=[[0.5, 0.1], [0.1, 0.6]], R=[[0.1, 0.02], [0.03, 0.15]], T=[[1.0, 0.0], [0.0, 1.0]]
)
LRS, NOISES = [0.1, 0.2, 0.5, 0.9], [0.0, 0.1, 0.3]


def order_parameters(lrs, noises, **keywords):
    over = {"lr": lrs, "noise": noises}
    return ld.sweep(ld.solve_ode, PROBLEM, RULE, START, TS, over=over, **keywords).Q.values


def differences(chunk):
    whole = order_parameters(LRS, NOISES, chunk=chunk)
    found = int((order_parameters(LRS[2:3], NOISES[1:], chunk=chunk) != whole[2:3, 1:]).sum())
    for number in range(3):
        draw = np.random.default_rng(number).random
        mixed = order_parameters(LRS, NOISES, chunk=chunk, cost=lambda _, draw=draw: draw())
        found += int((mixed != whole).sum())
    return found


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for chunk in (3, 7, 12):
        print(chunk, differences(chunk), flush=True)
