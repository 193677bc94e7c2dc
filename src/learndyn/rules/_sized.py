"""A rule on inputs whose length is another than that of white ones."""

from jaxtyping import Array, Float

from learndyn.problems import Layers, Problem
from learndyn.rules._around import AroundRule, settings_of
from learndyn.rules._rule import AbstractRule
from learndyn.rules._seam import Modulation, Sample


class Sized(AroundRule):
    """`rule` where every input has this |x|**2/n: for averages, as n -> infinity, over inputs whose
    mean eigenvalue is not 1. It has no closed forms, which are those of 1."""

    size: Float[Array, ""]

    def __init__(self, rule: AbstractRule, size: Float[Array, ""]):
        super().__init__(rule, **settings_of(rule))
        self.size = size

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        return self.rule.modulation(problem, sample._replace(size=self.size * sample.size), layers)
