"""Minimising a function of a schedule by Adam, where some points have no value."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._extras import require_extra
from learndyn._readable import ReadableResult
from learndyn.rules import Family


class Optimised(ReadableResult):
    """A schedule, the objective it reaches (final eg, or its mean over time), and the path.

    history: the objective at each step of the search; NaN where a run diverged.
    """

    schedule: Family
    value: Float[Array, ""]
    history: Float[Array, " steps"]


def require_optax() -> ModuleType:
    """Optax, which nothing else needs."""
    require_extra("optax", "optimise", "optimal_schedule")
    import optax

    return optax


_MOST_PARTS = 20
"""Programs into which a search is cut where its progress is shown: a twentieth each."""


def descend(
    objective: Callable[[Family], Array],
    schedule: Family,
    steps: int,
    step_size: Float[Array, ""],
    report: Callable[[int], Any] | None = None,
) -> Optimised:
    """Adam on the logarithms in `schedule`, its times held; the best schedule met.

    objective: schedule -> the logarithm of what is minimised. The steps shrink to a hundredth
    along half a cosine. report: is told how many steps were made, part by part; None: the whole
    search is one program.
    """
    optimiser = _adam(steps, step_size)
    is_free = jax.tree_util.tree_map_with_path(lambda path, _: "log" in str(path[-1]), schedule)
    free, held = eqx.partition(schedule, is_free)
    carry = (free, optimiser.init(free), free, jnp.asarray(jnp.inf))
    # Parts of equal length share one compiled program.
    most = 1 if report is None else _MOST_PARTS
    parts = max(count for count in range(1, most + 1) if steps % count == 0)
    history = []
    for _ in range(parts):
        carry, values = _advance(objective, held, carry, steps, step_size, steps // parts)
        history.append(values)
        if report is not None:
            jax.block_until_ready(values)
            report(steps // parts)
    _, _, best, least = carry
    values = jnp.exp(jnp.concatenate(history))
    return Optimised(eqx.combine(best, held), jnp.exp(least), values)


def _adam(steps: int, step_size: Float[Array, ""]) -> Any:
    optax = require_optax()
    return optax.adam(optax.cosine_decay_schedule(step_size, steps, alpha=0.01))


@eqx.filter_jit
def _advance(
    objective: Callable[[Family], Array],
    held: Family,
    carry: tuple,
    steps: int,
    step_size: Float[Array, ""],
    count: int,
) -> tuple[tuple, Float[Array, " count"]]:
    """The next `count` of all steps of the search, and the objective at each."""
    optimiser = _adam(steps, step_size)
    value_and_slope = jax.value_and_grad(lambda free: objective(eqx.combine(free, held)))

    def step(carry: tuple, _: None) -> tuple[tuple, Array]:
        free, state, best, least = carry
        value, slope = value_and_slope(free)
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree_util.tree_leaves(slope)]
        good = jnp.isfinite(value) & jnp.all(jnp.stack(finite))
        best = _choose(value < least, free, best)
        least = jnp.where(value < least, value, least)
        # Adam's step
        change, new = optimiser.update(
            jax.tree.map(lambda g: jnp.where(good, g, 0.0), slope), state
        )
        # A run that diverged has no slope: go back, half way to the best schedule.
        middle = jax.tree.map(lambda a, b: 0.5 * (a + b), free, best)
        moved = _choose(good, eqx.apply_updates(free, change), middle)
        return (moved, _choose(good, new, state), best, least), value

    return jax.lax.scan(step, carry, None, length=count)


def _choose(which: Array, yes: object, no: object) -> object:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)
