# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A theory of your own, and how to find out whether it is right
#
# You have changed something: an activation, a loss, a learning rule, an approximation. There is a
# prediction now, and you would like to know whether runs follow it. "The curves look alike" is
# not an answer: at 1000 inputs a single run scatters by a few per cent, and a missing term often
# hides below that. Three lines give the answer, with the statistics done for you.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import learndyn as ld
from learndyn import testing

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## A new activation
#
# Swish, x / (1 + exp(-x)), has no closed-form averages. Nothing has to be derived: a `Problem`
# with any function is simulated *and* predicted.

# %%
swish = lambda x: x * jax.nn.sigmoid(x)
problem = ld.Problem(swish, swish, noise=0.1)
rule = ld.SGD(lr=0.5)
start = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], jnp.eye(2))
key = jax.random.key(0)

found = testing.assert_matches_ode(problem, rule, start, [0.0, 1.0, 2.0, 4.0], key=key)

# %% [markdown]
# No complaint, so it holds: at each time the mean of 256 runs at n = 1000 is *shown* to lie
# within half a standard deviation of a single run from the ODE (two one-sided tests). Too few runs
# would have failed, not passed. What was found:

# %%
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ts = np.linspace(0.0, 4.0, 81)
ax.plot(ts, ld.solve_ode(problem, rule, start, ts).eg, "k-", label="ODE")
ax.errorbar(found.alpha, found.mean, 2 * found.error, fmt="o", label="256 runs, ± 2 errors")
ax.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A wrong theory is caught
#
# A popular shortcut is gradient flow: drop the term in lr² of dQ/dα, the noise of single
# samples. Here it is as a rule with enormous batches. The assertion must fail, and say by how
# much; a test that cannot fail shows nothing.

# %%
times = np.array([0.0, 1.0, 2.0, 4.0])
gradient_flow = ld.solve_ode(problem, ld.SGD(lr=0.5, batch_size=1_000_000), start, times)
try:
    testing.assert_matches_ode(problem, rule, start, times, key=key, theory=gradient_flow)
except AssertionError as error:
    print(error)
else:
    raise RuntimeError("the wrong theory was not caught")

# %% [markdown]
# ## A new learning rule
#
# A learning rule says what a step makes of one sample: how much of the input each unit learns, c,
# and how its second-layer weight moves, dv. Here is one made up for this page: gradient descent
# that looks at the sign of its error alone. `problem.signals` gives g(λ), g'(λ) and, for squared
# loss, the error φ − y.


# %%
def sign_of_error(problem, sample, layers):
    g, dg, error = problem.signals(sample.lam, sample.y, layers)
    return ld.Modulation(layers.v * dg * jnp.sign(error), g * jnp.sign(error))


signs = ld.LocalRule(sign_of_error, lr=0.5)

# %% [markdown]
# Rates, schedules, weight decay, batches and momentum are those of `SGD`. The rule runs at all four
# levels of description; nobody has derived its ODE.

# %%
n, keys = 500, jax.random.split(key, 32)
weights = ld.weights_from_overlaps(key, start, n)
levels = {
    "SGD on weights": lambda key: ld.simulate_sgd(problem, signs, weights, times, key=key),
    "overlap chain": lambda key: ld.simulate_chain(problem, signs, start, times, n=n, key=key),
    "Langevin": lambda key: ld.simulate_langevin(
        problem, signs, start, times, n=n, key=key, dt=0.1
    ),
}
predicted = ld.solve_ode(problem, signs, start, ts)

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(ts, predicted.eg, "k-", label="ODE")
ax.plot(ts, ld.solve_ode(problem, rule, start, ts).eg, "k:", label="ODE of gradient descent")
for shift, (name, level) in zip((-0.06, 0.0, 0.06), levels.items(), strict=True):
    eg = jax.vmap(level)(keys).eg
    error = eg.std(axis=0) / np.sqrt(len(keys))
    print(name, ", ".join(f"{m:.4f} ± {e:.4f}" for m, e in zip(eg.mean(0), error, strict=True)))
    ax.errorbar(times + shift, eg.mean(axis=0), 2 * error, fmt="o", markersize=3, label=name)
print("ODE", np.round(predicted.eg[::20], 4))
ax.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Whether that is agreement is again not for the eye to say:

# %%
testing.assert_matches_ode(problem, signs, start, times, key=key)

# %% [markdown]
# ## How fast does it become exact?
#
# The distance of a run from the ODE shrinks like 1/√n (the concentration theorem). For a theory
# with a wrong term it would level off instead. This runs hundreds of networks at each of seven
# sizes; it takes seconds because it simulates their overlaps, not their weights.

# %%
scaling = testing.assert_concentrates(problem, rule, start, key=key, horizon=2.0)
print(f"exponent {scaling.slope:.3f} ± {scaling.slope_error:.3f}")

figure, ax = plt.subplots(figsize=(4.5, 3), layout="constrained")
ax.errorbar(scaling.x, scaling.y, 2 * scaling.y_error, fmt="o")
ax.plot(scaling.x, scaling.y[-1] * (scaling.x / scaling.x[-1]) ** -0.5, "k-", label="1/√n")
ax.set(xscale="log", yscale="log", xlabel="n", ylabel="mean distance from the ODE")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Exponents of your own measurements go through the same test:

# %%
sizes = np.array([100.0, 200.0, 400.0, 800.0])
spread = 2.0 / sizes * np.random.default_rng(0).gamma(4.0, 0.25, (1000, 4))
testing.assert_scaling(sizes, spread, -1.0)
