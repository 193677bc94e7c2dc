"""What a claim is: a statement about the world that a measurement may contradict."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import xarray as xr


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
    """

    predicted: float
    measured: float
    error: float
    passed: bool
    control_rejected: bool
    detail: str


Measure = Callable[[], xr.Dataset]
Judge = Callable[[xr.Dataset], Verdict]
Draw = Callable[[xr.Dataset], Any]


def to_attributes(claim: Claim, verdict: Verdict) -> dict[str, Any]:
    """What a stored dataset carries, so that the report needs nothing else."""
    return {
        "claim": json.dumps(dataclasses.asdict(claim)),
        "verdict": json.dumps(dataclasses.asdict(verdict)),
    }


def from_attributes(dataset: xr.Dataset) -> tuple[Claim, Verdict, float]:
    """The inverse of `to_attributes`, and the seconds it took to measure."""
    claim = Claim(**json.loads(dataset.attrs["claim"]))
    verdict = Verdict(**json.loads(dataset.attrs["verdict"]))
    return claim, verdict, float(dataset.attrs["seconds"])
