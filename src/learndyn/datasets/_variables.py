"""The schema: which variables a result has, along which dimensions, and what they mean."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from learndyn._checks import is_concrete
from learndyn._results import Result
from learndyn.dynamics import Fluctuations, Trajectory

_QQ, _QR, _TT = ("student", "student_"), ("student", "teacher"), ("teacher", "teacher_")

SCHEMA: dict[str, tuple[tuple[str, ...], str]] = {
    "alpha_actual": (("alpha",), "true time, steps / n"),
    "Q": (("alpha", *_QQ), "student-student overlaps"),
    "R": (("alpha", *_QR), "student-teacher overlaps"),
    "T": (_TT, "teacher-teacher overlaps"),
    "Q_field": (("alpha", *_QQ), "covariance of the student's fields under the inputs"),
    "R_field": (("alpha", *_QR), "covariance of student and teacher fields under the inputs"),
    "T_field": (_TT, "covariance of the teacher's fields under the inputs"),
    "Q_group": (("alpha", "group", *_QQ), "student-student overlaps of each group of directions"),
    "R_group": (("alpha", "group", *_QR), "student-teacher overlaps of each group of directions"),
    "T_group": (("group", *_TT), "teacher-teacher overlaps of each group of directions"),
    "T_unseen": (_TT, "covariance of what the teacher's fields have beyond the inputs"),
    "eigenvalue": (("group",), "eigenvalue of the inputs' covariance"),
    "share": (("group",), "share of all directions"),
    "v": (("alpha", "student"), "second layer of the student"),
    "v_teacher": (("teacher",), "second layer of the teacher"),
    "b": (("alpha", "student"), "biases of the student"),
    "b_teacher": (("teacher",), "biases of the teacher"),
    "eg": (("alpha",), "generalisation error"),
    "eg_tasks": (("alpha", "task"), "generalisation error of each task"),
    "heads": (("alpha", "head", "student"), "second layers of the student, one for each head"),
    "shares": (("alpha", "task"), "probability of each task in the step that comes next"),
    "result": ((), "why the run stopped"),
}
"""Dimensions and long name of every variable with a fixed meaning. All are dimensionless."""

CONSTANTS = (
    "T", "T_field", "T_group", "T_unseen", "eigenvalue", "share", "v_teacher", "b_teacher"
)  # fmt: skip
"""What learning does not change."""

OF_GROUPS = ("eigenvalue", "share")
"""Coordinates along `group`, and no results."""

_OTHER_NAMES = {
    "Q_std": (SCHEMA["Q"][0], "standard deviation of sqrt(n) Q about the limit"),
    "R_std": (SCHEMA["R"][0], "standard deviation of sqrt(n) R about the limit"),
    "Q_group_std": (SCHEMA["Q_group"][0], "standard deviation of sqrt(n) Q_group about the limit"),
    "R_group_std": (SCHEMA["R_group"][0], "standard deviation of sqrt(n) R_group about the limit"),
    "v_std": (SCHEMA["v"][0], "standard deviation of sqrt(n) v about the limit"),
    "b_std": (SCHEMA["b"][0], "standard deviation of sqrt(n) b about the limit"),
    "eg_std": (SCHEMA["eg"][0], "standard deviation of sqrt(n) eg about the limit"),
    "covariance": (
        ("alpha", "coordinate", "coordinate_"),
        "covariance of sqrt(n) times the independent coordinates about the limit",
    ),
    "mean_norm": (("alpha",), "expected norm of sqrt(n) times the deviation from the limit"),
    "constant": ((), "largest mean_norm over the times, C(T)"),
    "noise_error": ((), "error of the noise's covariance from its nodes, over its largest entry"),
    "steps": ((), "steps taken"),
    "done": ((), "whether the run was finished"),
    "dt": ((), "step in alpha used"),
    "corrections": ((), "steps after which overlaps were made positive semi-definite"),
    "step_error": (("alpha",), "error of eg from the step"),
    "step_error_relative": (("alpha",), "error of eg from the step, over eg"),
    "rtol": ((), "relative tolerance used"),
    "atol": ((), "absolute tolerance used"),
    "averages_error": (("alpha",), "largest error of the Gaussian averages"),
    "averages_error_relative": (("alpha",), "largest error of the averages over the largest one"),
    "averages_error_eg": (("alpha",), "error of eg from the Gaussian averages"),
    "averages_error_drift": (("alpha",), "error of the drift from the averages, over the drift"),
    "averages_resolved": ((), "whether the errors of the averages have begun to converge"),
}


class Labelled(NamedTuple):
    """An array with the names of its trailing dimensions; batch axes come before them."""

    dims: tuple[str, ...]
    array: np.ndarray


def labelled_arrays(result: Any, times: int, batch: int = 0) -> dict[str, Labelled]:
    """Every array of `result` with its dimensions, `batch` leading axes aside.

    result: a `Trajectory`, `Fluctuations`, or a dict of arrays. In a dict the names of the
        schema have its dimensions if they have as many; a first axis of length `times` is
        alpha; further axes are called after the variable. `(dims, array)` pairs, as in xarray,
        say it themselves.
    Raises: ValueError for anything else.
    """
    if isinstance(result, Trajectory):
        named = {name: getattr(result, name, None) for name in SCHEMA} | _groups_of(result)
        named["alpha_actual"] = result.alpha
        named |= {name: value for name, value in result.stats.items() if name not in named}
    elif isinstance(result, Fluctuations):
        spread = result.std
        names = {name: name.replace("groups", "group") for name in spread.__dataclass_fields__}
        std = {f"{own}_std": getattr(spread, name) for name, own in names.items()}
        names = ("covariance", "mean_norm", "constant", "noise_error")
        own = {name: getattr(result, name) for name in names}
        named = std | own
    elif isinstance(result, Mapping):
        named = dict(result)
    else:
        raise ValueError(
            "a result must be a Trajectory or a dict of arrays; got "
            f"{type(result).__name__}. Return for example {{'value': array}}."
        )
    labelled = {
        str(name): _labelled(str(name), value, times, batch)
        for name, value in named.items()
        if value is not None
    }
    if isinstance(result, Fluctuations):
        return labelled_arrays(result.mean, times, batch) | labelled
    return labelled


def _groups_of(run: Trajectory) -> dict[str, Any]:
    """What a trajectory has of its groups of directions; nothing where it has none."""
    if run.spectrum is None:
        return {}
    return {
        "Q_group": run.Q_groups,
        "R_group": run.R_groups,
        "T_group": run.T_groups,
        "eigenvalue": run.spectrum.eigenvalues,
        "share": run.spectrum.shares,
    }


def describe_variable(name: str, array: np.ndarray, long_name: str | None = None) -> dict[str, Any]:
    """Attributes of a variable: long_name, and what the codes of `result` mean.

    long_name: None for that of the schema.
    """
    coded = name == "result" and are_codes(array)
    known = {} if name == "result" and not coded else {**SCHEMA, **_OTHER_NAMES}
    text = known.get(name, ((), name))[1] if long_name is None else long_name
    attributes: dict[str, Any] = {"long_name": text}
    if coded:
        attributes["flag_values"] = np.array([code.value for code in Result], np.int8)
        attributes["flag_meanings"] = " ".join(code.name.lower() for code in Result)
        attributes["comment"] = "; ".join(f"{code.value}: {code.meaning}" for code in Result)
    return attributes


def _labelled(name: str, value: Any, times: int, batch: int) -> Labelled:
    if isinstance(value, tuple) and len(value) == 2 and _are_dims(value[0]):
        dims = (value[0],) if isinstance(value[0], str) else tuple(value[0])
        array = as_numpy(name, value[1])
        if array.ndim != batch + len(dims):
            raise ValueError(
                f"{name} was given dimensions {dims} but has {array.ndim - batch} axes."
            )
        return Labelled(dims, array)
    array = as_numpy(name, value)
    if name == "result" and are_codes(array):
        array = array.astype(np.int8)
    ndim = array.ndim - batch
    known = {**SCHEMA, **_OTHER_NAMES}.get(name)
    if known is not None and len(known[0]) == ndim:
        return Labelled(known[0], array)
    if name == "T" and ndim == len(_TT) + 1:  # of teachers that drift
        return Labelled(("alpha", *_TT), array)
    starts_with_time = ndim > 0 and array.shape[batch] == times
    dims = ("alpha",) if starts_with_time else ()
    return Labelled(dims + tuple(f"{name}_{i}" for i in range(len(dims), ndim)), array)


def are_codes(array: np.ndarray) -> bool:
    """Whether these are codes of `Result`, and not something else that a user calls result."""
    return array.dtype.kind in "iu" and bool(np.isin(array, [code.value for code in Result]).all())


def _are_dims(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, tuple | list) and all(isinstance(dim, str) for dim in value)
    )


def as_numpy(name: str, value: Any) -> np.ndarray:
    """A copy of `value`. Raises: ValueError where it is being traced, or no array of numbers."""
    if not is_concrete(value):
        raise ValueError(
            f"{name} is being traced; make datasets outside of jit, vmap and grad, and give batch "
            "axes through `over`."
        )
    array = np.array(value)  # a copy: JAX's own buffers cannot be written to
    if array.dtype == object:
        raise ValueError(f"{name} must be an array of numbers; got {value!r}.")
    return array
