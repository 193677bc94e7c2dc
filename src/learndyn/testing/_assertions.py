"""Theory against experiment in one line, with the statistics of the validation suite."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from learndyn._numerics.power_law import fit_power_law
from learndyn._types import RealLike
from learndyn.dynamics import Trajectory, solve_ode
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import GroupedOverlaps, Overlaps
from learndyn.testing._ensembles import ensemble
from learndyn.testing._statistics import Equivalence, difference, in_units_of_one_run

FIELDS = ("Q", "R", "v", "b")


class Agreement(NamedTuple):
    """What `assert_matches_ode` found, for eg at every time after the first.

    Attributes:
        alpha: (times,) the times.
        theory: (times,) what is predicted.
        mean: (times,) over the ensemble.
        error: (times,) standard error of the mean.
        distance: (times,) (mean - theory) / standard deviation of a single run.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> given = {"key": jax.random.key(0), "n": 500, "runs": 256}
        >>> found = testing.assert_matches_ode(problem, rule, start, [0.0, 1.0, 2.0], **given)
        >>> found.alpha
        array([1., 2.])
    """

    alpha: np.ndarray
    theory: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    distance: np.ndarray


class Scaling(NamedTuple):
    """A fitted power y ~ x**slope: the slope, its standard error, and the points (x, y, error).

    Attributes:
        slope: the fitted exponent.
        slope_error: its standard error.
        x: (sizes,) where.
        y: (sizes,) the means.
        y_error: (sizes,) their standard errors.

    Example:
        >>> ns = np.array([100.0, 400.0, 1600.0])
        >>> found = testing.assert_scaling(ns, 1.0 / ns, exponent=-1.0, error=1e-3 / ns)
        >>> round(float(found.slope), 6)
        -1.0
    """

    slope: float
    slope_error: float
    x: np.ndarray
    y: np.ndarray
    y_error: np.ndarray


def assert_matches_ode(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    ts: RealLike,
    *,
    key: PRNGKeyArray,
    n: int = 1000,
    runs: int = 256,
    margin: float = 0.5,
    level: str = "chain",
    averages: Any = None,
    theory: Trajectory | None = None,
) -> Agreement:
    """Assert that the mean error of an ensemble of runs follows the ODE.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start: the overlaps at ts[0]; in groups of directions at level "chain" alone.
        ts: (times,) in units of alpha = steps / n. The first one is the time of `start`, where all
            agree and nothing is tested: [1, 2] is one unit of alpha from there, not two. Choose
            times before runs scatter over an exit from a plateau: there the mean of eg is not the
            eg of the mean.
        key: random key.
        n: input dimension.
        runs: size of the ensemble.
        margin: the allowed distance of mean and ODE, in standard deviations of a single run, shown
            by two one-sided tests of 5 % each. The bias at finite n, of order 1/n, shrinks in these
            units like 1/sqrt(n).
        level: "chain", the exact overlap chain, or "sgd", weights.
        averages: how to average over the fields, as for `solve_ode`; None chooses.
        theory: another prediction to be tested, at the times of whole steps nearest to ts, which
            are ts itself where ts * n is whole; None: `solve_ode`.

    Raises:
        AssertionError: with the numbers where they do not agree, or where there are too few runs to
            decide.
        ValueError: for bad input, a theory at other times, or runs that end badly or do not move.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> given = {"key": jax.random.key(0), "n": 500, "runs": 256}
        >>> found = testing.assert_matches_ode(problem, rule, start, [0.0, 1.0, 2.0], **given)
        >>> np.round(found.distance, 1) + 0.0
        array([0., 0.])
    """
    runs, margin = _count(runs, "runs", 2), _positive(margin, "margin")
    results = ensemble(
        problem, rule, start, _times(ts), n=n, runs=runs, key=key, level=level, averages=averages
    )
    alpha = np.asarray(results.alpha[0])
    if theory is None:
        theory = solve_ode(problem, rule, start, alpha, averages=averages)
    _require_times(theory, alpha, f"those of whole steps at n = {n}, nearest to ts")
    expected, eg = np.asarray(theory.eg)[1:], np.asarray(results.eg)[:, 1:]
    return _agreement(alpha[1:], expected, eg, margin)


def assert_runs_match(
    theory: Trajectory, runs: Trajectory, *, margin: float | Any = 0.5
) -> Agreement:
    """Assert that the mean error of runs that are there follows a theory: of several tasks, that of
    each task.

    Args:
        theory: one trajectory, of `solve_ode` or `ld.learn`, say.
        runs: independent runs at the same times, with one batch axis in front, as from vmap over
            keys.
        margin: as for `assert_matches_ode`.

    Returns:
        An `Agreement`, with a second axis of tasks for runs of `ld.learn`.

    Raises:
        AssertionError: with the numbers where they do not agree, or where there are too few runs to
            decide.
        ValueError: for anything but two or more runs, other times, or runs that end badly.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> problem, rule, ts = ld.Problem(noise=0.1), ld.SGD(lr=0.5), [0.0, 1.0, 2.0]
        >>> theory = ld.solve_ode(problem, rule, start, ts)
        >>> one = lambda key: ld.simulate_chain(problem, rule, start, ts, n=500, key=key)
        >>> runs = jax.vmap(one)(jax.random.split(jax.random.key(0), 256))
        >>> testing.assert_runs_match(theory, runs).mean.shape
        (2,)
    """
    margin = _positive(margin, "margin")
    if theory.alpha.ndim != 1 or runs.alpha.ndim != 2 or len(runs.alpha) < 2:
        raise ValueError(
            "assert_runs_match takes one trajectory and a batch of two or more runs; got shapes "
            f"{theory.alpha.shape} and {runs.alpha.shape} of their times."
        )
    if not (np.all(runs.ok) and np.all(theory.ok)):
        raise ValueError("assert_runs_match needs runs that ended well; see their .result.")
    name = "eg" if theory.eg_tasks is None or runs.eg_tasks is None else "eg_tasks"
    _require_times(theory, np.asarray(runs.alpha[0]), "those of the runs")
    expected, found = (np.asarray(getattr(run, name)) for run in (theory, runs))
    if found.shape[1:] != expected.shape:
        raise ValueError(
            f"theory and runs must have as many tasks; got {name} of shapes {expected.shape} and "
            f"{found.shape}."
        )
    return _agreement(np.asarray(theory.alpha)[1:], expected[1:], found[:, 1:], margin)


def _agreement(alpha: np.ndarray, expected: np.ndarray, eg: np.ndarray, margin: float) -> Agreement:
    """Whether eg (runs, times, ...) has the mean that is expected. Raises: AssertionError."""
    runs, flat = len(eg), eg.reshape(len(eg), -1)
    found = in_units_of_one_run(flat, expected.ravel(), margin)
    error = flat.std(axis=0, ddof=1) / np.sqrt(runs)
    worst = found.worst
    if not found.equal:
        at = alpha[worst // (found.estimate.size // len(alpha))]
        raise AssertionError(
            f"eg does not follow the theory within {margin} standard deviations of a run: at "
            f"alpha = {at:.4g} the mean of {runs} runs is {flat[:, worst].mean():.5g} "
            f"± {error[worst]:.2g}, the theory {expected.flat[worst]:.5g}, which is "
            f"{found.estimate[worst]:+.2f} ± {found.error[worst]:.2f} standard deviations of a "
            f"run. {_advice(found)}"
        )
    shape = expected.shape
    parts = flat.mean(axis=0).reshape(shape), error.reshape(shape), found.estimate.reshape(shape)
    return Agreement(alpha, expected, *parts)


def assert_concentrates(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    *,
    key: PRNGKeyArray,
    horizon: float = 5.0,
    ns: Sequence[int] = (64, 128, 256, 512, 1024, 2048, 4096),
    runs: int = 512,
    exponent: float = -0.5,
    margin: float = 0.05,
    scatter: float = 0.2,
    level: str = "chain",
    averages: Any = None,
    theory: Trajectory | None = None,
) -> Scaling:
    """Assert that runs at input dimension n stay within C / sqrt(n) of the ODE.

    The largest value over 10 times up to `horizon` of E|m - m_ode|, the Frobenius norm over (Q, R,
    v, b), is fitted by a power of n; the exponent must equal -1/2 within `margin`, and every size
    lie within `scatter` of the fit, as in `assert_scaling`. All runs start from exactly the
    overlaps `start`.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start: the overlaps from which every run begins.
        key: random key.
        horizon: in units of alpha.
        ns: input dimensions, at least three, all different.
        runs: size of the ensemble at each n.
        exponent: the power of n that the distance should have.
        margin: the allowed distance of the fitted exponent from it.
        scatter: the allowed distance of each size from the fit, in log.
        level: "chain" or "sgd", as in `assert_matches_ode`.
        averages: as in `assert_matches_ode`.
        theory: another prediction, at 11 equally spaced times from 0 to horizon; None: `solve_ode`.
            level,

    Raises:
        AssertionError: with the numbers.
        ValueError: for bad input, a theory at other times, or runs that end badly or do not move.

    Source:
        The concentration theorem, Theorem 1 of Goldt et al. (2020).

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> given = {"key": jax.random.key(0), "horizon": 1.0, "ns": [400, 1600, 6400], "runs": 512}
        >>> found = testing.assert_concentrates(problem, rule, start, margin=0.1, **given)
        >>> round(float(found.slope), 1)
        -0.5
    """
    ns, runs = _sizes(ns), _count(runs, "runs", 2)
    allowed = {"margin": _positive(margin, "margin"), "scatter": _positive(scatter, "scatter")}
    ts = np.linspace(0.0, horizon, 11)
    if theory is None:
        theory = solve_ode(problem, rule, start, ts, averages=averages)
    _require_times(theory, ts, "11 equally spaced ones from 0 to horizon")
    samples = []
    for n, one in zip(ns, jax.random.split(key, len(ns)), strict=True):
        options = {"n": n, "runs": runs, "key": one, "level": level, "averages": averages}
        samples.append(_distances(ensemble(problem, rule, start, ts, **options), theory))
    by_size = np.stack(samples)
    # The maximum of the mean, as the theorem has it, not the mean of the maximum.
    peaks = by_size.mean(axis=1).argmax(axis=1)
    largest = by_size[np.arange(len(peaks)), :, peaks]
    return assert_scaling(ns, largest.T, exponent, **allowed)


def assert_scaling(
    x: RealLike,
    y: RealLike,
    exponent: float,
    *,
    error: RealLike | None = None,
    margin: float = 0.05,
    scatter: float = 0.2,
) -> Scaling:
    """Assert that y ~ x**exponent: the exponent of the fit, and that the fit is one.

    The fitted exponent equals `exponent` within `margin`, and log y at every x equals the fitted
    line within `scatter`; each by two one-sided tests of 5 %, so that too few runs fail and never
    pass. A curve or a jump can have the right exponent on average; and with enough runs any true
    power law is a little off its line, through corrections at small x.

    Args:
        x: (sizes,), positive, at least three of them different.
        y: (runs, sizes), samples whose mean is meant; or (sizes,) positive estimates, with their
            standard errors in `error` (sizes,).
        exponent: the power that theory predicts.
        error: (sizes,) standard errors of y, where y are estimates.
        margin: the allowed distance of the fitted exponent from it.
        scatter: 0.2 has room for corrections of 10 % at small x, and needs errors below some 5 % of
            y; less scatter needs smaller errors.

    Raises:
        AssertionError: with the fitted exponent, or the point that is off.
        ValueError: for bad input.

    Example:
        >>> ns = np.array([100.0, 400.0, 1600.0])
        >>> samples = (1.0 + 0.01 * np.random.default_rng(0).normal(size=(200, 3))) / np.sqrt(ns)
        >>> found = testing.assert_scaling(ns, samples, exponent=-0.5)
        >>> round(float(found.slope), 2)
        -0.5
    """
    margin, scatter = _positive(margin, "margin"), _positive(scatter, "scatter")
    x, y = np.asarray(x, float), np.asarray(y, float)
    good = x.ndim == 1 and len(np.unique(x)) >= 3 and (np.isfinite(x) & (x > 0)).all()
    if not good:
        raise ValueError(f"x must be positive numbers, at least three different ones; got {x}.")
    if y.shape[-1:] != x.shape or y.ndim not in (1, 2) or (y.ndim == 1) == (error is None):
        raise ValueError(
            "y must be samples (runs, sizes), or estimates (sizes,) with their `error` (sizes,); "
            f"got y {y.shape}, x {x.shape}, error {None if error is None else np.shape(error)}."
        )
    if y.ndim == 2:
        _count(len(y), "the number of runs in y", 2)
        y, error = y.mean(axis=0), y.std(axis=0, ddof=1) / np.sqrt(len(y))
    error = np.broadcast_to(np.asarray(error, float), y.shape)
    if not (np.isfinite(y) & (y > 0) & np.isfinite(error) & (error > 0)).all():
        raise ValueError(f"y and its error must be positive and finite; got {y} ± {error}.")
    # Inverse variances of log y, by the delta method
    fit = fit_power_law(x, y, (y / error) ** 2)
    if not difference(fit.slope, fit.slope_error, exponent, margin).equal:
        raise AssertionError(
            f"the fitted exponent is {fit.slope:.4f} ± {fit.slope_error:.4f}, not {exponent} "
            f"within {margin}: x = {x.tolist()}, y = {np.array2string(y, precision=4)}. If the "
            "error is not much smaller than the margin, take more runs or a wider range of x."
        )
    # The error of the gap between log y and the line is taken to be that of log y: a little too
    # large, as the line follows the point.
    off = Equivalence(fit.residuals, error / y, scatter)
    worst = off.worst
    if not off.equal:
        raise AssertionError(
            f"y is no power of x within {scatter}: at x = {x[worst]:g} log y is off the fitted "
            f"line by {off.estimate[worst]:+.4f} ± {off.error[worst]:.4f}, y = {y[worst]:.5g}. "
            f"{_more_runs(off) or 'The fitted exponent is then no exponent of y.'}"
        )
    return Scaling(fit.slope, fit.slope_error, x, y, error)


def _distances(results: Trajectory, theory: Trajectory) -> np.ndarray:
    """|m - m_ode| of shape (runs, times), without the first time, where it is 0."""
    total = np.zeros(())
    for name in FIELDS:
        if getattr(results, name) is not None:
            gap = np.asarray(getattr(results, name)) - np.asarray(getattr(theory, name))
            total = total + (gap.reshape(*gap.shape[:2], -1) ** 2).sum(axis=-1)
    return np.sqrt(total)[:, 1:]


def _advice(found: Equivalence) -> str:
    otherwise = "Take a larger n if the bias of order 1/n may explain it; else the theory is wrong."
    return _more_runs(found) or otherwise


def _more_runs(found: Equivalence) -> str:
    """The advice where only the errors are too large."""
    inside = np.abs(found.estimate).max() < found.margin
    return "The estimate itself is inside the margin: take more runs." if inside else ""


def _require_times(theory: Trajectory, alpha: np.ndarray, which: str) -> None:
    """A theory at other times would be compared with the wrong ones, or broadcast."""
    given = np.asarray(theory.alpha, float)
    # Times that were made by linspace and by arange differ by rounding.
    if given.shape != alpha.shape or not np.allclose(given, alpha, rtol=1e-9, atol=1e-9):
        raise ValueError(
            f"the theory's times must be {which}, alpha = {alpha.tolist()}; got theory.alpha = "
            f"{given.tolist()}."
        )


def _times(ts: RealLike) -> np.ndarray:
    ts = np.asarray(ts, float)
    if ts.ndim != 1 or len(ts) < 2:
        raise ValueError(
            f"ts must be at least two increasing times, the first the start; got {ts}."
        )
    return ts


def _sizes(ns: Sequence[int]) -> list[int]:
    sizes = np.asarray(ns).tolist()
    if len(sizes) < 3 or len(set(sizes)) < len(sizes):
        raise ValueError(f"ns must be at least three sizes, all different; got {sizes}.")
    return sizes


def _positive(value: float, name: str) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite; got {value}.")
    return value


def _count(value: int, name: str, least: int) -> int:
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}.")
    return value
