"""The step of teachers that drift, at finite n."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.tasks._rows import Asked


class Wander(eqx.Module):
    """w* <- keep w* + size sqrt(n) xi, for each unit of the teacher.

    keep: a = 1 - rate/n. size: sqrt((1 - a**2) norms_n / n).
    """

    keep: Float[Array, "m *#lanes"]
    size: Float[Array, "m *#lanes"]


def wander_of(asked: Asked, n: Any) -> Wander | None:
    """How the teachers drift in n dimensions; None: they stay."""
    if asked.drift is None:
        return None
    part = jnp.broadcast_to(asked.drift.rate, (asked.start.m,)) / n
    norms = jnp.broadcast_to(asked.drift.norms, (asked.start.m,))
    # 1 - a**2 without cancellation
    noise = part * (2.0 - part)
    return Wander(1.0 - part, jnp.sqrt(noise * norms / n))
