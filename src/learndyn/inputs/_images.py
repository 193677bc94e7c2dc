"""A finite table of real inputs, such as images, and how to prepare one."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._checks import as_float, brief, is_concrete
from learndyn._extras import require_extra
from learndyn._types import RealLike
from learndyn.inputs._types import AbstractInputs, require_size

_LARGE_SQUARE = 1000.0
"""The mean square of the entries above which a warning tells that the inputs are not prepared. It
is 1 for prepared inputs, 60 for the digits of scikit-learn and 10 000 for pixels up to 255."""

_RANK_TOLERANCE = 1e-10
"""Singular values below this times the largest are rounding: that direction has no variance."""


class Images(AbstractInputs):
    """Rows of a table, drawn uniformly with replacement: any array of real inputs.

    Args:
        x: (samples, n), or (samples, height, width, ...), which is flattened; finite. Prepare it
            with `standardise` or `pca_whiten`. Averages are exact, over all rows.

    Raises:
        ValueError: for other shapes, non-finite entries or raw 8-bit pixels. A UserWarning says
            where the entries are so large that the usual learning rates diverge.

    Example:
        >>> table = ld.Images([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
        >>> table.n, table.sample(jax.random.key(0), 4, 3, jnp.dtype("float64")).shape
        (3, (4, 3))
    """

    x: Float[Array, "samples n"]

    def __init__(self, x: RealLike):
        _require_no_raw_pixels(x)
        x = as_float(x, "x")
        if x.ndim < 2 or x.size == 0:
            raise ValueError(
                f"x must have shape (samples, n), one input per row; got shape {x.shape}."
            )
        _require_finite(x)
        _warn_of_scale(x)
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


_PREPARE = "Prepare them: ld.Images(ld.inputs.standardise(x)), or ld.inputs.pca_whiten(x)."


def _require_no_raw_pixels(x: Any) -> None:
    """Raises: ValueError for a table of bytes, unless it holds only 0 and 1."""
    if getattr(x, "dtype", None) == np.uint8 and is_concrete(x) and np.max(x, initial=0) > 1:
        raise ValueError(
            "x must be inputs of order 1, as the theory assumes; got raw pixels, whole numbers "
            f"from {np.min(x)} to {np.max(x)}. {_PREPARE}"
        )


def _require_finite(x: Array | np.ndarray) -> None:
    if is_concrete(x) and not np.isfinite(np.asarray(x)).all():
        raise ValueError("x must be finite; got NaN or infinity among its entries.")


def _warn_of_scale(x: Array) -> None:
    if is_concrete(x) and (square := float(np.mean(np.asarray(x) ** 2))) > _LARGE_SQUARE:
        warnings.warn(
            f"the inputs have a mean square of {square:.3g} where the theory assumes 1: steps are "
            f"that much larger, and the usual learning rates diverge. {_PREPARE}",
            UserWarning,
            stacklevel=4,
        )


def standardise(x: RealLike) -> Float[Array, "samples n"]:
    """Each column to mean 0 and variance 1; columns that never change are left out.

    Args:
        x: (samples, ...), real and finite, pixels for example; flattened to (samples, columns). Not
            for traced arrays: the number of columns kept depends on the values.

    Raises:
        ValueError: for other shapes, entries that are not finite, or constant columns only.

    Example:
        >>> inputs.standardise(np.array([[1.0, 7.0, 2.0], [3.0, 7.0, 0.0]]))
        Array([[-1.,  1.],
               [ 1., -1.]], dtype=float64)
    """
    try:
        x = np.asarray(x, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"x must be an array of real numbers; got {brief(x)}.") from None
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x must have shape (samples, ...), one input per row; got {x.shape}.")
    _require_finite(x)
    x = x.reshape(len(x), -1)
    x = x[:, np.ptp(x, axis=0) > 0]
    if x.shape[1] == 0:
        raise ValueError("x must have a column that changes; got constant columns only.")
    return jnp.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def pca_whiten(x: RealLike) -> Float[Array, "samples n"]:
    """The principal components of `standardise(x)`, each with variance 1: covariance 1.

    Directions without variance are left out.

    Args:
        x: (samples, ...), as for `standardise`.

    Example:
        >>> x = inputs.pca_whiten(np.random.default_rng(0).normal(size=(50, 3)))
        >>> np.round(x.T @ x / len(x), 8) + 0.0
        Array([[1., 0., 0.],
               [0., 1., 0.],
               [0., 0., 1.]], dtype=float64)
    """
    x = np.asarray(standardise(x))
    # Principal components by singular values, without forming the covariance
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    kept = singular > _RANK_TOLERANCE * singular[0]
    return jnp.asarray(u[:, kept] * len(x) ** 0.5)


def digits(whiten: bool = False) -> Images:
    """scikit-learn's 1797 handwritten digits, standardised (n = 61) or also whitened.

    Three of the 64 pixels (0, 32 and 39) never change and are left out.

    Args:
        whiten: whether the inputs get covariance 1, by `pca_whiten`.

    Raises:
        ImportError: where scikit-learn is not installed (the extra `images`).

    Example:
        >>> inputs.digits().n
        61
    """
    require_extra("sklearn", "images", "the digits of scikit-learn")
    from sklearn.datasets import load_digits

    x, _ = load_digits(return_X_y=True)
    return Images(pca_whiten(x) if whiten else standardise(x))
