"""A rule on inputs whose length is another than that of white ones."""

from jaxtyping import Array, Float

from learndyn._types import Scalar
from learndyn.problems import Layers, Problem
from learndyn.rules._clipped import settings_of
from learndyn.rules._types import AbstractRule, Modulation, Sample


class Sized(AbstractRule):
    """`rule` where every input has this |x|**2/n: for averages, as n -> infinity, over inputs whose
    mean eigenvalue is not 1. It has no closed forms, which are those of 1."""

    rule: AbstractRule
    size: Float[Array, ""]

    def __init__(self, rule: AbstractRule, size: Float[Array, ""]):
        super().__init__(**settings_of(rule))
        self.rule, self.size = rule, size

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        return self.rule.modulation(problem, sample._replace(size=self.size * sample.size), layers)

    @property
    def is_episode(self) -> bool:
        return self.rule.is_episode

    @property
    def needs_overlaps(self) -> bool:
        return self.rule.needs_overlaps

    @property
    def input_noise(self) -> Scalar | None:
        return self.rule.input_noise

    def draws_of(self, k: int) -> int:
        return self.rule.draws_of(k)

    def tested_layer(self, v: Float[Array, " k"]) -> Float[Array, " k"]:
        return self.rule.tested_layer(v)
