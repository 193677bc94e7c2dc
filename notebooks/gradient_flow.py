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
# # Gradient flow: lazy, rich, and one step at a time
#
# The other notebooks follow networks so wide in their input that a few overlaps describe them, and
# every sample is new. Here networks and data sets are finite. The network follows the gradient of
# its loss, θ' = −∂L/∂θ, and what it learns depends on where it starts. Four questions:
#
# 1. When does a network learn features, and when does it only reweigh those it was born with?
# 2. Why does a small start give a loss that falls in steps?
# 3. Many solutions fit the data. Which one does the flow find?
# 4. Which feature is learned first, and when?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import learndyn as ld
from learndyn import flow

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## Lazy and rich in one neuron
#
# One linear neuron, f(x) = a w·x, is the smallest network with two layers. A change of a to c a
# and of w to w/c leaves f as it is, and this symmetry has a conserved quantity, as Noether's
# theorem promises: δ = a² − |w|². It is fixed by the start. `linear_neuron` is the whole
# trajectory in closed form for whitened data, and `gradient_flow` integrates it for any data.

# %%
beta_star = jnp.array([1.0, 0.6])
data = flow.Data(jnp.sqrt(2.0) * jnp.eye(2), jnp.sqrt(2.0) * beta_star)  # xᵀx/n = 1
ts = np.linspace(0.0, 12.0, 241)
start = flow.LinearNeuron(0.8, [-0.3, 0.5])

run = flow.gradient_flow(start, data, ts)
a, w = flow.linear_neuron(start.a, start.w, beta_star, ts)
assert jnp.abs(run.model.a - a).max() < 1e-8

delta = jax.vmap(flow.conserved)(run.model)
print(f"δ = {delta[0]:.6f}, moved by {jnp.ptp(delta):.1e} along the run")
assert jnp.ptp(delta) < 1e-8

# %% [markdown]
# Now start a family of neurons at the same function and with different δ. `neuron_at` divides the
# coefficients β = a w between the layers so that a² − |w|² = δ: for positive δ the second layer is
# the larger one, for negative δ the first.

# %%
beta0 = jnp.array([-0.18, 0.3])


def neuron_at(delta):
    """(a, w) with a w = beta0 and a² − |w|² = δ."""
    a = jnp.sqrt(0.5 * (delta + jnp.sqrt(delta**2 + 4 * beta0 @ beta0)))
    return a, beta0 / a


deltas = jnp.linspace(-6.0, 6.0, 13)
a0, w0 = jax.vmap(neuron_at)(deltas)
long = np.linspace(0.0, 100.0, 5001)
a, w = jax.vmap(lambda a, w: flow.linear_neuron(a, w, beta_star, long))(a0, w0)
beta = a[..., None] * w
assert jnp.abs(beta[:, -1] - beta_star).max() < 1e-6

# %% [markdown]
# All of them end at β*, by different ways. With large positive δ, β moves on a straight line: w
# changes, a hardly does, and the feature w·x only follows what a needs. With large negative δ the
# direction of w hardly moves at first, so β runs along it, here back through the origin, because
# this start points away from β* as much as towards it. Then comes the slow part: w turns.
#
# The neural tangent kernel K(x, x') = ∇f(x)·∇f(x') makes "learning features" a number. A lazy
# network keeps its kernel. The distance of the last kernel from the first is 0 for large positive
# δ, where the kernel is δ x·x' whatever the direction of w. For negative δ it is nearly 1: lazy at
# first, and rich in the end.

# %%
family = jax.vmap(lambda a, w: flow.gradient_flow(flow.LinearNeuron(a, w), data, long))(a0, w0)
assert family.ok.all()

kernel = lambda a, w: flow.ntk(flow.LinearNeuron(a, w), data.x)
distance = jax.vmap(lambda a, w: flow.kernel_distance(kernel(a[0], w[0]), kernel(a[-1], w[-1])))
moved = np.asarray(distance(a, w))

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.2), layout="constrained")
for curve, colour in zip(beta, plt.get_cmap("coolwarm_r")(np.linspace(0, 1, 13)), strict=True):
    left.plot(*curve.T, color=colour, lw=1.2)
left.plot(*beta0, "ko", mfc="none")
left.plot(*beta_star, "k*", ms=9)
left.set(xlabel=r"$\beta_1$", ylabel=r"$\beta_2$", title="from blue, δ = 6, to red, δ = −6")
ld.plot.minima_manifold(family, beta_star, ax=middle)
ld.plot.kernel_distances(family, (a, w), x=data.x, ax=right)
plt.show()

assert (np.diff(moved) < 0).all()
print(f"distance of the kernels: δ = −6 {moved[0]:.2f}, 0 {moved[6]:.2f}, 6 {moved[-1]:.0e}")

# %% [markdown]
# ## Why a small start gives steps
#
# Take a linear network with two layers, f(x) = W₂ W₁ x, and start it from weights of size 1e-8. The
# origin is a saddle of the loss. Near it each direction of the data grows as an exponential whose
# rate is the strength of the correlation in that direction, so from a small start the strongest
# arrives long before the next one has grown to anything. Between two arrivals nothing changes but
# weights too small to see: a plateau.
#
# `linear_jumps` computes the plateaus and the times between them without integrating: at each
# plateau the network is the best map of its rank, and the times are in units of log(1/α).

# %%
generator = np.random.default_rng(0)
alpha = 1e-8
small = flow.LinearNetwork(
    [alpha * generator.normal(size=(4, 3)), alpha * generator.normal(size=(3, 4))]
)
moments = flow.Moments(np.eye(3), np.diag([3.0, 2.0, 1.0]))
steps = flow.linear_jumps(moments.sxx, moments.syx)
print("levels", steps.excess_loss, "times / log(1/α)", steps.times)

ts = np.linspace(0.0, 25.0, 501)
descent = flow.gradient_flow(small, moments, ts)
random_start = flow.linear_jump_times(*small.weights, moments).times
reached = flow.jump_times(descent, steps.loss, done=0.75)  # the mode is half learned
for row in zip(steps.times * np.log(1 / alpha), random_start, reached, strict=True):
    print("leading order {:6.3f}, from this start {:6.3f}, in the run {:6.3f}".format(*row))
assert np.abs(random_start - reached).max() < 2e-3

# %% [markdown]
# The leading order is universal: it knows α and nothing else of the start. What is left is a
# constant for each jump. `linear_jump_times` knows the constant too, for it looks at how much of
# each direction this start has.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
for size in (1e-2, 1e-4, 1e-8):
    scaled = jax.tree.map(lambda weights, size=size: weights * size / alpha, small)
    left.plot(ts, flow.gradient_flow(scaled, moments, ts).loss, label=f"α = {size:g}")
left.set(xlabel="t", ylabel="loss")
left.legend(frameon=False)
ld.plot.loss_curve(descent, steps, times=random_start, ax=right)
plt.show()

# %% [markdown]
# ## Which solution among many
#
# Twelve coefficients and six samples: infinitely many β fit the data. The network that is linear in
# its parameters would find the one of smallest norm. A diagonal network, β = u ⊙ v, computes the
# same functions, and from a small start it finds the one with the smallest sum of |β|, which is
# sparse. The flow is not told to be sparse; the product of two layers does it. (That the smallest
# sum is also the truth behind the labels is a matter of enough samples. Six are enough for these.)

# %%
generator = np.random.default_rng(2)
x = generator.standard_normal((6, 12))
sparse = np.zeros(12)
sparse[[2, 7]] = 1.5, -1.0  # the third and the eighth
y = x @ sparse
least_norm = np.linalg.pinv(x) @ y


def end_of_diagonal(alpha):
    """β after a long time, from u = √2 α and v = 0."""
    net = flow.DiagonalNetwork(np.full(12, np.sqrt(2) * alpha), np.zeros(12))
    end = flow.gradient_flow(net, flow.Data(x, y), [0.0, 400.0]).at(-1)
    return np.asarray(end.u * end.v)


figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for alpha, marker in ((10.0, "s"), (0.3, "^"), (1e-32, "o")):
    found = end_of_diagonal(alpha)
    ax.plot(found, marker, mfc="none", label=f"α = {alpha:g}, sum of |β| {np.abs(found).sum():.3f}")
    print(
        f"α = {alpha:g}: to the sparse one {np.linalg.norm(found - sparse):.1e}, to that of "
        f"least norm {np.linalg.norm(found - least_norm):.1e}"
    )
ax.plot(sparse, "k_", ms=12, label="sparse truth")
ax.plot(least_norm, "kx", ms=4, label="least norm")
ax.set(xlabel="coefficient", ylabel="β")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# From a large start nothing moves far, and the end is close to the solution of least norm. From a
# small start the end is the sparse truth, in the limit of α → 0. How small is small depends on the
# data: what is left over falls as a power of α, here a low one, and 1e-32 is no exaggeration.
#
# `diagonal_jumps` predicts the whole way for a start that tends to 0: which coefficient becomes
# active when, and to what values all of them then settle. Coefficients can be given up again.

# %%
steps = flow.diagonal_jumps(x, y)
assert np.allclose(x @ steps.beta[-1], y)
for time, before, after in zip(steps.times, steps.active[:-1], steps.active[1:], strict=True):
    print(
        f"t = {time:5.2f} log(1/α): on {1 + np.flatnonzero(after & ~before)}, "
        f"off {1 + np.flatnonzero(before & ~after)}"
    )

alpha = 1e-32
ts = np.linspace(0.0, 1.25 * steps.at(alpha)[-1], 801)
net = flow.DiagonalNetwork(np.full(12, np.sqrt(2) * alpha), np.zeros(12))
run = flow.gradient_flow(net, flow.Data(x, y), ts)

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
ld.plot.loss_curve(run, steps, ax=left)
ld.plot.coefficients(run, steps, ax=right)
plt.show()

# %% [markdown]
# ## Addition, one frequency after another
#
# Let the input be two shifted copies of a vector x of length p, shifted by a and by b, and the
# label x shifted by a + b modulo p. A network of neurons (u·x_a + v·x_b)² w can learn that. From a
# small start it learns one Fourier frequency of x at a time, the one of largest amplitude first.
# `modular_jumps` predicts the order, the times and the levels of the loss.

# %%
p, sites = 11, np.arange(11)
waves = {1: (6.0, 0.3), 2: (4.0, -1.0), 3: (2.8, 2.0)}  # frequency: amplitude, phase
x = sum(2 * r / p * np.cos(2 * np.pi * k * sites / p + s) for k, (r, s) in waves.items())
predicted = flow.modular_jumps(x)
print("order", predicted.frequencies, "levels", predicted.loss.round(3))

alpha, neurons = 0.03, 24
weights = np.random.default_rng(0).standard_normal((3, neurons, p))
weights *= alpha / np.sqrt(np.sum(weights**2, axis=(0, 2)))[None, :, None]
ts = np.linspace(0.0, 2.0 * predicted.at(alpha)[-1], 301)
run = flow.gradient_flow(flow.ModularAddition(*weights), flow.modular_data(x), ts, rtol=1e-6)
assert run.ok

# %% [markdown]
# The power of each frequency in the weights, over time, shows who is learned. Neurons from
# a random start must first turn towards a frequency, so the jumps come after the predicted times,
# which are those of neurons that start aligned; the levels are as predicted.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
ld.plot.loss_curve(run, predicted, alpha=alpha, ax=left)
ld.plot.frequency_powers(run, predicted, alpha=alpha, ax=right)
plt.show()

power = np.sum(np.abs(np.fft.fft(np.asarray(run.model.w), axis=-1)) ** 2, axis=1)
first = [ts[np.argmax(power[:, k] > 0.5 * power[-1, k])] for k in predicted.frequencies]
print("times at which they have half of their power:", np.round(first, 1))
assert (np.diff(first) > 0).all()
