"""The random numbers of the overlap chain, block by block, outside the sequential loop."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from learndyn.dynamics.chain._fields import lane_labels
from learndyn.dynamics.chain._lanes import inner, over_groups
from learndyn.dynamics.chain._random import LaneRandom, chi_square
from learndyn.dynamics.chain._step import ChainSetting, Draw, scaled
from learndyn.rules import AbstractRule

_BLOCK_NUMBERS = 1024
"""Most normal numbers in a block and lane, so that some hundred lanes fit into a cache."""

_BLOCK_STEPS = 64
"""Most steps in a block: enough to amortise it."""


def steps_per_block(rule: AbstractRule, d: int, k: int, groups: int = 1) -> int:
    """A function of the sizes alone: else random numbers would depend on more than the step.

    d: coordinates of an input along the frame, in each group. k: units.
    """
    numbers = rule.batch_size * (groups * d + 1 + rule.draws_of(k))
    return max(1, min(_BLOCK_STEPS, int(_BLOCK_NUMBERS // numbers)))


def draw_block(
    setting: ChainSetting,
    seeds: UInt32[Array, "2 lanes"],
    block: Int[Array, ""],
    *,
    k: int,
    rows: int,
) -> Draw:
    """The draws of all steps of a block, with labels, for k units and `rows` student rows."""
    drawn = draw_inputs(setting, seeds, block, k=k, rows=rows)
    rho = inner(setting.teacher, drawn.along[:, None])
    rho = over_groups(rho, setting.groups)
    if setting.unseen is not None and drawn.unseen is not None:
        rho = rho + inner(setting.unseen, drawn.unseen[:, None])
    layers = setting.v_teacher, setting.b_teacher
    y = lane_labels(setting.problem, rho, drawn.zeta, *layers, block >= 0)
    return Draw(drawn.z, y.reshape(*drawn.z.shape[:2], -1), drawn.outside, drawn.own)


class Drawn(NamedTuple):
    """A block without its labels. z, outside, own: as in `Draw`.

    along: coordinates of the clean inputs along the teacher's span, from which its fields follow.
    zeta: label noise. unseen: numbers for what the teacher's fields have beyond the inputs.
    """

    z: Float[Array, "steps batch d wide"]
    outside: Float[Array, "steps r r wide"]
    own: Float[Array, "steps batch draws lanes"] | None
    along: Float[Array, "samples m wide"]
    zeta: Float[Array, "samples lanes"]
    unseen: Float[Array, "samples m lanes"] | None


def draw_inputs(
    setting: ChainSetting,
    seeds: UInt32[Array, "2 lanes"],
    block: Int[Array, ""],
    *,
    k: int,
    rows: int,
) -> Drawn:
    """The draws of all steps of a block, without labels."""
    rule, m = setting.rule, setting.teacher.shape[0]
    batch, d, lanes, groups = rule.batch_size, m + rows, seeds.shape[1], setting.groups
    steps = steps_per_block(rule, d, k, groups)
    # More than k inputs act through k combinations of them (see `_weight_gradient`).
    size = batch if setting.reads_size else min(batch, k)
    random = LaneRandom(seeds, block)
    # In one call, for each is compiled by itself.
    samples, triangle = steps * batch, steps * (size * (size + 1) // 2)
    hidden = 0 if setting.unseen is None else samples * m
    sizes = np.cumsum([samples * d * groups, samples, triangle * groups])
    numbers = random.normal(int(sizes[-1]) + hidden)
    z, zeta, rest, unseen = jnp.split(numbers, sizes)
    z = _existing(setting, z.reshape(samples, d, groups * lanes))
    along = scaled(setting, z[:, :m])
    unseen = unseen.reshape(samples, m, lanes) if hidden else None
    z = z.reshape(steps, batch, d, -1)
    outside = wishart_factor(
        random, setting.sizes - d, rest.reshape(steps, -1, groups * lanes), size
    )
    own = None
    if rule.draws_of(k):
        own = random.normal(samples * rule.draws_of(k)).reshape(steps, batch, -1, lanes)
    if rule.input_noise is not None:
        # The student's inputs alone are noisy: the label is that of the clean one.
        z = z + rule.input_noise * random.normal(samples * d).reshape(z.shape)
        outside = jnp.sqrt(1.0 + rule.input_noise**2) * outside
    return Drawn(z, outside, own, along, zeta, unseen)


def _existing(
    setting: ChainSetting, z: Float[Array, "samples d wide"]
) -> Float[Array, "samples d wide"]:
    """z without coordinates along directions that a group of fewer than d of them does not have,
    the last ones of its frame."""
    if setting.scale is None:
        return z
    return jnp.where(jnp.arange(z.shape[1])[:, None] < setting.sizes, z, 0.0)


def wishart_factor(
    random: LaneRandom,
    dof: Float[Array, " #wide"],
    normal: Float[Array, "steps triangle wide"],
    size: int,
) -> Float[Array, "steps size size wide"]:
    """Bartlett's factor of a Wishart matrix: chi numbers of dof, dof - 1, ... degrees of freedom
    on the diagonal, normal numbers below it, and no column beyond number dof.

    normal: size (size + 1)/2 numbers a step, from which all is made.

    Source: Bartlett (1933), Proc. R. Soc. Edinb. 53, 260; with fewer degrees of freedom than
    rows it is the triangular factor of a (size, dof) matrix all the same.
    """
    # Bartlett: row j has dof - j degrees of freedom, and none is left beyond number dof.
    left = jnp.maximum(dof - jnp.arange(size, dtype=dof.dtype)[:, None], 0.0)
    below, diagonal = normal[:, :-size], normal[:, -size:]
    # The numbers of all groups in one call: each row and group is a column of its lane.
    columns = size * (normal.shape[2] // random.lanes)
    given = left.reshape(columns, -1), diagonal.reshape(len(normal), columns, random.lanes)
    chi = jnp.sqrt(chi_square(random, *given)).reshape(diagonal.shape)
    below = jnp.where(left[jnp.tril_indices(size, -1)[1]] > 0, below, 0.0)
    zeros = jnp.zeros_like(chi)
    rows, first = [], 0
    for i in range(size):
        row = [below[:, first : first + i], chi[:, i : i + 1], zeros[:, i + 1 :]]
        rows.append(jnp.concatenate(row, axis=1))
        first += i
    return jnp.stack(rows, axis=1)
