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
# # Two tasks: what is forgotten, and what helps
#
# A student learns from one teacher, and then from another. The two teachers have an overlap V, so
# that the similarity of the tasks is one number. Theory follows both errors exactly as n grows, and
# chains of finite n show the scatter. This page asks three questions. How much of the first task is
# forgotten, as V changes? Does replay help? In which order should one learn?

# %%
import math

import jax
import matplotlib.pyplot as plt
import numpy as np

import learndyn as ld

jax.config.update("jax_enable_x64", True)

tasks = [ld.Task(ld.Problem(), [1.0, 0.0], head=0), ld.Task(ld.Problem(), [0.0, 1.0], head=1)]
rule = ld.SGD(lr=1.0, lr_second=1.0)  # both layers; each task has its own second layer
heads = np.array([[0.1, -0.05], [0.05, 0.1]])
a, b = np.array([0.1, -0.05]), np.array([0.08, 0.06])


def start(v):
    """Two erf units that know little of two teachers with the overlap v."""
    r = 0.3 * np.stack([a, v * a + math.sqrt(1 - v**2) * b], axis=1)
    return ld.Overlaps(Q=[[0.09, 0.009], [0.009, 0.09]], R=r, T=[[1.0, v], [v, 1.0]])


# %% [markdown]
# ## One switch
#
# The first task until α = 30, then the second alone. `ld.learn` takes the same tasks at every
# level; the level is its first argument.

# %%
ts = np.linspace(0.0, 90.0, 91)
switch = [(30.0, (1, 0)), (60.0, (0, 1)), (math.inf, (0, 1))]
theory = ld.to_dataset(ld.learn("ode", tasks, rule, start(0.5), ts, heads, switch))
chain = lambda key: ld.learn("chain", tasks, rule, start(0.5), ts, heads, switch, n=300, key=key)
runs = jax.vmap(chain)(jax.random.split(jax.random.key(0), 16))
runs = ld.to_dataset(runs, over={"seed": range(16)})
ld.plot.overview(theory, runs)
plt.show()

# %% [markdown]
# The strip on top shows which task is learned. After the switch the first error rises to almost
# what it was in the beginning. The second panel says why: the student's first unit had learned the
# first teacher (blue), and the second task takes the same unit (orange), because it was of some use
# from the start.
#
# ## Similarity
#
# Now every similarity from 0 to 1. Forgetting is the rise of the first error since the switch, and
# it is drawn at three times after it.

# %%
similarities = np.linspace(0.0, 1.0, 26)
# As many times as above, 91, so that one compiled program serves both; all tens are among them.
late = np.concatenate([np.linspace(0.0, 150.0, 16), np.geomspace(160.0, 1100.0, 75)])


def forgetting(v, replay):
    """How much larger the first error is 10, 50 and 1000 after the switch at 100."""
    schedule = [(100.0, (1, 0)), (2000.0, (replay, 1 - replay)), (math.inf, (replay, 1 - replay))]
    run = ld.to_dataset(ld.learn("ode", tasks, rule, start(v), late, heads, schedule))
    forgotten = run.learndyn.forgetting(since=100.0).isel(task=0)
    return forgotten.sel(alpha=[110.0, 150.0, 1100.0]).values


forgotten = np.array([forgetting(v, 0.0) for v in similarities])
replayed = np.array([forgetting(v, 0.2) for v in similarities])
_, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
panels = {"second task alone": forgotten, "20 % replay": replayed}
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    for column, horizon in zip(values.T, (10, 50, 1000), strict=True):
        ax.plot(similarities, column, label=f"{horizon} after the switch")
    ax.set(xlabel="similarity V of the teachers", title=title)
axes[0].set_ylabel("forgetting of the first task")
axes[0].legend(frameon=False)
plt.show()
worst = similarities[forgotten.argmax(axis=0)]
print("most is forgotten at V =", worst, "after 10, 50, 1000")

# %% [markdown]
# Forgetting is largest at intermediate similarity, whenever one looks. *Where* depends on when:
# near 0.55 soon after the switch, near 0.2 after a long time, when unrelated tasks have been
# overwritten too. With one step in five for the first task, much less is lost, and after a long
# time nothing.
#
# ## In which order?
#
# Replay costs time that the second task could use. Here are four ways to spend the same 60 units of
# time after the switch, judged by the mean error of both tasks at the end.

# %%
protocols = {
    "new task alone": [(0.0, 1.0), (0.0, 1.0)],
    "a quarter replay": [(0.25, 0.75), (0.25, 0.75)],
    "half and half": [(0.5, 0.5), (0.5, 0.5)],
    "new task, then half and half": [(0.0, 1.0), (0.5, 0.5)],
}
_, ax = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for name, (middle, end) in protocols.items():
    schedule = [(30.0, (1, 0)), (45.0, middle), (math.inf, end)]
    run = ld.learn("ode", tasks, rule, start(0.5), ts, heads, schedule)
    both = np.asarray(run.eg_tasks).mean(axis=1)
    ax.plot(ts, both, label=name)
    print(f"{name}: {both[-1]:.5f}")
ax.set(yscale="log", xlabel=r"$\alpha$ = steps / n", ylabel="mean error of both tasks")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# First to focus on the new task and then to mix is the best of these four, although the mean error
# is larger in between. Which order is best of all is a question of optimal control; with the
# equations it is one of gradient descent (Mori and colleagues 2025).
#
# ## Teachers that wander
#
# Tasks may also change slowly. `ld.Drift` turns the teachers a little after each step: their
# overlap T decays, and the error comes to rest above zero.

# %%
both = [ld.Task(ld.Problem(), [1.0, 1.0])]
near = ld.Overlaps(Q=np.eye(2), R=0.9 * np.eye(2), T=np.eye(2))
for rate in (0.001, 0.01, 0.02, 0.03, 0.1):
    run = ld.learn("ode", both, ld.SGD(lr=0.5), near, [0.0, 3000.0], drift=ld.Drift(rate))
    gap = float(run.R[-1, 0, 0] - run.R[-1, 0, 1])
    print(f"drift {rate:g}: error {float(run.eg[-1]):.4f}, R_11 - R_12 = {gap:.3f}")

# %% [markdown]
# Beyond a drift of about 0.03 the two units cannot tell their teachers apart any more:
# specialisation is gone altogether, as in a phase transition (Straat and colleagues 2018).
