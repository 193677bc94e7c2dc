"""The few numbers of a dataset that a curve is drawn from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from learndyn.plot._style import require_dataset

_NAMES = {
    "lr": r"$\eta$",
    "lr_second": r"$\eta_v$",
    "noise": r"$\sigma$",
    "weight_decay": r"$\kappa$",
    "momentum": r"$\beta$",
    "lr_bias": r"$\eta_b$",
    "batch_size": "$B$",
    "n": "$n$",
    "k": "$k$",
    "m": "$m$",
}


class Curve(NamedTuple):
    """One quantity against time: `values` (runs, times), NaN where a run had stopped.

    averages_error: (times,), the largest error of `values` that comes from the Gaussian averages.
    by: the dimension that `value` belongs to. std: (times,), of a theory, the standard deviation
    of sqrt(n) times the quantity. n: the input dimension. Each is None where it is not known.
    """

    label: str | None
    value: Any
    times: np.ndarray
    values: np.ndarray
    failed: int
    level: str
    averages_error: np.ndarray | None = None
    by: str | None = None
    std: np.ndarray | None = None
    n: float | None = None

    @property
    def scatter(self) -> np.ndarray | None:
        """(times,) The standard deviation of one run that theory predicts, where it is known."""
        return None if self.std is None or self.n is None else self.std / np.sqrt(self.n)

    def quantile(self, q: float) -> np.ndarray:
        """The quantile over the runs still going; NaN where there is none."""
        if len(self.values) == 1:  # NumPy would look at every time by itself
            return np.where(np.isfinite(self.values[0]), self.values[0], np.nan)
        # nanquantile warns of columns without a number: they are left out.
        going = np.isfinite(self.values).any(axis=0)
        result = np.full(len(self.times), np.nan)
        result[going] = np.nanquantile(self.values[:, going], q, axis=0)
        return result


def curves_of(source: Any, name: str, quantity: str, by: str | None) -> list[Curve]:
    """The curves of a dataset, one per value of `by`, or of a dict of datasets, one each.

    Raises: ValueError for what is no dataset, a missing quantity, or dimensions left to choose.
    """
    if source is None:
        return []
    if isinstance(source, Mapping) and not hasattr(source, "data_vars"):
        return [_single(dataset, name, quantity, label) for label, dataset in source.items()]
    source = require_dataset(source, name)
    others = [str(dim) for dim in _variable(source, name, quantity).dims if dim not in _OWN]
    by = others[0] if by is None and len(others) == 1 else by
    if others and others != [by]:
        raise ValueError(
            f"{name}[{quantity!r}] has the dimensions {others} other than alpha and seed; choose "
            "one with by= and select values of the others with .sel or .isel."
        )
    if not others:
        return [_curve(source, quantity, None, None)]
    values = np.asarray(source[by])
    found = []
    for i, value in enumerate(values):
        label = _text(str(by), value)
        # Tasks are names: colours in a palette, not on a scale.
        own = label if by == "task" else value.item()
        found.append(_curve(source.isel({by: i}), quantity, label, own)._replace(by=by))
    return found


def datasets_by_name(source: Any) -> dict[Any, Any]:
    """The datasets of what `curves_of` takes: a dict as it is, a single one under None."""
    if source is None:
        return {}
    return source if not hasattr(source, "data_vars") else {None: source}


def shown_value(value: Any) -> str:
    """A number with three digits, whole ones as they are; anything else as text."""
    if not np.issubdtype(np.asarray(value).dtype, np.number):
        return str(value)
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else f"{value:.3g}"


def symbol(name: str) -> str:
    """A swept name as the literature writes it."""
    return _NAMES.get(name, name)


_OWN = ("alpha", "seed")


def _single(dataset: Any, name: str, quantity: str, label: Any) -> Curve:
    curves = curves_of(dataset, f"{name}[{label!r}]", quantity, None)
    if len(curves) != 1:
        raise ValueError(f"{name}[{label!r}] holds {len(curves)} curves; give one dataset each.")
    return curves[0]._replace(label=str(label), value=label)


def _curve(dataset: Any, quantity: str, label: str | None, value: Any) -> Curve:
    array = dataset[quantity]
    values = np.atleast_2d(array.transpose(..., "alpha").values)
    actual = dataset.get("alpha_actual", dataset.alpha)
    times = np.asarray(actual if actual.dims == ("alpha",) else dataset.alpha)
    failed = int((np.asarray(dataset["result"]) != 0).sum()) if "result" in dataset else 0
    error, level = _averages_error(dataset, quantity), dataset.attrs.get("level", "")
    std = dataset.get(f"{quantity}_std")
    std = None if std is None or std.dims != ("alpha",) else std.values
    rest = {"averages_error": error, "std": std, "n": dimension_of(dataset)}
    return Curve(label, value, times, values, failed, level, **rest)


def dimension_of(dataset: Any) -> float | None:
    """The one input dimension n of a dataset; None where it has several, or does not know it."""
    found = dataset["n"] if "n" in dataset.coords else dataset.attrs.get("n")
    return None if found is None or np.ndim(found) else float(found)


def _averages_error(dataset: Any, quantity: str) -> np.ndarray | None:
    array = dataset.get(f"averages_error_{quantity}")
    if array is None or "alpha" not in array.dims:
        return None
    # fmax leaves out the NaN of runs that had stopped.
    return np.fmax.reduce(np.atleast_2d(array.transpose(..., "alpha").values), axis=0)


def _variable(dataset: Any, name: str, quantity: str) -> Any:
    if quantity not in dataset or "alpha" not in dataset[quantity].dims:
        found = [v for v in dataset.data_vars if "alpha" in dataset[v].dims]
        raise ValueError(
            f"{name} has no variable {quantity!r} along alpha; those it has are {found}."
        )
    return dataset[quantity]


def _text(by: str, value: Any) -> str:
    shown = shown_value(value)
    if by == "task":  # counted from 1, as units are
        return f"task {int(value) + 1}"
    plain = by in ("start", "student_activation", "teacher_activation")
    return shown if plain else f"{symbol(by)} = {shown}"
