"""Decisions under noise: when a measurement confirms a theory, and not merely fails to refute it.

A claim of equality passes where two one-sided tests at level `LEVEL` both reject a difference
as large as the margin. That needs an estimate within margin - z(LEVEL) standard errors of the
expected value: too few runs make a true claim fail, never a false one pass. How likely a true
claim is to fail, with too few runs or by bad luck, is its `false_alarm`.
"""

import dataclasses
from statistics import NormalDist

import numpy as np

from learndyn._numerics.power_law import fit_power_law
from learndyn._types import RealLike

LEVEL = 0.05
"""Level of each one-sided test, the risk of calling equal what differs by the margin: the usual
5 %, as a claim that is wrong by just the margin is nearly right."""


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """Whether estimates lie within a margin of zero, beyond doubt.

    Args:
        estimate, error: arrays of one shape, in units in which the margin is given.
        margin: how far from zero counts as equal.

    Example:
        >>> testing.Equivalence(np.array(0.1), np.array(0.05), margin=0.5).equal
        True
        >>> testing.Equivalence(np.array(0.4), np.array(0.1), margin=0.5).equal
        False
    """

    estimate: np.ndarray
    error: np.ndarray
    margin: float

    @property
    def equal(self) -> bool:
        """Two one-sided tests at every entry (an intersection-union test: no correction)."""
        return bool(np.all(np.abs(self.estimate) < self._room))

    def false_alarm(self, bias: float | np.ndarray = 0.0) -> float:
        """A bound on how likely the test fails although the truth is within `bias` of zero.

        It follows from normal errors, added up over the entries.

        Args:
            bias: in the unit of the margin, one for all entries or one each; what a theory of the
                limit leaves out at finite n, say.
        """
        from scipy.special import ndtr

        error = np.maximum(self.error, np.finfo(float).tiny)
        # Boole's inequality: the probabilities of the entries add up at most.
        tails = ndtr((bias - self._room) / error) + ndtr((-bias - self._room) / error)
        return min(1.0, float(np.sum(tails)))

    @property
    def missed(self) -> float:
        """A bound on how likely the test was to call all equal, were each as far from zero as
        measured: a wrong theory that is within chance of passing shows nothing."""
        from scipy.special import ndtr

        error = np.maximum(self.error, np.finfo(float).tiny)
        return float(np.min(ndtr((self._room - np.abs(self.estimate)) / error)))

    @property
    def _room(self) -> np.ndarray:
        """How far from zero an estimate may be."""
        return np.asarray(self.margin - _quantile(LEVEL) * self.error)

    @property
    def worst(self) -> int:
        """The entry that comes closest to the margin, or exceeds it the most; NaN first."""
        return int(np.argmax(np.abs(self.estimate) + _quantile(LEVEL) * self.error))


def in_units_of_one_run(samples: np.ndarray, theory: np.ndarray, margin: float) -> Equivalence:
    """(ensemble mean - theory) / standard deviation of a single run.

    At finite n the mean differs from the ODE by a bias of order 1/n, small against the scatter of a
    run, of order 1/sqrt(n).

    Args:
        samples: (runs, ...) independent runs.
        theory: (...) what is predicted for their mean.
        margin: how far from zero counts as equal, in standard deviations of a run.

    Example:
        >>> samples = np.random.default_rng(0).normal(loc=1.0, size=(1000, 1))
        >>> found = testing.in_units_of_one_run(samples, np.array([1.0]), margin=0.2)
        >>> bool(found.equal), np.round(found.estimate, 3), np.round(found.error, 3)
        (True, array([-0.049]), array([0.032]))
    """
    runs = samples.shape[0]
    spread = samples.std(axis=0, ddof=1)
    estimate = (samples.mean(axis=0) - theory) / spread
    # The spread is estimated too: variance of a t-like ratio, to first order in 1/runs.
    error = np.sqrt((1 + 0.5 * estimate**2) / runs)
    return Equivalence(estimate, error, margin)


def difference(
    estimate: RealLike, error: RealLike, expected: RealLike, margin: float
) -> Equivalence:
    """estimate - expected, where `expected` is exact.

    Numbers or arrays that broadcast.

    Args:
        estimate: what was measured.
        error: the standard error of the estimate.
        expected: what theory predicts.
        margin: how far from zero counts as equal.

    Example:
        >>> found = testing.difference(1.02, 0.01, expected=1.0, margin=0.1)
        >>> bool(found.equal), round(float(found.estimate), 4)
        (True, 0.02)
    """
    gap, error = np.broadcast_arrays(np.subtract(estimate, expected), error)
    return Equivalence(gap, error, margin)


def relative_difference(
    estimate: RealLike, error: RealLike, expected: RealLike, margin: float
) -> Equivalence:
    """estimate / expected - 1: as `difference`, with the margin a fraction of `expected`.

    Args:
        estimate: what was measured.
        error: its standard error.
        expected: what theory predicts, not 0.
        margin: how far from zero counts as equal, a fraction of `expected`.

    Example:
        >>> found = testing.relative_difference(10.2, 0.1, expected=10.0, margin=0.1)
        >>> bool(found.equal), round(float(found.estimate), 6)
        (True, 0.02)
    """
    scaled = np.divide(estimate, expected), np.divide(error, np.abs(expected))
    return difference(*scaled, 1.0, margin)


def power_law(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Slope of log y against log x by weighted least squares, and its standard error.

    Args:
        x: (sizes,) positive.
        y: independent estimates with standard errors `error`, small against y.
        error: (sizes,) standard errors of y.

    Example:
        >>> x = np.array([1.0, 2.0, 4.0])
        >>> slope, error = testing.power_law(x, 3.0 * x**-0.5, 0.01 * x**-0.5)
        >>> round(float(slope), 6)
        -0.5
    """
    fit = fit_power_law(x, y, (y / error) ** 2)
    return fit.slope, fit.slope_error


def z_scores(samples: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """(mean - exact) / standard error, for theories without any bias at finite n.

    Args:
        samples: (runs, ...) independent runs.
        exact: (...) what theory predicts for their mean.

    Example:
        >>> samples = np.random.default_rng(0).normal(loc=1.0, size=(1000, 1))
        >>> np.round(testing.z_scores(samples, np.array([1.0])), 2)
        array([-1.55])
    """
    return (samples.mean(axis=0) - exact) / (
        samples.std(axis=0, ddof=1) / np.sqrt(samples.shape[0])
    )


def two_sample_z(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z scores that are standard normal where x and y, (runs, coordinates), have one joint law.

    They belong to the mean normal score of every coordinate and to the mean product of every two.
    Scores come from ranks in the pooled sample, so heavy tails do no harm; coordinates that do not
    move, or are there twice, drop out. Compare their largest |z| with `z_limit`.

    Args:
        x, y: (runs, coordinates), two samples.

    Example:
        >>> draw = np.random.default_rng(0).normal
        >>> z = testing.two_sample_z(draw(size=(500, 2)), draw(size=(500, 2)))
        >>> np.round(z, 2), round(float(testing.z_limit(z.size, false_alarm=0.01)), 2)
        (array([-1.78,  0.59, -1.74,  0.79, -0.78]), 3.09)
    """
    from scipy.special import ndtri

    pooled = np.concatenate([x, y])
    # Coordinates that do not move differ by rounding only.
    pooled = pooled[:, np.ptp(pooled, axis=0) > 1e-9]
    # Coordinates that are there twice, as Q_ii' and Q_i'i, agree in the first run already.
    _, first = np.unique(pooled[0], return_index=True)
    pooled = pooled[:, np.sort(first)]
    # Van der Waerden's normal scores
    ranks = pooled.argsort(axis=0).argsort(axis=0) + 1
    scores = ndtri(ranks / (len(pooled) + 1))
    i, j = np.triu_indices(scores.shape[1])
    features = np.concatenate([scores, scores[:, i] * scores[:, j]], axis=1)
    a, b = features[: len(x)], features[len(x) :]
    # Welch's two-sample statistic, with variances that may differ
    variance = a.var(axis=0) / len(a) + b.var(axis=0) / len(b)
    return (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(variance)


def z_limit(comparisons: int, false_alarm: float) -> float:
    """The |z| that a true theory exceeds somewhere with probability at most `false_alarm`.

    Args:
        comparisons: how many z scores are looked at.
        false_alarm: the probability that a true theory exceeds the limit somewhere.

    Example:
        >>> round(float(testing.z_limit(comparisons=100, false_alarm=0.01)), 2)
        3.89
    """
    # Bonferroni's correction, for both tails
    return _quantile(false_alarm / (2 * comparisons))


def z_missed(z: np.ndarray | float, limit: float) -> float:
    """A bound on how likely a wrong theory with these z scores was to keep all below `limit`.

    Args:
        z: z scores of the wrong theory, of any shape.
        limit: as `z_limit` gives it.

    Example:
        >>> limit = testing.z_limit(comparisons=2, false_alarm=0.01)
        >>> round(float(limit), 2), f"{float(testing.z_missed(np.array([8.0, 0.0]), limit)):.0e}"
        (2.81, '1e-07')
    """
    return NormalDist().cdf(limit - float(np.abs(z).max()))


def _quantile(tail: float) -> float:
    """The z that a standard normal exceeds with this probability."""
    return -NormalDist().inv_cdf(tail)
