"""What every way of averaging hands to the dynamics."""

import abc
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from learndyn.problems import Problem
from learndyn.states import Overlaps


class FieldAverages(NamedTuple):
    """Gaussian averages over one sample, all that the limit n -> infinity needs.

    c_probe: (k, p) <c_i f_p> with the probe fields asked for; c_c: (k, k) <c_i c_k>;
    dv: (k,) <dloss/dv_i>; c: (k,) <c_i>, which moves the biases.
    """

    c_probe: Float[Array, "k p"]
    c_c: Float[Array, "k k"]
    dv: Float[Array, " k"]
    c: Float[Array, " k"]


class AbstractAverages(eqx.Module):
    """A way of taking Gaussian averages, made ready for one problem and one size."""

    @abc.abstractmethod
    def field_averages(
        self, problem: Problem, state: Overlaps, cross: Float[Array, "p d"] | None = None
    ) -> FieldAverages:
        """Averages at `state`.

        cross: Cov(f_p, f) of p probe fields with the d = k + m fields (lambda, rho); None
        takes the fields themselves as probes.
        """

    @abc.abstractmethod
    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        """eg at `state`: half the mean squared difference from the teacher without label
        noise; for classification losses the probability of opposite signs."""
