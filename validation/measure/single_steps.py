"""Single steps of SGD on weights, written out once more: what printed equations are held to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from validation.lab.compiling import XlaOptions
from validation.measure.theory import drift_at

import learndyn as ld

N, LR, NOISE = 600, 1.0, 0.5
"""At this N a step's mean misses f/N by less than 0.2 of a standard error of 100 000 steps. At 200
it was 0.55 with biases, as 120 seeds show."""

OVERLAPS = ([[0.3, 0.05], [0.05, 0.25]], [[0.12, 0.03], [0.02, 0.1]], [[1.0, 0.0], [0.0, 1.0]])
"""A start without any symmetry, at which every term of the equations counts."""
BIASES = {"b": [0.2, -0.3], "b_teacher": [0.5, -0.5]}
"""Large enough for averages over fields with and without biases to be told apart."""
ENTRIES = ("Q11", "Q12", "Q22", "R11", "R12", "R21", "R22")

BLOCK = 250
"""Steps in one call: their inputs, `BLOCK` times `N` numbers, take 1.2 MB."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of an erf committee with k = m = 2: batch size, decay, and whether it has biases."""

    batch_size: int = 1
    decay: float = 0.0
    biased: bool = False


def _increment(step: Step, weights: ld.Weights, key: jax.Array) -> jax.Array:
    """N times the change of Q and R in one step, with steps lr kappa/N of the decay."""
    input_key, noise_key = jax.random.split(key)
    w, teacher = weights.w, weights.w_teacher
    x = jax.random.normal(input_key, (step.batch_size, N))
    b, b_teacher = (weights.b, weights.b_teacher) if step.biased else (0.0, 0.0)
    field = x @ w.T / N**0.5 + b
    label = erf((x @ teacher.T / N**0.5 + b_teacher) / 2**0.5).sum(axis=1)
    label = label + NOISE * jax.random.normal(noise_key, label.shape)
    error = erf(field / 2**0.5).sum(axis=1) - label
    slope = (2 / jnp.pi) ** 0.5 * jnp.exp(-(field**2) / 2) * error[:, None]
    change = -LR / N**0.5 * slope.T @ x / step.batch_size - LR * step.decay / N * w
    moved = w + change
    dq, dr = moved @ moved.T - w @ w.T, change @ teacher.T
    return jnp.concatenate([dq[jnp.triu_indices(2)], dr.ravel()])


@functools.partial(jax.jit, static_argnames="step")
def _increments(step: Step, weights: ld.Weights, keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: _increment(step, weights, key))(keys)


def measured_step(step: Step, key: jax.Array, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over samples of `_increment`, and its standard error, each in the order of ENTRIES.

    samples: how many steps, a multiple of `BLOCK`.
    """
    weights_key, key = jax.random.split(key)
    weights = ld.weights_from_overlaps(weights_key, start_of(step), n=N)
    blocks = [
        np.asarray(_increments(step, weights, jax.random.split(one, BLOCK)))
        for one in jax.random.split(key, samples // BLOCK)
    ]
    found = np.concatenate(blocks)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5


def start_of(step: Step) -> ld.Overlaps:
    """The state before the step."""
    return ld.Overlaps(*OVERLAPS, **(BIASES if step.biased else {}))


def drift(
    step: Step, noise: float = NOISE, unit: float = 1.0, xla: XlaOptions | None = None
) -> np.ndarray:
    """The library's dQ/dalpha and dR/dalpha, in the order of ENTRIES.

    unit: what each unit's output is multiplied with. xla: how to compile; None: as XLA does.
    """
    start = start_of(step)
    v = {"v": np.full(2, unit), "v_teacher": np.full(2, unit)}
    start = ld.Overlaps(start.Q, start.R, start.T, **v, b=start.b, b_teacher=start.b_teacher)
    rule = ld.SGD(lr=LR, batch_size=step.batch_size, weight_decay=step.decay)
    return np.asarray(drift_at(ld.Problem(noise=noise), rule, start, xla=xla))


def mean_slopes(xla: XlaOptions | None = None) -> np.ndarray:
    """The averages <c_i> with biases. xla: as for `drift`."""
    rule, start = ld.SGD(lr=LR, lr_bias=1.0), start_of(Step(biased=True))
    return -np.asarray(drift_at(ld.Problem(noise=NOISE), rule, start, xla=xla))[-2:]
