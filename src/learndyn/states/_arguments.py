"""What is given where a problem, a rule and a state are meant: first mistakes get an answer."""

from typing import Any, NamedTuple

from learndyn._checks import brief
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states._groups import GroupedOverlaps
from learndyn.states._states import Overlaps, Weights, euclidean_overlaps, in_double

ProblemLike = Problem | Any
"""A `Problem`. `Any`, so that whatever else arrives meets the ValueError that explains it."""

RuleLike = AbstractRule | Any
"""A learning rule such as `SGD`, likewise."""

StateLike = Overlaps | Weights | Any
"""`Overlaps`, or the `Weights` that have them, likewise."""

OverlapsLike = Overlaps | Any
"""`Overlaps` alone, likewise."""

WeightsLike = Weights | Any
"""`Weights`, likewise."""


class _Kind(NamedTuple):
    """What an argument must be, in code and in words, and a line that makes one."""

    types: tuple[type, ...]
    words: str
    line: str


_STATE = _Kind((Overlaps, Weights, GroupedOverlaps), "Overlaps, or Weights", "ld.Overlaps(Q, R, T)")

_KINDS = {
    "problem": _Kind(
        (Problem,), "a Problem", "ld.Problem(student=ld.Erf(), teacher=ld.Erf(), noise=0.0)"
    ),
    "rule": _Kind((AbstractRule,), "a learning rule", "ld.SGD(lr=0.2)"),
    "start": _STATE,
    "state": _STATE,
    "overlaps": _Kind((Overlaps,), "Overlaps", "ld.Overlaps(Q, R, T)"),
    "weights": _Kind((Weights,), "Weights", "ld.init_weights(jax.random.key(0), n=784, k=4, m=4)"),
}
"""What each argument must be, by the name that it has in every function."""

_OTHER_WORDS = {"ts": "an array of times", "key": "a JAX random key", "n": "a whole number"}
"""What arguments are that other checks take care of, unless they were exchanged with those above.
"""


def require_arguments(function: str, **given: Any) -> None:
    """Each argument, by its name, is of its kind; those without a kind, such as ts, of no other.

    Arguments are given in the order of the function, which the message repeats where they were
    exchanged.
    Raises: ValueError that says what was expected, what arrived, and what to write.
    """
    for name, value in given.items():
        if not _fits(name, value):
            raise ValueError(
                f"{function}: {name} must be {_words(name)}; got {brief(value)}. "
                + _advice(function, name, value, given)
            )


def as_state(state: StateLike) -> Overlaps | GroupedOverlaps:
    """`state`, or the overlaps of weights, in float64 where JAX has it."""
    return state if isinstance(state, GroupedOverlaps) else as_overlaps(state)


def as_overlaps(state: StateLike) -> Overlaps:
    """`state`, or the overlaps of weights, in float64 where JAX has it.

    Raises: ValueError for grouped overlaps, which the levels and the theory alone take.
    """
    if isinstance(state, GroupedOverlaps):
        raise ValueError(
            "this needs Overlaps, those of white inputs; got GroupedOverlaps with "
            f"{state.groups} groups. start.fields has the covariances of the fields, "
            "start.euclidean the sums over groups."
        )
    return in_double(euclidean_overlaps(state) if isinstance(state, Weights) else state)


def _fits(name: str, value: Any) -> bool:
    if name in _KINDS:
        return isinstance(value, _KINDS[name].types)
    return not isinstance(value, (Problem, AbstractRule, Overlaps, Weights))


def _words(name: str) -> str:
    return _KINDS[name].words if name in _KINDS else _OTHER_WORDS[name]


def _advice(function: str, name: str, value: Any, given: dict[str, Any]) -> str:
    """What to write instead."""
    kind = _KINDS.get(name, _Kind((), "", ""))
    if isinstance(value, type):
        return f"Did you mean {value.__name__}(...)?"
    if kind.types == (Weights,) and isinstance(value, Overlaps):
        return (
            "Overlaps do not determine weights. Draw weights that have them: "
            "ld.weights_from_overlaps(jax.random.key(0), start, n=784)."
        )
    if kind.types == (Overlaps,) and isinstance(value, Weights):
        return "Write ld.overlaps(weights)."
    belongs_elsewhere = any(isinstance(value, other.types) for other in _KINDS.values())
    stands_elsewhere = any(
        isinstance(other, kind.types) for key, other in given.items() if key != name
    )
    if belongs_elsewhere or stands_elsewhere:
        return f"The arguments are, in this order: {function}({', '.join(given)}, ...)."
    if _holds(value, kind):
        return "For one run for each of them use ld.sweep, or jax.vmap."
    return f"For example {name} = {kind.line}."


def _holds(values: Any, kind: _Kind) -> bool:
    """Whether `values` is a collection of what one of its entries should have been."""
    entries = values.values() if isinstance(values, dict) else values
    is_collection = isinstance(values, list | tuple | dict)
    return is_collection and any(isinstance(entry, kind.types) for entry in entries)
