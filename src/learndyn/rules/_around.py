"""A rule that changes what another rule makes of a sample."""

from typing import Any

from jaxtyping import Array, Float

from learndyn.rules._rule import AbstractRule, Bounds


class AroundRule(AbstractRule):
    """A rule that asks another one, `rule`, for a modulation, and has its rates, or others.

    What a sample is and who is tested is said by the rule inside: its draws, the overlaps that it
    reads, its noise on inputs, its tested layer, the units that it is for.
    """

    rule: AbstractRule

    def __init__(self, rule: AbstractRule, **settings: Any):
        super().__init__(**settings)
        self.rule = rule

    @property
    def own_numbers(self) -> list[tuple[str, Array, Bounds]]:
        return [*super().own_numbers, *self.rule.own_numbers]

    @property
    def is_episode(self) -> bool:
        return self.rule.is_episode

    @property
    def needs_overlaps(self) -> bool:
        return self.rule.needs_overlaps

    @property
    def input_noise(self) -> Float[Array, "..."] | None:
        return self.rule.input_noise

    def draws_of(self, k: int) -> int:
        return self.rule.draws_of(k)

    def tested_layer(self, v: Float[Array, " k"]) -> Float[Array, " k"]:
        return self.rule.tested_layer(v)

    def require_units(self, k: int, m: int) -> None:
        self.rule.require_units(k, m)


def settings_of(rule: AbstractRule) -> dict[str, Any]:
    """The rates, decay, batches, momentum and sphere of a rule."""
    names = ("lr", "lr_second", "lr_bias", "weight_decay", "batch_size", "momentum", "spherical")
    return {name: getattr(rule, name) for name in names}
