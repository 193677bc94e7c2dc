"""Gradient flow of a linear neuron as a flow of its function beta = a w."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_finite, require_unbatched
from learndyn._types import RealLike
from learndyn.flow.neuron._closed_form import require_rates, safe_norm


def preconditioner(
    beta: RealLike, delta: RealLike, lr_a: RealLike = 1.0, lr_w: RealLike = 1.0
) -> Float[Array, "d d"]:
    """The matrix M (d, d) of dbeta/dt = -M dL/dbeta, for beta = a w of shape (d,).

    delta = lr_w a² - lr_a |w|², which the flow conserves. The NTK is X M Xᵀ, rates included.

    Equation: M = lr_w a² I + lr_a w wᵀ = (kappa + delta)/2 I + (kappa - delta)/2 beta
    betaᵀ/|beta|², kappa = √(delta² + 4 lr_a lr_w |beta|²).

    At beta = 0 it is delta I for delta >= 0. For delta < 0 it then depends on w as well, and is
    refused (NaN where traced).

    Error: rounding, without cancellation at either sign of delta.

    Args:
        beta: (d,) the product a w.
        delta: lr_w a² - lr_a |w|², a number.
        lr_a, lr_w: learning rates of a and w, > 0.

    Raises:
        ValueError: for that, for batches (use jax.vmap), rates not > 0, infinite values.

    Source:
        Kunin et al., Get rich quick (2024); derived here for unequal rates.

    Example:
        >>> beta = jnp.array([1.0, 0.0])
        >>> flow.preconditioner(beta, delta=0.0)
        Array([[2., 0.],
               [0., 1.]], dtype=float64)
    """
    beta, delta = as_float(beta, "beta"), as_float(delta, "delta")
    lr_a, lr_w = as_float(lr_a, "lr_a"), as_float(lr_w, "lr_w")
    require_unbatched(
        [("beta", beta, 1), ("delta", delta, 0), ("lr_a", lr_a, 0), ("lr_w", lr_w, 0)],
        "preconditioner",
    )
    require_finite(beta=beta, delta=delta)
    require_rates(lr_a, lr_w)
    length = safe_norm(beta)
    undefined = (length == 0) & (delta < 0)
    if is_concrete(undefined) and bool(np.asarray(undefined)):
        raise ValueError(
            f"At beta = 0 and delta < 0 the preconditioner is lr_a w wᵀ, which beta does not "
            f"determine; got delta = {float(delta):g}. Build it from w."
        )
    rates = jnp.sqrt(lr_a * lr_w)
    kappa = safe_norm(jnp.stack([delta, 2 * rates * length]))
    reach = kappa + jnp.abs(delta)
    # The smaller of (kappa ± delta)/2 is 2 lr_a lr_w |beta|² / (kappa + |delta|).
    small = 2 * (rates * length) ** 2 / jnp.where(reach == 0, 1.0, reach)
    even = jnp.where(delta >= 0, reach / 2, small)
    radial = jnp.where(delta >= 0, small, reach / 2)
    unit = beta / jnp.where(length == 0, 1.0, length)
    m = even * jnp.eye(beta.shape[0]) + radial * jnp.outer(unit, unit)
    return jnp.where(undefined | ~(lr_a > 0) | ~(lr_w > 0), jnp.nan, m)
