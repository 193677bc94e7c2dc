"""What a claim is: a statement about the world that a measurement may contradict."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement, where it comes from, and how it will be judged: all fixed in advance.

    id: unique, the name of its files. rule: the decision rule in words, margins included.
    control: the deliberately wrong theory that the same rule must reject.
    """

    id: str
    family: str
    statement: str
    source: str
    setting: str
    rule: str
    control: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a measurement compares with the prediction.

    predicted, measured, error: the number that stands for the claim in the scorecard, and the
    standard error of the measured one. detail: a sentence with the numbers behind it.
    false_alarm: at most how likely the claim was to fail although it is true, with the errors
    that were measured, or its control to be accepted; 0 where chance plays no part.
    control: the number of the control, drawn next to the other two: what the wrong theory predicts
    in place of `predicted`, or what is measured where the claim must not hold; NaN where there is
    no such number. margin: how far `measured` may be from `predicted`, in their unit, drawn as a
    band; NaN where the rule has no such number.
    """

    predicted: float
    measured: float
    error: float
    passed: bool
    control_rejected: bool
    detail: str
    false_alarm: float
    control: float = math.nan
    margin: float = math.nan

    @property
    def good(self) -> bool:
        """Whether the claim holds and the measurement could have shown otherwise."""
        return self.passed and self.control_rejected


def to_attributes(claim: Claim, verdict: Verdict) -> dict[str, Any]:
    """What a stored dataset carries, so that a report needs nothing else."""
    return {
        "claim": json.dumps(dataclasses.asdict(claim)),
        "verdict": json.dumps(dataclasses.asdict(verdict)),
    }


def from_attributes(attributes: Mapping[str, Any]) -> tuple[Claim, Verdict]:
    """The inverse of `to_attributes`."""
    claim, verdict = (json.loads(attributes[name]) for name in ("claim", "verdict"))
    return Claim(**claim), Verdict(**{"false_alarm": math.nan} | verdict)
