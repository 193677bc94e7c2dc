"""Shapes and dimension names, said once.

Dimensions: `k` student units, `m` teacher units, `d = k + m` fields, `n` input
dimension, `times` requested times. Symbols follow the literature: Q, R, T are overlaps,
lambda and rho the local fields of student and teacher, zeta the label noise.
"""

from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float, Int, Key

Scalar = Float[Array, ""]
Times = Float[Array, " times"]
Result = Int[Array, ""]
PRNGKey = Key[Array, ""]

if TYPE_CHECKING:
    Absent = Any
else:
    Absent = None
"""The None of a result that a call may leave out, for run-time checks. Type checkers take it for
anything, so that whoever asked for the result may read it as it is."""

RealLike = Any
"""A number, an array or nested lists of numbers. What it may be is checked by `as_float`,
whose ValueError says more than a type error would."""

CountLike = Any
"""A Python integer, checked by `as_count`."""

KeyLike = Any
"""A JAX random key, in either of JAX's two styles, checked by `as_key`."""

ScalarFunction = Any
"""A function that JAX can trace: elementwise for activations, of (phi, y) for losses. Checked
by `as_module` and where it is first used."""

Schedule = Any
"""A learning rate as a function of alpha = steps / n."""
