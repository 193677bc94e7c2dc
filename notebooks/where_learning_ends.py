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
# # Where learning ends, and how it gets there
#
# A learning curve can be integrated. Some of its features need no integration: the error at which
# it ends, the plateau on the way, the moment it leaves the plateau, and the learning rate beyond
# which it never ends. They are properties of a few points in the space of overlaps, and
# `learndyn.asymptotics` computes them there. Here each one is held against the dynamics.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import learndyn as ld
from learndyn import asymptotics

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## The end of a noisy committee
#
# Two erf units learn from two, and every label carries noise of standard deviation 0.3. SGD keeps
# chasing the noise of the last samples, so the error settles above zero. `fixed_point` finds where
# it settles without integrating: it looks for overlaps at which the ODE stands still, near the
# state that it is given. `specialised_state(2)` is the state that would be final without noise.

# %%
noisy, rule = ld.Problem(noise=0.3), ld.SGD(lr=0.5)
start = ld.Overlaps([[0.3, 0.05], [0.05, 0.25]], [[0.32, 0.03], [0.02, 0.3]], jnp.eye(2))
end = asymptotics.fixed_point(noisy, rule, asymptotics.specialised_state(2))
assert end.result == ld.Result.SUCCESS

ts = jnp.linspace(0.0, 800.0, 201)
run = ld.solve_ode(noisy, rule, start, ts)
print(f"fixed point {end.eg:.8f}, ODE at alpha = 800 {run.eg[-1]:.8f}")
assert abs(run.eg[-1] / end.eg - 1) < 1e-6

# %% [markdown]
# The same point also determines how fast the end is approached. `stability` linearises the ODE
# there: every eigenvalue is negative, and the one closest to zero is the rate of the last stage.

# %%
near = asymptotics.stability(noisy, rule, end.state)
assert near.stable
print(f"slowest rate {near.growth:.4f} per unit alpha")

distance = np.abs(run.R - end.state.R).max(axis=(1, 2))
late = slice(50, 101)  # alpha = 200 to 400
measured = np.polyfit(ts[late], np.log(distance[late]), 1)[0]
assert abs(measured / near.growth - 1) < 0.05

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
left.semilogy(ts, run.eg, "k-", label="ODE")
left.axhline(float(end.eg), color="C1", ls="--", label="fixed point")
left.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$", xlim=(0, 300))
left.legend(frameon=False)
right.semilogy(ts, distance, "k-", label="ODE")
predicted = distance[50] * np.exp(near.growth * (ts - ts[50]))
right.semilogy(ts, predicted, "C1--", label="slope: the slowest eigenvalue")
right.set(xlabel=r"$\alpha$ = steps / n", ylabel="largest distance in R", ylim=(1e-7, 2))
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A closed form for weak noise
#
# For weak noise the end lies close to the specialised state, and the error is proportional to
# noise². Goldt et al. (2020), Eq. (10), give the factor for M teacher units and L superfluous
# student units: a rational function of the learning rate. `eg_specialised` is that function.
# `eg_response` knows nothing of it: it differentiates the ODE at the noiseless state and solves a
# linear system, for any activation, rule or state. They agree to rounding.

# %%
erf = ld.Problem()
for l in (0, 2):
    state = asymptotics.specialised_state(2, l)
    response = asymptotics.eg_response(erf, ld.SGD(lr=0.4), state)
    formula = asymptotics.eg_specialised(2, l, 0.4)
    print(f"L = {l}: response {response:.12f}, Eq. (10) {formula:.12f}")
    assert abs(response / formula - 1) < 1e-9

# %% [markdown]
# Superfluous units do harm. Each one fits noise and nothing else, and the final error grows with
# their number, as in Fig. 2a of that paper. The points below are ends of the dynamics.
# `solve_reduced` follows eight overlaps instead of all, since units that are alike stay alike; the
# sizes are data to it, so one compiled program serves every L.

# %%
sizes, weak = np.arange(9), 0.01


def end_of_reduced(l, lr):
    """Final eg / noise² by integrating the ODE from the specialised state."""
    specialised = asymptotics.SpecialisedOverlaps(2, l)
    times = jnp.array([0.0, 200.0 / lr])
    found = asymptotics.solve_reduced(
        ld.Problem(noise=weak), ld.SGD(lr=lr), specialised, times, rtol=1e-8, atol=1e-14
    )
    return float(found.eg[-1]) / weak**2


figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
for ax, lr in zip(axes, (0.05, 0.3), strict=True):
    ends = np.array([end_of_reduced(float(l), lr) for l in sizes])
    exact = asymptotics.eg_specialised(2, sizes, lr)
    first_order = asymptotics.eg_specialised_small_lr(2, sizes, lr)
    assert np.all(np.abs(ends / exact - 1) < 2e-3)
    print(f"lr = {lr}: Eq. (11) is low by {100 * (1 - first_order / exact).max():.0f} % at most")
    ax.plot(sizes, ends, "o", label="ODE, noise 0.01")
    ax.plot(sizes, exact, "k-", label="Eq. (10)")
    ax.plot(sizes, first_order, "C1--", label="Eq. (11), small lr")
    ax.set(xlabel="superfluous units L", ylabel=r"final $\epsilon_g$ / noise²", title=f"lr = {lr}")
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Eq. (11) is the first order in the learning rate. At a rate of 0.05 it is 15 % low at worst; at
# 0.3 and L = 8 it misses nearly nine tenths. The section on the critical learning rate says why:
# each superfluous unit brings the critical rate closer.
#
# ## The plateau, and when it ends
#
# Before all that comes the plateau, where every student unit has the same overlap with every
# teacher unit. It is a fixed point too, an unstable one. `plateau` gives it for any number of
# units, with the rate at which specialisation grows; `linearise` finds the same rate in the full
# set of overlaps.

# %%
lr = 1.0
symmetric = asymptotics.plateau(2, lr)
around = asymptotics.linearise(erf, ld.SGD(lr=lr), symmetric.state)
print(f"Q = {symmetric.q:.4f}, R = {symmetric.r:.4f}, eg = {symmetric.eg:.5f}")
print(f"growth of specialisation: {symmetric.rate:.5f} and {around.eigenvalues[0].real:.5f}")
assert abs(around.eigenvalues[0].real / symmetric.rate - 1) < 1e-8

# %% [markdown]
# Started exactly there, the ODE never leaves. A run at finite n does: its noise makes a
# perturbation of order 1/√n, which then grows at that rate. So the time of the escape is random,
# and its mean grows with log(n) / (2 rate). `escape_time` gives the mean, the constant added to the
# logarithm, and the whole distribution. Nothing is fitted below: the chains follow the exact law
# of SGD, and their exit is the time at which the error falls to half of its value on the plateau.

# %%
n = np.array([64.0, 256.0, 1024.0])
escape = asymptotics.escape_time(erf, ld.SGD(lr=lr), symmetric.state, n)
times = jnp.linspace(0.0, 240.0, 481)


@jax.jit
def errors(n, keys):
    """eg (runs, times) of chains that start on the plateau."""
    from_plateau = lambda key: ld.simulate_chain(
        erf, ld.SGD(lr=lr), symmetric.state, times, n=n, key=key
    )
    return jax.vmap(from_plateau)(keys).eg


keys = jax.random.split(jax.random.key(0), 64)
curves = [np.asarray(errors(jnp.asarray(size), keys)) for size in n]
below = [eg < 0.5 * eg[:, :1] for eg in curves]
assert all(b.any(axis=1).all() for b in below)  # every run has left
exits = np.array([times[b.argmax(axis=1)] for b in below])
mean, error = exits.mean(axis=1), exits.std(axis=1) / np.sqrt(len(keys))
for row in zip(n, mean, error, escape.mean, strict=True):
    print("n = {:5.0f}: chains {:6.1f} ± {:.1f}, predicted {:6.1f}".format(*row))
assert np.all(np.abs(mean - escape.mean) < 4 * error)

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
left.plot(times, curves[1][:12].T, color="C0", lw=0.8, alpha=0.6)
left.axhline(float(symmetric.eg), color="k", label="ODE: stays")
left.axvline(float(escape.mean[1]), color="C1", ls="--", label="mean escape, predicted")
left.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$", title="12 chains, n = 256")
left.set(xlim=(0, 200), ylim=(0, 0.034))
left.legend(frameon=False)
right.errorbar(n, mean, 2 * error, fmt="o", label="64 chains each, ± 2 errors")
right.plot(n, escape.mean, "C1--", label="log(n) / (2 rate) + constant")
right.set(xscale="log", xlabel="n", ylabel="mean escape time")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The critical learning rate
#
# How large may the learning rate be? Without noise the specialised state rests at every rate, but
# it is stable only below a critical one. `critical_lr` finds it from the ODE's Jacobian, for any
# problem. For erf committees it is also a zero of the denominator of Eq. (10): there the noise is
# amplified without bound.

# %%
critical = [asymptotics.critical_lr_specialised(2, l) for l in range(4)]
for l in (0, 2):
    found = asymptotics.critical_lr(erf, ld.SGD(lr=0.1), asymptotics.specialised_state(2, l))
    assert abs(found / critical[l] - 1) < 1e-8
print("L = 0 to 3:", ", ".join(f"{rate:.4f}" for rate in critical))

# %% [markdown]
# Each superfluous unit lowers it. The left figure shows Eq. (10) up to these rates. On the right
# the ODE starts from the specialised state with very weak noise, 5 % below the critical rate and
# 5 % above. Below, the error settles where the formula says. Above, it grows until it meets
# another state, with an error that the noise does not set: a third of the noise ends there too.

# %%
two = asymptotics.specialised_state(2)


def error_near_two(factor, noise):
    """eg(ts) from the specialised state at factor times the critical rate."""
    return ld.solve_ode(ld.Problem(noise=noise), ld.SGD(lr=factor * critical[0]), two, ts).eg


below_critical, above_critical = error_near_two(0.95, 0.003), error_near_two(1.05, 0.003)
stays = asymptotics.eg_specialised(2, 0, 0.95 * critical[0], 0.003)
assert abs(below_critical[-1] / stays - 1) < 0.01
assert above_critical[-1] > 100 * stays
assert abs(error_near_two(1.05, 0.001)[-1] / above_critical[-1] - 1) < 0.01

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
for l, limit in enumerate(critical):
    rates = np.linspace(0.01, 0.99, 99) * limit
    left.semilogy(rates, asymptotics.eg_specialised(2, l, rates), color=f"C{l}", label=f"L = {l}")
    left.axvline(float(limit), color=f"C{l}", ls=":")
left.set(xlabel="learning rate", ylabel=r"final $\epsilon_g$ / noise²")
left.legend(frameon=False)
right.semilogy(ts[1:], below_critical[1:], "C0-", label="0.95 of the critical rate")
right.semilogy(ts[1:], above_critical[1:], "C1-", label="1.05 of it")
right.axhline(float(stays), color="k", ls="--", label="Eq. (10) at 0.95")
right.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$", xlim=(0, 200))
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A rate that changes
#
# A high rate learns fast and ends badly; a low one is slow and ends well. For a given time there
# is a best compromise among constant rates, and a schedule does better. `optimal_schedule`
# differentiates the final error through the ODE and follows the gradient; it also returns the best
# constant rate and the best lr / (1 + α/τ).

# %%
best = asymptotics.optimal_schedule(
    noisy, ld.SGD(lr=0.1), start, 30.0, knots=7, steps=15, step_size=0.3
)
print(
    f"eg at alpha = 30: constant {best.constant.value:.5f}, inverse time "
    f"{best.inverse_time.value:.5f}, schedule {best.value:.5f}"
)
assert best.value < best.inverse_time.value < best.constant.value
assert best.gain > 1.3

horizon, knots = jnp.linspace(0.0, 30.0, 201), best.schedule.alpha
rate = best.constant.schedule(0.0)
constant = asymptotics.PiecewiseRate(knots, jnp.full_like(knots, rate))  # one program
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
for name, schedule, value, style in (
    ("best constant", constant, best.constant.value, "C1--"),
    ("best schedule", best.schedule, best.value, "C0-"),
):
    followed = ld.solve_ode(noisy, ld.SGD(lr=schedule), start, horizon)
    assert abs(followed.eg[-1] / value - 1) < 1e-4
    left.plot(horizon, jax.vmap(schedule)(horizon), style, label=name)
    right.semilogy(horizon, followed.eg, style, label=name)
left.set(xlabel=r"$\alpha$ = steps / n", ylabel="learning rate")
right.set(xlabel=r"$\alpha$ = steps / n", ylabel=r"$\epsilon_g$")
left.legend(frameon=False)
plt.show()

# %% [markdown]
# The schedule keeps the rate high while there is something to learn and lowers it at the end to
# let the noise average out. At a horizon of 30 that saves a quarter of the final error.
#
# ## Where to go from here
#
# - Train both layers, and superfluous units help instead of harming: `eg_denoising`.
# - ReLU, linear and normalised committees and weight decay have closed forms of their own:
#   `eg_relu`, `eg_linear`, `eg_normalised_small_lr`, `ridge`.
# - Any other activation: `fixed_point`, `eg_response` and `critical_lr` need no closed form.
# - [The reference](../docs/reference/asymptotics.md) lists which equation of the literature is
#   which function, and what each leaves out.
