"""Datasets out of labelled arrays, and states out of datasets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from learndyn._checks import brief, is_concrete
from learndyn._types import RealLike
from learndyn.datasets._derived import register
from learndyn.datasets._flows import flow_parts, is_flow
from learndyn.datasets._provenance import provenance
from learndyn.datasets._schema import number_units
from learndyn.datasets._variables import (
    OF_GROUPS,
    Labelled,
    describe_variable,
    labelled_arrays,
)
from learndyn.dynamics import Fluctuations, Trajectory
from learndyn.problems import Problem
from learndyn.states import GroupedOverlaps, Overlaps, Spectrum

if TYPE_CHECKING:
    import xarray

_LONG_NAMES = {
    "alpha": "time, steps / n",
    "seed": "number of the run",
    "start": "number of the initial state",
    "point": "number of the values that go together",
    "lr": "learning rate of the first layer",
    "lr_second": "learning rate of the second layer",
    "lr_bias": "learning rate of the biases",
    "weight_decay": "weight decay of the first layer",
    "batch_size": "samples per step",
    "momentum": "momentum",
    "noise": "standard deviation of the label noise",
    "n": "input dimension",
    "k": "number of student units",
    "m": "number of teacher units",
}


def to_dataset(
    trajectory: Trajectory | Fluctuations | Mapping[str, Any] | Any,
    problem: Problem | None = None,
    rule: Any = None,
    *,
    level: str | None = None,
    n: int | None = None,
    seed: Any = None,
    ts: RealLike | None = None,
    over: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> "xarray.Dataset":
    """A trajectory as a labelled dataset that says where it comes from.

    Args:
        trajectory: what a level returns, `Fluctuations`, or a dict of arrays. A trajectory knows
            its problem, rule, level, n and requested times, so that it alone suffices. Or a
            `flow.Run` or `flow.Jumps`, which go with `over`, `seed` and `attributes` alone.
        problem, rule, level, n: for a dict of arrays, or in place of what the trajectory knows.
            Problem and rule are attributes as JSON, in which a number that is the same in all runs
            stands once.
        seed: an integer or a JAX random key.
        ts: the requested times, the coordinate `alpha`, likewise; the true ones, step / n, are in
            `alpha_actual`.
        over: names and values of the trajectory's leading batch axes, for example {"seed":
            range(32)} after a vmap over 32 keys.
        attributes: further ones.

    Raises:
        ValueError: where axes and `over` disagree, or times differ between runs without ts.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> ds = ld.to_dataset(run)
        >>> ds.Q.dims, round(float(ds.eg.sel(alpha=2.0)), 4)
        (('alpha', 'student', 'student_'), 0.0763)
    """
    if is_flow(trajectory):
        _require_unused(problem=problem, rule=rule, level=level, n=n, ts=ts)
        return _flow_dataset(trajectory, _arrays(over), seed, attributes)
    if not isinstance(trajectory, Trajectory | Fluctuations | Mapping):
        raise ValueError(
            "to_dataset: trajectory must be a Trajectory, Fluctuations, a flow.Run, flow.Jumps or "
            f"a dict of arrays; got {brief(trajectory)}. Give what ld.solve_ode or another level "
            "returns."
        )
    over = _arrays(over)
    known = _known(trajectory, len(over))
    problem, rule = problem or known.problem, rule or known.rule
    level, n = level or known.level, known.n if n is None else n
    if ts is None:
        ts = _times_of(trajectory, len(over))
    ts = np.asarray(ts, float)
    variables = labelled_arrays(trajectory, len(ts), len(over))
    sizes = tuple(len(values) for values in over.values())
    for name, (dims, array) in variables.items():
        if array.shape[: len(sizes)] != sizes or array.ndim != len(sizes) + len(dims):
            raise ValueError(
                f"{name} has shape {array.shape}, but its dimensions are {(*over, *dims)} with "
                f"{sizes} runs; name every batch axis, in order, in `over`."
            )
        if "alpha" in dims and array.shape[len(sizes) + dims.index("alpha")] != len(ts):
            raise ValueError(f"{name} has shape {array.shape}, but there are {len(ts)} times ts.")
    named = {name: Labelled((*over, *dims), array) for name, (dims, array) in variables.items()}
    facts = {"level": level, "n": n, "seed": seed, "key": known.key, "tasks": known.lessons}
    origin = provenance(problem, rule, **facts)
    notes = origin | dict(attributes or {})
    return build(named, {**over, "alpha": ts}, notes)


def build(
    variables: Mapping[str, Labelled],
    coordinates: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
    long_names: Mapping[str, str] | None = None,
    along: Mapping[str, str] | None = None,
) -> "xarray.Dataset":
    """A dataset of these variables, each described. All are dimensionless, so none has units.

    Hidden units that have no coordinate are numbered from 1.
    Arrays that are not NumPy's are read later; they are described from their names and types.
    long_names: of variables and coordinates that mean something else than in the schema.
    along: the dimensions of coordinates that are not called like theirs.
    """
    import xarray as xr

    register()
    own = long_names or {}
    coords = {
        name: (
            (along or {}).get(name, name),
            values,
            {"long_name": own.get(name, _LONG_NAMES.get(name, name))},
        )
        for name, values in coordinates.items()
        if any(name in dims for dims, _ in variables.values()) or name != "alpha"
    }
    data = {
        name: (dims, array, describe_variable(name, _in_memory(array), own.get(name)))
        for name, (dims, array) in variables.items()
    }
    dataset = number_units(xr.Dataset(data, coords, dict(attributes)))
    return dataset.set_coords([name for name in OF_GROUPS if name in dataset])


def overlaps_at(dataset: "xarray.Dataset", alpha: float) -> Overlaps | GroupedOverlaps:
    """The state at the saved time nearest to `alpha`, of a dataset of one run: `GroupedOverlaps`
    where the dataset has groups of directions.

    Args:
        dataset: of one run.
        alpha: the time, in units of steps / n.

    Raises:
        ValueError: where the dataset holds more than one run, no overlaps, or NaN there.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> state = ld.overlaps_at(ld.to_dataset(run), alpha=0.0)
        >>> np.round(state.R, 6)
        Array([[0.1]], dtype=float64)
    """
    missing = [name for name in ("Q", "R", "T") if name not in dataset]
    if missing:
        raise ValueError(f"the dataset has no variable {missing}; it has {list(dataset)}.")
    row = dataset.sel(alpha=alpha, method="nearest") if "alpha" in dataset.dims else dataset
    runs = [dim for dim in row["R"].dims if dim not in ("student", "teacher")]
    if runs:
        raise ValueError(
            f"the dataset holds runs along {runs}; choose one first, for example "
            f"dataset.isel({runs[0]}=0)."
        )
    array = lambda name: np.asarray(row[name]) if name in row else None
    layers = [array(name) for name in ("v", "v_teacher", "b", "b_teacher")]
    if "heads" in row:
        layers[0] = row["heads"].values[0]  # as `Trajectory.at`: v has no meaning between tasks
    if "Q_group" in row:
        spectrum = Spectrum(row["eigenvalue"].values, row["share"].values)
        q, r, t = (array(name) for name in ("Q_group", "R_group", "T_group"))
        return GroupedOverlaps(q, r, t, spectrum, array("T_unseen"), *layers)
    return Overlaps(array("Q"), array("R"), array("T"), *layers)


def _flow_dataset(
    result: Any, over: dict[str, np.ndarray], seed: Any, attributes: Mapping[str, Any] | None
) -> "xarray.Dataset":
    variables, coordinates, facts, long_names = flow_parts(result, over)
    notes = provenance(seed=seed) | facts | dict(attributes or {})
    return build(variables, coordinates, notes, long_names)


def _require_unused(**arguments: Any) -> None:
    """Raises: ValueError for what a flow does not have."""
    if given := [name for name, value in arguments.items() if value is not None]:
        raise ValueError(
            f"to_dataset: {given} belong to trajectories; a flow.Run or flow.Jumps knows its times "
            "and has no problem, rule, level or n. Leave them out, or put them into attributes."
        )


class _Known(NamedTuple):
    """What a result says of its origin."""

    problem: Problem | None = None
    rule: Any = None
    level: str | None = None
    n: int | None = None
    key: jax.Array | None = None
    lessons: Any = None


def _known(result: Any, batch: int) -> _Known:
    """That of a trajectory; nothing for a dict of arrays, or for different input dimensions."""
    if isinstance(result, Fluctuations):
        return _known(result.mean, batch)._replace(level="fluctuations", n=None)
    if not isinstance(result, Trajectory) or not is_concrete(result.alpha):
        return _Known()
    lessons = None if result.given is None else result.given.lessons
    given = (result.problem, result.rule, result.n, lessons)
    once = jax.tree.map(lambda leaf: _once(leaf, batch), given)
    problem, rule, n, lessons = once
    whole = None
    if n is not None and np.ndim(n) == 0 and float(n).is_integer():
        whole = int(n)
    key = None if result.key is None or np.ndim(result.key) else result.key
    return _Known(problem, rule, result.level or None, whole, key, lessons)


def _once(leaf: Any, batch: int) -> Any:
    """A number without the batch axes along which it is the same."""
    values = np.asarray(leaf)
    if batch == 0 or values.ndim < batch:
        return leaf
    runs = values.reshape(-1, *values.shape[batch:])
    # vmap repeats what it does not vary: such a number is stored once.
    same = np.array_equal(runs, np.broadcast_to(runs[0], runs.shape), equal_nan=True)
    return runs[0] if same else leaf


def _times_of(trajectory: Any, batch: int) -> np.ndarray:
    if isinstance(trajectory, Mapping):
        raise ValueError("a dict of arrays does not know its times: give ts.")
    mean = trajectory.mean if isinstance(trajectory, Fluctuations) else trajectory
    alpha = np.asarray(mean.alpha if mean.ts is None else mean.ts, float)
    rows = alpha.reshape(-1, alpha.shape[-1])
    if alpha.ndim != batch + 1:
        raise ValueError(
            f"the trajectory has {alpha.ndim - 1} batch axes, but `over` names {batch}; name "
            "every batch axis, in order, in `over`."
        )
    if (rows != rows[0]).any():
        raise ValueError(
            "the runs of this trajectory have different times; give the requested ones as ts."
        )
    return rows[0]


def _in_memory(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else np.zeros((), array.dtype)


def _arrays(over: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    return {name: np.asarray(_listed(values)) for name, values in (over or {}).items()}


def _listed(values: Any) -> Any:
    return list(values) if isinstance(values, range | Sequence) else values
