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
# # Beyond SGD: one problem, six learning rules
#
# Not every system that learns follows a gradient. A synapse may know its two cells and a reward; an
# experiment shakes a cell and waits for the outcome. This notebook gives one problem
# to six rules, one of them written here, and asks how fast each learns, what noise in the labels
# does to it, and whether the theory of a rule that nobody has worked out is right.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import learndyn as ld
from learndyn import rules, testing

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# The problem: a linear unit learns the sign of a teacher's field. Its error is the probability of a
# wrong decision, the angle θ between student and teacher over π.

# %%
problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
start = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])

# %% [markdown]
# ## A rule of your own, in five lines
#
# The perceptron learns from mistakes alone and then at full strength. A softer rule weighs each
# sample by how surprising its label is, with a sigmoid of the margin.


# %%
def soft(problem, sample, layers):
    margin = sample.y * sample.lam
    c = -sample.y * jax.nn.sigmoid(-margin)
    dv = jnp.zeros_like(c)
    return ld.Modulation(c, dv)


# %% [markdown]
# That is all. The other five are the library's: Hebb's rule counts each sample alike, the
# perceptron's only the wrong ones, AdaTron in proportion to how wrong they are. Node perturbation
# shakes the perceptron's field and sees what that does to the loss. `RewardPerceptron` is told
# nothing but whether three decisions in a row were all right.

# %%
six = {
    "Hebb": rules.Hebb(lr=1.0),
    "perceptron": rules.Perceptron(lr=1.0),
    "AdaTron": rules.AdaTron(lr=1.0),
    "node perturbation": rules.NodePerturbation(lr=1.0),
    "reward": rules.RewardPerceptron(episode=3, lr=1.0),
    "soft (our own)": ld.LocalRule(soft, lr=1.0),
}
ts = np.concatenate([[0.0], np.geomspace(0.1, 100.0, 46)])
clean = {name: ld.solve_ode(problem, rule, start, ts).eg for name, rule in six.items()}

# %% [markdown]
# ## Which rule learns fastest?

# %%
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, eg in clean.items():
    ax.plot(ts[1:], eg[1:], label=name, color="k" if "own" in name else None)
ax.set(xscale="log", yscale="log", xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$")
ax.legend(frameon=False, fontsize="small")
plt.show()

for name, eg in clean.items():
    slope = np.log(eg[-1] / eg[-6]) / np.log(ts[-1] / ts[-6])
    print(f"{name:>17}: error {eg[-1]:.5f} at the end, falling as alpha^{slope:.2f}")

# %% [markdown]
# Hebb's rule starts ahead, for it wastes no sample, and our own is the best in the middle. Late,
# the laws decide. AdaTron falls as 1.5/α. Hebb's rule falls as α^(-1/2), rewards almost so. The
# perceptron falls as α^(-1/3) only, because its steps do not shrink as its errors do. Node
# perturbation has the perceptron's mean step with three times the noise in it, and the same power.
#
# ## What do wrong labels do?
#
# One label in ten is now turned. Nothing is rewritten: flips belong to the teacher.

# %%
flipped = ld.Problem(ld.Linear(), ld.Sign(flip=0.1), ld.Perceptron())
noisy = {name: ld.solve_ode(flipped, rule, start, ts).eg for name, rule in six.items()}

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, eg in noisy.items():
    ax.plot(ts[1:], eg[1:], label=name, color="k" if "own" in name else None)
rest = np.arccos(0.8) / np.pi
ax.axhline(rest, color="grey", ls=":", label=r"$\arccos(0.8)/\pi$")
ax.set(xscale="log", yscale="log", xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$")
ax.legend(frameon=False, fontsize="small")
plt.show()

print(f"the perceptron rests at {noisy['perceptron'][-1]:.4f}; arccos(1 - 2p)/pi = {rest:.4f}")

# %% [markdown]
# The order is turned round. Hebb's rule averages over all samples and still goes to zero, and
# rewards follow it. The perceptron rests at a cosine of 1 − 2p, at every learning rate: no loss
# is smallest there. Node perturbation has the same mean step and the same state of rest; AdaTron is
# hardly worse. Our soft rule takes a surprising label seriously, but not without limit, and stops
# at half their error.
#
# ## Is the theory of our own rule right?
#
# Its ODE was never written down by anybody; averages over the two fields came from nodes. The other
# levels know nothing of that: SGD on 300 weights, the exact chain of overlaps, and the
# Langevin equation. The band is ± 2 standard deviations of a single run, from `fluctuations`.

# %%
own, n, times = six["soft (our own)"], 300, np.array([0.0, 1.0, 2.0, 4.0])
keys = jax.random.split(jax.random.key(0), 32)
weights = ld.weights_from_overlaps(keys[0], start, n)
levels = {
    "SGD on weights": lambda key: ld.simulate_sgd(problem, own, weights, times, key=key),
    "overlap chain": lambda key: ld.simulate_chain(problem, own, start, times, n=n, key=key),
    "Langevin": lambda key: ld.simulate_langevin(problem, own, start, times, n=n, key=key, dt=0.1),
}
spread = ld.fluctuations(problem, own, start, times, rtol=1e-4)
single = spread.std.eg / np.sqrt(n)
predicted = ld.solve_ode(problem, own, start, times)
theory = predicted.eg


def tell(name, means, stds):
    pairs = zip(means, stds, strict=True)
    print(f"{name:>14}:", ", ".join(f"{mean:.4f} ± {std:.4f}" for mean, std in pairs))


figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.plot(times, theory, "k-", label="ODE")
ax.fill_between(times, theory - 2 * single, theory + 2 * single, color="k", alpha=0.15, lw=0)
tell("theory", theory, single)
for shift, (name, level) in zip((-0.08, 0.0, 0.08), levels.items(), strict=True):
    eg = np.asarray(jax.vmap(level)(keys).eg)
    tell(name, eg.mean(0), eg.std(0))
    ax.errorbar(times + shift, eg.mean(0), 2 * eg.std(0), fmt="o", markersize=3, label=name)
ax.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$, ± 2 standard deviations of one run")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# By eye they agree. The verdict is a test that can fail: it does for a rate that is a fifth too
# large.

# %%
testing.assert_matches_ode(problem, own, start, times, key=keys[1], theory=predicted)
faster = ld.solve_ode(problem, ld.LocalRule(soft, lr=1.2), start, times)
try:
    testing.assert_matches_ode(problem, own, start, times, key=keys[1], theory=faster)
except AssertionError as error:
    print(error)
else:
    raise RuntimeError("the wrong theory was not caught")

# %% [markdown]
# ## How large should a rate be?
#
# A rate is an array leaf of its rule, so that one compiled program solves all of them. AdaTron's
# error falls as 3/((3η − η²)α): it is best at η = 3/2, and it fails at 3.

# %%
rates = np.linspace(0.4, 2.8, 25)
final = 300.0
solve = lambda lr: ld.solve_ode(problem, rules.AdaTron(lr=lr), start, [0.0, final]).eg[-1]
scaled = final * jax.vmap(solve)(jnp.asarray(rates))

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(rates, 3 / (3 * rates - rates**2), "k-", label=r"$3/(3\eta-\eta^2)$")
ax.plot(rates, scaled, "x", label=rf"ODE at $\alpha$ = {final:.0f}")
ax.set(xlabel=r"rate $\eta$", ylabel=r"$\alpha\,\epsilon_g$", ylim=(0, 6))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The same six lines of setup take the rules of larger students: `FeedbackAlignment`,
# `NodePerturbation`, `WeightPerturbation`, `Dropout`, `InputNoise` and `NaturalGradient`. The guide
# to your own rule says what a modulation may read.
