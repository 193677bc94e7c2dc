"""`learn`: several tasks at one level of description."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float, brief, checked_times, require_finite, require_x64
from learndyn._outcome import warn_if_failed
from learndyn._types import RealLike
from learndyn.averages import choose_averages, has_biases, reach_of, teacher_of
from learndyn.dynamics import level_of
from learndyn.dynamics._averages_errors import warn_of_averages
from learndyn.dynamics._trajectory import Trajectory
from learndyn.states import (
    Overlaps,
    RuleLike,
    StateLike,
    Weights,
    as_overlaps,
    require_arguments,
)
from learndyn.tasks import _chain, _ode, _sgd
from learndyn.tasks._rows import Asked
from learndyn.tasks._types import Drift, Task, schedule_of

_LEVELS = {
    "ode": ((), ("averages", "rtol", "atol", "max_steps")),
    "chain": (("n", "key"), ("averages",)),
    "sgd": (("key",), ("averages", "velocity")),
}
"""The levels that know several tasks, with the keywords that they need and those that they take."""


def learn(
    level: str | Callable[..., Any],
    tasks: Sequence[Task] | Any,
    rule: RuleLike,
    start: StateLike,
    ts: RealLike,
    heads: RealLike | None = None,
    schedule: Sequence[tuple[Any, Any]] | Any = None,
    *,
    drift: Drift | Any = None,
    **keywords: Any,
) -> Trajectory:
    """Several tasks, learned in turn, interleaved, or the one and then the other.

    Args:
        level: "ode" (n infinite), "chain" (overlaps at finite n) or "sgd" (weights), or the level's
            function: `solve_ode`, `simulate_chain`, `simulate_sgd`.
        tasks: the tasks; their v_teacher are over the teacher's units of the start, in which the
            units of all tasks stand together, so that T holds the tasks' similarities.
        rule: the learning rule of all tasks. Momentum is that of all heads: one that no task trains
            goes on by its velocity.
        start: the state at ts[0], whose v_teacher is not used; `Weights` for "sgd".
        ts: (times,) increasing times alpha = steps / n, dimensionless.
        heads: (heads, k) second layers at the start, one row for each head; None: start.v for all.
        schedule: phases (until, shares): until alpha = until, the last one math.inf, each step is
            one of task t with probability shares[t]. [(20.0, (1, 0)), (math.inf, (0.25, 0.75))]
            learns the first task alone and then replays it in a quarter of the steps. None: made
            from the tasks' `until` (in turn) or `share` (interleaved). That of an earlier run will
            do, `run.schedule`.
        drift: of the teachers, after each step; T is then (times, m, m). At finite n, rates <= n.
        keywords: of the level: `averages`, `rtol`, `atol`, `max_steps` of the ODE, `key` and `n` of
            the chain, `key` and `velocity` of SGD.

    Returns:
        A `Trajectory` with `eg_tasks` (times, tasks) and `heads` (times, heads, k). `v` and `eg`
        are those of the task that is learned next; where several are interleaved v is NaN, eg the
        mean weighted with their shares.

    Raises:
        ValueError: for a task without a head, shares that do not sum to 1, times that do not
            increase, teachers that drift from a singular T, and all that the level itself
            refuses.

    An ensemble of teachers is a batch of starts under vmap, whose mean is that of its dataset:
    `runs = jax.vmap(lambda start: ld.learn("ode", tasks, rule, start, ts))(starts)` and
    `ld.to_dataset(runs, over={"teachers": range(32)}).mean("teachers")`. A sweep takes a function
    of (problem, rule, start, ts) that calls `learn`, over rates, similarities (by a start that is a
    function of one) or what else, with a store or without.

    Source:
        Lee, Goldt and Saxe (2021), arXiv 2107.04384, for two tasks in turn with squared loss.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1, 0.1]], T=[[1.0, 0.5], [0.5, 1.0]])
        >>> first = ld.Task(ld.Problem(), v_teacher=[1.0, 0.0], until=5.0)
        >>> second = ld.Task(ld.Problem(), v_teacher=[0.0, 1.0])
        >>> run = ld.learn("ode", [first, second], ld.SGD(lr=0.5), start, [0.0, 5.0, 10.0])
        >>> run.eg_tasks.shape, bool(run.eg_tasks[2, 0] > run.eg_tasks[1, 0])
        ((3, 2), True)
    """
    level = _checked_level(level)
    _require_keywords(level, keywords)
    tasks = _checked_tasks(tasks)
    require_arguments("learn", rule=rule, start=start, ts=ts)
    if level == "sgd" and not isinstance(start, Weights):
        raise ValueError(
            f"learn: level 'sgd' starts from Weights; got {brief(start)}. Make them with "
            "ld.weights_from_overlaps(key, overlaps, n)."
        )
    for task in tasks:
        if task.v_teacher.shape != (start.m,):
            raise ValueError(
                f"learn: v_teacher of each task must have a number for each of the start's "
                f"{start.m} teacher units, 0 on those of other tasks; got shape "
                f"{task.v_teacher.shape}."
            )
    state, ts = as_overlaps(start), checked_times(ts)
    require_x64("learn", rule, state)
    layers = _checked_heads(tasks, state.v, heads)
    ready = tuple(
        choose_averages(
            task.problem,
            state.k,
            state.m,
            biases=has_biases(state, rule),
            averages=keywords.get("averages"),
            reach=reach_of(state),
            teacher=teacher_of(eqx.tree_at(lambda s: s.v_teacher, state, task.v_teacher)),
        )
        for task in tasks
    )
    drift = _resolved(drift, state)
    asked = Asked(tasks, rule, state, layers, schedule_of(tasks, schedule), ready, ts, drift)
    asked.require_drift()
    if level == "ode":
        run = _ode.solve(asked, **keywords)
        warn_of_averages(run)
        return warn_if_failed(run)
    keywords.pop("averages", None)
    run = (
        _chain.simulate(asked, **keywords)
        if level == "chain"
        else _sgd.simulate(asked, start, **keywords)
    )
    return warn_if_failed(run)


def _resolved(drift: Any, start: Overlaps) -> Drift | None:
    """The drift with the lengths to which the teachers return, so that a run can go on."""
    if drift is None:
        return None
    if not isinstance(drift, Drift):
        raise ValueError(
            f"learn: drift must be ld.Drift(rate) or None; got {brief(drift)}. For example "
            "drift=ld.Drift(0.1)."
        )
    return drift if drift.norms is not None else Drift(drift.rate, jnp.diagonal(start.T))


def _checked_level(level: Any) -> str:
    found = level_of(level) if callable(level) else None
    name: Any = level if found is None else found.name
    if name == "langevin":
        raise ValueError(
            "learn: Langevin's equation does not know several tasks, as the choice of a task is "
            "noise, too, which it leaves out. Use level 'chain', whose law is exact and whose cost "
            "does not depend on n either."
        )
    if name not in _LEVELS:
        raise ValueError(
            f"learn: level must be one of {', '.join(_LEVELS)}, or its function such as "
            f"ld.solve_ode; got {brief(level)}."
        )
    return name


def _require_keywords(level: str, keywords: dict[str, Any]) -> None:
    """Raises: ValueError where one is missing, or is none of this level."""
    needed, others = _LEVELS[level]
    missing = [name for name in needed if name not in keywords]
    unknown = sorted(set(keywords) - {*needed, *others})
    if not missing and not unknown:
        return
    wrong = f"without {', '.join(missing)}" if missing else f"with {', '.join(unknown)}"
    needs = f"needs {' and '.join(needed)}, and may have" if needed else "may have"
    raise ValueError(
        f"learn: level {level!r} {needs} {', '.join(others)}; got a call {wrong}. For example "
        "ld.learn('chain', tasks, rule, start, ts, n=1000, key=jax.random.key(0))."
    )


def _checked_tasks(given: Any) -> tuple[Task, ...]:
    """Raises: ValueError for anything but a list of tasks."""
    tasks = (given,) if isinstance(given, Task) else given
    tasks = tuple(tasks) if isinstance(tasks, Sequence) else ()
    if not tasks or not all(isinstance(task, Task) for task in tasks):
        raise ValueError(
            f"learn: tasks must be a list of at least one ld.Task; got {brief(given)}."
        )
    return tasks


def _checked_heads(tasks: tuple[Task, ...], v: Array, heads: Any) -> Float[Array, "heads k"]:
    """Raises: ValueError for a task whose head is not there, or heads of another size."""
    needed = 1 + max(task.head for task in tasks)
    if heads is None:
        return jnp.tile(v, (needed, 1))
    heads = as_float(heads, "heads")
    require_finite(heads=heads)
    if heads.ndim != 2 or heads.shape[1] != len(v):
        raise ValueError(
            f"learn: heads must have shape (heads, {len(v)}), a row for each head; got shape "
            f"{heads.shape}."
        )
    if len(heads) < needed:
        raise ValueError(
            f"learn: every task needs a head; got {len(heads)} heads, numbered from 0, and a task "
            f"with head={needed - 1}. Give that many rows, or another number to the task."
        )
    return heads
