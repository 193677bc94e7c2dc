"""Decisions under noise: when a measurement confirms a theory, and not merely fails to refute it.

A claim of equality passes where two one-sided tests at level `LEVEL` both reject a difference
as large as the margin. That needs an estimate within margin - z(LEVEL) standard errors of the
expected value: too few runs make a true claim fail, never a false one pass.
"""

import dataclasses
from statistics import NormalDist

import numpy as np

LEVEL = 0.05
"""Level of each one-sided test: the risk of calling equal what differs by the margin."""


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """Whether estimates lie within a margin of zero, beyond doubt.

    estimate, error: arrays of one shape, in units in which the margin is given.
    """

    estimate: np.ndarray
    error: np.ndarray
    margin: float

    @property
    def equal(self) -> bool:
        """Two one-sided tests at every entry (an intersection-union test: no correction)."""
        room = self.margin - _quantile(LEVEL) * self.error
        return bool(np.all(np.abs(self.estimate) < room))

    @property
    def worst(self) -> int:
        """The entry that comes closest to the margin, or exceeds it the most; NaN first."""
        return int(np.argmax(np.abs(self.estimate) + _quantile(LEVEL) * self.error))


def in_units_of_one_run(samples: np.ndarray, theory: np.ndarray, margin: float) -> Equivalence:
    """(ensemble mean - theory) / standard deviation of a single run.

    samples: (runs, ...); theory: (...). At finite n the mean differs from the ODE by a bias of
    order 1/n, small beside the scatter of a run, of order 1/sqrt(n).
    """
    runs = samples.shape[0]
    spread = samples.std(axis=0, ddof=1)
    estimate = (samples.mean(axis=0) - theory) / spread
    # The spread is estimated too: variance of a t-like ratio, to first order in 1/runs.
    error = np.sqrt((1 + 0.5 * estimate**2) / runs)
    return Equivalence(estimate, error, margin)


def is_equal(estimate: float, error: float, expected: float, margin: float) -> bool:
    """Whether two one-sided tests at `LEVEL` place the estimate within `margin` of `expected`."""
    return Equivalence(np.array(estimate - expected), np.array(error), margin).equal


def power_law(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Slope of log y against log x by least squares, and its standard error.

    y: independent estimates with standard errors `error`, much smaller than y.
    """
    log_x = np.log(x) - np.log(x).mean()
    weights = log_x / (log_x**2).sum()
    return float(weights @ np.log(y)), float(np.sqrt((weights**2) @ (error / y) ** 2))


def z_scores(samples: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """(mean - exact) / standard error, for theories without any bias at finite n."""
    return (samples.mean(axis=0) - exact) / (
        samples.std(axis=0, ddof=1) / np.sqrt(samples.shape[0])
    )


def z_limit(comparisons: int, false_alarm: float) -> float:
    """The |z| that a true theory exceeds somewhere with probability at most `false_alarm`."""
    return _quantile(false_alarm / (2 * comparisons))


def _quantile(tail: float) -> float:
    """The z that a standard normal exceeds with this probability."""
    return -NormalDist().inv_cdf(tail)
