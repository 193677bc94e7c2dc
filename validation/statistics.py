"""Decisions under noise. Every margin is fixed before anything is measured.

The budget of false alarms: a true claim fails with probability at most 1 % for the whole
suite. A claim of equality passes where two one-sided tests at level `LEVEL` both reject a
difference as large as the margin; that needs an estimate within margin - z(LEVEL) standard
errors, so the number of runs is chosen to leave several standard errors of room.
"""

import dataclasses

import numpy as np
from scipy import stats

LEVEL = 0.05
"""Level of each one-sided test: the risk of calling equal what differs by the margin."""


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """Estimates (in units in which the margin is given), and whether all lie inside it."""

    estimate: np.ndarray
    error: np.ndarray
    margin: float

    @property
    def equal(self) -> bool:
        """Two one-sided tests at every entry (an intersection-union test: no correction)."""
        room = self.margin - stats.norm.isf(LEVEL) * self.error
        return bool(np.all(np.abs(self.estimate) < room))

    @property
    def worst(self) -> int:
        """The entry that comes closest to the margin, or exceeds it the most."""
        return int(np.argmax(np.abs(self.estimate) + stats.norm.isf(LEVEL) * self.error))


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


def z_scores(samples: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """(mean - exact) / standard error, for theories without any bias at finite n."""
    return (samples.mean(axis=0) - exact) / (
        samples.std(axis=0, ddof=1) / np.sqrt(samples.shape[0])
    )


def z_limit(comparisons: int, false_alarm: float) -> float:
    """The |z| that a true theory exceeds somewhere with probability at most `false_alarm`."""
    return float(stats.norm.isf(false_alarm / (2 * comparisons)))


def is_equal(estimate: float, error: float, expected: float, margin: float) -> bool:
    """Whether two one-sided tests at `LEVEL` place the estimate within `margin` of `expected`."""
    return Equivalence(np.array(estimate - expected), np.array(error), margin).equal


def power_law(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Slope of log y against log x by weighted least squares, and its standard error.

    y: independent estimates with standard errors `error`, small beside y.
    """
    weights = (y / error) ** 2
    log_x = np.log(x) - np.average(np.log(x), weights=weights)
    spread = (weights * log_x**2).sum()
    return float((weights * log_x) @ np.log(np.abs(y)) / spread), float(spread**-0.5)
