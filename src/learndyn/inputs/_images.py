"""A finite table of real inputs, such as images, and how to prepare one."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._checks import as_float, is_concrete
from learndyn._types import RealLike
from learndyn.inputs._types import AbstractInputs, require_size

_RANK_TOLERANCE = 1e-10
"""Singular values below this times the largest are rounding: that direction has no variance."""


class Images(AbstractInputs):
    """Rows of a table, drawn uniformly with replacement: any array of real inputs.

    x: (samples, n), or (samples, height, width, ...), which is flattened; finite. Prepare it
        with `standardise` or `pca_whiten`. Averages are exact, over all rows.

    Raises: ValueError for other shapes or non-finite entries.
    """

    x: Float[Array, "samples n"]

    def __init__(self, x: RealLike):
        x = as_float(x, "x")
        if x.ndim < 2 or x.size == 0:
            raise ValueError(
                f"x must have shape (samples, n), one input per row; got shape {x.shape}."
            )
        if is_concrete(x) and not np.isfinite(np.asarray(x)).all():
            raise ValueError("x must be finite; got NaN or infinity among its entries.")
        self.x = x.reshape(x.shape[0], -1)

    @property
    def n(self) -> int:
        """Entries per input."""
        return self.x.shape[1]

    def sample(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        return self.x[jax.random.randint(key, (count,), 0, len(self.x))].astype(dtype)

    def require_dimension(self, n: int) -> None:
        require_size(n, self.n, "the table of images")

    def test_inputs(self, n: int) -> Float[Array, "samples n"]:
        return self.x


def standardise(x: RealLike) -> Float[Array, "samples n"]:
    """Each column to mean 0 and variance 1; columns that never change are left out.

    x: (samples, ...), flattened to (samples, columns). Not for traced arrays: the number of
    columns kept depends on the values.
    """
    x = np.asarray(x, dtype=float).reshape(len(np.asarray(x)), -1)
    x = x[:, np.ptp(x, axis=0) > 0]
    if x.shape[1] == 0:
        raise ValueError("x must have a column that changes; got constant columns only.")
    return jnp.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def pca_whiten(x: RealLike) -> Float[Array, "samples n"]:
    """The principal components of `standardise(x)`, each with variance 1: covariance 1.

    Directions without variance are left out.
    """
    x = np.asarray(standardise(x))
    # Principal components by singular values, without forming the covariance
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    kept = singular > _RANK_TOLERANCE * singular[0]
    return jnp.asarray(u[:, kept] * len(x) ** 0.5)


def digits(whiten: bool = False) -> Images:
    """scikit-learn's 1797 handwritten digits, standardised (n = 61) or also whitened.

    Three of the 64 pixels (0, 32 and 39) never change and are left out.
    Raises: ImportError where scikit-learn is not installed (the extra `images`).
    """
    from sklearn.datasets import load_digits

    x, _ = load_digits(return_X_y=True)
    return Images(pca_whiten(x) if whiten else standardise(x))
