"""Minimising a function of a schedule by Adam, where some points have no value."""

from collections.abc import Callable
from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import require_extra
from learndyn.rules import Family


class Optimised(eqx.Module):
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


@eqx.filter_jit
def descend(
    objective: Callable[[Family], Array], schedule: Family, steps: int, step_size: Float[Array, ""]
) -> Optimised:
    """Adam on the logarithms in `schedule`, its times held; the best schedule met.

    objective: schedule -> the logarithm of what is minimised. The steps shrink to a hundredth
    along half a cosine.
    """
    optax = require_optax()
    optimiser = optax.adam(optax.cosine_decay_schedule(step_size, steps, alpha=0.01))
    is_free = jax.tree_util.tree_map_with_path(lambda path, _: "log" in str(path[-1]), schedule)
    free, held = eqx.partition(schedule, is_free)
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

    begin = (free, optimiser.init(free), free, jnp.asarray(jnp.inf))
    (_, _, best, least), history = jax.lax.scan(step, begin, None, length=steps)
    return Optimised(eqx.combine(best, held), jnp.exp(least), jnp.exp(history))


def _choose(which: Array, yes: object, no: object) -> object:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)
