"""The accessor `dataset.learndyn`: what is derived of a dataset of trajectories or a sweep."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.datasets._exits import WIDTH, first_below, longest_rest
from learndyn.datasets._schema import UNITS
from learndyn.datasets._units import cosines, in_order, matching

if TYPE_CHECKING:
    import xarray

_ACCESSOR = "learndyn"

_HALF = 0.5
"""A plateau is left when eg first falls below this share of its value there, as everywhere else in
the library."""

_NUMBERED = ("coordinate", "coordinate_")
"""Dimensions that count overlaps in the order of the units that a run began with."""


class Derived:
    """Quantities derived of a dataset, as labelled arrays: `dataset.learndyn`.

    Student units are matched to teacher units at the last time that each run reached: one student
    for each teacher with the largest sum of |cosine|, and each student that is left goes to the
    teacher closest to it. Results have the units in the order of their teachers, those that were
    left last, counted from 1; the coordinate `unit` has the number in the dataset, and
    `teacher_of_unit` that of the teacher (0: no such unit in this run). So averages over seeds are
    averages over units with the same task.

    xarray knows this accessor after `import learndyn` where xarray was imported before, else from
    the first dataset that `ld.to_dataset`, `ld.load` or `ld.sweep` makes.

    Args:
        dataset: of a trajectory, of several runs, or of a sweep; of a gradient flow `plateau` and
            `exit_time` alone. Every dimension of runs (`seed`, swept numbers) stays.

    Example:
        >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.to_dataset(ld.solve_ode(problem, rule, start, [0.0, 1.0, 2.0]))
        >>> np.round(run.learndyn.alignment().sel(student=1, teacher=1).values, 2)
        array([0.22, 0.56, 0.76])
        >>> round(run.learndyn.exit_time(below=0.1).item(), 2)
        1.41
    """

    def __init__(self, dataset: "xarray.Dataset"):
        self._dataset = dataset

    def alignment(self) -> "xarray.DataArray":
        """Cosines of the angles between student and teacher units, R_ij / sqrt(Q_ii T_jj).

        Returns:
            (…, alpha, student, teacher), in [-1, 1]; NaN where a weight vector is zero.

        Raises:
            ValueError: where the dataset lacks Q, R or T.

        Example:
            >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
            >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
            >>> run = ld.to_dataset(ld.solve_ode(problem, rule, start, [0.0, 1.0, 2.0]))
            >>> np.round(run.learndyn.alignment().sel(student=1, teacher=1).values, 2)
            array([0.22, 0.56, 0.76])
        """
        found = self._labelled(in_order(self._cosines, self._match))
        return _named(found, "alignment", "cosine of student and teacher unit")

    def specialisation(self) -> "xarray.DataArray":
        """How far each student unit has chosen its teacher.

        Its |cosine| with its own teacher minus the largest with another one: 0 on a symmetric
        plateau, 1 where it equals its teacher and teachers are orthogonal, below 0 while another
        teacher is nearer. With one teacher it is |cosine|.

        Returns:
            (…, alpha, student).

        Raises:
            ValueError: where the dataset lacks Q, R or T.

        Example:
            >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
            >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
            >>> run = ld.to_dataset(ld.solve_ode(problem, rule, start, [0.0, 1.0, 2.0]))
            >>> np.round(run.learndyn.specialisation().sel(student=1).values, 2)
            array([0.22, 0.56, 0.76])
        """
        size = abs(self.alignment())
        own = size["teacher"] == size["teacher_of_unit"]
        # A teacher's zero in place of the own one is no more than the largest of others.
        others = size.where(~own, 0.0).max("teacher", skipna=False)
        found = size.where(own).max("teacher") - others
        return _named(found, "specialisation", "alignment with the own teacher beyond any other's")

    def order(self) -> "xarray.Dataset":
        """The dataset with the student units of each run in the order of their teachers.

        So R has the overlap with the own teacher on its diagonal. Variables that number overlaps,
        such as the covariance of fluctuations, are left out.

        Raises:
            ValueError: where the dataset lacks Q, R or T.

        Example:
            >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
            >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
            >>> run = ld.to_dataset(ld.solve_ode(problem, rule, start, [0.0, 1.0, 2.0]))
            >>> run.learndyn.order().R.dims, run.learndyn.order().unit.item()
            (('alpha', 'student', 'teacher'), 1)
        """
        dataset, match = self._dataset, self._match
        numbered = [name for name, x in dataset.items() if set(_NUMBERED) & set(x.dims)]
        dataset = dataset.drop_vars(numbered)
        moved = {
            name: in_order(array, match).assign_attrs(array.attrs)
            for name, array in dataset.items()
            if {"student", "student_"} & set(array.dims)
        }
        return self._labelled(dataset.assign(moved))

    def exit_time(
        self, below: "float | xarray.DataArray | None" = None, *, fraction: float = _HALF
    ) -> "xarray.DataArray":
        """When eg first falls below a value, interpolated linearly between saved times.

        Args:
            below: > 0, a number or an array along dimensions of runs. None: `fraction` of the value
                on each run's own plateau, so that this is the time of escape.
            fraction: in (0, 1).

        Returns:
            (…) in units of alpha, of t for a gradient flow, whose loss takes the place of eg; NaN
            for runs that do not fall so far, or have no plateau.

        Raises:
            ValueError: for a dataset without eg or loss over time, or numbers out of range.

        Example:
            >>> problem, rule = ld.Problem(noise=0.1), ld.SGD(lr=0.5)
            >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
            >>> run = ld.to_dataset(ld.solve_ode(problem, rule, start, [0.0, 1.0, 2.0]))
            >>> round(run.learndyn.exit_time(below=0.1).item(), 2)
            1.41
        """
        if below is None:
            return self.plateau(fraction=fraction)["exit"]
        if not np.all(np.asarray(below) > 0):
            raise ValueError(f"exit_time: below is a value of eg and must be > 0; got {below}.")
        times, values, clock = self._curve("exit_time")
        found = _over_runs(first_below, [[clock], [clock], []], 1, times, values, below)
        quantity = str(values.name)
        return _named(found, "exit_time", f"first time with {quantity} below the given value")

    def plateau(self, *, width: float = WIDTH, fraction: float = _HALF) -> "xarray.Dataset":
        """The plateau on which each run rests longest before it learns.

        A plateau is a stretch in which eg stays within the share `width` of a value, and after
        which it falls below `fraction` of that value in less time than it rested: so curves that
        fall like exponentials or powers have none, nor has the end of a run.

        Args:
            width, fraction: in (0, 1).

        Returns:
            Variables over (…): `eg` (of a gradient flow `loss`), the median on the plateau;
            `begin`, `end`, saved times between which it lasts; `exit`, when it has fallen to
            `fraction`. NaN for runs without a plateau.

        Raises:
            ValueError: for a dataset without eg or loss over time, or numbers out of range.

        Example:
            >>> import xarray as xr
            >>> eg = [1.0, 0.1, 0.1, 0.1, 0.1, 0.01, 0.001]
            >>> run = xr.Dataset({"eg": ("alpha", eg)}, coords={"alpha": np.arange(7.0)})
            >>> float(run.learndyn.plateau()["eg"]), float(run.learndyn.plateau()["begin"])
            (0.1, 1.0)
        """
        import xarray as xr

        for name, share in (("width", width), ("fraction", fraction)):
            if not 0 < share < 1:
                raise ValueError(f"plateau: {name} must be a share in (0, 1); got {share}.")
        times, values, clock = self._curve("plateau")
        rest = functools.partial(longest_rest, width=width, fraction=fraction)
        found = _over_runs(rest, [[clock], [clock]], 4, times, values)
        texts = ("on the plateau", "begin of the plateau", "end of the plateau", "exit from it")
        names = (str(values.name), "begin", "end", "exit")
        texts = (f"{names[0]} {texts[0]}", *texts[1:])
        parts = zip(found, names, texts, strict=True)
        return xr.Dataset({name: _named(x, name, text) for x, name, text in parts})

    def forgetting(self, since: float) -> "xarray.DataArray":
        """How much larger the error of each task is than at an earlier time, as a rule that at
        which the next task began.

        Args:
            since: a saved time, in units of alpha.

        Returns:
            (…, alpha, task) at the saved times from `since` on; negative where a task is still
            learned, or replayed.

        Raises:
            ValueError: for a dataset that is not of `ld.learn`, or a time that was not saved.

        Example:
            >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1, 0.1]], T=[[1.0, 0.5], [0.5, 1.0]])
            >>> tasks = [ld.Task(ld.Problem(), [1.0, 0.0], until=5.0)]
            >>> tasks.append(ld.Task(ld.Problem(), [0.0, 1.0]))
            >>> run = ld.learn("ode", tasks, ld.SGD(lr=0.5), start, [0.0, 5.0, 10.0])
            >>> forgotten = ld.to_dataset(run).learndyn.forgetting(since=5.0)
            >>> bool(forgotten.sel(alpha=10.0).isel(task=0) > 0)
            True
        """
        errors = self._errors_of_tasks("forgetting", since)
        found = errors.sel(alpha=slice(since, None)) - errors.sel(alpha=since, drop=True)
        return _named(found, "forgetting", f"error of each task beyond that at alpha = {since:g}")

    def transfer(self, scratch: "xarray.Dataset", since: float) -> "xarray.DataArray":
        """How much smaller the error of each task is than that of a student that begins with it.

        Args:
            scratch: the dataset of a run that learns the task from the same start at alpha = 0.
            since: the saved time at which this run began with the task, in units of alpha.

        Returns:
            (…, alpha, task) over the times from `since` on: the error of `scratch` at
            alpha - since, interpolated linearly between its times, less the error here. Positive
            where what was learned before helps.

        Raises:
            ValueError: for datasets that are not of `ld.learn`, or a time that was not saved.

        Example:
            >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1, 0.1]], T=[[1.0, 0.9], [0.9, 1.0]])
            >>> first = ld.Task(ld.Problem(), [1.0, 0.0], until=5.0)
            >>> second = ld.Task(ld.Problem(), [0.0, 1.0])
            >>> given = (ld.SGD(lr=0.5), start)
            >>> after = ld.learn("ode", [first, second], *given, [0.0, 5.0, 6.0])
            >>> alone = ld.learn("ode", [second, first], *given, [0.0, 1.0], schedule=[
            ...     (np.inf, (1, 0))])
            >>> found = ld.to_dataset(after).learndyn.transfer(
            ...     ld.to_dataset(alone).isel(task=[1, 0]), since=5.0)
            >>> bool(found.sel(alpha=6.0).isel(task=1) > 0)
            True
        """
        errors = self._errors_of_tasks("transfer", since).sel(alpha=slice(since, None))
        alone = Derived(scratch)._errors_of_tasks("transfer")
        found = alone.interp(alpha=errors["alpha"] - since).assign_coords(alpha=errors["alpha"])
        return _named(found - errors, "transfer", "error from scratch less the error of each task")

    def _errors_of_tasks(self, asked: str, since: float | None = None) -> "xarray.DataArray":
        """Raises: ValueError where there are none, or none at the time `since`."""
        if "eg_tasks" not in self._dataset:
            raise ValueError(
                f"{asked} needs the error of every task, eg_tasks, which the dataset of a run of "
                f"ld.learn has; got {list(self._dataset.data_vars)}."
            )
        times = self._dataset["alpha"].values
        if since is not None and since not in times:
            raise ValueError(
                f"{asked}: since must be a saved time; got {since!r}, and times from {times[0]:g} "
                f"to {times[-1]:g}. Save it: add it to ts."
            )
        return self._dataset["eg_tasks"]

    @functools.cached_property
    def _cosines(self) -> "xarray.DataArray":
        self._require("Q", "R", "T")
        return cosines(self._dataset)

    @functools.cached_property
    def _match(self) -> Any:
        return matching(self._cosines)

    def _labelled(self, found: Any) -> Any:
        """`found`, whose units are in order, with their numbers."""
        match = self._match
        numbers = {
            dim: (dim, np.arange(1, n + 1), {"long_name": UNITS[dim]})
            for dim, n in found.sizes.items()
            if dim in UNITS
        }
        runs = [*match.order.dims]
        labels = {"unit": (runs, match.order.values + 1)}
        labels |= {"teacher_of_unit": (runs, match.teacher.values)}
        return found.assign_coords(numbers | labels)

    def _require(self, *names: str) -> None:
        """Raises: ValueError where the dataset does not have these variables."""
        dataset = self._dataset
        if not (missing := [name for name in names if name not in dataset.data_vars]):
            return
        what = f"the dataset has no {missing}; it has {list(dataset.data_vars)}."
        if "kind" in dataset.attrs:
            what = (
                f"this is the dataset of a gradient flow ({dataset.attrs['kind']}), which has no "
                "teacher: plateau() and exit_time() are what can be derived of its loss."
            )
        raise ValueError(
            f"student units are matched to teachers by their overlaps Q, R and T, but {what}"
        )

    def _curve(self, asked: str) -> "tuple[xarray.DataArray, xarray.DataArray, str]":
        """Times, eg or loss, and the dimension along which they go."""
        dataset = self._dataset
        for name, clock in (("eg", "alpha"), ("loss", "t")):
            if name in dataset.data_vars and clock in dataset[name].dims:
                break
        else:
            raise ValueError(
                f"{asked} needs eg along alpha, or the loss of a gradient flow along t; the "
                f"dataset has {dict(dataset.sizes)} and {list(dataset.data_vars)}."
            )
        actual = dataset.get("alpha_actual") if clock == "alpha" else None
        return dataset[clock] if actual is None else actual, dataset[name], clock


def register() -> None:
    """Make `xarray.Dataset.learndyn` this accessor; asked by whatever imports xarray here."""
    import xarray as xr

    # `import learndyn` may have registered a door to the same class.
    if _ACCESSOR not in vars(xr.Dataset):
        xr.register_dataset_accessor(_ACCESSOR)(Derived)


def _over_runs(function: Any, core: list[list[str]], outputs: int, *arrays: Any) -> Any:
    """function of each run's curve; core: the dimensions of each argument."""
    import xarray as xr

    return xr.apply_ufunc(
        function,
        *arrays,
        input_core_dims=core,
        output_core_dims=[[]] * outputs,
        vectorize=True,
        output_dtypes=[float] * outputs,
    )


def _named(array: "xarray.DataArray", name: str, long_name: str) -> "xarray.DataArray":
    array = array.rename(name)
    array.attrs = {"long_name": long_name}
    return array
