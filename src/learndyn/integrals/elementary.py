"""The averages of Saad & Solla (1995) one at a time, of overlaps given as separate arrays.

With g the activation: I2 = <g(a) g(b)>, I3 = <g'(i) a g(c)>, I4 = <g'(i) g'(k) g(a) g(b)>,
J2 = <g'(i) g'(k)>. Arguments are overlaps: ia is that of fields i and a. All broadcast.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_2_PI = 2 / np.pi


class Forms(NamedTuple):
    """The four averages of one activation."""

    i2: Callable[..., Array]
    i3: Callable[..., Array]
    i4: Callable[..., Array]
    j2: Callable[..., Array]


def _erf_i2(aa: Array, ab: Array, bb: Array) -> Array:
    return _2_PI * jnp.arcsin(ab / jnp.sqrt((1 + aa) * (1 + bb)))


def _erf_i3(ii: Array, ia: Array, ic: Array, ac: Array, cc: Array) -> Array:
    s = 1 + ii
    return _2_PI * (ac - ia * ic / s) / jnp.sqrt(s * (1 + cc) - ic**2)


def _erf_i4(
    ii: Array,
    ik: Array,
    kk: Array,
    ia: Array,
    ib: Array,
    ka: Array,
    kb: Array,
    aa: Array,
    ab: Array,
    bb: Array,
) -> Array:
    si, sk = 1 + ii, 1 + kk
    tilt = si * sk - ik**2  # Lambda4; g' g' tilts the measure by it
    joint = ab - (sk * ia * ib + si * ka * kb - ik * (ia * kb + ib * ka)) / tilt
    own_a = 1 + aa - (sk * ia**2 + si * ka**2 - 2 * ik * ia * ka) / tilt
    own_b = 1 + bb - (sk * ib**2 + si * kb**2 - 2 * ik * ib * kb) / tilt
    return _2_PI**2 * jnp.arcsin(joint / jnp.sqrt(own_a * own_b)) / jnp.sqrt(tilt)


def _erf_j2(ii: Array, ik: Array, kk: Array) -> Array:
    return _2_PI / jnp.sqrt((1 + ii) * (1 + kk) - ik**2)


def _linear_i4(
    ii: Array,
    ik: Array,
    kk: Array,
    ia: Array,
    ib: Array,
    ka: Array,
    kb: Array,
    aa: Array,
    ab: Array,
    bb: Array,
) -> Array:
    return ab


FORMS: dict[str, Forms] = {  # by the name of the activation
    "Erf": Forms(_erf_i2, _erf_i3, _erf_i4, _erf_j2),
    "Linear": Forms(
        lambda aa, ab, bb: ab,
        lambda ii, ia, ic, ac, cc: ac,
        _linear_i4,
        lambda ii, ik, kk: jnp.ones_like(ik),
    ),
}
