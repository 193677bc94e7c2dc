"""Gaussian inputs: white, or with a covariance."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._checks import as_float, is_concrete, psd_slack
from learndyn._numerics.random import normal
from learndyn._types import RealLike
from learndyn.inputs._types import AbstractInputs, require_size

_RTOL, _ATOL = 1e-6, 1e-8
"""How closely omega must equal its transpose, entry by entry, since variances may differ by orders
of magnitude: what a product of matrices in float32 loses."""


class Gaussian(AbstractInputs):
    """x ~ N(0, 1) in any dimension, the inputs of the theory.

    Example:
        >>> x = ld.Gaussian().sample(jax.random.key(0), 1000, 5, jnp.dtype("float64"))
        >>> x.shape, round(float((x**2).mean()), 1)
        ((1000, 5), 1.0)
    """

    gaussian_fields: ClassVar[bool] = True
    white: ClassVar[bool] = True

    def sample(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        return normal(key, (count, n), dtype)

    def field_covariance(self, w: Float[Array, "d n"]) -> Float[Array, "d d"]:
        return w @ w.T / w.shape[1]


class Structured(AbstractInputs):
    """x ~ N(0, omega): Gaussian inputs with a covariance.

    Args:
        omega: (n, n) symmetric positive semi-definite, singular is valid; or (n,), the diagonal of
            a diagonal one, which costs no matrix product per sample.
        factor: (n, r) instead, x = factor z with z ~ N(0, 1) in r dimensions.

    Raises:
        ValueError: unless exactly one of them is given, and for a matrix that is no covariance. A
            traced one that is none gives NaN.

    Example:
        >>> inputs_of_two_scales = ld.Structured(omega=[4.0, 4.0, 1.0, 1.0])
        >>> weights = ld.Weights(w=[[1.0, 0.0, 0.0, 0.0]], w_teacher=[[0.0, 0.0, 1.0, 0.0]])
        >>> seen = ld.field_overlaps(weights, inputs_of_two_scales)
        >>> float(seen.Q[0, 0]), float(seen.T[0, 0])
        (1.0, 0.25)
    """

    factor: Float[Array, " n *rank"]
    gaussian_fields: ClassVar[bool] = True

    def __init__(self, omega: RealLike = None, *, factor: RealLike = None):
        if (omega is None) == (factor is None):
            raise ValueError(
                "Structured needs a covariance omega or a factor, and not both; got "
                f"{'neither' if omega is None else 'both'}."
            )
        if factor is not None:
            self.factor = _checked_factor(as_float(factor, "factor"))
        else:
            self.factor = _square_root(as_float(omega, "omega"))

    def sample(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        z = normal(key, (count, self.factor.shape[-1]), dtype)
        if self.factor.ndim == 1:
            return z * self.factor.astype(dtype)
        return z @ self.factor.T.astype(dtype)

    def require_dimension(self, n: int) -> None:
        require_size(n, self.factor.shape[0], "the covariance")

    def field_covariance(self, w: Float[Array, "d n"]) -> Float[Array, "d d"]:
        half = w * self.factor if self.factor.ndim == 1 else w @ self.factor
        return half @ half.T / w.shape[1]


def _checked_factor(factor: Array) -> Array:
    if factor.ndim != 2 or 0 in factor.shape:
        raise ValueError(f"factor must have shape (n, r), n and r >= 1; got {factor.shape}.")
    if is_concrete(factor) and not np.isfinite(np.asarray(factor)).all():
        raise ValueError("factor must be finite; got NaN or infinity among its entries.")
    return factor


def _square_root(omega: Array) -> Array:
    """F with F F^T = omega (its entries' roots for a diagonal), NaN where there is none."""
    if omega.ndim not in (1, 2) or omega.shape[0] != omega.shape[-1] or omega.size == 0:
        raise ValueError(
            f"omega must have shape (n, n), or (n,) for a diagonal covariance; got {omega.shape}."
        )
    _require_covariance(omega)
    if omega.ndim == 1:
        return jnp.sqrt(omega)
    # A root by eigenvalues, which exists at any rank
    values, vectors = jnp.linalg.eigh(omega)
    values = jnp.where(values < -psd_slack(omega.dtype) * jnp.trace(omega), jnp.nan, values)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))


def _require_covariance(omega: Array) -> None:
    if not is_concrete(omega):
        return
    matrix = np.asarray(omega)
    if not np.isfinite(matrix).all():
        raise ValueError("omega must be finite; got NaN or infinity among its entries.")
    if matrix.ndim == 2 and not np.allclose(matrix, matrix.T, rtol=_RTOL, atol=_ATOL):
        difference = np.abs(matrix - matrix.T).max()
        raise ValueError(
            f"omega must be symmetric; got entries that differ by {difference:.3g}. For "
            "x = A z pass factor=A instead."
        )
    values = matrix if matrix.ndim == 1 else np.linalg.eigvalsh(matrix)
    if values.min() < (0.0 if matrix.ndim == 1 else -psd_slack(omega.dtype) * np.trace(matrix)):
        raise ValueError(
            "omega must be positive semi-definite, as covariances are; got a smallest eigenvalue "
            f"of {values.min():.3g}. For x = A z pass factor=A instead."
        )
