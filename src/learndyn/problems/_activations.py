"""Activation functions g of a unit's local field.

Any elementwise callable works as well; these have names because the literature uses them
and because some have closed-form averages. At a kink the derivative is 0.
"""

import abc
import math
from types import ModuleType
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, shown
from learndyn._numerics.special import scaled_erf, scaled_erf_derivative
from learndyn._readable import Readable
from learndyn._types import RealLike, ScalarFunction
from learndyn.integrals import erf, linear, relu
from learndyn.integrals.leaky_relu import LeakyReLUIntegrals
from learndyn.integrals.piecewise_linear import PiecewiseLinear
from learndyn.problems._regularity import SMOOTH, Regularity, slope_of


class AbstractActivation(Readable):
    """An elementwise function g. `derivative` is automatic unless a class knows better.

    A class declares what is known of its g; whatever it leaves out is measured or done without.

    name: how the command line calls it.
    regularity: where g, g' and g'' jump.
    degree: that of a polynomial g.
    pieces: g itself, where it is piecewise linear: whatever is not declared is found out by value,
        but for traced parameters.
    integrals: closed forms of its Gaussian integrals: pair, first_layer and squared_slope of
        `learndyn.integrals.erf`, for example.
    elementary: its integrals I2, I3, I4 and J2 as functions of single overlaps.
    """

    name: ClassVar[str | None] = None
    regularity: ClassVar[Regularity | None] = None
    degree: ClassVar[int | None] = None
    pieces: ClassVar[PiecewiseLinear | None] = None
    integrals: ClassVar[Any] = None
    elementary: ClassVar[Any] = None

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """g(x), elementwise."""

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """g'(x), elementwise; 0 at a kink."""
        return elementwise_derivative(self, x)


class Erf(AbstractActivation):
    """g(x) = erf(x/sqrt 2), the sigmoid of Saad & Solla (1995).

    Example:
        >>> g = ld.Erf()
        >>> np.round(g(jnp.array([0.0, 1.0])), 4)
        Array([0.    , 0.6827], dtype=float64)
        >>> np.round(g.derivative(jnp.array([0.0, 1.0])), 4)
        Array([0.7979, 0.4839], dtype=float64)
    """

    name: ClassVar[str] = "erf"
    regularity: ClassVar[Regularity] = SMOOTH
    integrals: ClassVar[ModuleType] = erf
    elementary: ClassVar[ModuleType] = erf

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return scaled_erf(x)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return scaled_erf_derivative(x)


class ReLU(AbstractActivation):
    """g(x) = max(0, x).

    Example:
        >>> ld.ReLU()(jnp.array([-1.0, 0.0, 2.0]))
        Array([0., 0., 2.], dtype=float64)
        >>> ld.ReLU().derivative(jnp.array([-1.0, 0.0, 2.0]))
        Array([0., 0., 1.], dtype=float64)
    """

    name: ClassVar[str] = "relu"
    regularity: ClassVar[Regularity] = Regularity(kinks=(0.0,))
    integrals: ClassVar[ModuleType] = relu

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.relu(x)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


class LeakyReLU(AbstractActivation):
    """g(x) = x where x > 0 and slope x elsewhere, with closed-form averages for every slope.

    The derivative at 0 is 0 for every slope, so a unit without weights does not learn.

    Args:
        slope: a finite number, 0.01 unless given: 0 is ReLU, 1 linear, -1 the modulus. It is part
            of the structure, so another slope is another compiled program, and cannot be traced.
            Closed forms need the same slope in student and teacher.

    Raises:
        ValueError: for a slope that is not a finite real number.

    Example:
        >>> ld.LeakyReLU(slope=0.1)(jnp.array([-1.0, 0.0, 2.0]))
        Array([-0.1,  0. ,  2. ], dtype=float64)
    """

    name: ClassVar[str] = "leaky-relu"
    regularity: ClassVar[Regularity] = Regularity(kinks=(0.0,))

    slope: float = eqx.field(static=True)

    def __init__(self, slope: Any = 0.01):
        number = isinstance(slope, int | float) and not isinstance(slope, bool)
        if not (number and math.isfinite(slope)):
            raise ValueError(
                "slope must be a finite Python number (it is part of the structure, so arrays and "
                f"traced values cannot be used); got {slope!r}. Convert it with float(...)."
            )
        self.slope = float(slope)

    @property
    def integrals(self) -> LeakyReLUIntegrals:
        return LeakyReLUIntegrals(self.slope)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x > 0, x, self.slope * x)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x > 0, 1.0, jnp.where(x < 0, self.slope, 0.0)).astype(x.dtype)


class Linear(AbstractActivation):
    """g(x) = x.

    Example:
        >>> ld.Linear()(jnp.array([-1.0, 2.0]))
        Array([-1.,  2.], dtype=float64)
    """

    name: ClassVar[str] = "linear"
    regularity: ClassVar[Regularity] = SMOOTH
    degree: ClassVar[int] = 1
    integrals: ClassVar[ModuleType] = linear
    elementary: ClassVar[ModuleType] = linear

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.ones_like(x)


class Quadratic(AbstractActivation):
    """g(x) = x**2, as in phase retrieval.

    Example:
        >>> ld.Quadratic()(jnp.array([-1.0, 2.0]))
        Array([1., 4.], dtype=float64)
    """

    name: ClassVar[str] = "quadratic"
    regularity: ClassVar[Regularity] = SMOOTH
    degree: ClassVar[int] = 2

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x * x


class Tanh(AbstractActivation):
    """g(x) = tanh x.

    Example:
        >>> round(float(ld.Tanh()(jnp.array(1.0))), 4)
        0.7616
    """

    name: ClassVar[str] = "tanh"
    regularity: ClassVar[Regularity] = SMOOTH

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.tanh(x)


class Sign(AbstractActivation):
    """g(x) = sign x with sign(0) = 1: for teachers, since its derivative vanishes.

    Args:
        flip: the probability that a sample's label is turned, 0 <= flip <= 1, independent of the
            fields and of the problem's noise, a leaf of any shape for vmap and grad. It needs a
            loss for classification; with several teacher units it is the label, the sign of their
            sum, that is turned. The generalisation error is that of clean labels.

    Raises:
        ValueError: for a flip outside [0, 1].

    Example:
        >>> ld.Sign()(jnp.array([-0.5, 0.0, 2.0]))
        Array([-1.,  1.,  1.], dtype=float64)
        >>> ld.Problem(ld.Linear(), ld.Sign(flip=0.1), ld.Hebb()).flip
        Array(0.1, dtype=float64)
    """

    name: ClassVar[str] = "sign"
    regularity: ClassVar[Regularity] = Regularity(jumps=(0.0,))
    pieces: ClassVar[PiecewiseLinear] = PiecewiseLinear(-1.0, 0.0, (0.0,), (0.0,), (2.0,), (1.0,))

    flip: Float[Array, "..."]

    def __init__(self, flip: RealLike = 0.0):
        self.flip = as_float(flip, "flip")
        if is_concrete(self.flip):
            values = np.asarray(self.flip)
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(
                    "flip must lie in [0, 1] (the probability that a label is turned); got "
                    f"{shown(values)}."
                )

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x >= 0, 1.0, -1.0).astype(x.dtype)

    def derivative(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.zeros_like(x)


def elementwise_derivative(g: ScalarFunction, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """g'(x) by forward differentiation; g must act on each element alone."""
    return slope_of(g)(x)


def derivative(g: ScalarFunction, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """g'(x), by the activation's own formula where it has one."""
    if isinstance(g, AbstractActivation):
        return g.derivative(x)
    return elementwise_derivative(g, x)
