"""The random numbers of the overlap chain, block by block, outside the sequential loop."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from learndyn.dynamics.chain._fields import lane_labels
from learndyn.dynamics.chain._lanes import inner
from learndyn.dynamics.chain._random import LaneRandom, chi_square
from learndyn.dynamics.chain._step import ChainSetting, Draw
from learndyn.rules import AbstractRule

_BLOCK_NUMBERS = 1024
"""Most normal numbers in a block and lane, so that some hundred lanes fit into a cache."""

_BLOCK_STEPS = 64
"""Most steps in a block: enough to amortise it."""


def steps_per_block(rule: AbstractRule, d: int, k: int) -> int:
    """A function of the sizes alone: else random numbers would depend on more than the step.

    d: coordinates of an input along the frame. k: units.
    """
    numbers = rule.batch_size * (d + 1 + rule.draws_of(k))
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
    rule, m = setting.rule, setting.teacher.shape[0]
    batch, d, lanes = rule.batch_size, m + rows, seeds.shape[1]
    steps = steps_per_block(rule, d, k)
    # More than k inputs act through k combinations of them (see `_weight_gradient`).
    size = batch if setting.reads_size else min(batch, k)
    random = LaneRandom(seeds, block)
    # In one call, for each is compiled by itself.
    samples, triangle = steps * batch, steps * (size * (size + 1) // 2)
    numbers = random.normal(samples * d + samples + triangle)
    z, zeta, rest = jnp.split(numbers, [samples * d, samples * d + samples])
    z = z.reshape(samples, d, lanes)
    rho = inner(setting.teacher, z[:, None, :m])
    y = lane_labels(
        setting.problem,
        rho,
        zeta,
        setting.v_teacher,
        setting.b_teacher,
        random.opaque_true,
    )
    z, y = z.reshape(steps, batch, d, lanes), y.reshape(steps, batch, lanes)
    outside = _outside(random, setting.n - d, rest.reshape(steps, -1, lanes), size)
    own = None
    if rule.draws_of(k):
        own = random.normal(samples * rule.draws_of(k)).reshape(steps, batch, -1, lanes)
    if rule.input_noise is not None:
        # The student's inputs alone are noisy: the label is that of the clean one.
        z = z + rule.input_noise * random.normal(samples * d).reshape(z.shape)
        outside = jnp.sqrt(1.0 + rule.input_noise**2) * outside
    return Draw(z, y, outside, own)


def _outside(
    random: LaneRandom,
    dof: Float[Array, " #lanes"],
    normal: Float[Array, "steps triangle lanes"],
    size: int,
) -> Float[Array, "steps size size lanes"]:
    """Bartlett's factor of a Wishart matrix: chi numbers of dof, dof - 1, ... degrees of freedom
    on the diagonal, normal numbers below it, and no column beyond number dof.

    normal: size (size + 1)/2 numbers a step, from which all is made.

    Source: Bartlett (1933), Proc. R. Soc. Edinb. 53, 260; with fewer degrees of freedom than
    rows it is the triangular factor of a (size, dof) matrix all the same.
    """
    # Bartlett: row j has dof - j degrees of freedom, and none is left beyond number dof.
    left = jnp.maximum(dof - jnp.arange(size, dtype=dof.dtype)[:, None], 0.0)
    below = normal[:, :-size]
    chi = jnp.sqrt(chi_square(random, left, normal[:, -size:]))
    below = jnp.where(left[jnp.tril_indices(size, -1)[1]] > 0, below, 0.0)
    zeros = jnp.zeros_like(chi)
    rows, first = [], 0
    for i in range(size):
        row = [below[:, first : first + i], chi[:, i : i + 1], zeros[:, i + 1 :]]
        rows.append(jnp.concatenate(row, axis=1))
        first += i
    return jnp.stack(rows, axis=1)
