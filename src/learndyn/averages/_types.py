"""What every way of averaging hands to the dynamics."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from learndyn.problems import Problem
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps


class AbstractAverages(eqx.Module):
    """A way of taking Gaussian averages, made ready for one problem, one rule and one size."""

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
