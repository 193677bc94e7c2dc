"""Many runs side by side as lanes of one program: `vmap` turns into a trailing axis.

A batch axis that comes last and is contiguous keeps every small loop over units vectorised,
and loops over steps and saved times keep real branches, which a plain `vmap` would turn into
selections. In a tree of lanes each array ends in an axis of 1 (the same for all) or `lanes`.
"""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

_WRITTEN_OUT = 64
"""Sums over up to this many terms are written out, so that the lanes fill the vector units."""


def by_lanes(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """fn, a function of one tree of lanes that returns one, as a function of plain trees.

    However often and over whatever arguments it is vmapped, fn is called once, with all runs
    as its lanes. The trees hold arrays alone.
    """

    @jax.custom_batching.custom_vmap
    def on_lanes(tree: Any) -> Any:
        return fn(tree)

    @on_lanes.def_vmap
    def merged(size: int, in_batched: list, tree: Any) -> tuple[Any, Any]:
        (batched,) = in_batched
        lanes = lane_count(tree)
        result = on_lanes(
            # The new batch axis goes into the lanes, so that nested vmaps are still one call.
            jax.tree.map(lambda leaf, own: _merged(leaf, own, size, lanes), tree, batched)
        )
        split = lambda leaf: jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], size, lanes), -2, 0)
        return jax.tree.map(split, result), jax.tree.map(lambda leaf: True, result)

    def call(tree: Any) -> Any:
        result = on_lanes(jax.tree.map(lambda leaf: leaf[..., None], tree))
        return jax.tree.map(lambda leaf: leaf[..., 0], result)

    return call


def per_lane(fn: Callable, *trees: Any) -> Any:
    """fn of one lane's values, in every lane (in one where all of them are the same)."""
    leaves, structure = jax.tree.flatten(trees)
    lanes = lane_count(leaves)
    # What all lanes share is not batched: it is computed once.
    axes = [-1 if leaf.shape[-1] == lanes else None for leaf in leaves]
    leaves = [leaf if axis else leaf[..., 0] for leaf, axis in zip(leaves, axes, strict=True)]
    call = lambda *leaves: fn(*jax.tree.unflatten(structure, leaves))
    return jax.vmap(call, in_axes=axes, out_axes=-1)(*leaves)


def inner(a: Float[Array, "*#batch p #lanes"], b: Float[Array, "*#batch p #lanes"]) -> Array:
    """Sum of products over the last axis but one, in every lane."""
    terms = a.shape[-2]
    if terms > _WRITTEN_OUT:
        return jnp.sum(a * b, axis=-2)
    return reduce(operator.add, (a[..., p, :] * b[..., p, :] for p in range(terms)))


def apart(true: Bool[Array, ""], fn: Callable, *arguments: Any) -> Any:
    """fn(*arguments), compiled by itself on CPUs, so that its result is computed once.

    XLA copies cheap arithmetic into everything that uses it, and what it uses, and so on: a
    chain of n such steps costs 2**n. It does not look into branches.
    true: true at run time, which the compiler must not know.
    """

    fn = jax.jit(fn, inline=True)  # traced once, not once for each of its three uses

    def branch(*arguments: Any) -> Any:
        blank = jax.eval_shape(fn, *arguments)
        zeros = lambda *arguments: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)
        return jax.lax.cond(true, fn, zeros, *arguments)

    return jax.lax.platform_dependent(*arguments, cpu=branch, default=fn)


def wide(x: Shaped[Array, "*shape #lanes"], groups: int) -> Shaped[Array, "*shape #wide"]:
    """What all groups of a lane share, for each of them: lane after lane, group after group."""
    return x if groups == 1 or x.shape[-1] == 1 else jnp.tile(x, groups)


def folded(x: Float[Array, "*shape groups #lanes"], lanes: int) -> Float[Array, "*shape #wide"]:
    """Groups and lanes as one axis, so that each group of a run is a lane of its own."""
    groups = x.shape[-2]
    if groups > 1:
        x = jnp.broadcast_to(x, (*x.shape[:-1], lanes))
    return x.reshape(*x.shape[:-2], groups * x.shape[-1])


def unfolded(x: Float[Array, "*shape wide"], groups: int) -> Float[Array, "*shape groups lanes"]:
    """What `folded` made one axis, as two."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def over_groups(x: Float[Array, "*shape wide"], groups: int) -> Float[Array, "*shape lanes"]:
    """The sum over the groups of each lane."""
    return x if groups == 1 else jnp.sum(unfolded(x, groups), axis=-2)


def lane_count(tree: Any) -> int:
    """How many lanes a tree of lanes has."""
    return max(leaf.shape[-1] for leaf in jax.tree.leaves(tree))


def _merged(leaf: Array, batched: bool, size: int, lanes: int) -> Array:
    """(size, ..., 1 or lanes) as (..., size * lanes); what all runs share stays as it is."""
    if not batched and leaf.shape[-1] == 1:
        return leaf
    if not batched:
        leaf = jnp.broadcast_to(leaf, (size, *leaf.shape))
    leaf = jnp.broadcast_to(leaf, (*leaf.shape[:-1], lanes))
    leaf = jnp.moveaxis(leaf, 0, -2)
    return leaf.reshape(*leaf.shape[:-2], size * lanes)
