"""The options that several tasks have and one task has not; without JAX."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg


@dataclass(frozen=True)
class TaskOptions:
    """Which tasks, and when each is learned."""

    level: Literal["ode", "chain", "sgd"] = "ode"
    """Level of description: n infinite, overlaps at finite n, or weights."""
    tasks: int = 2
    """Number of tasks."""
    units: int = 1
    """Teacher units of each task; their second layer is 1."""
    similarity: float = 0.5
    """Overlap of each teacher unit with its partners in other tasks: 0 unrelated, 1 the same."""
    switch: float | str | None = None
    """Times at which the next task begins, separated by commas, such as 50 or 30,60.
    None: alpha-max in equal parts."""
    replay: float | None = None
    """Share of the steps in which earlier tasks are learned again, all alike. None: 0."""
    shares: str | None = None
    """In place of switches: tasks are interleaved, with these shares, such as 0.3,0.7."""
    one_head: bool = False
    """All tasks share one second layer; otherwise each has its own."""
    drift: float | None = None
    """Rate at which the teachers wander. None: they stay."""


@dataclass(frozen=True)
class TaskStartOptions:
    """Where it starts: random weights from a seed; teachers have exactly these similarities."""

    k: Annotated[int, arg(aliases=("-k",))] = 2
    """Units of the student."""
    n: Annotated[int, arg(aliases=("-n",))] = 784
    """Input dimension. The ODE has n = infinity and uses it only to draw weights."""
    seed: int = 0
    """Seed of all random numbers. The same seed gives all levels the same start."""
    init_scale: float = 0.3
    """Standard deviation of the student's weights; a teacher's is 1."""
    v: float | Literal["gaussian"] = 1.0
    """Second layers of the student at the start: a number, or gaussian, anew for each head."""


@dataclass(frozen=True)
class TaskEnsembleOptions:
    """How many runs of the levels chain and sgd, and what to compare them with."""

    runs: int = 1
    """Independent runs from the same start; the figure shows their median and spread."""
    theory: Literal["auto", "on", "off"] = "auto"
    """Also solve the ODE from the same overlaps, draw it, and save it as OUTPUT-ode.nc.
    --theory alone is on, --no-theory is off.
    auto: on where it takes seconds (closed forms, at most 8 units in all)."""


EXAMPLES = """\
  learndyn tasks --similarity 0.5 --switch 50 --alpha-max 150
  learndyn tasks --lr 1 --lr-second 1 --v gaussian --replay 0.2
  learndyn tasks --level chain --runs 16 --n 500 --shares 0.3,0.7
  learndyn tasks --tasks 3 --units 2 --k 4 --similarity 0 --one-head
  learndyn tasks --level sgd --drift 0.02"""
