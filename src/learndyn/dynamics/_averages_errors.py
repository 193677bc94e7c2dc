"""What the error of the averages means for a run: at every saved time, and for whoever reads it."""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn._types import Times
from learndyn.averages import (
    AbstractAverages,
    AbstractOneUnit,
    cancelling,
    estimated,
    is_exact,
    misfits,
    sampled,
    term_sizes,
)
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._trajectory import Trajectory

_FINE = 2e-4
"""Relative error of the averages at which a run is good enough: eg is then right to about 2e-5."""

_UNFELT = 1e-3
"""Error of the drift, over the drift, that nobody sees in a figure."""

_COARSE = 2e-2
"""Error of the drift, over the drift, beyond which the averages decide where a run goes: a
difference between levels of a hundredth, of which twice as much is told."""

Errors = dict[str, Array]


def errors_along(flow: OverlapFlow, ts: Times, ys: Float[Array, "times p"]) -> Errors:
    """Errors of the averages at the saved times, under the names that they have in `stats`.

    averages_error: the largest over all entries of <F f>, Phi, h and f; averages_error_relative:
        over the largest entry; averages_error_eg: that of eg; averages_error_drift: that of the
        drift, over the drift. averages_resolved: whether all have begun to converge.
    """
    if is_exact(flow.averages):
        return {"averages_error": jnp.zeros(len(ts)), "averages_resolved": jnp.asarray(True)}

    def at(row: tuple[Array, Array]) -> tuple[Array, ...]:
        t, y = row
        state = flow.unpack(y)

        def of(averages: AbstractAverages) -> list[Array]:
            found, eg = flow.averages_of(averages, state), flow.error_by(averages, state)
            return [eg, flow.drift(t, y, found), *sampled(found, state)]

        def terms(values: list[Array]) -> list[Array | float]:
            # The terms of the drift cancel on plateaus and in late stages.
            return [values[0], jnp.inf, *term_sizes(values[2:], state)]

        misfit = flow.averages.misfit(flow.problem, state)
        known = [0.0, misfit, *misfits(misfit, state)]
        # One unit's averages vanish where student and teacher agree without cancelling.
        one_unit = isinstance(flow.averages, AbstractOneUnit)
        size = 0.0 if one_unit else cancelling(state)
        values, errors, resolved = estimated(flow.averages, of, size, known, terms)
        largest = jnp.max(jnp.stack(errors[2:]))
        size = jnp.max(jnp.stack([jnp.max(jnp.abs(value)) for value in values[2:]]))
        speed = jnp.max(jnp.abs(values[1]))
        lost = jnp.any(jnp.isnan(y))
        return largest, _ratio(largest, size), errors[0], _ratio(errors[1], speed), resolved | lost

    error, relative, eg, drift, resolved = jax.lax.map(at, (ts, ys))
    return {
        "averages_error": error,
        "averages_error_relative": relative,
        "averages_error_eg": eg,
        "averages_error_drift": drift,
        "averages_resolved": jnp.all(resolved),
    }


def _ratio(x: Array, size: Array) -> Array:
    # Something over nothing is huge but finite, so that a maximum over entries is not NaN.
    return jnp.where(x == 0, 0.0, x / jnp.where(size > 0, size, 1e-300))


def refined(
    solve: Callable[[tuple[AbstractAverages, ...]], Trajectory],
    averages: tuple[AbstractAverages, ...],
    chosen: bool,
) -> Trajectory:
    """The run that `solve` makes with these averages, again with finer ones as long as they are too
    coarse and finer ones help.

    chosen: whether the library has chosen them; those that a user gave stay.
    """
    run, before = solve(averages), None
    while chosen and (finer := _finer(run, averages, before)) is not None:
        averages = finer
        run, before = solve(averages), run
    return run


def _finer(
    run: Trajectory, averages: tuple[AbstractAverages, ...], before: Trajectory | None
) -> tuple[AbstractAverages, ...] | None:
    """Finer averages, where those of `run` are not fine enough.

    before: the run with coarser ones. None: they are fine enough, or finer ones would take too
    long, or they have not helped.
    """
    if not is_concrete(run.stats):
        return None
    error, drift = _errors_of(run)
    enough = not np.any((error > _FINE) & (drift > _UNFELT))
    if enough or (before is not None and error.max() > 0.5 * _errors_of(before)[0].max()):
        return None
    finer = [one.finer(run.R.shape[-2], run.R.shape[-1]) for one in averages]
    if all(one is None for one in finer):
        return None
    return tuple(new or old for new, old in zip(finer, averages, strict=True))


def _errors_of(run: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the averages, over the largest, and of the drift, over the drift; 0 where a run had
    ended or averages are exact."""
    names = ("averages_error_relative", "averages_error_drift")
    told = [np.atleast_1d(np.asarray(run.stats.get(name, 0.0))) for name in names]
    relative, drift = (np.nan_to_num(error) for error in told)
    return relative, drift


def warn_of_averages(run: Trajectory) -> None:
    """A warning where the averages have not converged, or are coarser than the drift.

    Inside jit there is no warning: the numbers are in `stats`.
    """
    if not is_concrete(run.stats) or "averages_error_drift" not in run.stats:
        return
    relative, drift = _errors_of(run)
    coarse = (drift > _COARSE) & (relative > _FINE)
    remedy = (
        "Give averages=, for example GaussHermite(...), Trapezoid(...) or QuasiMonteCarlo(...) "
        "with more points, and compare."
    )
    if coarse.any():
        worst = int(np.argmax(np.where(coarse, drift, 0.0)))
        warnings.warn(
            f"the error of the Gaussian averages is {drift[worst]:.2g} of the drift at alpha = "
            f"{float(np.asarray(run.alpha)[worst]):.4g}: plateaus and late stages may come from "
            f"the averages and not from the problem. {remedy}",
            RuntimeWarning,
            stacklevel=3,
        )
    elif not bool(run.stats["averages_resolved"]) and np.max(relative) > _FINE:
        warnings.warn(
            "the Gaussian averages have not converged: from one level to the next their "
            "differences do not shrink by 3, so stats['averages_error'] is no bound. "
            f"{remedy}",
            RuntimeWarning,
            stacklevel=3,
        )
