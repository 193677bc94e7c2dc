"""When a plateau ends: the escape from an unstable fixed point, driven by finite n alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, is_concrete, require_at_least
from learndyn._readable import ReadableResult
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics.fixed_points._flow import (
    AveragesOption,
    error_of,
    fixed_flow,
    require_fixed_point,
)
from learndyn.asymptotics.fixed_points._linearise import Linearisation, linearise
from learndyn.averages import AbstractNodes, NodeAverages
from learndyn.dynamics import OverlapFlow, solve_ode
from learndyn.dynamics._diffusion import diffusion, noise_averages, require_no_slow_momentum
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps

_LEADING = 0.99
"""Modes that grow at least this fast, relative to the fastest, decide where the escape goes."""

_UNSTABLE = 1e-9
"""A growth rate below this times the largest |eigenvalue| is rounding of a neutral direction."""

_START = 1e-4
"""Amplitude of the unstable modes from which the ODE is solved: so small that growth up to there is
exponential, to a relative error of the same size."""

_TIMES, _PATIENCE = 4001, 30.0
"""Times of that solve, between which the exit is interpolated; and how long it goes on, in units of
1 / rate, after the modes could have reached amplitude 1."""


class EscapeTimes(ReadableResult):
    """Times at which eg falls to a fraction of its value on the plateau, started on it exactly.

    Attributes:
        n: (sizes,).
        mean, std: (sizes,) over runs, in units of alpha.
        rate: growth of the fastest mode, so that mean = log(n) / (2 rate) + constant.
        constant: what the mean time has besides log(n) / (2 rate).
        samples: (runs, sizes).

    Example:
        >>> point, n = asymptotics.plateau(2, 0.4), [100, 10000]
        >>> times = asymptotics.escape_time(ld.Problem(), ld.SGD(lr=0.4), point.state, n=n)
        >>> times.mean.shape, bool(jnp.isclose(times.rate, point.rate))
        ((2,), True)
    """

    n: Float[Array, " sizes"]
    mean: Float[Array, " sizes"]
    std: Float[Array, " sizes"]
    rate: Float[Array, ""]
    constant: Float[Array, ""]
    samples: Float[Array, "runs sizes"]


def escape_time(
    problem: Problem,
    rule: AbstractRule,
    state: Overlaps,
    n: RealLike,
    *,
    fraction: RealLike = 0.5,
    runs: CountLike = 256,
    averages: AveragesOption = None,
    noise_nodes: AbstractNodes | None = None,
) -> EscapeTimes:
    """How long learning at input dimension n stays at the unstable fixed point `state`.

    The noise of finite n starts the unstable modes at random amplitudes of order 1/sqrt(n): as if
    at time 0 they were N(0, S)/sqrt(n), with rate S + S rate = their part of the diffusion matrix.
    From there they grow at the plateau's rate, and the ODE from a small amplitude in the same
    direction says when eg falls to `fraction` of its value on the plateau.

    Equation: mean = log(n) / (2 rate) + constant.

    Error: O(1/n), as long as 1/sqrt(n) is small against the amplitude of the exit; modes slower by
    more than 1 % are left out.

    Range: n large enough for that: below, times come out too short and may be negative.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        state: an unstable fixed point, such as `plateau(m, lr).state`.
        n: a number or (sizes,) of them.
        fraction: 0 < fraction < 1.
        runs: how many random amplitudes stand for all.
        averages: how to average over the fields, as for `solve_ode`; None chooses.
        noise_nodes: nodes for the diffusion matrix; None chooses.

    Raises:
        ValueError: where `state` is not a fixed point or is stable, where eg never falls so far,
            for bad values. Not under jit.

    Source:
        Saad & Solla, PRE 52, 4225 (1995); Biehl, Riegler & Wöhler, J. Phys. A 29, 4769 (1996), for
        log n; the constant and the distribution are derived here.

    Example:
        >>> point = asymptotics.plateau(2, 0.4)
        >>> problem, rule = ld.Problem(), ld.SGD(lr=0.4)
        >>> times = asymptotics.escape_time(problem, rule, point.state, n=[100, 10000])
        >>> gain = times.mean[1] - times.mean[0]
        >>> round(float(gain), 2), round(float(jnp.log(100.0) / (2 * point.rate)), 2)
        (90.2, 90.2)
    """
    require_no_slow_momentum(rule, "escape_time")
    if not is_concrete(problem, rule, state, n, fraction):
        raise ValueError("escape_time counts modes, so it needs concrete values: not under jit.")
    n = jnp.atleast_1d(as_float(n, "n"))
    require_at_least(n, 1.0, "n", "an input dimension")
    fraction = as_float(fraction, "fraction")
    if fraction.ndim or not 0 < float(fraction) < 1:
        raise ValueError(
            "fraction must be one number, 0 < fraction < 1 (of the plateau's eg: the escape is "
            f"over when eg has fallen so far); got {fraction}. Use 0.5, say."
        )
    runs = as_count(runs, "runs", "sampled escapes", 2)
    near = linearise(problem, rule, state, averages=averages)
    require_fixed_point(near.flow, near.flow.pack(state), "escape_time")
    rate, modes, spread = _unstable(near, noise_averages(problem, rule, state, noise_nodes))
    amplitudes = _samples(spread, runs)
    sizes = np.linalg.norm(amplitudes, axis=1)
    directions, which = np.unique(
        np.round(amplitudes / sizes[:, None], 12), axis=0, return_inverse=True
    )
    setting = {"function": "escape_time", "averages": averages}
    flow = fixed_flow(problem, rule, state, moving=True, **setting)
    exits = _exit_times(flow, jnp.asarray(_START * directions @ modes.T), fraction, rate)
    if not bool(jnp.isfinite(exits).all()):
        raise ValueError(
            f"escape_time: eg does not fall to {float(fraction):g} of its value at the fixed point "
            "on every way out. Choose a larger fraction, below 1."
        )
    # From amplitude |xi| / sqrt(n) at time 0 to _START, and on from there.
    waiting = np.log(_START * np.sqrt(np.asarray(n)) / sizes[:, None]) / rate
    samples = np.asarray(exits)[which.ravel()][:, None] + waiting
    mean = samples.mean(axis=0)
    return EscapeTimes(
        n=n,
        mean=jnp.asarray(mean),
        std=jnp.asarray(samples.std(axis=0)),
        rate=jnp.asarray(rate),
        constant=jnp.asarray(mean[0] - np.log(float(n[0])) / (2 * rate)),
        samples=jnp.asarray(samples),
    )


def _unstable(near: Linearisation, nodes: NodeAverages) -> tuple[float, np.ndarray, np.ndarray]:
    """The fastest rate, an orthonormal basis (p, modes) of what grows at it, and the covariance
    of n times the squared amplitudes there that amount to the noise of all times."""
    matrix, y = np.asarray(near.jacobian), near.flow.pack(near.state)
    values, vectors = np.linalg.eig(matrix)
    rate = np.real(values).max()
    if not rate > _UNSTABLE * np.abs(values).max():
        raise ValueError(
            f"escape_time needs an unstable fixed point; the largest growth here is {rate:.3g} "
            "per unit alpha, so nothing escapes."
        )
    leading = np.real(values) >= _LEADING * rate
    # Spectral projector on the leading modes, and an orthonormal basis of its range
    projector = (vectors[:, leading] @ np.linalg.inv(vectors)[leading]).real
    modes = np.linalg.svd(projector)[0][:, : int(leading.sum())]
    onto = modes.T @ projector
    noise = onto @ np.asarray(diffusion(near.flow, nodes, jnp.zeros(()), y)) @ onto.T
    # Lyapunov's equation: d Cov/dalpha = G Cov + Cov G^T + noise has Cov = exp(G alpha) S
    # exp(G alpha)^T at late times.
    spread = scipy.linalg.solve_continuous_lyapunov(modes.T @ matrix @ modes, noise)
    return float(rate), modes, spread


def _samples(spread: np.ndarray, runs: int) -> np.ndarray:
    """Amplitudes (runs, modes) ~ N(0, spread): quantiles of a single mode, else fixed draws."""
    if len(spread) == 1:
        # Quantiles at the midpoints of equal probabilities, in place of draws: no sampling error
        levels = (np.arange(runs) + 0.5) / runs
        normal = scipy.special.ndtri(levels)[:, None]
    else:
        normal = np.random.default_rng(0).normal(size=(runs, len(spread)))
    return normal @ np.real(np.asarray(scipy.linalg.sqrtm(spread))).T


@eqx.filter_jit
def _exit_times(
    flow: OverlapFlow, starts: Float[Array, "s p"], fraction: Array, rate: Array | float
) -> Float[Array, " s"]:
    """When eg first falls to fraction times its value at the fixed point, from y + starts."""
    y = flow.pack(flow.start)
    level = fraction * error_of(flow, flow.start)
    ts = jnp.linspace(0.0, (np.log(1 / _START) + _PATIENCE) / rate, _TIMES)

    def exit_time(change: Array) -> Array:
        start = flow.unpack(y + change)
        run = solve_ode(flow.problem, flow.rule, start, ts, averages=flow.averages)
        below = run.eg < level
        i = jnp.maximum(jnp.argmax(below), 1)
        before, after = run.eg[i - 1], run.eg[i]
        # Linear interpolation between saved times
        time = ts[i - 1] + (ts[i] - ts[i - 1]) * (before - level) / (before - after)
        return jnp.where(jnp.any(below), time, jnp.nan)

    return jax.vmap(exit_time)(starts)
