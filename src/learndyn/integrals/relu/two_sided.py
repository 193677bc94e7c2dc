"""Averages of units that are linear on either side of 0, each with its own two slopes, from ReLU's.

Since g(x) = above relu(x) - below relu(-x), a network of d fields f with output weights u is a ReLU
network of the 2 d fields f and -f with output weights u above and -u below. No integral is new.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn.integrals.relu.committee import first_layer
from learndyn.integrals.relu.correlations import correlations
from learndyn.integrals.relu.forms import step_step_relu

Slopes = Float[Array, " d"] | Float[np.ndarray, " d"]


def two_sided_first_layer(
    above: Slopes,
    below: Slopes,
    c: Float[Array, "d d"],
    u: Float[Array, " d"],
    k: int,
    noise_variance: Float[Array, ""],
) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
    """Averages of the error signal s_i = g_i'(f_i) (sum_a u_a g_a(f_a) - sigma zeta) of k units.

    above, below: (d,) slopes of each unit for positive and for negative fields; c: covariance of
    the fields; u: (v, -v*); k: number of student units, the first fields.
    Returns G (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p,
    and <s_i s_j> (k, k). Both are 0 in the rows of a student whose field is 0.
    """
    above, below = jnp.asarray(above), jnp.asarray(below)
    field, sign = _doubled(k, u.shape[0])
    weight = _signed_slopes(above, below, field, sign) * u[field]
    # Covariance of f and -f, of all units
    g, phi = first_layer(_signed(c, field, sign), weight, 2 * k, noise_variance)
    # g'(x) = above step(x) + below step(-x): s_i is a sum of the signals of f_i and of -f_i.
    high, low = above[:k, None], below[:k, None]
    rows = high * g[:k] + low * g[k:]
    # Cov(-f_b, f_p) = -C_bp: the column of -f_b counts against that of f_b.
    columns = jnp.zeros_like(c[:k]).at[:, field].add(sign * rows)
    return columns, _by_slopes(high, low, phi)


def two_sided_signals(
    above: Slopes, below: Slopes, c: Float[Array, "d d"], u: Float[Array, " d"], k: int
) -> Float[Array, "k k"]:
    """<g_i'(f_i) g_j'(f_j) sum_a u_a g_a(f_a)>; arguments as for `two_sided_first_layer`."""
    above, below = jnp.asarray(above), jnp.asarray(below)
    field, sign = _doubled(k, u.shape[0])
    weight = _signed_slopes(above, below, field, sign) * u[field]
    f = correlations(_signed(c, field, sign))
    students = f.angles[: 2 * k]
    steps = f.angles[: 2 * k, : 2 * k]
    each = step_step_relu(steps[:, :, None], students[:, None, :], students[None, :, :])
    present = f.present[: 2 * k]
    signals = present[:, None] * present * (each @ (weight * f.scale))
    return _by_slopes(above[:k, None], below[:k, None], signals)


def _by_slopes(
    high: Float[Array, "k 1"], low: Float[Array, "k 1"], doubled: Float[Array, "2*k 2*k"]
) -> Float[Array, "k k"]:
    """Averages of g_i' g_j' from those of the steps of f, -f."""
    k = len(high)
    top = high * doubled[:k, :k] + low * doubled[k:, :k]
    bottom = high * doubled[:k, k:] + low * doubled[k:, k:]
    return top * high.T + bottom * low.T


def _signed_slopes(above: Array, below: Array, field: np.ndarray, sign: np.ndarray) -> Array:
    """What a ReLU of f, or of -f, counts in g."""
    return jnp.where(sign > 0, above[field], -below[field])


def _signed(c: Float[Array, "d d"], field: np.ndarray, sign: np.ndarray) -> Array:
    return c[field][:, field] * (sign[:, None] * sign)


def _doubled(k: int, d: int) -> tuple[Int[np.ndarray, " fields"], Float[np.ndarray, " fields"]]:
    """Index and sign of the fields f, -f of the k students, then f, -f of the d - k teachers."""
    students, teachers = np.arange(k), np.arange(k, d)
    field = np.concatenate([students, students, teachers, teachers])
    return field, np.repeat([1.0, -1.0, 1.0, -1.0], [k, k, d - k, d - k])
