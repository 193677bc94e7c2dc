"""Fields of given covariance from white numbers, equal for equal units."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.psd_root import scaled_root
from learndyn.states import Overlaps


class FieldRoot(NamedTuple):
    """S with C = S S^T in blocks: one network's fields first, the other's given those.

        teacher first: S = [[rest, mixing], [0, first]], student first: S = [[first, 0],
        [mixing, rest]],

    where first first^T is T (or Q), mixing = R T^(-1/2) (or R^T Q^(-1/2)) and rest rest^T =
    Q - R T^+ R^T (or T - R^T Q^+ R), the covariance given the other network's fields. The roots
    are symmetric but for the fields' scales, so that S commutes with permutations and flips of the
    student's fields among each other and of the teacher's. Nodes see jumps best along their own
    axes, and those of the first network lie there.
    first_inverse, rest_inverse: left inverses, 0 in directions that do not exist.
    """

    first: Float[Array, "a a"]
    mixing: Float[Array, "b a"]
    rest: Float[Array, "b b"]
    first_inverse: Float[Array, "a a"]
    rest_inverse: Float[Array, "b b"]
    student_first: bool

    def matrix(self) -> Float[Array, "d d"]:
        """S."""
        return self._arranged(self.first, self.mixing, self.rest)

    def inverse(self) -> Float[Array, "d d"]:
        """X with X S the projector on the directions that exist."""
        corner = -self.rest_inverse @ self.regression()
        return self._arranged(self.first_inverse, corner, self.rest_inverse)

    def regression(self) -> Float[Array, "b a"]:
        """A = R T^+ (or R^T Q^+): the second fields' mean given the first fields f is A f."""
        return self.mixing @ self.first_inverse

    def _arranged(self, first: Array, mixing: Array, rest: Array) -> Float[Array, "d d"]:
        none = jnp.zeros(mixing.shape[::-1], mixing.dtype)
        rows = [[first, none], [mixing, rest]] if self.student_first else None
        return jnp.block(rows or [[rest, mixing], [none, first]])


def field_root(state: Overlaps, *, student_first: bool) -> FieldRoot:
    """The root of `state`'s covariance."""
    own, other, cross = state.T, state.Q, state.R
    if student_first:
        own, other, cross = state.Q, state.T, state.R.T
    first, first_inverse = scaled_root(own, jnp.diagonal(own))
    mixing = cross @ first_inverse.T
    rest, rest_inverse = scaled_root(other - mixing @ mixing.T, jnp.diagonal(other))
    return FieldRoot(first, mixing, rest, first_inverse, rest_inverse, student_first)
