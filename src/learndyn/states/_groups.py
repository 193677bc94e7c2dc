"""Structured inputs: a spectrum in groups of directions, and one set of overlaps for each group."""

from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_count,
    as_float,
    asymmetry,
    brief,
    is_concrete,
    psd_slack,
    require_at_least,
    require_finite,
    require_shape,
    require_unbatched,
    shown,
)
from learndyn._readable import Readable
from learndyn._types import Absent, CountLike, RealLike
from learndyn.problems import Layers
from learndyn.states._checks import checked_layers, require_psd, unit_counts
from learndyn.states._states import Overlaps, Weights, euclidean_overlaps

_SUM_OF_SHARES = 1e-9
"""How far the sum of shares may be from 1: what rounding leaves of a hundred thousand of them."""

_NO_VARIANCE = 1e-12
"""Eigenvalues below this times the largest are rounding of 0."""


class Spectrum(Readable):
    """The eigenvalues of the inputs' covariance Omega, and the share of directions that has each.

    Args:
        eigenvalues: (groups,) >= 0, dimensionless; 1 is that of white inputs. Where their mean,
            each weighted by its share, is 1, a rate means what it does for white inputs.
        shares: (groups,) > 0, of the n directions, with the sum 1.

    Raises:
        ValueError: for wrong shapes, negative eigenvalues, and shares that are not positive or do
            not sum to 1 within 1e-9.

    Example:
        >>> ld.Spectrum(eigenvalues=[0.5, 1.5], shares=[0.5, 0.5]).mean
        Array(1., dtype=float64)
    """

    eigenvalues: Float[Array, "*batch groups"]
    shares: Float[Array, "*batch groups"]

    def __init__(self, eigenvalues: RealLike, shares: RealLike):
        self.eigenvalues = as_float(eigenvalues, "eigenvalues")
        self.shares = as_float(shares, "shares")
        if self.eigenvalues.ndim < 1 or self.eigenvalues.shape[-1] < 1:
            raise ValueError(
                "eigenvalues must be a list with one entry for each group; got shape "
                f"{self.eigenvalues.shape}."
            )
        require_shape(self.shares, self.eigenvalues.shape[-1:], "shares", "one for each eigenvalue")
        require_finite(eigenvalues=self.eigenvalues, shares=self.shares)
        require_at_least(self.eigenvalues, 0.0, "eigenvalues", "variances of the inputs")
        require_at_least(self.shares, 0.0, "shares", "shares of the directions", strict=True)
        if is_concrete(self.shares):
            total = np.asarray(np.asarray(self.shares).sum(-1))
            if (np.abs(total - 1.0) > _SUM_OF_SHARES).any():
                raise ValueError(
                    "shares must sum to 1, all directions of the inputs; got a sum of "
                    f"{shown(total)}. Divide them by their sum."
                )

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.eigenvalues.shape[-1]

    @property
    def mean(self) -> Float[Array, "*batch"]:
        """The mean eigenvalue, tr Omega / n: the limit of |x|**2/n."""
        return jnp.sum(self.eigenvalues * self.shares, axis=-1)


class GroupedOverlaps(Readable):
    """Overlaps in each group of directions that share an eigenvalue of the inputs' covariance.

    Sums over groups are the Euclidean overlaps (`euclidean`). With s_l the eigenvalue of group l,
    the fields of a sample have the covariances sum_l s_l Q_l, sum_l s_l R_l and
    sum_l s_l T_l + T_unseen (`fields`).

    Args:
        Q: (groups, k, k) sums of w_i w_i' over the directions of each group, all over n,
            dimensionless; each group's [[Q, R], [R^T, T]] is positive semi-definite.
        R: (groups, k, m) likewise of student and teacher.
        T: (groups, m, m) likewise of the teacher.
        spectrum: eigenvalues and shares of the groups.
        T_unseen: (m, m) covariance of what the teacher's fields have beyond the inputs, positive
            semi-definite; None: nothing.
        v, v_teacher, b, b_teacher: second layers and biases, as in `Overlaps`.

    Raises:
        ValueError: for wrong shapes, non-finite entries, or what no weights can have.

    Source:
        Derived here; Yoshida and Okada (2019) for single directions.

    Example:
        >>> spectrum = ld.Spectrum(eigenvalues=[0.5, 1.5], shares=[0.5, 0.5])
        >>> half = [[[0.1]], [[0.1]]]
        >>> start = ld.GroupedOverlaps(Q=half, R=half, T=[[[0.5]], [[0.5]]], spectrum=spectrum)
        >>> start.fields.R, start.euclidean.T
        (Array([[0.2]], dtype=float64), Array([[1.]], dtype=float64))
    """

    Q: Float[Array, "groups k k"]
    R: Float[Array, "groups k m"]
    T: Float[Array, "groups m m"]
    spectrum: Spectrum
    T_unseen: Float[Array, "m m"]
    v: Float[Array, " k"]
    v_teacher: Float[Array, " m"]
    b: Float[Array, " k"] | Absent
    b_teacher: Float[Array, " m"] | Absent

    def __init__(
        self,
        Q: RealLike,
        R: RealLike,
        T: RealLike,
        spectrum: Spectrum | Any,
        T_unseen: RealLike | None = None,
        v: RealLike | None = None,
        v_teacher: RealLike | None = None,
        b: RealLike | None = None,
        b_teacher: RealLike | None = None,
    ):
        if not isinstance(spectrum, Spectrum):
            raise ValueError(
                f"spectrum must be a Spectrum; got {spectrum!r}. Write "
                "ld.Spectrum(eigenvalues, shares)."
            )
        self.Q, self.R, self.T = as_float(Q, "Q"), as_float(R, "R"), as_float(T, "T")
        k, m = unit_counts(self.Q, self.T)
        groups = spectrum.groups
        _require_exact(self.Q, (groups, k, k), "Q", "group by student by student")
        _require_exact(self.T, (groups, m, m), "T", "group by teacher by teacher")
        _require_exact(self.R, (groups, k, m), "R", "group by student by teacher")
        require_psd(self.Q, self.R, self.T, jnp.result_type(float))
        layers = checked_layers(k, m, v, v_teacher, b, b_teacher)
        self.v, self.v_teacher, self.b, self.b_teacher = layers
        self.spectrum = spectrum
        unseen = np.zeros((m, m)) if T_unseen is None else T_unseen
        self.T_unseen = as_float(unseen, "T_unseen")
        _require_exact(self.T_unseen, (m, m), "T_unseen", "teacher by teacher")
        _require_positive(self.T_unseen)

    @property
    def k(self) -> int:
        """Number of student units."""
        return self.R.shape[-2]

    @property
    def m(self) -> int:
        """Number of teacher units."""
        return self.R.shape[-1]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.spectrum.groups

    @property
    def layers(self) -> Layers:
        """Second layers and biases."""
        return Layers(self.v, self.v_teacher, self.b, self.b_teacher)

    @property
    def covariances(self) -> Float[Array, "groups d d"]:
        """[[Q, R], [R^T, T]] of each group."""
        top = jnp.concatenate([self.Q, self.R], axis=-1)
        bottom = jnp.concatenate([jnp.swapaxes(self.R, -1, -2), self.T], axis=-1)
        return jnp.concatenate([top, bottom], axis=-2)

    @property
    def fields(self) -> Overlaps:
        """The covariances of the fields, as the overlaps that white inputs would have with them."""
        return of_fields(self, self.Q, self.R)

    @property
    def euclidean(self) -> Overlaps:
        """The sums over groups, w.w/n and the others."""
        q, r, t = (x.sum(axis=0) for x in (self.Q, self.R, self.T))
        return Overlaps(q, r, t, *self.layers)


def of_fields(
    start: GroupedOverlaps,
    q: Float[Array, "groups k k"],
    r: Float[Array, "groups k m"],
    layers: Layers | None = None,
) -> Overlaps:
    """The covariances of the fields where the overlaps of the groups are q and r, and the teacher
    and the spectrum those of `start`. layers: None: those of `start`."""
    of = lambda x: jnp.tensordot(start.spectrum.eigenvalues, x, 1)
    layers = start.layers if layers is None else layers
    return Overlaps(of(q), of(r), of(start.T) + start.T_unseen, *layers)


@overload
def overlaps(weights: Weights | Any, inputs: None = None, groups: None = None) -> Overlaps: ...
@overload
def overlaps(weights: Weights | Any, inputs: Any, groups: CountLike | None = None) -> Any: ...
def overlaps(
    weights: Weights | Any, inputs: Any = None, groups: CountLike | None = None
) -> Overlaps | GroupedOverlaps:
    """The order parameters of `weights` (Goldt et al. 2020, Eq. (5)), for structured inputs in
    groups of directions.

    Args:
        weights: of student and teacher.
        inputs: None, or white inputs: `Overlaps`. Others, such as `ld.Structured(omega)` or
            `ld.Images(x)`: `GroupedOverlaps` in the eigenbasis of their covariance, with which the
            ODE is that of these inputs where they are Gaussian.
        groups: how many bins of eigenvalues at most, apart by equal factors; their errors fall with
            the square of a bin's width. None: one group for each direction.

    Raises:
        ValueError: for anything else than `Weights`, inputs of another dimension, groups < 1, or
            groups of white inputs.

    Example:
        >>> weights = ld.Weights(w=[[1.0, 1.0, 0.0, 0.0]], w_teacher=[[2.0, 0.0, 0.0, 0.0]])
        >>> ld.overlaps(weights)
        Overlaps(Q=[[0.5]], R=[[0.5]], T=[[1]], v=[1], v_teacher=[1])
        >>> inputs = ld.Structured([0.4, 0.6, 1.4, 1.6])
        >>> ld.overlaps(weights, inputs).groups, ld.overlaps(weights, inputs, groups=2).groups
        (4, 2)
    """
    white = euclidean_overlaps(weights)
    if inputs is None or getattr(inputs, "white", False):
        if groups is not None:
            raise ValueError(
                f"groups={groups!r} needs inputs with a covariance: white inputs have one group. "
                "Give inputs=ld.Structured(omega)."
            )
        return white
    covariance = getattr(inputs, "covariance", None)
    if covariance is None or isinstance(inputs, type):
        raise ValueError(
            f"inputs must be a distribution of inputs; got {brief(inputs)}. For example "
            "ld.Structured(omega), ld.Images(x)."
        )
    require_unbatched([("w", weights.w, 2), ("w_teacher", weights.w_teacher, 2)], "overlaps")
    inputs.require_weights(weights)
    bins = None if groups is None else as_count(groups, "groups", "bins of eigenvalues")
    return _grouped(weights, covariance(weights.n), bins, inputs.T_unseen(weights))


def _grouped(
    weights: Weights,
    omega: Float[Array, "n n"],
    bins: int | None,
    unseen: Float[Array, "m m"] | None,
) -> GroupedOverlaps:
    """In the eigenbasis of omega."""
    values, vectors = jnp.linalg.eigh(omega)
    values = jnp.maximum(values, 0.0)
    w, w_teacher, n = weights.w @ vectors, weights.w_teacher @ vectors, weights.n
    place = np.arange(n) if bins is None else _bins(values, bins)
    of = lambda x: jax.ops.segment_sum(x, place, place.max() + 1)
    q, r, t = (
        of(jnp.einsum("in,kn->nik", a, b) / n)
        for a, b in ((w, w), (w, w_teacher), (w_teacher, w_teacher))
    )
    counts = np.bincount(place)
    # The mean eigenvalue keeps tr Omega; what it misses is of second order in a bin's width.
    spectrum = Spectrum(of(values) / counts, counts / n)
    return GroupedOverlaps(q, r, t, spectrum, unseen, *weights.layers)


def _bins(values: Array, groups: int) -> np.ndarray:
    """(n,) The bin of each eigenvalue, numbered without gaps; those that are 0 have their own."""
    s = np.asarray(values)
    shown_at_all = s > _NO_VARIANCE * s.max()
    bins = np.zeros(len(s), int)
    logs = np.log(s[shown_at_all])
    width = max(np.ptp(logs), 1e-12) * (1 + 1e-9) / groups
    bins[shown_at_all] = 1 + ((logs - logs.min()) // width).astype(int)
    return np.unique(bins, return_inverse=True)[1]


def _require_exact(array: Array, shape: tuple[int, ...], name: str, words: str) -> None:
    """Raises: ValueError for another shape; one start has no batch axes."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, {words}; got shape {array.shape}.")


def _require_positive(unseen: Array) -> None:
    """Raises: ValueError for a concrete T_unseen that is no covariance."""
    if not is_concrete(unseen):
        return
    t = np.asarray(unseen)
    allowed = asymmetry(t.dtype) * (1 + np.abs(t).max())
    smallest = np.linalg.eigvalsh(t)[0] if np.isfinite(t).all() else -np.inf
    slack = psd_slack(t.dtype) * max(np.trace(t), 1.0)
    if not np.isfinite(t).all() or np.abs(t - t.T).max() > allowed or smallest < -slack:
        raise ValueError(
            "T_unseen must be a covariance, symmetric and positive semi-definite: what the "
            f"teacher's fields have beyond the inputs; got\n{t}"
        )
