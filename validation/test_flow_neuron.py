"""One linear neuron: its flow in closed form, its kernel, and which of many solutions it learns."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import xarray as xr
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, compiled
from validation.measure.gaps import draw_gaps, gaps, generator, judge_gaps

from learndyn import flow
from learndyn.claims import Claim

SOURCE = "Kunin et al. 2024, Get rich quick"
SAMPLES, D = 3, 6
"""Fewer samples than inputs, so that there are many solutions."""

RATES = ((1.0, 1.0), (0.3, 2.0))
"""Learning rates of a and of w, equal and unequal."""


class Starts(NamedTuple):
    """Neurons and their data, one of each per run."""

    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    w: np.ndarray
    lr_a: np.ndarray
    lr_w: np.ndarray


@functools.cache
def flows() -> Callable:
    """run(starts, ts) -> a (runs, times), w (runs, times, d), by `gradient_flow`."""

    def run(start: Starts, ts: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = flow.Data(start.x, start.y, "sum")
        rates = {"a": start.lr_a, "w": start.lr_w}
        run = flow.gradient_flow(flow.LinearNeuron(start.a, start.w), data, ts, lr=rates)
        return run.model.a, run.model.w

    return compiled(jax.vmap(run, (0, None)), FOR_CHAINS)


def run_flows(start: Starts, last: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, a and w of all runs. The number of times is the same for all claims."""
    ts = np.linspace(0.0, last, 9)
    a, w = flows()(Starts(*map(jnp.asarray, start)), jnp.asarray(ts))
    return ts, np.asarray(a), np.asarray(w)


def first_layer(delta: float, lr_a: float, lr_w: float, sign: float) -> tuple[float, float]:
    """a and |w| of that delta: the layer that it makes larger is stretched."""
    a = np.sqrt(max(delta + 0.3 * lr_a, 0.1) / lr_w)
    return sign * a, np.sqrt((lr_w * a**2 - delta) / lr_a)


DELTAS = (-6.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 6.0)
"""Balances of both signs, from large ones to those near 0, where a formula may divide by it."""

CLOSED_MARGIN = 1e-7
"""The flow is integrated at rtol = 1e-10, and errors near a saddle grow by some hundreds."""


def riccati(start: np.ndarray, best: np.ndarray, ts: np.ndarray, sign: float) -> np.ndarray:
    """(ŵ; â) at ts, by eigenvectors of F; sign = -1 reverses delta."""
    d = sign * (start[-1] ** 2 - start[:-1] @ start[:-1])
    f = np.zeros((len(start), len(start)))
    f[:-1, :-1] = -d / 2 * np.eye(len(best))
    f[:-1, -1] = f[-1, :-1] = best
    f[-1, -1] = d / 2
    values, vectors = np.linalg.eigh(f)
    share = vectors.T @ start
    grown = np.exp(values * ts[:, None]) * share
    double = np.where(values == 0, 1.0, 2 * values)
    area = np.where(values == 0, ts[:, None], np.expm1(double * ts[:, None]) / double)
    return grown @ vectors.T / np.sqrt(1 + area @ share**2)[:, None]


def test_closed_form(lab: Lab) -> None:
    claim = Claim(
        id="flow-neuron-closed-form",
        family="flow",
        statement="The flow of a linear neuron on whitened data is one closed form for every delta",
        source=f"{SOURCE}; one formula for all delta derived here",
        setting=f"f = a w.x, {SAMPLES} orthogonal samples of equal norm in {D} dimensions, delta = "
        "lr_w a² - lr_a |w|² in {-6, -1, -0.001, 0, 0.001, 1, 6}, a of both signs, rates (1, 1) "
        "and (0.3, 2), up to t = 6",
        rule=f"a and w of `linear_neuron_data`, and of the same formula by a matrix exponential, "
        f"are within {CLOSED_MARGIN:g} of `gradient_flow` at 8 times.",
        control="The formula with the sign of delta reversed.",
    )

    def measure() -> xr.Dataset:
        rng = generator(lab.key(claim.id))
        cases = [(delta, lr, sign) for delta in DELTAS for lr in RATES for sign in (1, -1)]
        start = whitened(rng, cases)
        ts, a, w = run_flows(start, 6.0)
        named = [f"{delta:g}, {lr}, {sign:+d}" for delta, lr, sign in cases]
        plain = np.array([of_formula(row, ts) for row in zip(*start, strict=True)])
        found_a, found_w = closed_forms()(start, ts)
        found = np.concatenate([found_w, found_a[..., None]], axis=-1)
        flown = np.concatenate([w, a[..., None]], axis=-1)
        off = lambda one: np.abs(one - flown).max(axis=(1, 2))
        library, formula, control = off(found), off(plain[:, 0]), off(plain[:, 1])
        return gaps(named, np.maximum(library, formula), control)

    judge = judge_gaps(CLOSED_MARGIN, "Closed form against flow")
    lab.settle(claim, measure, judge, draw_gaps(CLOSED_MARGIN, "largest error of a and w"))


def whitened(rng: np.random.Generator, cases: list) -> Starts:
    """Data whose covariance is 1.7 times a projector, and neurons of the cases' delta."""
    x = np.sqrt(1.7) * np.linalg.qr(rng.standard_normal((D, SAMPLES)))[0].T
    y = x @ rng.standard_normal(D)
    y *= 1.7 * 1.2 / np.linalg.norm(x.T @ y)
    a, sizes = np.transpose([first_layer(delta, *lr, sign) for delta, lr, sign in cases])
    w = rng.standard_normal((len(cases), D))
    w *= (sizes / np.linalg.norm(w, axis=1))[:, None]
    lr_a, lr_w = np.transpose([lr for _, lr, _ in cases])
    many = lambda one: np.broadcast_to(one, (len(cases), *one.shape))
    return Starts(many(x), many(y), a, w, lr_a, lr_w)


def closed_forms() -> Callable:
    def one(start: Starts, ts: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = flow.Data(start.x, start.y, "sum")
        return flow.linear_neuron_data(data, start.a, start.w, ts, start.lr_a, start.lr_w)

    return compiled(jax.vmap(one, (0, None)), FOR_CHAINS)


def of_formula(row: tuple, ts: np.ndarray) -> list[np.ndarray]:
    """(w; a) (times, d + 1) by the matrix exponential: the right one, and the control."""
    x, y, a, w, lr_a, lr_w = row
    scale = x[0] @ x[0]
    best, seen = x.T @ y / scale, x.T @ (x @ w) / scale
    stretch, clock = (lr_w / lr_a) ** 0.25, np.sqrt(lr_a * lr_w) * scale
    hats = np.append(seen / stretch, a * stretch)
    found = []
    for sign in (1.0, -1.0):
        q = riccati(hats, best, clock * ts, sign)
        found.append(np.append(q[:, :-1] * stretch + (w - seen), q[:, -1:] / stretch, axis=1))
    return found


KERNEL_MARGIN = 1e-12
"""Both sides are sums of a few products: rounding leaves 1e-15."""


def test_kernel(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="flow-neuron-kernel",
        family="flow",
        statement="What preconditions the function of a linear neuron is its neural tangent "
        "kernel, a function of beta and delta alone",
        source=SOURCE,
        setting=f"40 random neurons, {SAMPLES} samples in {D} dimensions, rates log-normal",
        rule="X M Xᵀ with M of `preconditioner` is `ntk` with the rates folded in, relative to "
        f"{KERNEL_MARGIN:g}.",
        control="kappa = √(delta² + 4 |beta|²), without the rates.",
    )

    def measure() -> xr.Dataset:
        rng, runs = generator(lab.key(claim.id)), 40
        x, a = rng.standard_normal((SAMPLES, D)), rng.standard_normal(runs)
        w, rates = rng.standard_normal((runs, D)), np.exp(rng.standard_normal((2, runs)))
        delta = rates[1] * a**2 - rates[0] * np.sum(w**2, axis=1)
        beta = a[:, None] * w
        measured = kernels()(x, a, w, *rates)
        right = x @ preconditioners()(beta, delta, *rates) @ x.T
        wrong = x @ preconditioners()(beta, delta, *np.ones_like(rates)) @ x.T
        size = np.linalg.norm(measured, axis=(1, 2))
        off = [np.linalg.norm(one - measured, axis=(1, 2)) / size for one in (right, wrong)]
        return gaps([f"{one:.3g}" for one in delta], *off)

    judge = judge_gaps(KERNEL_MARGIN, "Kernel against preconditioner")
    lab.settle(claim, measure, judge, draw_gaps(KERNEL_MARGIN, "relative difference, by delta"))


def kernels() -> Callable:
    one = lambda x, a, w, lr_a, lr_w: flow.ntk(
        flow.LinearNeuron(a, w), x, flow.LinearNeuron(lr_a, lr_w)
    )
    return compiled(jax.vmap(one, (None, 0, 0, 0, 0)), FOR_CHAINS)


@functools.cache
def preconditioners() -> Callable:
    return compiled(jax.vmap(flow.preconditioner), FOR_CHAINS)


BIAS_MARGIN, LAST = 1e-6, 200.0
"""The slowest parts of beta fall as e^{-0.2 t}. Minimisation is right to 1e-8."""


def test_implicit_bias(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="flow-neuron-bias",
        family="flow",
        statement="A linear neuron learns the solution of Theorem 3.1, with the sign of its linear "
        "term turned where a changes sign",
        source=f"{SOURCE}, Theorem 3.1, corrected",
        setting=f"{SAMPLES} samples in {D} dimensions, 28 neurons with delta in "
        "{-6, -3, 3}, rates (1, 1) and (0.5, 2.7), the flow followed until it rests",
        rule="beta of `implicit_bias`, and the minimum of Psi(beta) - sgn(a(0) a(∞)) psi "
        f"beta(0).beta/|beta(0)| over all solutions, are within {BIAS_MARGIN:g} of |beta| of where "
        "the flow ends.",
        control="The minimum as printed, without the sign.",
    )

    def measure() -> xr.Dataset:
        start = with_many_solutions(generator(lab.key(claim.id)))
        _, a, w = run_flows(start, LAST)
        ends = a[:, -1:] * w[:, -1]
        flips = np.sign(a[:, 0] * a[:, -1])
        rows = list(zip(*start, strict=True))
        explicit = np.asarray(solutions()(*start))
        corrected = np.array([minimum(row, flip) for row, flip in zip(rows, flips, strict=True)])
        printed = np.array([minimum(row, 1.0) for row in rows])
        off = lambda beta: np.linalg.norm(beta - ends, axis=1) / np.linalg.norm(ends, axis=1)
        cases = [f"{i}, a {'changes' if flip < 0 else 'keeps'}" for i, flip in enumerate(flips)]
        return gaps(cases, np.maximum(off(explicit), off(corrected)), off(printed))

    judge = judge_gaps(BIAS_MARGIN, "Solution against the end of the flow")
    lab.settle(claim, measure, judge, draw_gaps(BIAS_MARGIN, "relative error of beta"))


def solutions() -> Callable:
    return compiled(jax.vmap(lambda *one: flow.implicit_bias(*one).beta), FOR_CHAINS)


def with_many_solutions(rng: np.random.Generator) -> Starts:
    """Starts that pull away from the solution for delta < 0, so that many must change sign."""
    runs = 28
    rows = [np.linalg.qr(rng.standard_normal((D, SAMPLES)))[0].T for _ in range(runs)]
    x = np.array(rows) * np.linspace(1.0, 1.5, SAMPLES)[:, None]
    y = rng.standard_normal((runs, SAMPLES))
    y *= 1.5 / np.linalg.norm(y, axis=1)[:, None]
    rates = np.array([(1.0, 1.0), (0.5, 2.7)] * (runs // 2))
    deltas = np.resize([-6.0, -6.0, -3.0, -3.0, 3.0, 3.0], runs)
    a, sizes = np.transpose(
        [first_layer(delta, *lr, 1.0) for delta, lr in zip(deltas, rates, strict=True)]
    )
    away = -np.einsum("rnd,rn->rd", x, y)
    w = rng.standard_normal((runs, D)) + away / np.linalg.norm(away, axis=1)[:, None]
    w *= (sizes / np.linalg.norm(w, axis=1))[:, None]
    return Starts(x, y, a, w, *rates.T)


def minimum(row: tuple, sign: float) -> np.ndarray:
    """argmin of Psi(beta) - sign psi beta0hat.beta over x beta = y, by BFGS in the null space."""
    x, y, a, w, lr_a, lr_w = row
    delta, rates = lr_w * a**2 - lr_a * w @ w, np.sqrt(lr_a * lr_w)
    kappa = lambda beta: np.hypot(delta, 2 * rates * np.linalg.norm(beta))
    psi = np.sqrt(kappa(a * w) - delta) * np.sign(a) * w / np.linalg.norm(w)
    free = np.linalg.svd(x)[2][len(y) :].T
    best = np.linalg.pinv(x) @ y

    def value(z: np.ndarray) -> tuple[float, np.ndarray]:
        beta = best + free @ z
        k = kappa(beta)
        potential = (k - 2 * delta) * np.sqrt(k + delta) / (3 * rates)
        slope = np.sqrt(k - delta) * beta / np.linalg.norm(beta) - sign * psi
        return potential - sign * psi @ beta, free.T @ slope

    start = np.zeros(free.shape[1])
    found = scipy.optimize.minimize(value, start, jac=True, options={"gtol": 1e-10}).x
    # BFGS stops where the value no longer falls; the root of the slope is sharper.
    found = scipy.optimize.root(lambda z: value(z)[1], found, tol=1e-12).x
    return best + free @ found
