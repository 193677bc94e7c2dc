"""What every level of description returns."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from learndyn._checks import is_concrete
from learndyn._outcome import (
    AbstractOutcome,
    failure_text,
    mean_of_finished,
    require_there,
)
from learndyn._readable import as_table, outcome_text, value_text
from learndyn._types import Absent, CountLike
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import GroupedOverlaps, Overlaps, Spectrum, Weights

FAILED_RUN = r".*What comes later is NaN"
"""A regular expression for the warning of a run that failed."""

_DIGITS = 3
"""Significant digits of the numbers in a trajectory's repr: enough for a person."""


class Given(eqx.Module):
    """A problem and a rule, their numbers as data, and functions and words as structure.

    So they may leave compiled and vmapped programs, whatever a user's modules hold.
    words: of the random key, and kind, its generator; None where nothing was drawn. inputs: the
    kind of distribution; "" for the default one. dtype: in which they were drawn, "" if none were.
    The third part of numbers and rest is what `learn` was given: tasks, schedule and drift.
    """

    numbers: Any
    words: UInt32[Array, "*batch words"] | None
    rest: Any = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    inputs: str = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    @staticmethod
    def of(
        problem: Problem,
        rule: AbstractRule,
        key: Key[Array, ""] | None = None,
        inputs: str = "",
        dtype: str = "",
        lessons: Any = None,
    ) -> "Given":
        # vmap and jit return arrays only; all else must be structure.
        is_number = lambda leaf: eqx.is_array(leaf) or isinstance(leaf, np.ndarray)
        numbers, rest = eqx.partition((problem, rule, lessons), is_number)
        if key is None:
            return Given(numbers, None, rest, "", inputs, dtype)
        # NumPy and most of JAX's own functions refuse keys, which is why their words are held.
        words, kind = jax.random.key_data(key), str(jax.random.key_impl(key))
        return Given(numbers, words, rest, kind, inputs, dtype)

    @property
    def both(self) -> tuple[Problem, AbstractRule]:
        return eqx.combine(self.numbers, self.rest)[:2]

    @property
    def lessons(self) -> Any:
        """`Lessons`, with tasks, schedule and drift; None but for `learn`."""
        return eqx.combine(self.numbers, self.rest)[2]


class Trajectory(AbstractOutcome):
    """Overlaps and generalisation error at the requested times.

    Outside jit a run that fails also warns. A vmapped function returns a trajectory with batch axes
    in front of all numbers, those of problem and rule included; `run[i]` takes one run out of it.

    Attributes:
        alpha: (times,) true times = steps / n (the requested ones for the ODE), dimensionless.
        Q: (times, k, k) overlaps of the student's units; NaN, as R, v, b and eg, after a run
            stopped early.
        R: (times, k, m) overlaps of student and teacher.
        T: (m, m) overlaps of the teacher's units, constant.
        v: (times, k) the student's second layer.
        v_teacher: (m,) the teacher's, constant.
        b: (times, k) the student's biases; None without.
        b_teacher: (m,) the teacher's, constant; None without.
        eg: (times,) generalisation error.
        result: a `Result` code, 0 for success.
        stats: numbers about the run, by name.
        Q_field, R_field, T_field: (times, k, k), (times, k, m), (m, m) second moments of the
            fields, w Omega w^T / n, where the inputs' covariance Omega is not 1; else None.
        Q_groups, R_groups, T_groups: (times, groups, k, k), (times, groups, k, m),
            (groups, m, m), where the start has groups of directions, `GroupedOverlaps`, of which Q,
            R and T are then the sums; else None.
        spectrum, T_unseen: those of such a start; else None.
        eg_tasks, heads: (times, tasks) and (times, heads, k), the error of every task and the
            second layers of `ld.learn`; else None. Its v_teacher is the start's, which no task
            uses, and `at` gives the first head as v. Where teachers drift, T is (times, m, m).
        tasks, schedule, drift: what `ld.learn` was given, where problem is that of the first task.
        shares: (times, tasks) the probability of each task in the step that comes next; else None.
        level: "ode", "chain", "sgd", "langevin" or "".
        n: input dimension, None where it is infinite.
        ts: (times,) the requested times.
        given: what was run; read it as `problem`, `rule` and `key`.
        weights: the last `Weights` of SGD, NaN after a run stopped early; None at other levels.
        velocity: that of SGD with momentum at the end, else None.
        problem, rule, key: what was run (key: None where nothing is drawn).
        ok: whether the run ended well; `raise_if_failed()` raises an error where it did not.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> run.level, run.rule, run.Q.shape, run.ok
        ('ode', SGD(lr=0.5), (3, 1, 1), True)
        >>> run.at(-1).k
        1
    """

    alpha: Float[Array, "*batch times"]
    Q: Float[Array, "*batch times k k"]
    R: Float[Array, "*batch times k m"]
    T: Float[Array, "*batch_or_times m m"]
    v: Float[Array, "*batch times k"]
    v_teacher: Float[Array, "*batch m"]
    b: Float[Array, "*batch times k"] | Absent
    b_teacher: Float[Array, "*batch m"] | Absent
    eg: Float[Array, "*batch times"]
    result: Int[Array, "*batch"]
    stats: dict[str, Array]
    Q_field: Float[Array, "*batch times k k"] | Absent = None
    R_field: Float[Array, "*batch times k m"] | Absent = None
    T_field: Float[Array, "*batch m m"] | Absent = None
    Q_groups: Float[Array, "*batch times groups k k"] | Absent = None
    R_groups: Float[Array, "*batch times groups k m"] | Absent = None
    T_groups: Float[Array, "*batch groups m m"] | Absent = None
    spectrum: Spectrum | Absent = None
    T_unseen: Float[Array, "*batch m m"] | Absent = None
    eg_tasks: Float[Array, "*batch times tasks"] | Absent = None
    heads: Float[Array, "*batch times heads k"] | Absent = None
    shares: Float[Array, "*batch times tasks"] | Absent = None
    level: str = eqx.field(static=True, default="")
    n: Array | Absent = None
    ts: Float[Array, "*batch times"] | Absent = None
    given: Given | Absent = None
    weights: Weights | Absent = None
    velocity: Any = None

    @property
    def problem(self) -> Problem | Absent:
        """The problem that was run; None for a trajectory made by hand."""
        return None if self.given is None else self.given.both[0]

    @property
    def rule(self) -> AbstractRule | Absent:
        """The rule by which was learned; None for a trajectory made by hand."""
        return None if self.given is None else self.given.both[1]

    @property
    def tasks(self) -> Any:
        """The tasks of `ld.learn`; None for other runs."""
        return None if self.given is None else getattr(self.given.lessons, "tasks", None)

    @property
    def schedule(self) -> Any:
        """When the tasks of `ld.learn` were learned, as it takes it; None for other runs."""
        return None if self.given is None else getattr(self.given.lessons, "schedule", None)

    @property
    def drift(self) -> Any:
        """How the teachers drifted; None where they stayed."""
        return None if self.given is None else getattr(self.given.lessons, "drift", None)

    @property
    def key(self) -> Key[Array, "*batch"] | None:
        """The random key of the run; None where nothing is drawn."""
        if self.given is None or self.given.words is None:
            return None
        return jax.random.wrap_key_data(self.given.words, impl=self.given.kind)

    def __repr__(self) -> str:
        facts = self._facts()
        if facts is None:
            return f"Trajectory({self.level or 'by hand'}, traced)"
        patterns = {
            "runs": "{} runs",
            "times": "{} times",
            "result": "{}",
            "k": "k={}",
            "m": "m={}",
        }
        texts = [patterns.get(name, f"{name} {{}}").format(text) for name, text in facts.items()]
        return f"Trajectory({', '.join(texts)})"

    def _repr_html_(self) -> str:
        asked = {"problem": self.problem, "rule": self.rule, "n": self.n}
        given = {name: value_text(x, _DIGITS) for name, x in asked.items() if x is not None}
        facts = self._facts() or {"result": "traced"}
        return as_table("Trajectory", {"level": self.level or "by hand"} | facts | given)

    def _facts(self) -> dict[str, str] | None:
        """What a person wants to know first; None where it is being traced."""
        if not is_concrete(self.alpha, self.eg, self.result):
            return None
        shape, times = self.alpha.shape[:-1], self.alpha.shape[-1]
        alpha = np.asarray(self.alpha)
        eg = np.asarray(self.eg).reshape(-1, times)
        first, last = (
            value_text(mean_of_finished(column), _DIGITS) for column in (eg[:, 0], eg[:, -1])
        )
        runs = {"runs": " x ".join(map(str, shape))} if shape else {}
        return runs | {
            "times": str(times),
            "alpha": f"{alpha.min():g} … {alpha.max():g}",
            "k": str(self.R.shape[-2]),
            "m": str(self.R.shape[-1]),
            "mean eg" if shape else "eg": f"{first} → {last}",
            "result": outcome_text(self.result),
        }

    def _failure(self) -> str:
        runs = np.atleast_1d(np.asarray(self.result)).ravel()
        first = np.flatnonzero(runs)[0]
        rows = np.isfinite(np.asarray(self.Q)[..., 0, 0]).reshape(runs.size, -1)
        times = np.asarray(self.alpha).reshape(rows.shape)[first]
        reached = rows[first].sum()
        where = "at its start" if reached == 0 else f"after alpha = {times[reached - 1]:g}"
        return failure_text(self.result, self.level, where, f"alpha = {times[-1]:g}")

    def __getitem__(self, index: Any) -> "Trajectory":
        """One run, or several, out of a batch: `index` acts on the leading batch axis.

        Raises: ValueError for a single run; IndexError for a run that is not there.
        """
        if self.alpha.ndim < 2:
            raise ValueError(
                "this trajectory is a single run, so there is no run to take out of it. For one of "
                "its saved times use .at(index)."
            )
        runs = self.alpha.shape[0]
        require_there(index, runs, "the trajectory holds {} runs; got run number {}.")
        return jax.tree.map(lambda leaf: leaf[index], self)

    def at(self, index: CountLike) -> Any:
        """The state at saved time number `index`, for example -1 for the last one.

        Args:
            index: which of the saved times; negative ones count from the end.

        Raises:
            IndexError: where there are fewer times.
            ValueError: where that state is not finite (a run that stopped earlier).
        """
        times = self.alpha.shape[-1]
        if isinstance(index, float):
            raise ValueError(
                f"at() takes the number of a saved time, such as 0 or -1; got {index!r}. The state "
                "at a value of alpha: ld.overlaps_at(ld.to_dataset(run), alpha)."
            )
        require_there(index, times, "the run has {} saved times; got number {}.")
        if is_concrete(self.Q) and not np.isfinite(np.asarray(self.Q)[..., index, :, :]).all():
            raise ValueError(
                f"no state at saved time number {index}: the run stopped before (result "
                f"{np.asarray(self.result)}; learndyn.Result says why)."
            )
        b = None if self.b is None else self.b[..., index, :]
        if self.Q_groups is not None and self.R_groups is not None:
            return GroupedOverlaps(
                self.Q_groups[..., index, :, :, :],
                self.R_groups[..., index, :, :, :],
                self.T_groups,
                self.spectrum,
                self.T_unseen,
                self.v[..., index, :],
                self.v_teacher,
                b,
                self.b_teacher,
            )
        return Overlaps(
            self.Q[..., index, :, :],
            self.R[..., index, :, :],
            # Teachers that drift have overlaps at every time.
            self.T[..., index, :, :] if self.T.ndim > self.alpha.ndim + 1 else self.T,
            self.v[..., index, :] if self.heads is None else self.heads[..., index, 0, :],
            self.v_teacher,
            b,
            self.b_teacher,
        )
