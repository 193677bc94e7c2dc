"""What a network learns from: samples, or the second moments of a population."""

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_float,
    asymmetry,
    is_concrete,
    psd_slack,
    require_finite,
    require_shape,
)
from learndyn._readable import Readable
from learndyn._types import RealLike, Scalar

_OUT_OF_RANGE = 1e-8
"""The part of `syx` outside the range of `sxx`, over its norm, that still counts as rounding:
moments estimated from samples lose about 1e-12, printed ones 1e-8 or less."""

_RANK_CUT = 1e-10
"""Eigenvalues of `sxx` below this fraction of the largest one count as zero. Rounding leaves 1e-15;
the theory of jumps cuts ranks at the same fraction."""

DataLike = Any
"""`Data` or `Moments`. What it is is checked where a model meets it, with a ValueError that says
more than a type error would."""


class Data(Readable):
    """A finite data set, with half the squared error as its loss.

    Loss: L = 1/(2n) sum_i |y_i - f(x_i)|**2 for reduce = "mean": the mean over samples and the sum
    over outputs. For "sum" the factor 1/n is left out, so that time runs n times as fast.

    Args:
        x: (samples, d) inputs.
        y: (samples,) labels for a network with a scalar output, or (samples, c) for one with an
            output of shape (c,). Integers are converted to floats.
        reduce: "mean" or "sum".

    Raises:
        ValueError: for shapes that do not match, no samples, complex or non-finite numbers, or
            another `reduce`.

    Example:
        >>> data = flow.Data(x=[[1.0, 0.0], [0.0, 1.0]], y=[1.0, -1.0])
        >>> data.x.shape, float(data.weight)
        ((2, 2), 0.5)
    """

    x: Float[Array, "*batch samples d"]
    y: Float[Array, "*labels"]
    reduce: Literal["mean", "sum"] = eqx.field(static=True)

    def __init__(self, x: RealLike, y: RealLike, reduce: str = "mean"):
        x, y = as_float(x, "x"), as_float(y, "y")
        _require_samples(x, y)
        require_finite(x=x, y=y)
        if reduce not in ("mean", "sum"):
            raise ValueError(f'reduce must be "mean" or "sum"; got {reduce!r}.')
        self.x, self.y, self.reduce = x, y, reduce

    @property
    def weight(self) -> float:
        """The factor of the sum over samples in the loss, without the 1/2: 1/n or 1."""
        return 1.0 / self.x.shape[-2] if self.reduce == "mean" else 1.0


class Moments(Readable):
    """Second moments of a population of inputs and labels, for networks with an end-to-end matrix.

    Loss: L = 1/2 E|y - M x|**2, sum over outputs, for the end-to-end matrix M (c, d). Without `syy`
    the excess over least squares, 1/2 tr((M - M*) sxx (M - M*)^T) with M* = syx sxx^+.

    Args:
        sxx: (d, d) E[x x^T], symmetric and positive semi-definite; it may be singular.
        syx: (c, d) E[y x^T], or (d,) for one output; held as (c, d).
        syy: (c, c) E[y y^T], or a number for one output; None where it is not known.

    Raises:
        ValueError: for other shapes, a covariance that is none, complex or non-finite numbers, or a
            `syx` with a part outside the range of `sxx`, where no such population exists and the
            loss has no lower bound.

    Example:
        >>> data = flow.Moments(sxx=np.eye(2), syx=np.diag([2.0, 1.0]))
        >>> data.least_squares
        Array([[2., 0.],
               [0., 1.]], dtype=float64)
    """

    sxx: Float[Array, "*batch d d"]
    syx: Float[Array, "*batch c d"]
    syy: Float[Array, "*batch c c"] | None

    def __init__(self, sxx: RealLike, syx: RealLike, syy: RealLike | None = None):
        sxx, syx = as_float(sxx, "sxx"), jnp.atleast_2d(as_float(syx, "syx"))
        if sxx.ndim != 2 or sxx.shape[0] != sxx.shape[1] or sxx.shape[0] == 0:
            raise ValueError(f"sxx must have shape (d, d), d >= 1; got shape {sxx.shape}.")
        if syx.ndim != 2 or syx.shape[1] != sxx.shape[0]:
            raise ValueError(
                f"syx must have shape (c, d), or (d,) for one output, with d = {sxx.shape[0]} as "
                f"in sxx; got shape {syx.shape}."
            )
        if syy is not None:
            syy = jnp.atleast_2d(as_float(syy, "syy"))
            require_shape(syy, (syx.shape[0], syx.shape[0]), "syy", "outputs by outputs")
            require_finite(syy=syy)
        require_finite(sxx=sxx, syx=syx)
        _require_population(sxx, syx)
        self.sxx, self.syx, self.syy = sxx, syx, syy

    @property
    def least_squares(self) -> Float[Array, "c d"]:
        """M* = syx sxx^+, the matrix of least loss and, among those, of least norm."""
        return self.syx @ jnp.linalg.pinv(self.sxx, rtol=_RANK_CUT, hermitian=True)

    @property
    def floor(self) -> Scalar:
        """The least loss of any matrix; 0 without `syy`."""
        if self.syy is None:
            return jnp.zeros(())
        return 0.5 * (jnp.trace(self.syy) - jnp.sum(self.least_squares * self.syx))


def modular_data(x: RealLike) -> Data:
    """Addition modulo p, encoded by shifts of the template x: the data of `ModularAddition`.

    With (a.x)[j] = x[j - a], the p**2 samples are the inputs (a.x, b.x), concatenated, with the
    labels (a + b).x; a varies slowest. Loss: mean over the samples, sum over the p outputs.

    Args:
        x: (p,) with mean zero, as the theory asks; p >= 2.

    Returns:
        `Data` with x (p**2, 2p) and y (p**2, p).

    Raises:
        ValueError: for another shape or a mean that is not zero.

    Source:
        Kunin et al. (2025), Alternating gradient flows.

    Example:
        >>> data = flow.modular_data([1.0, 0.0, -1.0])
        >>> data.x.shape, data.y.shape
        ((9, 6), (9, 3))
    """
    x = as_float(x, "x")
    if x.ndim != 1 or x.shape[0] < 2:
        raise ValueError(f"x must have shape (p,) with p >= 2; got shape {x.shape}.")
    require_finite(x=x)
    if is_concrete(x):
        _require_zero_mean(np.asarray(x))
    p = x.shape[0]
    shifts = x[(jnp.arange(p)[None, :] - jnp.arange(p)[:, None]) % p]
    a, b = (index.ravel() for index in jnp.meshgrid(jnp.arange(p), jnp.arange(p), indexing="ij"))
    return Data(jnp.concatenate([shifts[a], shifts[b]], axis=1), shifts[(a + b) % p])


def _require_zero_mean(x: np.ndarray) -> None:
    if abs(x.mean()) > _OUT_OF_RANGE * np.abs(x).max():
        raise ValueError(
            f"x must have mean zero, got {x.mean():g}: with a mean, squares of the two inputs "
            "drive all neurons alike. Pass x - x.mean()."
        )


def _require_samples(x: Array, y: Array) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(
            f"x must have shape (samples, d), at least one of each; got shape {x.shape}. A single "
            "sample is x[None, :]."
        )
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0] or 0 in y.shape:
        raise ValueError(
            f"y must have shape (samples,) or (samples, c) with {x.shape[0]} samples as in x; got "
            f"shape {y.shape}."
        )


def _require_population(sxx: Array, syx: Array) -> None:
    """Concrete moments must be those of some population."""
    if not is_concrete(sxx, syx):
        return
    inputs, labels = np.asarray(sxx), np.asarray(syx)
    if np.abs(inputs - inputs.T).max() > asymmetry(sxx.dtype) * (1 + np.abs(inputs).max()):
        raise ValueError("sxx must be symmetric, a second moment E[x x^T]; got one that is not.")
    values, vectors = np.linalg.eigh(inputs)
    if values[0] < -psd_slack(sxx.dtype) * np.trace(inputs):
        raise ValueError(
            f"sxx must be positive semi-definite; its smallest eigenvalue is {values[0]:g}."
        )
    null = vectors[:, values <= _RANK_CUT * values[-1]]
    outside = np.linalg.norm(labels @ null)
    if outside > _OUT_OF_RANGE * np.linalg.norm(labels):
        raise ValueError(
            "syx must lie in the range of sxx: labels cannot depend on directions in which inputs "
            f"do not vary, and the loss would have no lower bound; a part of norm {outside:g} lies "
            "outside. Project it out, or pass the samples as flow.Data."
        )
