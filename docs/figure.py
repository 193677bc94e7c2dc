"""Draws docs/assets/sgd-and-theory.png: `python docs/figure.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import learndyn as ld

jax.config.update("jax_enable_x64", True)

problem = ld.Problem(ld.Erf(), ld.Erf(), noise=0.01)
rule = ld.SGD(lr=0.5)
ts = jnp.linspace(0.0, 300.0, 151)
colours = {2: "#0072B2", 3: "#009E73", 5: "#D55E00"}

with ld.plot.style():
    figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for k, colour in colours.items():
        # Each unit begins a little nearer to one teacher: from random weights the time at which a
        # run leaves its plateau is a matter of luck, whatever n, and no curve can say it.
        start = ld.Overlaps(Q=jnp.eye(k), R=0.2 * jnp.eye(k, 3), T=jnp.eye(3))
        weights = ld.weights_from_overlaps(jax.random.key(2), start, n=784)
        theory = ld.solve_ode(problem, rule, start, ts)
        sgd = ld.simulate_sgd(problem, rule, weights, ts, key=jax.random.key(1))
        ax.plot(theory.alpha, theory.eg, color=colour)
        ax.plot(sgd.alpha[::5], sgd.eg[::5], "x", color=colour, ms=5)
        ax.annotate(
            f"k = {k}",
            (300, float(theory.eg[-1])),
            (6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    ax.plot([], [], "k-", label="theory: the ODE, n → ∞")
    ax.plot([], [], "kx", label="experiment: one run of SGD each, n = 784")
    ax.set(yscale="log", xlabel=r"$\alpha$ = steps / $n$", ylabel="generalisation error")
    ax.legend(frameon=False)
    figure.savefig(Path(__file__).parent / "assets" / "sgd-and-theory.png", dpi=150)
