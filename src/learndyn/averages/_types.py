"""What every way of averaging hands to the dynamics."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.problems import Problem
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_UNEXPLAINED = 1e-2
"""A negative eg larger than this, over the outputs' own size, is a defect and no rounding. Overlaps
of a solver are off by a hundred times its tolerance, at most."""


def half_square(u: Float[Array, " d"], moments: Float[Array, "d d"]) -> Float[Array, ""]:
    """u^T M u / 2 >= 0: half the mean square of an output with the weights u.

    moments: M = <g_i g_j>. Where student and teacher agree the sum cancels, and rounding, or the
    solver's error in overlaps that are then no longer positive semi-definite, may leave a small
    negative number: its value is 0, its derivatives are left as they are. What neither explains is
    NaN.
    """
    value = 0.5 * u @ moments @ u
    size = jnp.abs(u) @ jnp.abs(moments) @ jnp.abs(u)
    return not_negative(value, size)


def not_negative(
    value: Float[Array, "*shape"], size: Float[Array, "*shape"] | float
) -> Float[Array, "*shape"]:
    """`value`, a mean square; 0 where it is negative by rounding. size: of the terms of its sum."""
    # The value alone is lifted: linearisations about eg = 0 need the derivatives of the sum.
    lifted = value + jax.lax.stop_gradient(jnp.where(value < 0, -value, 0.0))
    return jnp.where(value < -_UNEXPLAINED * size, jnp.nan, lifted)


class AbstractAverages(eqx.Module):
    """A way of taking Gaussian averages, made ready for one problem, one rule and one size.

    Example:
        >>> exact = averages.choose_averages(ld.Problem(), 1, 1, biases=False)
        >>> isinstance(exact, averages.AbstractAverages), float(exact.rtol)
        (True, 0.0)
    """

    @abc.abstractmethod
    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        """Averages of the rule's modulation at `state`."""

    @abc.abstractmethod
    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        """eg at `state`: half the mean squared difference from the teacher without label
        noise; for classification losses the probability of opposite signs."""

    def neighbours(self) -> "tuple[AbstractAverages, AbstractAverages] | None":
        """The next coarser and the next finer averages, whose differences from these tell the
        error. None: exact to rounding, or known otherwise."""
        return None

    def coarsest(self) -> "AbstractAverages | None":
        """Averages two steps coarser, which tell whether errors fall as regularly as two
        differences from neighbours pretend. None: neighbours are believed."""
        return None

    def levels(self) -> "AbstractAverages | None":
        """Coarser, these and finer averages in arrays with a leading axis of three, where one
        compiled program serves them all; else None."""
        return None

    @property
    def falls(self) -> float:
        """The factor by which errors fall from the next coarser averages to these, where the next
        finer ones alone may agree by chance; infinite where they do not."""
        return math.inf

    @property
    def replicates(self) -> int:
        """How many independent sets of random nodes there are, whose scatter is the error where
        no levels do; 0: none, since the averages do not come from nodes."""
        return 0

    def replicate(self, index: Array) -> "AbstractAverages":
        """The same averages over one of those sets alone."""
        raise NotImplementedError(f"{type(self).__name__} has no replicates.")

    @property
    def holds_at_singular(self) -> bool:
        """Whether derivatives are right at singular covariances as well."""
        return True

    @property
    def is_stepwise(self) -> bool:
        """Whether averages are sums over nodes of what jumps, and so jump with the state."""
        return False

    @property
    def has_stepwise_slopes(self) -> bool:
        """Whether derivatives of averages jump with the state, being sums over nodes of what does:
        averages over nodes of what bends are continuous, and only their derivatives jump."""
        return self.is_stepwise

    @property
    def rtol(self) -> float:
        """A relative tolerance finer than which a solver would follow the averages' error."""
        return 0.0

    def misfit(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        """A relative error that is known by other means than levels; 0 where there are none."""
        return jnp.zeros(())

    def finer(self, k: int, m: int) -> "AbstractAverages | None":
        """Finer averages of k student and m teacher units; None where there is no need, or they
        would take too long."""
        return None
