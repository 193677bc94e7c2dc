"""One call from a theory and an experiment to a verdict."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.averages import QuasiMonteCarlo
from learndyn.datasets import overlaps_at, problem_of, rule_of, to_dataset
from learndyn.dynamics import Fluctuations, Trajectory
from learndyn.dynamics import fluctuations as fluctuations_of
from learndyn.testing._statistics import z_limit

if TYPE_CHECKING:
    import xarray

_FALSE_ALARM = 0.01
"""How often a true theory is called wrong: one comparison in a hundred."""

SCATTER: dict[str, Any] = {
    "noise_nodes": QuasiMonteCarlo(points=2048, replicates=2, symmetric=True),
}
"""Options of `fluctuations` for the scatter; one digit would do. With these nodes that of eg is
right to 3 % at k = m = 4, those of Q and R to 8 %. The tolerances stay the default ones, which that
of eg needs where eg is small."""

_SAME_START = 1e-5
"""Relative: a start in float32, and its rounding in a measurement."""

_RUNS = 8
"""Runs from which on their own scatter tells a difference: with as many, none of them can be more
than 2.5 of it from their mean, so that what is beyond the limit is the theory's."""

_SOLVER = 100.0
"""Measured over alpha <= 20: a solve's error is up to a hundred times its tolerance."""


def compare(
    theory: "Trajectory | Fluctuations | xarray.Dataset",
    experiment: "Trajectory | xarray.Dataset",
    fluctuations: "Fluctuations | xarray.Dataset | None" = None,
) -> "xarray.Dataset":
    """Does an experiment agree with the ODE, in units of the scatter that theory predicts for it?

    z = difference / scatter, with the scatter of a single run, std / sqrt n, and the error of the
    ODE's solution added in quadrature. Each of several runs is judged alone: for their mean, and a
    test that becomes sharper with their number, see `learndyn.testing.assert_matches_ode`. What
    theory leaves out, a bias of order 1/n and scatter beyond the linear, is not in it: expect
    "differ" at small n or after a chance event that was decided long before, as of which unit
    learns what.

    Args:
        theory: what `solve_ode` returns, its dataset, or `Fluctuations`, which hold both.
        experiment: one run, or several, of SGD, the chain or Langevin at the same times: a
            trajectory (with one batch axis, called seed) or a dataset.
        fluctuations: of the theory, or their dataset; None: they are solved for here, which takes a
            few seconds. For several tasks there is no theory of them: then the scatter is that of
            the experiment, which needs eight runs or more.

    Returns:
        A dataset on the requested times with difference_<name>, scatter_<name> and z_<name> of Q,
        R, eg, and of v and b where either side trains them; with several tasks also of eg_tasks,
        heads and, where teachers drift, T. Attributes: `verdict`, "agree" where every |z| is below
        `limit`, which a true theory exceeds somewhere at most once in a hundred comparisons
        (Bonferroni), else "differ"; `largest_z`, and `worst`, where it is. A run that failed where
        the theory did not differs.

    Raises:
        ValueError: where the theory is not the ODE's, the experiment has no n, their times, sizes
            or teachers differ, or, without `fluctuations`, their first states, from which scatter
            grows.

    Source:
        The central limit behind Theorem 1 of Goldt et al. (2020).

    Example:
        >>> problem, rule, ts = ld.Problem(noise=0.1), ld.SGD(lr=0.5), [0.0, 1.0, 2.0]
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> theory = ld.fluctuations(problem, rule, start, ts)
        >>> run = ld.simulate_chain(problem, rule, start, ts, n=500, key=jax.random.key(1))
        >>> found = ld.compare(theory, run)
        >>> found.verdict, bool(found.largest_z < found.limit)
        ('agree', True)
    """
    if isinstance(theory, Fluctuations):
        theory, fluctuations = theory.mean, theory
    predicted, measured = _as_dataset(theory), _as_dataset(experiment)
    _require_comparable(predicted, measured)
    if fluctuations is None:
        _require_same_start(predicted, measured)
        several = "eg_tasks" in predicted or "eg_tasks" in measured
        fluctuations = _own_scatter(measured) if several else _fluctuations(theory)
    spread = to_dataset(fluctuations) if isinstance(fluctuations, Fluctuations) else fluctuations
    _require_times(spread["alpha"].values, predicted["alpha"].values, "the fluctuations")
    n = measured["n"] if "n" in measured.coords else float(measured.attrs["n"])
    found = {}
    for name in _names(predicted, measured):
        difference = measured[name] - predicted[name]
        std = spread.get(f"{name}_std", 0.0 * predicted[name])  # what stands still has none
        scatter = np.hypot(std / np.sqrt(n), _solver_error(predicted, name))
        z = difference / scatter
        # A run that stopped where theory goes on differs by all.
        z = z.where(np.isnan(measured[name]) == np.isnan(predicted[name]), math.inf)
        found |= {f"difference_{name}": difference, f"scatter_{name}": scatter, f"z_{name}": z}
    return _judged(found)


def _judged(found: dict[str, Any]) -> "xarray.Dataset":
    """The dataset with its verdict."""
    import xarray as xr

    scores = {name: abs(z) for name, z in found.items() if name.startswith("z_")}
    limit = z_limit(sum(int(z.notnull().sum()) for z in scores.values()), _FALSE_ALARM)
    largest = {name: float(z.max()) for name, z in scores.items()}
    worst = max(largest, key=largest.__getitem__)
    place = scores[worst].where(scores[worst].notnull(), -1.0).argmax(...)
    verdict = "agree" if largest[worst] < limit else "differ"
    at = ", ".join(_position(scores[worst], str(dim), int(i)) for dim, i in place.items())
    attributes = {"verdict": verdict, "largest_z": largest[worst], "limit": limit}
    titles = {"difference": "experiment - theory", "scatter": "predicted scatter of one run"}
    for name, array in found.items():
        kind, _, quantity = name.partition("_")
        title = titles.get(kind, "difference / scatter")
        array.attrs = {"long_name": f"{title}, {quantity}"}
    return xr.Dataset(found, attrs=attributes | {"worst": f"{worst[2:]} at {at}"})


def _position(scores: "xarray.DataArray", dim: str, index: int) -> str:
    """A place along a dimension, counted from 1 where it has no coordinate."""
    place = scores[dim][index].item() if dim in scores.coords else index + 1
    return f"{dim} = {place:g}" if isinstance(place, int | float) else f"{dim} = {place}"


def _as_dataset(result: Any) -> "xarray.Dataset":
    """A trajectory's dataset, its one batch axis called seed; a dataset as it is."""
    if not isinstance(result, Trajectory):
        if not hasattr(result, "data_vars"):
            raise ValueError(
                "compare takes trajectories or datasets: compare(theory, experiment); got "
                f"{type(result).__name__}."
            )
        return result
    batch = result.alpha.shape[:-1]
    if len(batch) > 1:
        raise ValueError(
            f"the trajectory has {len(batch)} batch axes; name them: "
            "ld.compare(theory, ld.to_dataset(run, over={...}))."
        )
    return to_dataset(result, over={"seed": range(batch[0])} if batch else None)


def _require_comparable(theory: "xarray.Dataset", experiment: "xarray.Dataset") -> None:
    """Raises: ValueError where one cannot be held against the other."""
    if theory.attrs.get("level") != "ode":
        raise ValueError(
            "theory must be a run of the ODE, what solve_ode returns; got level "
            f"{theory.attrs.get('level')!r}. Is it the experiment, given first?"
        )
    if "n" not in experiment.attrs and "n" not in experiment.coords:
        raise ValueError(
            "experiment must have an input dimension n, on which its scatter depends; got level "
            f"{experiment.attrs.get('level')!r}. Give a run of simulate_sgd, simulate_chain or "
            "simulate_langevin."
        )
    for name in ("alpha", "Q", "R"):
        if name not in theory.variables or name not in experiment.variables:
            raise ValueError(f"theory and experiment must both have {name}.")
    if theory["alpha"].ndim == 0 or experiment["alpha"].ndim == 0:
        raise ValueError("compare takes runs over times; got one time. Use isel(alpha=[-1]).")
    _require_times(experiment["alpha"].values, theory["alpha"].values, "the experiment")
    for dim in ("student", "teacher"):
        if theory.sizes[dim] != experiment.sizes[dim]:
            raise ValueError(
                f"theory and experiment must have as many {dim} units; got {theory.sizes[dim]} "
                f"and {experiment.sizes[dim]}."
            )
    _require_same_teacher(theory, experiment)


def _require_same_teacher(theory: "xarray.Dataset", experiment: "xarray.Dataset") -> None:
    for name in ("T", "v_teacher", "b_teacher"):
        if name not in theory or name not in experiment:
            continue
        # Teachers that drift are the same at the start.
        first = [
            x.isel(alpha=0) if "alpha" in x.dims else x for x in (theory[name], experiment[name])
        ]
        if not np.allclose(*first, rtol=_SAME_START):
            raise ValueError(f"theory and experiment must have the same teacher; {name} differ.")


def _require_same_start(theory: "xarray.Dataset", experiment: "xarray.Dataset") -> None:
    """Raises: ValueError where there is scatter at the first time already."""
    for name in ("Q", "R"):
        first = theory[name].isel(alpha=0)
        apart = float(abs(experiment[name].isel(alpha=0) - first).max())
        if apart > _SAME_START * max(1.0, float(abs(first).max())):
            raise ValueError(
                "theory and experiment must begin at the same overlaps, from which scatter grows; "
                f"their first {name} differ by {apart:.2g}. Start the theory from "
                "ld.overlaps(weights). If both began earlier, give the fluctuations of the whole "
                "time, at these times: ld.compare(theory, experiment, fluctuations)."
            )


def _require_times(given: np.ndarray, wanted: np.ndarray, whose: str) -> None:
    """Raises: ValueError for other times."""
    if given.shape != wanted.shape or not np.array_equal(given, wanted):
        raise ValueError(
            f"the times of {whose} must be those of the theory, {wanted.size} from "
            f"{wanted[0]:g} to {wanted[-1]:g}; got {given.size} from {given[0]:g} to "
            f"{given[-1]:g}. Run both with the same ts."
        )


def _fluctuations(theory: "Trajectory | xarray.Dataset") -> Fluctuations:
    if isinstance(theory, Trajectory):
        ts, start, problem, rule = theory.alpha, theory.at(0), theory.problem, theory.rule
        assert problem is not None, "a run of a level knows its problem"
    else:
        ts = theory["alpha"].values
        start = overlaps_at(theory, float(ts[0]))
        problem, rule = problem_of(theory), rule_of(theory)
    return fluctuations_of(problem, rule, start, ts, **SCATTER)


def _own_scatter(experiment: "xarray.Dataset") -> "xarray.Dataset":
    """The scatter of the runs themselves, times sqrt n as theory has it."""
    runs = [dim for dim in experiment["eg"].dims if dim != "alpha"]
    count = math.prod(experiment.sizes[dim] for dim in runs)
    if count < _RUNS:
        raise ValueError(
            "the scatter of runs of several tasks is not predicted but measured, for which compare "
            f"needs at least {_RUNS} runs; got {count}. Run it for more keys, under vmap."
        )
    n = experiment["n"] if "n" in experiment.coords else float(experiment.attrs["n"])
    several = [name for name in experiment if set(runs) <= set(experiment[name].dims)]
    numbers = [name for name in several if experiment[name].dtype.kind == "f"]
    found = experiment[numbers].std(runs, ddof=1) * np.sqrt(n)
    return found.rename({name: f"{name}_std" for name in numbers})


def _names(theory: "xarray.Dataset", experiment: "xarray.Dataset") -> list[str]:
    """What is compared: what both have, and v and b where either side moves them."""
    known = ("Q", "R", "T", "v", "b", "eg", "eg_tasks", "heads")
    there = [name for name in known if name in theory and name in experiment]
    if "heads" in there:
        there.remove("v")  # one of the heads, or NaN
    moves = lambda name: any(
        "alpha" in one[name].dims and bool((one[name] != one[name].isel(alpha=0)).any())
        for one in (theory, experiment)
    )
    always = ("Q", "R", "eg", "eg_tasks")
    return [name for name in there if name in always or moves(name)]


def _solver_error(theory: "xarray.Dataset", name: str) -> Any:
    """How far the solution of the ODE may be from the ODE."""
    error = abs(theory[name]) * 0.0
    for tolerance, scale in (("rtol", abs(theory[name])), ("atol", 1.0)):
        if tolerance in theory:
            error = error + _SOLVER * float(theory[tolerance]) * scale
    if name.startswith("eg") and "averages_error_eg" in theory:
        error = error + theory["averages_error_eg"]
    return error
