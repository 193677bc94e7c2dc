"""What a distribution of inputs must be able to do."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._checks import brief
from learndyn._readable import Readable
from learndyn.states import Weights

TEST_SAMPLES = 10_000
"""Samples on which averages over a distribution that can only be sampled are taken."""


class AbstractInputs(Readable):
    """A distribution of inputs x in n dimensions.

    A distribution of your own needs `sample` alone: whatever is averaged over it (the second
    moments of the fields, the generalisation error) is averaged over `test_inputs`, 10 000 samples
    of a fixed key; override that where the distribution is a finite table.

    Attributes:
        gaussian_fields: set it True where x is jointly Gaussian with mean 0, and override
            `field_covariance` with its exact value: averages are then Gaussian ones, exact too.
        white: set it True where <x x^T> = 1, so that the fields' second moments are the overlaps.

    Example:
        >>> class Signs(inputs.AbstractInputs):
        ...     white = True
        ...     def sample(self, key, count, n, dtype=float):
        ...         return jax.random.rademacher(key, (count, n), dtype)
        >>> abs(Signs().sample(jax.random.key(0), 2, 3, float))
        Array([[1., 1., 1.],
               [1., 1., 1.]], dtype=float64)
    """

    gaussian_fields: ClassVar[bool] = False
    white: ClassVar[bool] = False

    @abc.abstractmethod
    def sample(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        """`count` independent inputs; their bits may depend on the key alone.

        Args:
            key: random key.
            count: how many inputs.
            n: input dimension.
            dtype: float type.
        """

    def require_dimension(self, n: int) -> None:
        """Refuse another number of dimensions than these inputs have.

        Args:
            n: input dimension.

        Raises:
            ValueError: where these inputs do not have n dimensions.
        """

    def require_weights(self, weights: Weights) -> None:
        """Refuse weights that do not belong to these inputs.

        Args:
            weights: of student and teacher.

        Raises:
            ValueError: where they have another dimension, or a teacher of latent variables.
        """
        self.require_dimension(weights.n)
        if weights.latent_teacher is not None:
            raise ValueError(
                "weights with a latent_teacher must go with the inputs that made them; got "
                f"{type(self).__name__} inputs. Give inputs=, the HiddenManifold whose weights "
                "these are."
            )

    def sample_fields(
        self, key: PRNGKeyArray, count: int, weights: Weights, dtype: jnp.dtype
    ) -> tuple[Float[Array, "count n"], Float[Array, "count m"]]:
        """Inputs drawn by `sample`, in the weights' float type, and the teacher's fields.

        Args:
            key, count, dtype: as for `sample`.
            weights: of student and teacher.
        """
        x = self.sample(key, count, weights.n, dtype).astype(weights.w.dtype)
        return x, teacher_fields(x, weights)

    def test_fields(
        self, weights: Weights
    ) -> tuple[Float[Array, "samples n"], Float[Array, "samples m"]]:
        """`test_inputs`, and the teacher's fields.

        Args:
            weights: of student and teacher.
        """
        x = self.test_inputs(weights.n)
        return x, teacher_fields(x, weights)

    def T_unseen(self, weights: Weights) -> Float[Array, "m m"] | None:
        """Covariance of what the teacher's fields have beyond the inputs; None: nothing.

        Args:
            weights: of student and teacher.
        """
        return None

    def test_inputs(self, n: int) -> Float[Array, "samples n"]:
        """Inputs that stand for the whole distribution.

        Args:
            n: input dimension.
        """
        return self.sample(jax.random.key(0), TEST_SAMPLES, n, jnp.result_type(float))

    def field_covariance(self, w: Float[Array, "d n"]) -> Float[Array, "d d"]:
        """w Omega w^T / n, with Omega = <x x^T>: second moments of the fields w x / sqrt n.

        Args:
            w: (k + m, n) weights of student and teacher.
        """
        return second_moments(self.test_inputs(w.shape[1]) @ w.T / w.shape[1] ** 0.5)

    def covariance(self, n: int) -> Float[Array, "n n"]:
        """Omega = <x x^T> in n dimensions."""
        return self.field_covariance(n**0.5 * jnp.eye(n))


def as_inputs(value: Any, name: str, *others: type) -> Any:
    """`value`, a distribution of inputs or an object of one of the `others`.

    Raises: ValueError for anything else, above all for an array; it names the class to use.
    """
    if isinstance(value, (AbstractInputs, *others)):
        return value
    advice = "For example ld.Gaussian(), ld.Structured(omega), ld.Images(x)"
    advice += ", ld.TrainingSet(base, p)." if others else "."
    if isinstance(value, type):
        advice = f"Did you mean {value.__name__}(...)?"
    if isinstance(value, jax.Array | np.ndarray | list | tuple):
        advice = (
            "A table with one input in each row goes into ld.Images(x), a covariance into "
            "ld.Structured(omega)."
        )
    raise ValueError(f"{name} must be a distribution of inputs; got {brief(value)}. {advice}")


def teacher_fields(x: Float[Array, "samples n"], weights: Weights) -> Float[Array, "samples m"]:
    """w_teacher x / sqrt n for each input.

    Args:
        x: inputs.
        weights: of student and teacher.
    """
    return x @ weights.w_teacher.T / weights.n**0.5


def second_moments(fields: Float[Array, "samples d"]) -> Float[Array, "d d"]:
    """Their averages over samples.

    Args:
        fields: the fields of some samples, of student and teacher.

    Example:
        >>> inputs.second_moments(jnp.array([[1.0, 2.0], [1.0, 0.0]]))
        Array([[1., 1.],
               [1., 2.]], dtype=float64)
    """
    return fields.T @ fields / len(fields)


def require_size(n: int, size: int, what: str) -> None:
    """Raises: ValueError unless the inputs' own dimension is that of the weights."""
    if n != size:
        raise ValueError(
            f"inputs and weights must have the same dimension: {what} has {size} entries per "
            f"input, the weights have n={n}. Make the weights with n={size}."
        )
