"""What the averages need to know of a network's units."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST_VARIANCE = 1e-18
"""Added to every variance: below the rounding of a number of order 1, and derivatives with respect
to the variance of a field that is 0 stay finite, with eight of their digits."""


class Units(eqx.Module):
    """d units: the first k have the function `student`, the others `teacher`, all elementwise.

    student_slope, teacher_slope: their derivatives. are_alike: whether student and teacher are the
        same function, so that one program evaluates both. is_curved: whether the derivative of
        student_slope is continuous, so that it may be averaged as well.
    b: (d,) biases; None: there are none.
    """

    student: Any
    teacher: Any
    student_slope: Callable
    teacher_slope: Callable
    k: int = eqx.field(static=True)
    are_alike: bool = eqx.field(static=True)
    is_curved: bool = eqx.field(static=True)
    b: Float[Array, " d"] | None

    def values(self, x: Float[Array, "d ..."], students: int | None = None) -> Array:
        """g_a(x_a) of d units, the first of them students; None: k of them."""
        k = self.k if students is None else students
        if self.are_alike:
            return self.student(x)
        return _split(self.student, self.teacher, x, k)

    def slopes(self, x: Float[Array, "d ..."]) -> Float[Array, "d ..."]:
        """g_a'(x_a) of all units."""
        if self.are_alike:
            return self.student_slope(x)
        return _split(self.student_slope, self.teacher_slope, x, self.k)

    def biases(self, d: int) -> Float[Array, " d"]:
        return jnp.zeros(d) if self.b is None else self.b


def _split(of_student: Callable, of_teacher: Callable, x: Array, k: int) -> Array:
    parts = [of(part) for of, part in ((of_student, x[:k]), (of_teacher, x[k:])) if len(part)]
    return jnp.concatenate(parts)


def standardised(c: Float[Array, "d d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Standard deviations of the fields, and their correlations, finite where a field is 0."""
    sigma = jnp.sqrt(jnp.diagonal(c) + _SMALLEST_VARIANCE)
    return sigma, c / (sigma[:, None] * sigma)


def powers(r: Float[Array, "..."], count: int) -> Float[Array, "count ..."]:
    """r**n for n = 0 ... count - 1; derivatives are right at 0 and at +-1 as well."""
    # A loop: written out, the products would take a quarter of a second to compile.
    return jax.lax.scan(lambda power, _: (power * r, power), jnp.ones_like(r), length=count)[1]
