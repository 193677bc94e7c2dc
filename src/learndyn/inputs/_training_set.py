"""A finite training set: the same samples, with the same labels, again and again."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._readable import Readable
from learndyn.inputs._gaussian import Gaussian
from learndyn.inputs._images import Images
from learndyn.inputs._types import AbstractInputs, as_inputs, teacher_fields
from learndyn.states import Weights


class TrainingSet(Readable):
    """p samples drawn once from `base`, label noise included, then used for training.

    The generalisation error is that of `base`.

    Args:
        base: the distribution; of `Images`, p different rows are taken.
        p: number of samples, static.
        replace: True draws each sample of each batch uniformly from the p; False goes through all p
            in a new random order each epoch. Then batch_size = p is full-batch descent.

    Raises:
        ValueError: for p < 1, or p beyond the rows of `Images`.

    Example:
        >>> weights = ld.init_weights(jax.random.key(0), n=50, k=1, m=1)
        >>> few = {"inputs": ld.TrainingSet(ld.Gaussian(), p=20, replace=True)}
        >>> given = {"ts": [0.0, 4.0], "key": jax.random.key(1)}
        >>> run = ld.simulate_sgd(ld.Problem(), ld.SGD(lr=0.5), weights, **given, **few)
        >>> round(float(run.stats["train_error"][-1]), 3), round(float(run.eg[-1]), 3)
        (0.016, 0.236)
    """

    base: AbstractInputs
    p: int = eqx.field(static=True)
    replace: bool = eqx.field(static=True)

    def __init__(self, base: AbstractInputs | Any = None, p: int = 1000, replace: bool = False):
        self.base = Gaussian() if base is None else as_inputs(base, "base")
        if isinstance(p, bool) or not hasattr(p, "__index__") or p < 1:
            raise ValueError(f"p, the number of samples, must be an integer >= 1; got {p!r}.")
        if not isinstance(replace, bool):
            raise ValueError(f"replace must be True or False; got {replace!r}.")
        self.p, self.replace = int(p), replace
        if isinstance(self.base, Images) and self.p > len(self.base.x):
            raise ValueError(
                f"p must be at most the number of images, {len(self.base.x)}; got p={p}."
            )

    def require_dimension(self, n: int) -> None:
        """Raises: ValueError where the base does not have n dimensions."""
        self.base.require_dimension(n)

    def require_weights(self, weights: Weights) -> None:
        """Raises: ValueError where these weights do not belong to the base."""
        self.base.require_weights(weights)

    def sample_fields(
        self, key: PRNGKeyArray, count: int, weights: Weights, dtype: jnp.dtype
    ) -> tuple[Float[Array, "count n"], Float[Array, "count m"]]:
        """`count` = p inputs for the set, in the weights' float type, and the teacher's fields."""
        if isinstance(self.base, Images):
            x = self.draw(key, count, weights.n, dtype).astype(weights.w.dtype)
            return x, teacher_fields(x, weights)
        return self.base.sample_fields(key, count, weights, dtype)

    def draw(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        """`count` = p inputs for the set."""
        if isinstance(self.base, Images):
            rows = jax.random.permutation(key, len(self.base.x))[:count]
            return self.base.x[rows].astype(dtype)
        return self.base.sample(key, count, n, dtype)
