"""Elementwise inverse sine and arctangent in float64.

They are made of polynomials alone: XLA's own leave the vector units
(7 to 17 ns an element on one core, against 1 and 2 here), and have derivatives that are
infinite at the ends of their ranges, where student and teacher coincide.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.scaled_erf import polynomial

# arcsin(x) = x + x z p(z), z = x**2 <= 1/4, and arctan(x) = x + x z p(z), |x| <= tan(pi/8):
# p interpolates at Chebyshev points of z (made in 50 digits by `fitted` in tests/test_special.py).
_ARCSIN = (
    0.16666666666666669,
    0.07499999999998433,
    0.04464285714635543,
    0.030381944138531247,
    0.02237217294214989,
    0.017352392720869973,
    0.013971212973552933,
    0.011479177415184906,
    0.01032281435018578,
    0.005457506718640358,
    0.01740087944269402,
    -0.014851887071247204,
    0.028757851367421566,
)
_ARCTAN = (
    -0.3333333333333333,
    0.19999999999999804,
    -0.14285714285659828,
    0.11111111105155447,
    -0.09090908753500877,
    0.07692296375032143,
    -0.06666424885738255,
    0.05878928997834775,
    -0.05230454270650244,
    0.04551593220626549,
    -0.034570561981427744,
    0.016285756855221028,
)

_TAN_EIGHTH = 0.41421356237309503
_SMALLEST = 1e-300
_PI_2_LOW = 6.123233995736766e-17  # pi/2 minus its float64 neighbour


@jax.custom_jvp
def arcsin(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """arcsin x for x in [-1, 1], elementwise; outside it is NaN.

    Error: below 2 units in the last place. The derivative 1 / sqrt(1 - x**2) is held at
    2**26 where it would exceed that (1 - |x| < 2**-53).
    """
    size = jnp.abs(x)
    far = size > 0.5
    # Above 1/2: arcsin x = pi/2 - 2 arcsin(sqrt((1 - x) / 2)).
    z = jnp.where(far, 0.5 * (1.0 - size), size * size)
    s = jnp.where(far, jnp.sqrt(z), size)
    near_value = s + s * (z * polynomial(_ARCSIN, z))
    far_value = (0.5 * jnp.pi - 2.0 * near_value) + _PI_2_LOW
    return jnp.copysign(jnp.where(far, far_value, near_value), x)


@arcsin.defjvp
def _arcsin_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    complement = jnp.maximum((1.0 - x) * (1.0 + x), 2.0**-52)
    return arcsin(x), dx / jnp.sqrt(complement)


@jax.custom_jvp
def arctan2(y: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The angle of the point (x, y) for x >= 0, in [-pi/2, pi/2], elementwise; 0 at the origin.

    Error: below 3 units in the last place, at every angle: where y / hypot(x, y) is the sine
    of an angle close to pi/2, this is the way to keep its digits.
    """
    height = jnp.abs(y)
    steep = height > x
    low, high = jnp.minimum(height, x), jnp.maximum(height, x)
    # Above tan(pi/8): arctan u = pi/4 + arctan((u - 1) / (u + 1)), with u = low / high.
    turned = low > _TAN_EIGHTH * high
    top = jnp.where(turned, low - high, low)
    bottom = jnp.where(turned, low + high, high)
    u = top / jnp.maximum(bottom, _SMALLEST)
    z = u * u
    angle = jnp.where(turned, 0.25 * jnp.pi, 0.0) + (u + u * (z * polynomial(_ARCTAN, z)))
    return jnp.copysign(jnp.where(steep, 0.5 * jnp.pi - angle, angle), y)


@arctan2.defjvp
def _arctan2_jvp(primals, tangents):
    (y, x), (dy, dx) = primals, tangents
    return arctan2(y, x), (x * dy - y * dx) / jnp.maximum(x * x + y * y, _SMALLEST)
