"""Runs that go on from where they ended."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from learndyn._checks import checked_times, is_concrete
from learndyn._types import RealLike
from learndyn.datasets._build import overlaps_at
from learndyn.datasets._origins import lessons_of, problem_of, rule_of
from learndyn.datasets._provenance import key_of
from learndyn.dynamics import LEVELS, Level, Trajectory
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import GroupedOverlaps, Overlaps, Weights
from learndyn.tasks import learn
from learndyn.tasks._types import Lessons

if TYPE_CHECKING:
    import xarray

_KEPT = {
    "ode": ("rtol", "atol"),
    "sgd": ("input_dtype",),
    "chain": (),
    "langevin": ("dt",),
}
"""Options of a level that a run itself knows."""

_SAME_TIME = 1e-9
"""Relative difference of times that rounding makes, by linspace, say."""


def continue_run(
    run: "Trajectory | xarray.Dataset",
    ts: RealLike,
    key: PRNGKeyArray | None = None,
    known: Iterable[Callable] = (),
    **options: Any,
) -> Trajectory:
    """The run goes on from its last time, by the same problem and rule at the same level.

    Args:
        run: a trajectory, or a dataset of one run.
        ts: (times,) increasing, from the run's last time on: ts[0] is that time.
        key: None: the run's own, with which it goes on as if it had never stopped: SGD bit for bit,
            the chain and Langevin (with the same dt, at a time on its grid of steps) with the same
            random numbers, to round-off; the ODE to its tolerance. So do runs of `ld.learn`, with
            their tasks, schedule and drift.
        known: functions and classes of your own that a dataset names, as for `problem_of`.
        options: of the level, as the run had them: `inputs` and `groups` of SGD, `averages`,
            `solver`, `jump_ts`. The run's own `input_dtype`, `dt`, `rtol` and `atol` are kept.

    Returns:
        The `Trajectory` at ts alone; its first row is the last one of `run`.

    Raises:
        ValueError: where the run failed, where ts begins elsewhere, and where what the run needs is
            not kept: weights (by datasets), velocities (by all but SGD's trajectories), a key,
            inputs that are not the default ones, functions without a name that can be found.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> more = ld.continue_run(run, [2.0, 3.0, 4.0])
        >>> bool(more.eg[0] == run.eg[-1]), bool(more.eg[-1] < run.eg[-1])
        (True, True)
    """
    given = _stopped(run, known)
    ts = checked_times(ts)
    level = _level(given)
    _require_start(given, ts)
    _require_inputs(given, options)
    keywords = dict(options)
    if level.random:
        keywords["key"] = _key(given, key)
    if level.name in ("chain", "langevin"):
        keywords["n"] = given.n
    kept = {name: x for name, x in given.kept.items() if name in _KEPT[level.name]}
    keywords = kept | keywords
    if given.velocity is not None:
        keywords["velocity"] = given.velocity
    if given.lessons is not None:
        what = given.lessons
        keywords |= {"heads": given.heads, "schedule": what.schedule, "drift": what.drift}
        return learn(level.name, what.tasks, given.rule, given.end, ts, **keywords)
    return level.function(given.problem, given.rule, given.end, ts, **keywords)


class _Stopped(NamedTuple):
    """A run where it stopped: all that the next one needs."""

    level: str
    problem: Problem | None
    rule: AbstractRule | None
    end: Weights | Overlaps | GroupedOverlaps | None
    last: Any
    n: Any
    key: Any = None
    velocity: Any = None
    inputs: str = ""
    kept: Mapping[str, Any] = MappingProxyType({})
    lessons: Lessons | None = None
    heads: Any = None


def _stopped(run: Any, known: Iterable[Callable]) -> _Stopped:
    """Raises: ValueError for anything else than one run."""
    if isinstance(run, Trajectory):
        if run.alpha.ndim > 1:
            raise ValueError(
                f"continue_run takes one run; got a batch of shape {run.alpha.shape[:-1]}. Take "
                "one out, run[0], or all: "
                "equinox.filter_vmap(lambda run: ld.continue_run(run, ts))(runs)."
            )
        return _of_trajectory(run)
    if not hasattr(run, "data_vars"):
        raise ValueError(
            "continue_run takes a trajectory or a dataset, then ts: continue_run(run, ts); got "
            f"{type(run).__name__}. A file is read by ld.load(path); from overlaps or weights a "
            "level starts anew."
        )
    return _of_dataset(run, tuple(known))


def _of_trajectory(run: Trajectory) -> _Stopped:
    run = run.raise_if_failed() if is_concrete(run.result) else run
    end = run.weights if run.level == "sgd" else run.at(-1)
    times = run.alpha if run.ts is None else run.ts
    inputs = "" if run.given is None else run.given.inputs
    kept: dict[str, Any] = dict(run.stats)
    if run.given is not None and run.given.dtype:
        kept["input_dtype"] = run.given.dtype
    lessons = None if run.given is None else run.given.lessons
    heads = None if run.heads is None else run.heads[-1]
    rest = (times[-1], run.n, run.key, run.velocity, inputs, kept, lessons, heads)
    return _Stopped(run.level, run.problem, run.rule, end, *rest)


def _of_dataset(run: "xarray.Dataset", known: tuple[Callable, ...]) -> _Stopped:
    last = float(run["alpha"].values[-1])
    end = None if run.attrs.get("level") == "sgd" else overlaps_at(run, last)
    n = run["n"].item() if "n" in run.coords else run.attrs.get("n")
    given = (problem_of(run, known), rule_of(run, known), end, last, n, key_of(run.attrs))
    kept = {name: run[name].item() for name in ("dt", "rtol", "atol") if name in run}
    level = str(run.attrs.get("level", ""))
    if "eg_tasks" not in run:
        return _Stopped(level, *given, kept=kept)
    heads = run["heads"].isel(alpha=-1).values
    return _Stopped(level, *given, kept=kept, lessons=lessons_of(run, known), heads=heads)


def _level(given: _Stopped) -> Level:
    """The level that can go on. Raises: ValueError where something that it needs is missing."""
    level = LEVELS.get(given.level)
    if level is None or given.problem is None or given.rule is None:
        raise ValueError(
            "only a run of one of the levels can go on, one that knows its problem and rule; got "
            f"level {given.level!r}. Use what solve_ode or a simulation returns."
        )
    if given.end is None:
        raise ValueError(
            "SGD goes on from weights, which a dataset does not hold and a trajectory leaves out "
            "with keep_weights=False. Continue the trajectory, or save its .weights with "
            "ld.save(run.weights, 'end.npz')."
        )
    if given.rule.momentum is not None and given.velocity is None and _needs_velocity(given):
        raise ValueError(
            "a run with momentum goes on from its velocity, which only the trajectory of "
            f"simulate_sgd keeps; this is a run of {level.function.__name__}. Solve it over all "
            "times at once."
        )
    return level


def _needs_velocity(given: _Stopped) -> bool:
    """Whether the level follows velocities: the ODE's limit of constant momentum is a rate."""
    assert given.rule is not None
    return given.level in ("sgd", "chain") or given.rule.has_slow_momentum


def _require_start(given: _Stopped, ts: Any) -> None:
    """Raises: ValueError where ts does not begin at the run's last time."""
    if not is_concrete(given.last, ts):
        return
    last, first = float(given.last), float(np.asarray(ts)[0])
    steps = 1.0 if given.n is None else float(given.n)
    same_step = given.n is not None and round(last * steps) == round(first * steps)
    if not same_step and abs(last - first) > _SAME_TIME * max(1.0, abs(last)):
        raise ValueError(
            f"ts must begin where the run ended, at alpha = {last:g}; got ts[0] = {first:g}."
        )


def _require_inputs(given: _Stopped, options: dict[str, Any]) -> None:
    """Raises: ValueError where the run had inputs that the user gave, which it does not keep."""
    if given.inputs and "inputs" not in options:
        raise ValueError(
            f"the run drew its inputs from {given.inputs}, which it does not keep: give them again "
            "as inputs=..."
        )


def _key(given: _Stopped, key: PRNGKeyArray | None) -> Any:
    if key is None and given.key is None:
        raise ValueError(
            "this run does not know its random key: give one, key=jax.random.key(1), say. With "
            "another key than before it goes on with other random numbers, by the same law; runs "
            "of a sweep, whose keys come from the sweep's, always do."
        )
    return given.key if key is None else key
