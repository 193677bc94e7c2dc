"""Elementwise special functions in float64, made of polynomials: fast on a CPU.

XLA's own inverse sine and arctangent leave the vector units (7 to 17 ns an element on one core,
against 1 and 2 here), and have derivatives that are infinite at the ends of their ranges, where
student and teacher coincide. Its error function is slower, too: `scaled_erf` gives a fifth more
steps of the overlap chain.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# |x| <= 2: x p(t)/q(t), t = x**2/2 - 1; else 1 - exp(-x**2/2) p(t)/q(t), t from |x| in [2, 8.5]
# to [-1, 1]. Lowest coefficient first. Near-minimax in the error of the result: 1.4e-16 (relative)
# and 7e-17 with the coefficients as rounded here. They were computed once in 60 digits, and
# tests/test_scaled_erf.py evaluates them in 60 digits again.
_NEAR_TOP = (
    0.574472255710366,
    0.09138551709292579,
    0.021045176435435128,
    0.0007523022291027154,
    8.395140283955629e-05,
    -1.1101536356338413e-06,
    3.555054876369176e-08,
)
_NEAR_BOTTOM = (
    0.9640746300818337,
    0.39795211371500333,
    0.07156147353885135,
    0.007060810109486834,
    0.0003856883966416994,
    9.429597121675926e-06,
)
_FAR_TOP = (
    0.07279308960345794,
    0.11518356436134543,
    0.07045033697594626,
    0.019656685174622584,
    0.0021072665479096365,
)
_FAR_BOTTOM = (
    0.4952703906014464,
    1.071256002214462,
    0.9390091544879273,
    0.41711158705698886,
    0.09393341907890655,
    0.008583273568861809,
)
_MIDDLE, _HALF_RANGE = 5.25, 3.25
"""They map the sizes from 2 to 8.5 to [-1, 1]; from 8.3 on the result rounds to 1 in float64."""

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
"""tan(pi/8): arctangents of larger quotients are reduced by pi/4, so that the fit stays short."""

_SMALLEST = 1e-300
"""Bounds divisors from below, so that 0/0 at the origin gives 0; just above what float64 can
hold without losing digits (2e-308), so that it changes no other quotient."""

_PI_2_LOW = 6.123233995736766e-17
"""pi/2 minus the float64 number next to it."""


def polynomial(coefficients: Sequence[float], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sum_k coefficients[k] x**k, elementwise."""
    # Horner's scheme
    highest, *rest = reversed(coefficients)
    return reduce(lambda value, c: value * x + c, rest, jnp.full_like(x, highest))


@jax.custom_jvp
def scaled_erf(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """erf(x/sqrt 2), elementwise. Error in float64: at most 3 units in the last place.

    The quotient comes last: XLA takes a division as worth keeping, where it would repeat a
    polynomial in every place that uses it.
    """
    if x.dtype != jnp.float64:
        return jax.scipy.special.erf(x * 0.5**0.5)
    square, size = x * x, jnp.abs(x)
    # Arguments of the two fits, bounded above so that the one not taken cannot overflow
    near = jnp.minimum(0.5 * square - 1.0, 1.0)
    far = jnp.minimum((size - _MIDDLE) / _HALF_RANGE, 1.0)
    far_bottom = polynomial(_FAR_BOTTOM, far)
    far_top = far_bottom - jnp.exp(-0.5 * square) * polynomial(_FAR_TOP, far)
    is_near = size <= 2.0
    # One division for both branches: the numerators and denominators are selected first.
    top = jnp.where(is_near, x * polynomial(_NEAR_TOP, near), jnp.copysign(far_top, x))
    return top / jnp.where(is_near, polynomial(_NEAR_BOTTOM, near), far_bottom)


def scaled_erf_derivative(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt(2/pi) exp(-x**2/2), elementwise, with the exponential that `scaled_erf` takes too."""
    return (2 / jnp.pi) ** 0.5 * jnp.exp(-0.5 * (x * x))


@scaled_erf.defjvp
def _scaled_erf_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return scaled_erf(x), scaled_erf_derivative(x) * dx


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
    # The correction z p(z) is small against 1, so that its rounding hardly counts.
    near_value = s + s * (z * polynomial(_ARCSIN, z))
    far_value = (0.5 * jnp.pi - 2.0 * near_value) + _PI_2_LOW
    return jnp.copysign(jnp.where(far, far_value, near_value), x)


@arcsin.defjvp
def _arcsin_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    # 1 - x**2, without cancellation next to 1, and never 0
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
    # Above 45 degrees arctan(y/x) = pi/2 - arctan(x/y).
    return jnp.copysign(jnp.where(steep, 0.5 * jnp.pi - angle, angle), y)


@arctan2.defjvp
def _arctan2_jvp(primals, tangents):
    (y, x), (dy, dx) = primals, tangents
    return arctan2(y, x), (x * dy - y * dx) / jnp.maximum(x * x + y * y, _SMALLEST)
