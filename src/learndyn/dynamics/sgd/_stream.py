"""Where the samples of a run come from, in fixed blocks of steps.

The random numbers of a step depend on the key and the step's index alone: block number b
holds the steps b S ... (b + 1) S - 1 and is drawn from fold_in(key, b), whatever times are
saved. A block also amortises: its labels take one matrix product.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learndyn._numerics.random import normal
from learndyn.inputs import AbstractInputs, TrainingSet
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Weights

BLOCK_ENTRIES = 2**17
"""Numbers in a block of inputs: 1 MB in float64, so that it stays in a core's cache."""

BLOCK_STEPS = 32
"""Most steps in a block of fresh inputs: enough to amortise it, few enough for hundreds of runs in
few dimensions to stay in a cache side by side, and for short runs to draw little in vain."""

_SAMPLES, _LABEL_NOISE, _ORDER, _DRAWS, _INPUT_NOISE = 0, 1, 2, 3, 4
"""Numbers folded into the key, so that inputs, label noise, epochs, a rule's own numbers and the
noise of inputs have keys that differ."""

Batch = tuple[Any, ...]
"""Inputs (batch, n), labels (batch,), or arrays from which they follow, and, for a rule that draws
numbers, these (batch, draws)."""


class AbstractStream(eqx.Module):
    """A sequence of batches (x, y)."""

    steps_per_block: eqx.AbstractVar[int]

    @abc.abstractmethod
    def block(self, index: Int[Array, ""]) -> Any:
        """Block number `index`, a pytree."""

    @abc.abstractmethod
    def batch(self, block: Any, position: Int[Array, ""]) -> Batch:
        """The batch at `position` within a block."""


class FreshStream(AbstractStream):
    """Every sample is new."""

    problem: Problem
    weights: Weights
    inputs: AbstractInputs
    key: PRNGKeyArray
    batch_size: int = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)
    steps_per_block: int = eqx.field(static=True)

    def block(
        self, index: Int[Array, ""]
    ) -> tuple[Float[Array, "steps batch n"], Float[Array, "steps batch"]]:
        key = jax.random.fold_in(self.key, index)
        count = self.steps_per_block * self.batch_size
        x, y = _labelled(self.problem, self.weights, self.inputs, key, count, self.dtype)
        return (
            x.reshape(self.steps_per_block, self.batch_size, -1),
            y.reshape(self.steps_per_block, self.batch_size),
        )

    def batch(self, block: tuple[Array, Array], position: Int[Array, ""]) -> Batch:
        return block[0][position], block[1][position]


class StoredStream(AbstractStream):
    """The same samples again and again; a block holds row numbers."""

    x: Float[Array, "p n"]
    y: Float[Array, " p"]
    key: PRNGKeyArray
    replace: bool = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    steps_per_block: int = eqx.field(static=True)

    @property
    def is_full_batch(self) -> bool:
        return not self.replace and self.batch_size == len(self.x)

    def block(self, index: Int[Array, ""]) -> Int[Array, "steps batch"]:
        count, p = self.steps_per_block * self.batch_size, len(self.x)
        shape = (self.steps_per_block, self.batch_size)
        if self.is_full_batch:
            return jnp.zeros(shape, int)
        if self.replace:
            return jax.random.randint(jax.random.fold_in(self.key, index), shape, 0, p)
        # Epoch e is a permutation from fold_in(key, e). A block need not begin with an epoch.
        first, aligned = index * count, count % p == 0
        epochs = first // p + jnp.arange(count // p if aligned else 1 + math.ceil(count / p))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, epochs)
        rows = jax.vmap(lambda key: jax.random.permutation(key, p))(keys).reshape(-1)
        return jax.lax.dynamic_slice_in_dim(rows, first % p, count).reshape(shape)

    def batch(self, block: Int[Array, "steps batch"], position: Int[Array, ""]) -> Batch:
        if self.is_full_batch:
            return self.x, self.y  # the order does not matter
        rows = block[position]
        return self.x[rows], self.y[rows]


class RuleStream(AbstractStream):
    """The batches of another stream, with what a rule draws for each sample: (x, y, draws). One
    that perturbs the weights draws for each step in place of these as many numbers as weights."""

    samples: AbstractStream
    rule: AbstractRule
    key: PRNGKeyArray
    k: int = eqx.field(static=True)
    n: int | None = eqx.field(static=True)
    steps_per_block: int = eqx.field(static=True)

    def block(self, index: Int[Array, ""]) -> Any:
        draws = 0 if self.rule.perturbs_weights else self.rule.draws_of(self.k)
        shape = (self.steps_per_block, self.rule.batch_size, draws)
        key = jax.random.fold_in(jax.random.fold_in(self.key, _DRAWS), index)
        return self.samples.block(index), jax.random.normal(key, shape), index

    def batch(self, block: Any, position: Int[Array, ""]) -> Batch:
        samples, draws, index = block
        x, y = self.samples.batch(samples, position)
        if self.rule.input_noise is not None:
            # The student's inputs alone are noisy: the label is that of the clean one.
            key = jax.random.fold_in(jax.random.fold_in(self.key, _INPUT_NOISE), index)
            noise = normal(jax.random.fold_in(key, position), x.shape, x.dtype)
            x = x + self.rule.input_noise * noise
        if self.rule.perturbs_weights:
            key = jax.random.fold_in(jax.random.fold_in(self.key, _DRAWS), index)
            return x, y, normal(jax.random.fold_in(key, position), (self.k, self.n), x.dtype)
        return x, y, draws[position].astype(x.dtype)


def with_draws(
    stream: AbstractStream, rule: AbstractRule, key: PRNGKeyArray, k: int, n: int | None = None
) -> AbstractStream:
    """`stream`, or the one with the numbers that `rule` draws for a student of k units.

    n: the input dimension; None: of a loop in which n steps are a unit of time, whatever the rule.
    Raises: ValueError there for a rule of another time.
    """
    if not rule.draws_of(k) and rule.input_noise is None:
        return stream
    if rule.perturbs_weights and n is None:
        raise ValueError(
            f"{type(rule).__name__} has the time steps / n**2, and these steps are counted in "
            "steps / n; got it for several tasks on weights. Take its ODE, or simulate_sgd."
        )
    sizes = {"k": k, "n": n, "steps_per_block": stream.steps_per_block}
    return RuleStream(samples=stream, rule=rule, key=key, **sizes)


def make_stream(
    problem: Problem,
    weights: Weights,
    inputs: AbstractInputs | TrainingSet,
    key: PRNGKeyArray,
    batch_size: int,
    dtype: jnp.dtype,
) -> AbstractStream:
    """The stream of batches for `inputs`, inputs drawn in `dtype`."""
    if isinstance(inputs, TrainingSet):
        x, y = _labelled(problem, weights, inputs, key, inputs.p, dtype)
        return StoredStream(
            x=x,
            y=y,
            key=jax.random.fold_in(key, _ORDER),
            replace=inputs.replace,
            batch_size=batch_size,
            steps_per_block=max(math.ceil(inputs.p / batch_size), BLOCK_STEPS),
        )
    return FreshStream(
        problem=problem,
        weights=weights,
        inputs=inputs,
        key=key,
        batch_size=batch_size,
        dtype=dtype,
        steps_per_block=fresh_steps(weights.n, batch_size),
    )


def fresh_steps(n: int, batch_size: int) -> int:
    """Steps in a block of fresh inputs."""
    return min(max(BLOCK_ENTRIES // (n * batch_size), 1), BLOCK_STEPS)


def draw_samples(
    weights: Weights,
    inputs: AbstractInputs | TrainingSet,
    key: PRNGKeyArray,
    count: int,
    dtype: jnp.dtype,
) -> tuple[Float[Array, "count n"], Float[Array, "count m"], Float[Array, " count"]]:
    """`count` inputs with the teacher's fields and the label noise; whatever dtype they are drawn
    in, the state's is used on."""
    x, rho = inputs.sample_fields(jax.random.fold_in(key, _SAMPLES), count, weights, dtype)
    return x, rho, jax.random.normal(jax.random.fold_in(key, _LABEL_NOISE), (count,), x.dtype)


def _labelled(
    problem: Problem,
    weights: Weights,
    inputs: AbstractInputs | TrainingSet,
    key: PRNGKeyArray,
    count: int,
    dtype: jnp.dtype,
) -> Batch:
    """`count` inputs with labels."""
    x, rho, zeta = draw_samples(weights, inputs, key, count, dtype)
    return x, jax.vmap(problem.label, (0, 0, None))(rho, zeta, weights.layers)
