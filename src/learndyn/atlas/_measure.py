"""What runs of several entries share: ensembles, their means, and labelled arrays."""

from typing import TYPE_CHECKING, Any

import numpy as np

import learndyn as ld

if TYPE_CHECKING:
    import xarray

NAMES = {
    "eg": "generalisation error ε_g",
    "alpha": "time, steps / n",
    "l": "superfluous units",
    "m": "teacher units",
    "k": "student units",
    "z": "students of each teacher unit",
    "n": "input dimension",
    "lr": "learning rate",
    "noise": "standard deviation of the label noise",
    "weight_decay": "weight decay",
    "k_both": "student units",
    "k_decay": "student units",
    "c": "overlap of the teacher units",
    "Delta": "variance of the label noise",
    "delta": "balance of the layers",
    "hidden": "neurons",
    "alpha_scale": "scale of the network",
    "share": "learning rate over the critical one",
    "power": "power of d",
    "similarity": "similarity of the tasks' teachers",
    "horizon": "time after the switch",
    "replay": "share of the first task after the switch",
    "inputs": "fraction of inputs that both tasks see",
    "rules": "overlap of the tasks' rules",
    "rate": "rate of the teachers' drift",
    "decay": "weight decay",
}
"""What variables and coordinates are, where an entry says nothing else."""


def labelled(variables: dict[str, tuple], **coordinates: Any) -> "xarray.Dataset":
    """A dataset of {name: (dimensions, values, long name)} with described coordinates.

    A variable without long name has that of `NAMES`; `x_predicted` and `x_error` those of x.
    """
    import xarray as xr

    data = {}
    for name, (dims, values, *words) in variables.items():
        text = words[0] if words else NAMES.get(name, name)
        data[name] = (dims, np.asarray(values), {"long_name": text})
    coords = {
        name: (name, np.asarray(values), {"long_name": NAMES.get(name, name)})
        for name, values in coordinates.items()
    }
    return xr.Dataset(data, coords)


def along(name: str, datasets: dict[Any, "xarray.Dataset"]) -> "xarray.Dataset":
    """Datasets of one run each along a new dimension; sizes that differ are padded with NaN."""
    import xarray as xr

    index = xr.DataArray(list(datasets), dims=name, attrs={"long_name": NAMES.get(name, name)})
    counted = [_with_units(one) for one in datasets.values()]
    joined = xr.concat(counted, dim=name, join="outer", combine_attrs="drop_conflicts")
    return joined.assign_coords({name: (name, index.values, index.attrs)})


def _with_units(dataset: "xarray.Dataset") -> "xarray.Dataset":
    """Hidden units counted from 1, by which datasets of different sizes are joined."""
    units = [dim for dim in ("student", "student_", "teacher", "teacher_") if dim in dataset.sizes]
    return dataset.assign_coords({dim: np.arange(dataset.sizes[dim]) + 1 for dim in units})


def ensemble(
    level: str, problem: Any, rule: Any, start: Any, ts: Any, *, n: int, runs: int, seed: int
) -> "xarray.Dataset":
    """Independent runs from the same overlaps, by SGD on weights ("sgd") or on overlaps ("chain").

    Returns: their dataset, with the dimension `seed`.
    """
    import jax

    key = jax.random.key(seed)
    common: dict[str, Any] = {"seeds": runs, "key": key, "progress": False}
    if level == "chain":
        return ld.sweep(ld.simulate_chain, problem, rule, start, ts, n=n, **common)
    weights = lambda key: ld.weights_from_overlaps(key, start, n)
    return ld.sweep(ld.simulate_sgd, problem, rule, weights, ts, keep_weights=False, **common)


def mean_and_error(values: "xarray.DataArray", burn_in: float = 0.0) -> tuple[float, float]:
    """Mean of a stationary quantity over runs and later times, and its standard error.

    The error is that of independent means: of the runs where there are eight or more, otherwise of
    eight blocks in time of each run.
    burn_in: share of the times that is left out first.
    """
    rows = np.atleast_2d(values.transpose(..., "alpha").values)
    rows = rows[:, int(burn_in * rows.shape[1]) :]
    means = rows.mean(axis=1) if len(rows) >= 8 else _blocks(rows)
    return float(means.mean()), float(means.std(ddof=1) / len(means) ** 0.5)


def _blocks(rows: np.ndarray, count: int = 8) -> np.ndarray:
    """Means of `count` blocks in time of each row."""
    size = rows.shape[1] // count
    return rows[:, -count * size :].reshape(-1, size).mean(axis=1)
