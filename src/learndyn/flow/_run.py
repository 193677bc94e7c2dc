"""What gradient flow and gradient descent return."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn._checks import is_concrete
from learndyn._outcome import (
    AbstractOutcome,
    failure_text,
    mean_of_finished,
    require_there,
)
from learndyn._readable import as_table, outcome_text, value_text
from learndyn._results import Result
from learndyn._types import CountLike, Times
from learndyn.flow._objective import Objective, with_stalls

_DIGITS = 3
"""Significant digits of the numbers in a run's repr: enough for a person."""


class Run(AbstractOutcome):
    """A model and its loss along gradient flow or gradient descent.

    A vmapped function returns a Run with batch axes in front of all arrays; `run[i]` takes one run
    out of it, `run.at(i)` the model at one saved time.

    Attributes:
        t: (times,) requested times; for descent the numbers of steps, as floats.
        loss: (times,) as `Data` or `Moments` define it; NaN after a run stopped early.
        speed: (times,) the norm of -lr dL/d theta - decay theta, small on plateaus.
        result: () a `learndyn.Result` code, 0 for success.
        end: () the last time reached: the last of t, or earlier where the run stopped or its event
            was.
        stats: numbers about the run, by name: `steps`, and for flow `rtol`.
        arrays, ending: the arrays of `model` and of `last`.
        rest: what the model holds besides arrays.
        kind: "flow", "dual" (flow of a diagonal network in the dual variable), "heavy ball" or
            "descent".
        velocity: theta' of a heavy ball, u of descent, as a model with stacked arrays; else None.
            ok, raise_if_failed(): whether the run ended well. Outside jit a failed run also warns.
        model: the model, its arrays with one more axis (times,) in front: `jax.vmap(f)(run.model)`
            applies f to the model of every time. NaN after a run stopped early.
        last: the model at that time.

    Example:
        >>> start = flow.LinearNeuron(a=0.01, w=[0.01, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, [0.0, 5.0, 20.0])
        >>> run.kind, run.model.w.shape, bool(run.loss[-1] < 1e-6)
        ('flow', (3, 2), True)
    """

    t: Float[Array, "*batch times"]
    loss: Float[Array, "*batch times"]
    speed: Float[Array, "*batch times"]
    result: Int[Array, "*batch"]
    end: Float[Array, "*batch"]
    stats: dict[str, Array]
    arrays: list[Array]
    ending: list[Array]
    rest: tuple[tuple[Any, ...], Any] = eqx.field(static=True)
    kind: str = eqx.field(static=True, default="flow")
    velocity: Any = None

    @property
    def model(self) -> Any:
        """The model with stacked arrays."""
        return _joined(self.arrays, self.rest)

    @property
    def last(self) -> Any:
        """The model at `end`: at the last of t, at the event, or where a failed run stopped."""
        return _joined(self.ending, self.rest)

    def at(self, index: CountLike) -> Any:
        """The model at saved time number `index`, for example 0 for the start.

        Args:
            index: which of the saved times; negative ones count from the end.

        Raises:
            IndexError: where there are fewer times.
            ValueError: for a batch, or where that model is not finite (a run that stopped or ended
                earlier).
        """
        if self.t.ndim > 1:
            raise ValueError("this is a batch of runs: take one out of it first, run[i].at(index).")
        require_there(index, self.t.shape[-1], "the run has {} saved times; got number {}.")
        if is_concrete(self.loss) and not np.isfinite(np.asarray(self.loss)[index]):
            raise ValueError(
                f"no model at saved time number {index}: the run ended before, at t = "
                f"{np.asarray(self.end):g} (result {np.asarray(self.result)}; learndyn.Result says "
                "why). The model there is run.last."
            )
        return _joined([leaf[index] for leaf in self.arrays], self.rest)

    def _failure(self) -> str:
        runs = np.atleast_1d(np.asarray(self.result)).ravel()
        first = np.flatnonzero(runs)[0]
        end = np.asarray(self.end).ravel()[first]
        last = np.asarray(self.t).reshape(runs.size, -1)[first, -1]
        return failure_text(self.result, self.kind, f"at t = {end:g}", f"t = {last:g}")

    def __getitem__(self, index: Any) -> "Run":
        """One run, or several, out of a batch: `index` acts on the leading batch axis.

        Raises: ValueError for a single run; IndexError for a run that is not there.
        """
        if self.t.ndim < 2:
            raise ValueError(
                "this is a single run, so there is no run to take out of it. For the model at one "
                "of its saved times use .at(index)."
            )
        require_there(index, self.t.shape[0], "there are {} runs; got run number {}.")
        return jax.tree.map(lambda leaf: leaf[index], self)

    def __repr__(self) -> str:
        facts = self._facts()
        if facts is None:
            return f"Run({self.kind}, traced)"
        patterns = {"runs": "{} runs", "times": "{} times", "result": "{}"}
        texts = [patterns.get(name, f"{name} {{}}").format(text) for name, text in facts.items()]
        return f"Run({self.kind}, {', '.join(texts)})"

    def _repr_html_(self) -> str:
        return as_table("Run", {"kind": self.kind} | (self._facts() or {"result": "traced"}))

    def _facts(self) -> dict[str, str] | None:
        """What a person wants to know first; None where it is being traced."""
        if not is_concrete(self.t, self.loss, self.result):
            return None
        shape, times = self.t.shape[:-1], self.t.shape[-1]
        t, loss = np.asarray(self.t), np.asarray(self.loss).reshape(-1, times)
        first, last = (
            value_text(mean_of_finished(column), _DIGITS) for column in (loss[:, 0], loss[:, -1])
        )
        runs = {"runs": " x ".join(map(str, shape))} if shape else {}
        return (
            {"model": self.model_name}
            | runs
            | {
                "times": str(times),
                "t": f"{t.min():g} … {t.max():g}",
                "mean loss" if shape else "loss": f"{first} → {last}",
                "result": outcome_text(self.result),
            }
        )

    @property
    def model_name(self) -> str:
        """The class of the model."""
        return type(self.model).__name__


def record(
    objective: Objective,
    t: Times,
    numbers: Any,
    last: Any,
    result: Array,
    end: Array,
    stats: dict[str, Array],
    kind: str,
    velocity: Any = None,
) -> Run:
    """The run whose trained numbers at the times t are `numbers`, stacked; NaN where it stopped.

    last: the numbers at `end`. velocity: stacked like `numbers`, where it is part of the state.
    """
    result = with_stalls(result, objective)
    # A start that never moves has no later rows, as any other run that failed.
    stalled = (result == Result.STALLED.value) & (jnp.arange(t.shape[0]) > 0)
    blank = lambda x: jnp.where(stalled.reshape(-1, *[1] * (x.ndim - 1)), jnp.nan, x)
    numbers = jax.tree.map(blank, numbers)
    last = jax.tree.map(
        lambda x, first: jnp.where(result == Result.STALLED.value, first, x),
        last,
        objective.numbers,
    )
    arrays, rest = _stacked(objective.model, numbers, t.shape[0])
    loss = jax.vmap(objective.loss)(numbers)
    speed = jax.vmap(objective.speed)(numbers)
    end = jnp.where(result == Result.STALLED.value, t[0], end)
    ending = [leaf for leaf in jax.tree.leaves(objective.at(last)) if eqx.is_array(leaf)]
    return Run(t, loss, speed, result, end, stats, arrays, ending, rest, kind, velocity)


def _stacked(model: Any, numbers: Any, times: int) -> tuple[list[Array], tuple]:
    """The arrays of a run's model, with times in front, and the rest as hashable structure."""
    repeat = lambda x: jnp.broadcast_to(x, (times, *x.shape)) if eqx.is_array(x) else x
    whole = jax.tree.map(
        lambda trained, x: jax.tree.map(repeat, x) if trained is None else trained,
        numbers,
        model,
        is_leaf=lambda x: x is None,
    )
    leaves, structure = jax.tree.flatten(whole)
    # vmap and jit return arrays only; all else must be structure, which must be hashable.
    arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
    others = tuple(_HOLE if eqx.is_array(leaf) else leaf for leaf in leaves)
    return arrays, (others, structure)


_HOLE = "array"
"""Stands where an array belongs among the leaves of a model; leaves are never this text."""


def _joined(arrays: list[Array], rest: tuple[tuple[Any, ...], Any]) -> Any:
    others, structure = rest
    given = iter(arrays)
    leaves = [next(given) if leaf is _HOLE else leaf for leaf in others]
    return jax.tree.unflatten(structure, leaves)
