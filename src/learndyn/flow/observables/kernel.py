"""The neural tangent kernel and its distance from another."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float
from learndyn._types import RealLike, Scalar
from learndyn.flow._loss import output_of
from learndyn.flow._parameters import Rates, as_model, rate_tree, split


def ntk(model: Any, x: RealLike, lr: Rates = 1.0) -> Array:
    """The neural tangent kernel K = sum_l lr_l J_l J_l^T, with J_l = df/d theta_l.

    Args:
        model: an Equinox module that maps one input to its output.
        x: (samples, d) inputs.
        lr: as for `gradient_flow`; under flow f' = -K dL/df, so with unequal rates the kernel that
            learns has them folded in.

    Returns:
        (samples, samples) for a scalar output; (samples, c, samples, c) for one of shape (c,).

    Raises:
        ValueError: for a model that is none, inputs of another shape, or bad rates.

    Source:
        Kunin et al. (2024), Get rich quick.

    Example:
        >>> neuron = flow.LinearNeuron(a=2.0, w=[1.0, 0.0])
        >>> flow.ntk(neuron, jnp.eye(2))
        Array([[5., 0.],
               [0., 4.]], dtype=float64)
    """
    model, x = as_model(model), as_float(x, "x")
    if x.ndim != 2:
        raise ValueError(f"x must have shape (samples, d); got shape {x.shape}.")
    numbers, rest = split(model)
    rates = rate_tree(lr, numbers)
    outputs = lambda numbers: jax.vmap(eqx.combine(numbers, rest))(x)
    output = output_of(model, x)
    if not hasattr(output, "shape"):
        raise ValueError(
            f"the model's output must be one array; got a {type(output).__name__}. Wrap the model "
            "in one that returns the part that is meant."
        )
    shape = x.shape[:1] + output.shape
    count = math.prod(shape)
    jacobian = jax.jacrev(outputs)(numbers)
    weighted = jax.tree.map(lambda j, lr: lr * _gram(j, count), jacobian, rates)
    return jnp.sum(jnp.stack(jax.tree.leaves(weighted)), axis=0).reshape(shape + shape)


def kernel_distance(k0: RealLike, kt: RealLike) -> Scalar:
    """1 - <K0, Kt>/(|K0| |Kt|) with Frobenius norms: 0 for proportional kernels, at most 1.

    Formed as |K0/|K0| - Kt/|Kt||**2/2, which keeps its digits down to 1e-32 (the other form loses
    all below 1e-16).

    Args:
        k0, kt: two kernels of the same shape, which may be any. NaN where one is zero.

    Raises:
        ValueError: for shapes that differ.

    Example:
        >>> float(flow.kernel_distance(jnp.eye(2), 3.0 * jnp.eye(2)))
        0.0
        >>> round(float(flow.kernel_distance(jnp.eye(2), jnp.diag(jnp.array([1.0, 0.0])))), 4)
        0.2929
    """
    k0, kt = as_float(k0, "k0"), as_float(kt, "kt")
    if k0.shape != kt.shape:
        raise ValueError(f"k0 and kt must have the same shape; got {k0.shape} and {kt.shape}.")
    return 0.5 * jnp.sum((_unit(k0) - _unit(kt)) ** 2)


def _unit(k: Array) -> Array:
    """k over its Frobenius norm."""
    # Scaled by the largest entry first: squares of kernels at tiny starts underflow.
    k = k / jnp.max(jnp.abs(k))
    return k / jnp.sqrt(jnp.sum(k**2))


def _gram(jacobian: Array, count: int) -> Float[Array, "count count"]:
    rows = jacobian.reshape(count, -1)
    return rows @ rows.T
