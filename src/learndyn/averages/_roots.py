"""Fields of given covariance from white numbers, equal for equal units."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.psd_root import scaled_root
from learndyn.states import Overlaps


class FieldRoot(NamedTuple):
    """S with C = S S^T, the teacher's fields first: rho = T^(1/2) z_t does not know the student,
    and lambda given rho is Gaussian with mean B z_t, B = R T^(-1/2), and covariance
    Sigma = Q - R T^+ R^T.

        S = [[Sigma^(1/2), B], [0, T^(1/2)]]

    Both roots are symmetric, so that S commutes with permutations and flips of the student's
    fields among each other and of the teacher's. inverse: a left inverse of S in the same blocks,
    0 in directions that do not exist.
    """

    student: Float[Array, "k k"]
    mixing: Float[Array, "k m"]
    teacher: Float[Array, "m m"]
    student_inverse: Float[Array, "k k"]
    teacher_inverse: Float[Array, "m m"]

    def matrix(self) -> Float[Array, "d d"]:
        """S."""
        k, m = self.mixing.shape
        return jnp.block([[self.student, self.mixing], [jnp.zeros((m, k)), self.teacher]])

    def inverse(self) -> Float[Array, "d d"]:
        """X with X S the projector on the directions that exist."""
        k, m = self.mixing.shape
        corner = -self.student_inverse @ self.regression()
        return jnp.block([[self.student_inverse, corner], [jnp.zeros((m, k)), self.teacher_inverse]])

    def regression(self) -> Float[Array, "k m"]:
        """A = R T^+, the mean of lambda given rho being A rho."""
        return self.mixing @ self.teacher_inverse


def field_root(state: Overlaps) -> FieldRoot:
    """The root of `state`'s covariance."""
    teacher, teacher_inverse = scaled_root(state.T, jnp.diagonal(state.T))
    mixing = state.R @ teacher_inverse.T
    rest = state.Q - mixing @ mixing.T
    student, student_inverse = scaled_root(rest, jnp.diagonal(state.Q))
    return FieldRoot(student, mixing, teacher, student_inverse, teacher_inverse)
