"""Modulations and labels for many runs as lanes: the rule's own and the problem's own functions,
with the units' axis first and the lanes' last.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learndyn.dynamics.chain._lanes import apart, per_lane
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule, Modulation, Sample, Seen


class LaneSample(NamedTuple):
    """A `Sample`, or an episode of them, of each lane; None for what the rule does not read."""

    lam: Float[Array, "*batch k lanes"]
    y: Float[Array, "*batch lanes"]
    draws: Float[Array, "*batch draws lanes"] | None
    size: Float[Array, "*batch lanes"] | None
    overlaps: Seen | None


def lane_modulations(
    problem: Problem,
    rule: AbstractRule,
    sample: LaneSample,
    layers: Layers,
    opaque_true: Bool[Array, ""],
) -> Modulation:
    """The rule's modulation of one sample, or of one episode, in each lane.

    opaque_true: see `apart`.
    """
    numbers, rest = eqx.partition((problem, rule), eqx.is_array)

    def modulation(numbers: Any, sample: LaneSample, layers: Layers) -> Modulation:
        problem, rule = eqx.combine(numbers, rest)
        y, draws, size = sample.y, sample.draws, sample.size
        draws = jnp.zeros((*y.shape, 0), y.dtype) if draws is None else draws
        size = jnp.ones_like(y) if size is None else size
        whole = Sample(sample.lam, y, draws, size, sample.overlaps)
        return rule.modulation(problem, whole, layers)

    in_lanes = functools.partial(per_lane, modulation)
    return apart(opaque_true, in_lanes, numbers, sample, layers.of_student)


def lane_labels(
    problem: Problem,
    rho: Float[Array, "samples m lanes"],
    zeta: Float[Array, "samples lanes"],
    v_teacher: Float[Array, " m #lanes"],
    b_teacher: Float[Array, " m #lanes"] | None,
    opaque_true: Bool[Array, ""],
) -> Float[Array, "samples lanes"]:
    """Labels of many samples in each lane. opaque_true: see `apart`."""
    layers = Layers(v_teacher[:0], v_teacher, None, b_teacher)
    numbers, rest = eqx.partition(problem, eqx.is_array)

    def label(numbers: Any, rho: Array, zeta: Array, layers: Layers) -> Array:
        problem: Problem = eqx.combine(numbers, rest)
        return jax.vmap(problem.label, (0, 0, None))(rho, zeta, layers)

    return apart(opaque_true, functools.partial(per_lane, label), numbers, rho, zeta, layers)
