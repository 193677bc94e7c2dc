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
# # First steps: theory on top of experiment
#
# You know how to train a network. This notebook shows a case where you can also *predict*, on
# paper, what training will do: not a bound, not a trend, but the whole learning curve.
#
# The trick is to let one network learn from another. A **teacher** with fixed random weights
# labels Gaussian inputs; a **student** of the same kind learns from those labels by online SGD,
# one fresh sample a step. Then nothing is unknown: there is no data set to blame, and "how well
# has it learned" means "how close is the student's function to the teacher's".

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import learndyn as ld

jax.config.update("jax_enable_x64", True)  # the theory needs float64

# %% [markdown]
# ## Ten lines
#
# Three hidden sigmoidal units learn from three, with 784 inputs (the size of an MNIST image).
# Time is counted in `alpha` = steps / n, because with n weights per unit a single sample can
# only teach about 1/n of what there is to know.
#
# Both sides begin at the same state: every student unit has a cosine of 0.2 with one teacher unit
# and none with the others. Why not at random weights? Because then *when* the student makes up its
# mind is a matter of luck, as we shall see below.

# %%
problem = ld.Problem(student=ld.Erf(), teacher=ld.Erf(), loss=ld.Squared(), noise=0.01)
rule = ld.SGD(lr=0.5)
ts = jnp.linspace(0.0, 200.0, 201)

start = ld.Overlaps(Q=jnp.eye(3), R=0.2 * jnp.eye(3), T=jnp.eye(3))
weights = ld.weights_from_overlaps(jax.random.key(2), start, n=784)
sgd = ld.simulate_sgd(problem, rule, weights, ts, key=jax.random.key(1))
theory = ld.solve_ode(problem, rule, start, ts)

ld.plot.learning_curve(ld.to_dataset(theory), ld.to_dataset(sgd))
plt.show()

# %% [markdown]
# The crosses are one run of SGD: a student with 2352 weights that saw 156 800 random samples. The
# line is the theory, an ODE with 15 variables that was solved in milliseconds and never saw a
# sample. Nothing was fitted.
#
# "On top of" is a claim, so it is tested. Theory also predicts how much a single run scatters, and
# `compare` measures every difference in units of that scatter:

# %%
verdict = ld.compare(theory, sgd)
verdict.attrs

# %% [markdown]
# The largest of some three thousand differences is well below the limit that a true theory exceeds
# once in a hundred such comparisons.
#
# ## What the theory keeps
#
# A unit sees an input x only through its **local field**, `w . x / sqrt(n)`. For Gaussian inputs
# the fields of all units are jointly Gaussian, and their covariance is made of **overlaps**:
#
# - `Q[i, i']` = w_i . w_i' / n, student with student,
# - `R[i, j]` = w_i . w*_j / n, student with teacher,
# - `T[j, j']` = w*_j . w*_j' / n, teacher with teacher, which never changes.
#
# So the error, and the average of every SGD step, are functions of Q and R alone. That closes
# the loop: Q and R decide how Q and R change. For large n their scatter vanishes and they follow
# the ODE that `solve_ode` solves.
#
# R also shows *what* was learned. Early on there is a **plateau**: every student unit has nearly
# the same overlap with every teacher unit, as if all of them learned the average teacher. Then
# the symmetry breaks, each unit picks one teacher unit, and the error falls: they **specialise**.

# %%
dataset = ld.to_dataset(sgd)
ld.plot.overlap_matrices(dataset, [0.0, 30.0, 100.0, 200.0], quantities=["R"])
plt.show()

# %% [markdown]
# `to_dataset` gives an [xarray](https://docs.xarray.dev) dataset: arrays with named dimensions,
# and with the whole setting (problem, rule, versions, time) in its attributes.

# %%
dataset

# %% [markdown]
# ## What chance decides
#
# Now let the weights be random, as they are when one trains a network. Then a student unit is
# nearer to one teacher unit than to the others by about 1/sqrt(n), and this small difference is
# all that leads away from the plateau. But the noise of SGD makes differences of the same size,
# whatever n. So when a run leaves the plateau is a matter of luck, and no smooth curve can say it.
#
# To see the luck, repeat the run. `simulate_chain` has the same law as SGD, and its cost does not
# grow with n; here are 32 runs from the overlaps of one random start.

# %%
random = ld.overlaps(ld.init_weights(jax.random.key(2), n=784, k=3, m=3))
later = jnp.linspace(0.0, 300.0, 301)
chance = ld.sweep(
    ld.simulate_chain, problem, rule, random, later, seeds=32, n=784, key=jax.random.key(4)
)
ld.plot.learning_curve(ld.to_dataset(ld.solve_ode(problem, rule, random, later)), chance)
plt.show()

# %% [markdown]
# On the plateau all runs lie on the line. Then they spread: at alpha = 300 the error of some is a
# tenth of others', and the ODE lies within the band, as one run among them would. (How the times
# of escape are distributed can be predicted, too: `ld.asymptotics.escape_time`.)
#
# ## How good is "theory"? Ask an ensemble
#
# One run scatters. The statement of the theory is about n to infinity, with an error of order
# 1/sqrt(n). To test it, start many runs from *exactly* the same overlaps at several n and look
# at how far Q and R are from the ODE, here until alpha = 5. `sweep` does the bookkeeping:
# `over` is a grid, `seeds` repeats each cell, and the result is one labelled dataset.

# %%
pair = ld.overlaps(ld.init_weights(jax.random.key(2), n=1000, k=2, m=2))
gentle = ld.SGD(lr=0.2)
times = jnp.linspace(0.0, 5.0, 6)
small = ld.Problem(noise=0.1)


def runs(problem, rule, start, ts, n, key):
    """SGD at input dimension n from weights with exactly the overlaps `start`."""
    weights_key, run_key = jax.random.split(key)
    weights = ld.weights_from_overlaps(weights_key, start, n=n)
    return ld.simulate_sgd(problem, rule, weights, ts, key=run_key)


sizes = [64, 192, 576]
experiment = ld.sweep(
    runs, small, gentle, pair, times, over={"n": sizes}, seeds=64, key=jax.random.key(3)
)
limit = ld.to_dataset(ld.solve_ode(small, gentle, pair, times))

squared = ((experiment.Q - limit.Q) ** 2).sum(["student", "student_"])
squared = squared + ((experiment.R - limit.R) ** 2).sum(["student", "teacher"])
distance = np.sqrt(squared)
worst = distance.mean("seed").max("alpha")
error = distance.std("seed").max("alpha") / np.sqrt(experiment.sizes["seed"])

constant = ld.fluctuations(small, gentle, pair, times).constant
blue, dark = ld.plot.EXPERIMENT, ld.plot.THEORY
plt.errorbar(worst.n, worst, error, fmt="x", color=blue, label="SGD, 64 runs each")
predicted = constant / np.sqrt(np.array(sizes))
plt.plot(sizes, predicted, color=dark, label="predicted: C / sqrt(n)")
plt.loglog()
plt.xticks(sizes, [str(n) for n in sizes], minor=False)
plt.minorticks_off()
plt.yticks([0.03, 0.06], ["0.03", "0.06"])
plt.xlabel("n")
plt.ylabel("distance from the ODE")
plt.legend()
plt.show()

# %% [markdown]
# The line is not a fit. Not only the slope -1/2 but also the constant in front of it is
# predicted, from the covariance that `fluctuations` computes along the ODE.
#
# ## A small sweep: what does a learning rate cost?
#
# With label noise the error never reaches zero: SGD keeps chasing the noise of the last samples.
# How high it floats depends on the learning rate. The ODE answers for a whole grid at once, all
# cells in one compiled program.

# %%
specialised = ld.Overlaps(Q=jnp.eye(2), R=jnp.eye(2), T=jnp.eye(2))  # student = teacher
final = ld.sweep(
    ld.solve_ode,
    problem,
    rule,
    specialised,
    jnp.array([0.0, 2000.0]),
    over={"lr": np.geomspace(0.02, 0.8, 9), "noise": [0.01, 0.1, 1.0]},
).eg.isel(alpha=-1)

for noise, marker in zip(final.noise.values, "osv", strict=True):
    curve = final.sel(noise=noise) / noise**2
    plt.loglog(final.lr, curve, marker, fillstyle="none", label=f"noise = {noise}")
plt.loglog(final.lr, final.lr / (np.pi * np.sqrt(3)), "--", color=dark, label="small lr, on paper")
plt.minorticks_off()
plt.xticks([0.02, 0.1, 0.5], ["0.02", "0.1", "0.5"])
plt.xlabel("learning rate")
plt.ylabel("final error / noise²")
plt.legend()
plt.show()

# %% [markdown]
# Divided by noise², the noise levels fall on one curve as long as the noise is small, and for a
# small learning rate that curve is the formula `lr m / (2 pi sqrt 3)` of Goldt et al. (2020),
# Eq. (11). Where they leave it, the *size* of the departure is physics too.
#
# Because the result is labelled, questions read like sentences:

# %%
ratio = final / (final.noise**2 * final.lr / (np.pi * np.sqrt(3)))
ratio.sel(noise=0.01).to_pandas()

# %% [markdown]
# ## Where to go from here
#
# - Any activation, loss or teacher is one small function: `ld.Problem(student=jnp.tanh, ...)`.
# - Train the second layer with `lr_second`, biases with `lr_bias`; add `weight_decay`,
#   `momentum`, batches, schedules: the theory follows.
# - `nox -s validate` repeats the comparison you saw here for many settings, with error bars and
#   with wrong theories that must fail.
